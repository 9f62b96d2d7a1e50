package cli

import (
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// kernelLister is what a backend with kernels of its own implements.
type kernelLister interface{ KernelsOf(graph.OpID) []string }

// opRow is what ops --json prints for an operator version.
type opRow struct {
	Op     string   `json:"op"`
	Source string   `json:"source"`
	Eval   bool     `json:"reference"`
	Doc    string   `json:"doc"`
	DTypes []string `json:"dtypes"`
	// Fast lists the backends with a kernel of their own; By says in what
	// operators a composite is written.
	Fast      []string `json:"fast"`
	Composite bool     `json:"composite"`
}

func (a *app) opsCommand() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "ops [PATTERN]",
		Short: "list the operators",
		Long: `List the operators that this program knows, each with the opset of its version, who
defined it, the element types of its first input, the backends that have a kernel of their
own for it ("parts": it is written in other operators before it reaches a backend), and
what it does; with PATTERN only those whose name contains it. Every operator runs on every
backend; without a kernel by its definition, which is slow.`,
		Example: "  ssdc ops\n  ssdc ops ssm",
		Args:    runner.AtMostOne("PATTERN"),
		RunE: func(cmd *cobra.Command, args []string) error {
			rows := []opRow{}
			table := a.set.Registry.Table
			for _, r := range table.All() {
				if len(args) == 1 && !strings.Contains(strings.ToLower(r.ID.String()), strings.ToLower(args[0])) {
					continue
				}
				row := opRow{Op: r.ID.String(), Source: table.Source(r.ID), Eval: r.Eval != nil, Doc: firstLine(r.Doc), DTypes: []string{}, Fast: []string{}, Composite: r.Traits&ops.Composite != 0}
				for _, d := range ops.DTypes(table, r) {
					row.DTypes = append(row.DTypes, d.String())
				}
				for _, b := range a.set.Registry.Backends {
					if l, ok := b.(kernelLister); ok && len(l.KernelsOf(r.ID)) > 0 {
						row.Fast = append(row.Fast, b.Name())
					}
				}
				rows = append(rows, row)
			}
			if asJSON {
				return runner.PrintJSON(cmd.OutOrStdout(), rows)
			}
			tw := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
			fmt.Fprintln(tw, "OPERATOR\tFROM\tTYPES\tFAST ON\tWHAT")
			for _, r := range rows {
				fast := strings.Join(r.Fast, ",")
				if r.Composite {
					fast = "parts"
				}
				fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", r.Op, r.Source, shortTypes(r.DTypes), fast, r.Doc)
			}
			return tw.Flush()
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: op, source, reference, doc, dtypes, fast, composite")
	return c
}

// typeGroups shorten lists of types; a group is named only when all of it is there.
var typeGroups = []struct {
	name string
	all  []string
}{
	{"floats", []string{"float", "double", "float16", "bfloat16"}},
	{"ints", []string{"int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"}},
	{"int2-4", []string{"int4", "uint4", "int2", "uint2"}},
	{"float4-8", []string{"float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz", "float8e8m0", "float4e2m1"}},
	{"complex", []string{"complex64", "complex128"}},
}

func shortTypes(types []string) string {
	var out []string
	rest := slices.Clone(types)
	for _, g := range typeGroups {
		if !slices.ContainsFunc(g.all, func(t string) bool { return !slices.Contains(rest, t) }) {
			out = append(out, g.name)
			rest = slices.DeleteFunc(rest, func(t string) bool { return slices.Contains(g.all, t) })
		}
	}
	return strings.Join(append(out, rest...), ",")
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}
