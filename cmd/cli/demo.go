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

// Demo is what demo --json prints; keys are stable.
type Demo struct {
	Source        string         `json:"source"`
	Fused         map[string]int `json:"fused"`
	ArtifactBytes int64          `json:"artifact_bytes"`
	Seconds       float64        `json:"seconds"`        // of the compilation
	RelativeError float64        `json:"relative_error"` // by norm, against PyTorch in float64
	Tokens        int64          `json:"tokens"`
	UnfusedMs     float64        `json:"unfused_ms"`
	FusedMs       float64        `json:"fused_ms"`
	TokensPerSec  float64        `json:"tokens_per_second"`
	TimesAsFast   float64        `json:"times_as_fast"`
	UnfusedPerSec float64        `json:"unfused_tokens_per_second"`
}

func (a *app) demoCommand() *cobra.Command {
	var seq int64
	var asJSON bool
	c := &cobra.Command{
		Use:   "demo",
		Short: "compile and run a real export of a small Mamba-2 that ships with ssdc",
		Long: `Compile a small Mamba-2 language model, exported from PyTorch, that is part of this
program; print what was fused, how well the result agrees with PyTorch's own (float64)
output, and the time with and without fusion.`,
		Args: runner.None,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if seq < 1 {
				return runner.Usagef("--seq %d: want at least 1", seq)
			}
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
			r, err := a.demo(cmd.Context(), dir, seq)
			if err != nil {
				return err
			}
			if asJSON {
				return runner.PrintJSON(cmd.OutOrStdout(), r)
			}
			return r.print(cmd.OutOrStdout())
		},
	}
	c.Flags().Int64Var(&seq, "seq", 512, "`LENGTH` of the sequence for the timing")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: source, fused{op: count}, artifact_bytes, seconds, relative_error, tokens, unfused_ms, fused_ms, ...")
	return c
}

func (a *app) demo(ctx context.Context, dir string, seq int64) (*Demo, error) {
	onnx, out := filepath.Join(dir, "model.onnx"), filepath.Join(dir, "model.ssda")
	start := time.Now()
	c, err := ssdc.BuildWith(ctx, a.set, onnx, ssdc.Options{NoStates: true})
	if err != nil {
		return nil, err
	}
	if err := c.Write(out); err != nil {
		return nil, err
	}
	r := &Demo{Source: c.Source.Producer, Fused: c.Fused, Seconds: time.Since(start).Seconds(), Tokens: seq}
	info, err := os.Stat(out)
	if err != nil {
		return nil, err
	}
	r.ArtifactBytes = info.Size()
	fused, err := a.set.Registry.Open(out, model.Options{})
	if err != nil {
		return nil, err
	}
	defer fused.Close()
	if r.RelativeError, err = agreement(ctx, fused, dir); err != nil {
		return nil, err
	}
	plain, err := ssdc.BuildWith(ctx, a.set, onnx, ssdc.Options{NoOpt: true, NoStates: true})
	if err != nil {
		return nil, err
	}
	unfused, err := plain.Open()
	if err != nil {
		return nil, err
	}
	defer unfused.Close()
	var ms [2]float64
	for i, m := range []*model.Model{unfused, fused} {
		in, err := runner.Random(m, map[string]int64{"batch": 1, "seq": seq})
		if err != nil {
			return nil, err
		}
		b, err := runner.Measure(ctx, m, in, 5, 0, runner.Peak{})
		if err != nil {
			return nil, err
		}
		ms[i] = b.MedianMs
	}
	second := func(ms float64) float64 { return float64(seq) / ms * 1000 }
	r.UnfusedMs, r.FusedMs, r.TimesAsFast = ms[0], ms[1], ms[0]/ms[1]
	r.UnfusedPerSec, r.TokensPerSec = second(ms[0]), second(ms[1])
	return r, nil
}

func (r *Demo) print(w io.Writer) error {
	fmt.Fprintf(w, "compiled  Mamba2ForCausalLM (%s) in %.2f s to %s\n", r.Source, r.Seconds, Size(r.ArtifactBytes))
	fmt.Fprintf(w, "fused     %s\n", fusedLine(r.Fused))
	fmt.Fprintf(w, "agreement relative error %.1e against PyTorch in float64\n\n", r.RelativeError)
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(tw, "tokens %d\tmedian ms\ttokens/s\t\n", r.Tokens)
	fmt.Fprintf(tw, "without fusion\t%.2f\t%.0f\t\n", r.UnfusedMs, r.UnfusedPerSec)
	fmt.Fprintf(tw, "with fusion\t%.2f\t%.0f\t\n", r.FusedMs, r.TokensPerSec)
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "\n%.1f times as fast\n", r.TimesAsFast)
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
