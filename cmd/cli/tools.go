package cli

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/conformance"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/internal/wholefile"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
)

// Conformance is what conformance --json prints; keys are stable.
type Conformance struct {
	Backend     string   `json:"backend"`
	Total       int      `json:"total"`
	Passed      int      `json:"passed"`
	Failed      []Reason `json:"failed"`
	Unsupported []Reason `json:"unsupported"`
}

// Reason says why a case did not pass.
type Reason struct {
	Case   string `json:"case"`
	Reason string `json:"reason"`
}

func (a *app) conformanceCommand() *cobra.Command {
	var target, match string
	var asJSON bool
	c := &cobra.Command{
		Use:   "conformance DIR",
		Short: "run ONNX backend test cases",
		Long: `Run the ONNX backend test cases below DIR (folders with model.onnx and test_data_set_K)
on a backend and compare with their recorded outputs, at ONNX's own tolerances
(rtol 1e-3, atol 1e-7). A case whose operator is missing counts as unsupported, never
as passed. The exit code is 1 when a case fails.`,
		Example: "  ssdc conformance onnx-node --target cpu",
		Args:    runner.One("DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := os.Stat(args[0]); err != nil {
				return err
			}
			b, err := a.set.Registry.Backend(target)
			if err != nil {
				return err
			}
			o := &conformance.Options{}
			if match != "" {
				re, err := regexp.Compile(match)
				if err != nil {
					return runner.Usagef("--match %s: %w", match, err)
				}
				o.Match = re.MatchString
			}
			results, err := conformance.Run(args[0], a.set.Registry.Table, conformance.On(cmd.Context(), a.set.Registry.Table, b), o)
			if err != nil {
				return err
			}
			if len(results) == 0 {
				which := ""
				if match != "" {
					which = " that matches " + match
				}
				return fmt.Errorf("%s: no test case%s: a folder with model.onnx and test_data_set_0", args[0], which)
			}
			r := Conformance{Backend: target, Total: len(results), Failed: []Reason{}, Unsupported: []Reason{}}
			for _, c := range results {
				switch c.Status {
				case conformance.Pass:
					r.Passed++
				case conformance.Fail:
					r.Failed = append(r.Failed, Reason{c.Name, c.Reason})
				default:
					r.Unsupported = append(r.Unsupported, Reason{c.Name, c.Reason})
				}
			}
			w := cmd.OutOrStdout()
			if asJSON {
				if err := runner.PrintJSON(w, r); err != nil {
					return err
				}
			} else {
				tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
				for _, f := range r.Failed {
					fmt.Fprintf(tw, "FAIL\t%s\t%s\n", f.Case, f.Reason)
				}
				for _, f := range r.Unsupported {
					fmt.Fprintf(tw, "unsupported\t%s\t%s\n", f.Case, f.Reason)
				}
				if err := tw.Flush(); err != nil {
					return err
				}
				fmt.Fprintf(w, "%s: %d passed, %d failed, %d unsupported of %d\n", target, r.Passed, len(r.Failed), len(r.Unsupported), r.Total)
			}
			if len(r.Failed) > 0 {
				return fmt.Errorf("%d of %d cases failed", len(r.Failed), r.Total)
			}
			return nil
		},
	}
	c.Flags().StringVar(&target, "target", "cpu", "`BACKEND` to run on (see ssdc backends)")
	c.Flags().StringVar(&match, "match", "", "run only the cases whose name matches `REGEXP`")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: backend, total, passed, failed[case,reason], unsupported[case,reason]")
	return c
}

func (a *app) opsCommand() *cobra.Command {
	var asJSON bool
	type row struct {
		Op     string `json:"op"`
		Source string `json:"source"`
		Eval   bool   `json:"reference"`
		Doc    string `json:"doc"`
	}
	c := &cobra.Command{
		Use:   "ops [PATTERN]",
		Short: "list the operators",
		Long: `List the operators that this program knows, each with the opset of its version, who
defined it and what it does; with PATTERN only those whose name contains it.`,
		Example: "  ssdc ops\n  ssdc ops ssm",
		Args:    runner.AtMostOne("PATTERN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows := []row{}
			for _, r := range a.set.Registry.Table.All() {
				if len(args) == 1 && !strings.Contains(strings.ToLower(r.ID.String()), strings.ToLower(args[0])) {
					continue
				}
				rows = append(rows, row{r.ID.String(), a.set.Registry.Table.Source(r.ID), r.Eval != nil, firstLine(r.Doc)})
			}
			if asJSON {
				return runner.PrintJSON(cmd.OutOrStdout(), rows)
			}
			tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(tw, "OPERATOR\tFROM\tWHAT")
			for _, r := range rows {
				fmt.Fprintf(tw, "%s\t%s\t%s\n", r.Op, r.Source, r.Doc)
			}
			return tw.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: op, source, reference, doc")
	return c
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

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
