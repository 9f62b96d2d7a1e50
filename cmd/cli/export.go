package cli

import (
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/exporters/onnx"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/internal/wholefile"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/legalize"
)

// Export is what export --json prints; keys are stable.
type Export struct {
	Source  string          `json:"source"`
	Output  string          `json:"output"`
	Dialect string          `json:"dialect"`
	Opsets  map[string]int  `json:"opsets"`
	Fused   map[string]int  `json:"fused"` // before the dialect's operators took their place
	Nodes   int             `json:"nodes"`
	Bytes   int64           `json:"bytes"`
	Seconds float64         `json:"seconds"`
	Remarks []passes.Remark `json:"remarks"`
}

func (a *app) exportCommand() *cobra.Command {
	var f compileFlags
	var out, dialect string
	var opset int
	var external, asJSON bool
	c := &cobra.Command{
		Use:   "export MODEL -o FILE.onnx",
		Short: "write the optimised model as ONNX",
		Long: `Recover and fuse the scans of a model as ssdc compile does, and write the result as an
ONNX file, for ONNX Runtime and other tools. Names of inputs, outputs and symbolic
lengths stay, and so do the model's metadata. Dialects:

` + legalize.Describe() + `

In ONNX Runtime the dialect microsoft is the fastest. It runs onnx too, by the operators'
function bodies: a loop over tokens.`,
		Example: "  ssdc export model.onnx -o fused.onnx\n  ssdc export model.onnx -o fused.onnx --dialect microsoft --require-fusion ssd=24",
		Args:    runner.One("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				return runner.Usagef("-o FILE.onnx is missing")
			}
			if !strings.HasSuffix(strings.ToLower(out), ".onnx") {
				return runner.Usagef("-o %s: ONNX files end in .onnx", out)
			}
			d, err := legalize.Find(dialect)
			if err != nil {
				return runner.Usagef("--dialect: %s", err)
			}
			if cmd.Flags().Changed("opset") && opset < legalize.MinOpset {
				return runner.Usagef("--opset %d: want %d or newer", opset, legalize.MinOpset)
			}
			p := newProgress(cmd.ErrOrStderr())
			o, err := a.options(&f, p)
			if err != nil {
				return err
			}
			o.Warn = warner(cmd.ErrOrStderr(), args[0])
			if err := wholefile.Check(out); err != nil {
				return err
			}
			if same(args[0], out) {
				return fmt.Errorf("cannot write %s: it is the model itself; name another file with -o", out)
			}
			start := time.Now()
			r, err := ssdc.OptimiseWith(cmd.Context(), a.set, args[0], o)
			if err != nil {
				return err
			}
			g, src, fused := r.Source.Graph, r.Source, r.Fused
			c := passes.NewContext(cmd.Context(), a.set.Registry.Table)
			opsets, err := legalize.Run(c, g, legalize.Options{Dialect: d, Opset: opset, Source: src.Opsets[""]})
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			p.step("writing " + out)
			err = onnx.Write(out, g, onnx.Options{
				Opsets: opsets, Producer: "ssdc", ProducerVersion: ssdc.Version(), Doc: src.Doc, Metadata: src.Metadata, External: external,
			})
			if err != nil {
				return err
			}
			p.done()
			info, err := os.Stat(out)
			if err != nil {
				return err
			}
			e := Export{
				Source: args[0], Output: out, Dialect: d.Name, Opsets: opsets, Fused: fused, Bytes: info.Size(),
				Seconds: time.Since(start).Seconds(), Remarks: list(r.Remarks),
			}
			g.Walk(func(*graph.Node) { e.Nodes++ })
			if asJSON {
				return runner.PrintJSON(cmd.OutOrStdout(), e)
			}
			w := cmd.OutOrStdout()
			fmt.Fprintf(w, "%s: %s in %.2f s, %d nodes, dialect %s, opset %d\n", out, Size(e.Bytes), e.Seconds, e.Nodes, d.Name, opsets[""])
			fmt.Fprintf(w, "fused: %s\n", fusedLine(fused))
			fmt.Fprintf(w, "operators: %s\n", legalize.Count(g))
			return nil
		},
	}
	f.addPasses(c)
	c.Flags().StringVarP(&out, "output", "o", "", "`FILE.onnx` to write")
	c.Flags().StringVar(&dialect, "dialect", legalize.Dialects[0].Name, "`DIALECT` to write: onnx, microsoft or plain")
	c.Flags().IntVar(&opset, "opset", 0, "`N`: opset of ai.onnx (default: the least that the dialect and the model need)")
	c.Flags().BoolVar(&external, "external-data", false, "store weights beside the model in FILE.onnx.data (always done above 2 GB)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: source, output, dialect, opsets{domain: version}, fused{op: count}, nodes, bytes, seconds, remarks")
	return c
}
