package cli

import (
	"fmt"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cuda"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/internal/wholefile"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
)

func (a *app) backendsCommand() *cobra.Command {
	var asJSON bool
	type row struct {
		Name  string `json:"name"`
		Found string `json:"found"`
	}
	c := &cobra.Command{
		Use:   "backends",
		Short: "list the backends and what they found on this machine",
		Long:  "List the backends of this program, as --target names them, with what each found on\nthis machine.",
		Args:  runner.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			rows := []row{}
			for _, b := range a.set.Registry.Backends {
				r := row{Name: b.Name()}
				switch b.Name() {
				case "cpu":
					r.Found = fmt.Sprintf("%s kernels, %d threads", isa.Current(), runtime.GOMAXPROCS(0))
				case "ref":
					r.Found = "every operator by its definition; slow"
				case "cuda":
					r.Found = cuda.Describe()
				}
				rows = append(rows, r)
			}
			if asJSON {
				return runner.PrintJSON(cmd.OutOrStdout(), rows)
			}
			tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			for _, r := range rows {
				fmt.Fprintf(tw, "%s\t%s\n", r.Name, r.Found)
			}
			return tw.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: name, found")
	return c
}

func (a *app) optCommand() *cobra.Command {
	var names, bind []string
	var out string
	c := &cobra.Command{
		Use:   "opt MODEL",
		Short: "run passes and print the graph",
		Long: `Import a model (ONNX, or ssdc text), run passes and print the graph in text form on
stdout, remarks on stderr. Without --pass the whole pipeline runs.`,
		Example: "  ssdc opt model.onnx --pass canon --pass recur",
		Args:    runner.One("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			pipe, err := a.selectPasses(names)
			if err != nil {
				return err
			}
			symbols, err := runner.ParseShape(bind)
			if err != nil {
				return runner.Usagef("%s", strings.Replace(err.Error(), "--shape", "--bind", 1))
			}
			var exp *plugin.Exporter
			if out != "" {
				if exp, err = a.set.Exporter(out); err != nil {
					return err
				}
				if err := wholefile.Check(out); err != nil {
					return err
				}
			}
			src, err := ssdc.Import(cmd.Context(), a.set, args[0], symbols)
			if err != nil {
				return err
			}
			for _, w := range src.Warnings {
				warner(cmd.ErrOrStderr(), args[0])(w)
			}
			c := passes.NewContext(cmd.Context(), a.set.Registry.Table)
			for _, p := range pipe { // not Pipeline.Run, which insists on its own order
				if err := passes.RunOne(c, p, src.Graph); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
			}
			for _, r := range c.Remarks {
				fmt.Fprintln(cmd.ErrOrStderr(), r)
			}
			if exp != nil {
				return exp.Write(cmd.Context(), out, a.set.Registry.Table, src.Graph)
			}
			return graph.Print(cmd.OutOrStdout(), src.Graph)
		},
	}
	c.Flags().StringArrayVar(&names, "pass", nil, "run only this `PASS`; may repeat, in the order given")
	c.Flags().StringVarP(&out, "output", "o", "", "write to `FILE`, in the format of its ending, instead of stdout")
	c.Flags().StringArrayVar(&bind, "bind", nil, "fix symbolic lengths: `NAME=N`, as in batch=1,seq=512")
	return c
}

func (a *app) selectPasses(names []string) (passes.Pipeline, error) {
	if len(names) == 0 {
		return a.set.Pipeline, nil
	}
	var out passes.Pipeline
	for _, name := range names {
		var found *passes.Pass
		for _, p := range a.set.Pipeline {
			if p.Name == name {
				found = p
			}
		}
		if found == nil {
			return nil, runner.Usagef("--pass %s: no such pass; the passes are %s", name, a.passNames())
		}
		out = append(out, found)
	}
	return out, nil
}
