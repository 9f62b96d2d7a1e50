// Command ssdc-run runs compiled models. It links no importer and no pass.
package main

import (
	"context"
	"os"
	"os/signal"

	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/cmd/runner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := runner.NewRoot("ssdc-run", "run models compiled by ssdc",
		"ssdc-run runs the artifacts that ssdc compile wrote. It holds no compiler.")
	root.AddCommand(runner.RunCommand(open), runner.BenchCommand(open))
	code := runner.Execute(ctx, root)
	stop() // os.Exit runs no deferred calls
	os.Exit(code)
}

func open(_ context.Context, path string, threads int) (*model.Model, error) {
	if err := runner.CheckFile(path); err != nil {
		return nil, err
	}
	reg, err := model.Standard()
	if err != nil {
		return nil, err
	}
	return reg.Open(path, model.Options{Threads: threads})
}
