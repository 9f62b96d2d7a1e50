package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"regexp"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/conformance"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
)

// Conformance is what conformance --json prints; keys are stable.
type Conformance struct {
	Backend     string   `json:"backend"`
	Total       int      `json:"total"`
	Passed      int      `json:"passed"`
	Failed      []Reason `json:"failed"`
	Unsupported []Reason `json:"unsupported"`
	Listed      int      `json:"listed"` // of those that did not pass, with --except
}

// Reason says why a case did not pass.
type Reason struct {
	Case   string `json:"case"`
	Reason string `json:"reason"`
}

func (a *app) conformanceCommand() *cobra.Command {
	var target, match, level, except string
	var asJSON bool
	c := &cobra.Command{
		Use:   "conformance DIR",
		Short: "run ONNX backend test cases",
		Long: `Run the ONNX backend test cases below DIR (folders with model.onnx and test_data_set_K)
on a backend and compare with their recorded outputs, at ONNX's own tolerances
(rtol 1e-3, atol 1e-7, two units in the last place for bfloat16, or what the case's
data.json says). Models go through the passes as compile runs them; -O 0 runs them as
they stand. A case whose operator is missing counts as unsupported, never as passed.

The exit code is 1 when a case fails. With --except FILE it is 1 when a case fails or is
unsupported without being listed in FILE, and when a listed one passes: such a list can
only shrink.

conformance/generate.py of the sources makes the newest data.`,
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
			noOpt, err := noOptimisation(level)
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
			var known conformance.Exceptions
			if except != "" {
				if known, err = conformance.ReadExceptions(except); err != nil {
					return err
				}
			}
			run := conformance.On(cmd.Context(), a.set.Registry.Table, b)
			if !noOpt {
				run = a.optimised(cmd.Context(), b)
			}
			results, err := conformance.Run(args[0], a.set.Registry.Table, run, o)
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
			r := tally(target, results, known)
			if asJSON {
				err = runner.PrintJSON(cmd.OutOrStdout(), r)
			} else {
				err = r.print(cmd.OutOrStdout(), known)
			}
			if err != nil {
				return err
			}
			if known != nil {
				return judge(known, results, except)
			}
			if len(r.Failed) > 0 {
				return fmt.Errorf("%d of %d cases failed", len(r.Failed), r.Total)
			}
			return nil
		},
	}
	c.Flags().StringVar(&target, "target", "cpu", "`BACKEND` to run on (see ssdc backends)")
	c.Flags().StringVarP(&level, "opt", "O", "1", "optimisation `LEVEL` 1, or 0 to run graphs as they stand")
	c.Flags().StringVar(&match, "match", "", "run only the cases whose name matches `REGEXP`")
	c.Flags().StringVar(&except, "except", "", "`FILE` that lists, with reasons, the cases that do not pass")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: backend, total, passed, failed[case,reason], unsupported[case,reason], listed")
	return c
}

// optimised runs cases through the passes first. The data sets of a case share
// its graph, which is rewritten once.
func (a *app) optimised(ctx context.Context, b backends.Backend) conformance.Runner {
	table := a.set.Registry.Table
	run := conformance.On(ctx, table, b)
	var last *graph.Graph
	return func(g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if g != last {
			if err := conformance.Believe(table, g, in); err != nil {
				return nil, err
			}
			c := passes.NewContext(ctx, table)
			c.Target = b.Name()
			if err := a.set.Pipeline.Run(c, g); err != nil {
				return nil, err
			}
			last = g
		}
		return run(g, in)
	}
}

func tally(target string, results []conformance.Result, known conformance.Exceptions) Conformance {
	r := Conformance{Backend: target, Total: len(results), Failed: []Reason{}, Unsupported: []Reason{}}
	for _, c := range results {
		switch c.Status {
		case conformance.Pass:
			r.Passed++
			continue
		case conformance.Fail:
			r.Failed = append(r.Failed, Reason{c.Name, c.Reason})
		default:
			r.Unsupported = append(r.Unsupported, Reason{c.Name, c.Reason})
		}
		if known.Why(c.Name) != "" {
			r.Listed++
		}
	}
	return r
}

func (r Conformance) print(w io.Writer, known conformance.Exceptions) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for i, list := range [][]Reason{r.Failed, r.Unsupported} {
		for _, f := range list {
			what, why := [...]string{"FAIL", "unsupported"}[i], f.Reason
			if reason := known.Why(f.Case); reason != "" {
				what, why = "listed", reason
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\n", what, f.Case, why)
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%s: %d passed, %d failed, %d unsupported of %d", r.Backend, r.Passed, len(r.Failed), len(r.Unsupported), r.Total)
	if known != nil {
		fmt.Fprintf(w, " (%.2f%% passed, %d listed)", 100*float64(r.Passed)/float64(r.Total), r.Listed)
	}
	_, err := fmt.Fprintln(w)
	return err
}

// judge holds results to the list of exceptions.
func judge(known conformance.Exceptions, results []conformance.Result, file string) error {
	unlisted, stale := known.Judge(results)
	switch {
	case len(unlisted) > 0:
		return fmt.Errorf("%d cases do not pass and are not listed in %s, the first %s: %s", len(unlisted), file, unlisted[0].Name, unlisted[0].Reason)
	case len(stale) > 0:
		return fmt.Errorf("%d cases listed in %s pass, the first %s: remove them from the list", len(stale), file, stale[0].Name)
	}
	return nil
}
