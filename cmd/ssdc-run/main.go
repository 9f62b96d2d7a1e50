// Command ssdc-run runs compiled models. It links no importer and no pass.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/cmd/runner"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root := &cobra.Command{
		Use: "ssdc-run", Short: "run models compiled by ssdc", SilenceErrors: true, SilenceUsage: true,
		Long: "Run models that ssdc compile wrote. This program holds no compiler.",
	}
	open := func(_ context.Context, path string, threads int) (*model.Model, error) {
		reg, err := model.Standard()
		if err != nil {
			return nil, err
		}
		return reg.Open(path, model.Options{Threads: threads})
	}
	root.AddCommand(runner.RunCommand(open), runner.BenchCommand(open))
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "ssdc-run:", err)
		os.Exit(1)
	}
}
