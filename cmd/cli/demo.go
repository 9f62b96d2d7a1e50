package cli

import (
	"context"
	"embed"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// demo is a real export: Hugging Face's Mamba2ForCausalLM with random weights,
// through PyTorch's exporter, with inputs and PyTorch's float64 outputs.
//
//go:embed demo/model.onnx demo/inputs.npz demo/expected.npz
var demo embed.FS

func (a *app) demoCommand() *cobra.Command {
	var seq int64
	c := &cobra.Command{
		Use:   "demo",
		Short: "compile and run a real export of a small Mamba-2 that ships with ssdc",
		Long: `Compile a small Mamba-2 language model, exported from PyTorch, that is part of this
program; print what was fused, how well the result agrees with PyTorch's own (float64)
output, and the time with and without fusion.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := os.MkdirTemp("", "ssdc-demo-*")
			if err != nil {
				return err
			}
			defer os.RemoveAll(dir)
			for _, name := range []string{"model.onnx", "inputs.npz", "expected.npz"} {
				data, err := demo.ReadFile("demo/" + name)
				if err != nil {
					return err
				}
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					return err
				}
			}
			return a.demo(cmd.Context(), cmd.OutOrStdout(), dir, seq)
		},
	}
	c.Flags().Int64Var(&seq, "seq", 512, "sequence length for the timing")
	return c
}

func (a *app) demo(ctx context.Context, w io.Writer, dir string, seq int64) error {
	onnx := filepath.Join(dir, "model.onnx")
	start := time.Now()
	c, err := ssdc.BuildWith(ctx, a.set, onnx, ssdc.Options{NoStates: true})
	if err != nil {
		return err
	}
	out := filepath.Join(dir, "model.ssda")
	if err := c.Write(out); err != nil {
		return err
	}
	info, err := os.Stat(out)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "compiled  Mamba2ForCausalLM (%s) in %.2f s to %s\n", c.Source.Producer, time.Since(start).Seconds(), Size(info.Size()))
	fmt.Fprintf(w, "fused     %s\n", fusedLine(c.Fused))
	fused, err := a.set.Registry.Open(out, model.Options{})
	if err != nil {
		return err
	}
	defer fused.Close()
	worst, err := agreement(ctx, fused, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "agreement relative error %.1e against PyTorch in float64\n\n", worst)

	plain, err := ssdc.BuildWith(ctx, a.set, onnx, ssdc.Options{NoOpt: true, NoStates: true})
	if err != nil {
		return err
	}
	unfused, err := plain.Open()
	if err != nil {
		return err
	}
	defer unfused.Close()
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "tokens %d\tmedian ms\ttokens/s\t\n", seq)
	var ms [2]float64
	for i, m := range []*model.Model{unfused, fused} {
		in, err := runner.Random(m, map[string]int64{"batch": 1, "seq": seq})
		if err != nil {
			return err
		}
		b, err := runner.Measure(ctx, m, in, 5)
		if err != nil {
			return err
		}
		ms[i] = b.MedianMs
		fmt.Fprintf(tw, "%s\t%.2f\t%.0f\t\n", []string{"without fusion", "with fusion"}[i], b.MedianMs, float64(seq)/b.MedianMs*1000)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%.0f times as fast\n", ms[0]/ms[1])
	return nil
}

// agreement runs the stored inputs and returns the largest relative error by norm.
func agreement(ctx context.Context, m *model.Model, dir string) (float64, error) {
	in, _, err := tensor.ReadNpz(filepath.Join(dir, "inputs.npz"))
	if err != nil {
		return 0, err
	}
	want, _, err := tensor.ReadNpz(filepath.Join(dir, "expected.npz"))
	if err != nil {
		return 0, err
	}
	s, err := m.NewSession()
	if err != nil {
		return 0, err
	}
	got, err := s.Run(ctx, in)
	if err != nil {
		return 0, err
	}
	worst := 0.0
	for name, t := range want {
		var diff, norm float64
		for i := range t.Len() {
			d := got[name].At(i) - t.At(i)
			diff += d * d
			norm += t.At(i) * t.At(i)
		}
		worst = math.Max(worst, math.Sqrt(diff/norm))
	}
	return worst, nil
}
