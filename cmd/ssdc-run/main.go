// Command ssdc-run runs compiled models. It links no importer and no pass.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/cmd/runner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	code := runner.Execute(ctx, newRoot())
	stop() // os.Exit runs no deferred calls
	os.Exit(code)
}

func newRoot() *cobra.Command {
	root := runner.NewRoot("ssdc-run", "run models compiled by ssdc",
		"ssdc-run runs the artifacts that ssdc compile wrote. It holds no compiler.")
	root.AddCommand(runner.RunCommand(open), runner.BenchCommand(open), runner.ProfileCommand(open))
	return root
}

func open(_ context.Context, path string, threads int) (*model.Model, error) {
	if err := runner.CheckFile(path); err != nil {
		return nil, err
	}
	if !strings.HasSuffix(path, ".ssda") && !artifact.Is(path) {
		return nil, fmt.Errorf("%s is not an artifact; to make one of a model: ssdc compile %s", path, path)
	}
	reg, err := model.Standard()
	if err != nil {
		return nil, err
	}
	return reg.Open(path, model.Options{Threads: threads})
}
