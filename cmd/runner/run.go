package runner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// Opener opens what the user names on the command line.
type Opener func(ctx context.Context, path string, threads int) (*model.Model, error)

// Tensor summarises an output; the keys of --json are stable.
type Tensor struct {
	Name  string  `json:"name"`
	Type  string  `json:"type"`
	Min   float64 `json:"min"`
	Max   float64 `json:"max"`
	Mean  float64 `json:"mean"`
	Norm  float64 `json:"norm"`
	NaNs  int     `json:"nans"`
	Bytes int     `json:"bytes"`
	// Values are given where statistics tell nothing: of strings, sequences and maps.
	Values json.RawMessage `json:"values,omitempty"`
}

// Summarise describes a tensor of numbers; statistics are over its finite elements.
func Summarise(name string, t *tensor.Tensor) Tensor {
	s := Tensor{Name: name, Type: t.TypeString(), Bytes: len(t.Data)}
	if t.DType == tensor.String || t.DType.IsContainer() || t.DType == tensor.Complex64 || t.DType == tensor.Complex128 {
		if t.DType == tensor.String || t.DType.IsContainer() {
			s.Values = ToJSON(t)
		}
		return s
	}
	n := 0
	for i := range t.Len() {
		v := t.At(i)
		if math.IsNaN(v) || math.IsInf(v, 0) {
			s.NaNs++
			continue
		}
		if n == 0 || v < s.Min {
			s.Min = v
		}
		if n == 0 || v > s.Max {
			s.Max = v
		}
		s.Mean += v
		s.Norm += v * v
		n++
	}
	s.Mean /= math.Max(float64(n), 1)
	s.Norm = math.Sqrt(s.Norm)
	return s
}

// RunCommand makes the run command.
func RunCommand(open Opener) *cobra.Command {
	var inputs, outputs, shape []string
	var random, asJSON, noVerify bool
	var threads, segment int
	var load, save string
	c := &cobra.Command{
		Use:   "run MODEL",
		Short: "run a compiled model on .npy, .npz or .json inputs",
		Long: `Run a model once.

Inputs are .npy files, named after the model's inputs, or .npz files whose arrays are.
Words, sequences and maps may be .json files: NAME=FILE.json holds one value, FILE.json an
object with a member for each input; a tensor is nested lists there.
A model with one input, or one output, needs no name. Recurrent states that are not
given are the session's own: zeros, or what --load-state reads. Without --output a
table of the results is printed.`,
		Example: `  ssdc run model.ssda --input input_ids=ids.npy --output logits=out.npy
  ssdc run model.ssda --random --shape batch=1,seq=64
  ssdc run model.ssda --input all.npz --output all_out.npz --save-state after.state`,
		Args: One("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			lengths, err := ParseShape(shape)
			if err != nil {
				return err
			}
			if len(lengths) > 0 && !random {
				return Usagef("--shape goes with --random: the shapes of files are what they are")
			}
			if segment < 0 {
				return Usagef("--segment %d: want 1 or more positions, or 0 for all at once", segment)
			}
			if threads < 0 {
				return Usagef("--threads %d: want 1 or more, or 0 for one per processor", threads)
			}
			if save != "" {
				if err := wholefile.Check(save); err != nil {
					return err
				}
			}
			m, err := open(cmd.Context(), args[0], threads)
			if err != nil {
				return err
			}
			defer m.Close()
			if f := m.Artifact(); f != nil && !noVerify {
				if err := f.Verify(); err != nil {
					return err
				}
			}
			if err := CheckOutputs(m, outputs); err != nil {
				return err
			}
			in := map[string]*tensor.Tensor{}
			if random {
				if in, err = Random(m, lengths); err != nil {
					return err
				}
			}
			given, err := ReadInputs(m, inputs)
			if err != nil {
				return err
			}
			for k, v := range given {
				in[k] = v
			}
			s, err := m.NewSession()
			if err != nil {
				return err
			}
			if load != "" {
				if err := withFile(load, s.Restore); err != nil {
					return err
				}
			}
			start := time.Now()
			out, err := runPieces(cmd.Context(), s, in, segment)
			if err != nil {
				return err
			}
			took := time.Since(start)
			if err := WriteOutputs(m, out, outputs); err != nil {
				return err
			}
			if save != "" {
				if err := wholefile.Write(save, s.Save); err != nil {
					return err
				}
			}
			return report(cmd.OutOrStdout(), s, out, took, asJSON, len(outputs) == 0)
		},
	}
	f := c.Flags()
	f.StringArrayVarP(&inputs, "input", "i", nil, "read an input from `NAME=FILE`: NAME=FILE.npy, FILE.npy, FILE.npz or .json; may repeat")
	f.StringArrayVarP(&outputs, "output", "o", nil, "write an output to `NAME=FILE`: NAME=FILE.npy, FILE.npy, or all to FILE.npz or FILE.json; may repeat")
	f.BoolVar(&noVerify, "no-verify", false, "do not compare the weights with their sums first (half a second per GB)")
	f.BoolVar(&random, "random", false, "make inputs that are not given from the signature")
	f.StringArrayVar(&shape, "shape", nil, "lengths for --random: `NAME=N`, as in batch=1,seq=512 (default 1)")
	f.IntVar(&threads, "threads", 0, "number `N` of threads (default: one per processor)")
	f.IntVar(&segment, "segment", 0, "run long inputs in pieces of at most `N` positions that carry the state (default: all at once)")
	f.StringVar(&load, "load-state", "", "start from the recurrent state in this `FILE`")
	f.StringVar(&save, "save-state", "", "write the recurrent state after the run to this `FILE`")
	f.BoolVar(&asJSON, "json", false, "print JSON: seconds, outputs[name,type,min,max,mean,norm,nans,bytes, of strings, sequences and maps values] and, of the cpu backend, memory{weights,state,in_out,values,arena} in bytes")
	return c
}

// runPieces runs in segments of at most n positions, 0: all at once.
func runPieces(ctx context.Context, s *model.Session, in map[string]*tensor.Tensor, n int) (map[string]*tensor.Tensor, error) {
	if n == 0 {
		return s.Run(ctx, in)
	}
	return s.RunSegments(ctx, in, n)
}

func withFile(path string, f func(io.Reader) error) error {
	r, err := os.Open(path)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := f(r); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func report(w io.Writer, s *model.Session, out map[string]*tensor.Tensor, took time.Duration, asJSON, table bool) error {
	var all []Tensor
	for _, v := range s.Model().Outputs() {
		all = append(all, Summarise(v.Name, out[v.Name]))
	}
	if asJSON {
		about := map[string]any{"seconds": took.Seconds(), "outputs": all}
		if t, ok := s.Session.(backends.MemoryTeller); ok {
			about["memory"] = t.Memory()
		}
		return PrintJSON(w, about)
	}
	if !table {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "OUTPUT\tTYPE\tMIN\tMAX\tMEAN\tNORM")
	for _, s := range all {
		if s.Values != nil {
			fmt.Fprintf(tw, "%s\t%s\n", s.Name, s.Type)
			continue
		}
		fmt.Fprintf(tw, "%s\t%s\t%.5g\t%.5g\t%.5g\t%.5g", s.Name, s.Type, s.Min, s.Max, s.Mean, s.Norm)
		if s.NaNs > 0 {
			fmt.Fprintf(tw, "\t(%d not finite)", s.NaNs)
		}
		fmt.Fprintln(tw)
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	for i, v := range s.Model().Outputs() {
		if all[i].Values != nil {
			show(w, v.Name, out[v.Name])
		}
	}
	return nil
}

// PrintJSON prints v indented.
func PrintJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
