package cli

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph"
)

// Port is an input or output in --json.
type Port struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// Inspect is what inspect --json prints; keys are stable.
type Inspect struct {
	Producer string               `json:"producer"`
	Source   string               `json:"source"`
	Digest   string               `json:"digest"`
	Bytes    int                  `json:"bytes"`
	Targets  []string             `json:"targets"`
	Plugins  []string             `json:"plugins"`
	Inputs   []Port               `json:"inputs"`
	Outputs  []Port               `json:"outputs"`
	States   []backends.StatePair `json:"states"`
	Fused    map[string]int       `json:"fused"`
	Kernels  map[string]int       `json:"kernels"`
	Weights  int                  `json:"weights"`
	WBytes   int                  `json:"weight_bytes"`
}

func (a *app) inspectCommand() *cobra.Command {
	var asJSON, ir, steps, verify, remarks bool
	c := &cobra.Command{
		Use:     "inspect ARTIFACT",
		Short:   "show what is in an artifact",
		Long:    "Show an artifact's signature, recurrent states, fused operators, kernels and weights.",
		Example: "  ssdc inspect model.ssda\n  ssdc inspect model.ssda --ir | less\n  ssdc inspect model.ssda --verify",
		Args:    runner.One("ARTIFACT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			w := cmd.OutOrStdout()
			if err := runner.CheckFile(args[0]); err != nil {
				return err
			}
			if !isArtifact(args[0]) {
				return fmt.Errorf("%s is not an artifact; to make one of a model: ssdc compile %s", args[0], args[0])
			}
			m, err := a.set.Registry.Open(args[0], model.Options{})
			if err != nil {
				return err
			}
			defer m.Close()
			if verify {
				if err := m.Artifact().Verify(); err != nil {
					return fmt.Errorf("%s: %w", args[0], err)
				}
				fmt.Fprintln(cmd.ErrOrStderr(), "all weights match their sums")
			}
			if remarks {
				_, err := io.WriteString(w, m.Artifact().Remarks())
				return err
			}
			if ir {
				return graph.Print(w, m.Plan.Graph)
			}
			r := inspect(m)
			if asJSON {
				return runner.PrintJSON(w, r)
			}
			return r.print(w, m, steps)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: producer, source, digest, bytes, targets, plugins, inputs, outputs, states, fused, kernels, weights, weight_bytes")
	c.Flags().BoolVar(&ir, "ir", false, "print the compiled graph in text form")
	c.Flags().BoolVar(&remarks, "remarks", false, "print what the passes said when the model was compiled")
	c.Flags().BoolVar(&steps, "steps", false, "list every node with its kernel")
	c.Flags().BoolVar(&verify, "verify", false, "read all weights and compare their sums")
	return c
}

func inspect(m *model.Model) *Inspect {
	f := m.Artifact()
	r := &Inspect{
		Producer: f.Meta.Producer, Source: f.Meta.Source, Digest: f.Meta.Digest, Bytes: f.Size(), Targets: f.Targets(),
		Plugins: list(f.Meta.Plugins), States: list(m.Plan.States), Fused: m.Fused(), Kernels: map[string]int{}, Weights: len(f.Weights),
	}
	for _, v := range m.Inputs() {
		r.Inputs = append(r.Inputs, Port{v.Name, v.Type.String()})
	}
	for _, v := range m.Outputs() {
		r.Outputs = append(r.Outputs, Port{v.Name, v.Type.String()})
	}
	for _, k := range m.Plan.Kernels {
		if k == "" {
			k = "(definition)"
		}
		r.Kernels[k]++
	}
	for _, w := range m.Plan.Weights {
		r.WBytes += w.Bytes()
	}
	return r
}

func (r *Inspect) print(w io.Writer, m *model.Model, steps bool) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	row := func(k, format string, a ...any) { fmt.Fprintf(tw, "%s\t%s\n", k, fmt.Sprintf(format, a...)) }
	row("producer", "%s", r.Producer)
	row("source", "%s  sha256 %.16s", r.Source, r.Digest)
	row("size", "%s, weights %s in %d tensors", Size(int64(r.Bytes)), Size(int64(r.WBytes)), r.Weights)
	row("targets", "%v", r.Targets)
	if len(r.Plugins) > 0 {
		row("plugins", "%v", r.Plugins)
	}
	for _, p := range r.Inputs {
		row("input", "%s %s", p.Name, p.Type)
	}
	for _, p := range r.Outputs {
		row("output", "%s %s", p.Name, p.Type)
	}
	for _, p := range r.States {
		row("state", "%s -> %s", p.Out, p.In)
	}
	row("fused", "%s", fusedLine(r.Fused))
	row("kernels", "%s", fusedLine(r.Kernels))
	if err := tw.Flush(); err != nil {
		return err
	}
	if steps {
		fmt.Fprintln(w)
		for i, n := range m.Plan.Graph.Nodes {
			k := m.Plan.Kernels[i]
			if k == "" {
				k = "(definition)"
			}
			fmt.Fprintf(w, "%4d  %-24s %-20s %s\n", i, n.Op, k, n.From)
		}
	}
	return nil
}
