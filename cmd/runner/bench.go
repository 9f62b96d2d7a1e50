package runner

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"sort"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/peak"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Step is the time of one step of the plan; keys are stable.
type Step struct {
	Node     string  `json:"node"`
	Op       string  `json:"op"`
	Kernel   string  `json:"kernel"`
	MedianMs float64 `json:"median_ms"`
	Share    float64 `json:"share"` // of the sum of all steps
	// The least that the step has to do per second of its median time, and which
	// part of the time the machine at its peak would take for the slower of
	// arithmetic and memory; above 1 the data came from a cache. 0: not known.
	GFlops float64 `json:"gflops"`
	GBs    float64 `json:"gbs"`
	OfPeak float64 `json:"of_peak"`
}

// Peak is what the machine reached in loops without data, and reading memory, just
// before the model was timed; keys are stable.
type Peak struct {
	F32GFlops  float64 `json:"f32_gflops"`
	BF16GFlops float64 `json:"bf16_gflops"`
	Int8Gops   float64 `json:"int8_gops"`
	ReadGBs    float64 `json:"read_gbs"`
}

// MeasurePeak measures the machine with a number of threads.
func MeasurePeak(threads int) Peak {
	m := peak.Measure(threads)
	return Peak{m.F32 / 1e9, m.BF16 / 1e9, m.Int8 / 1e9, m.Read / 1e9}
}

// least is the time in ms that the machine at its peak takes.
func (p *Peak) least(c backends.Cost) float64 {
	rate := p.F32GFlops
	switch c.Format {
	case "bf16":
		rate = p.BF16GFlops
	case "int8", "int4":
		rate = p.Int8Gops
	}
	if rate == 0 || p.ReadGBs == 0 {
		return 0
	}
	return max(float64(c.Ops)/rate, float64(c.Bytes)/p.ReadGBs) / 1e6
}

// Bench is the result of the bench command; keys are stable.
type Bench struct {
	Model    string           `json:"model"`
	Shape    map[string]int64 `json:"shape"`
	Threads  int              `json:"threads"`
	Runs     int              `json:"runs"`
	MedianMs float64          `json:"median_ms"`
	MinMs    float64          `json:"min_ms"`
	P90Ms    float64          `json:"p90_ms"`
	OpenMs   float64          `json:"open_ms"`
	FirstMs  float64          `json:"first_ms"`
	Peak     Peak             `json:"peak"`
	OfPeak   float64          `json:"of_peak"` // of all steps that are known, by their least times
	Steps    []Step           `json:"steps"`
}

// Measure runs a model repeatedly: first untraced for the totals, then traced
// for the steps.
func Measure(ctx context.Context, m *model.Model, in map[string]*tensor.Tensor, runs, segment int, top Peak) (*Bench, error) {
	s, err := m.NewSession()
	if err != nil {
		return nil, err
	}
	b := &Bench{Runs: runs, Peak: top, Steps: []Step{}}
	one := func() (float64, error) {
		start := time.Now()
		_, err := runPieces(ctx, s, in, segment)
		return float64(time.Since(start)) / 1e6, err
	}
	if b.FirstMs, err = one(); err != nil {
		return nil, err
	}
	times := make([]float64, runs)
	for i := range times {
		if times[i], err = one(); err != nil {
			return nil, err
		}
	}
	sort.Float64s(times)
	b.MinMs, b.MedianMs, b.P90Ms = times[0], median(times), times[(len(times)*9)/10]
	per := map[int][]float64{}
	info := map[int]backends.StepTime{}
	s.Trace(func(st backends.StepTime) {
		per[st.Step] = append(per[st.Step], float64(st.Took)/1e6)
		info[st.Step] = st
	})
	for range min(runs, 20) {
		if _, err := one(); err != nil {
			return nil, err
		}
	}
	var steps []int
	total := 0.0
	for i := range per {
		sort.Float64s(per[i])
		steps = append(steps, i)
		total += median(per[i])
	}
	sort.Ints(steps)
	least, known := 0.0, 0.0
	for _, i := range steps {
		st := Step{Kernel: info[i].Kernel, MedianMs: median(per[i]), Node: "copy", Op: "copy"}
		if n := info[i].Node; n != nil {
			st.Op = n.Op.String()
			if st.Node = n.From; st.Node == "" && n.Out[0] != nil {
				st.Node = n.Out[0].Name
			}
		}
		if total > 0 { // a clock may be too coarse for a tiny model
			st.Share = st.MedianMs / total
		}
		if c := info[i].Cost; c.Bytes > 0 && st.MedianMs > 0 {
			st.GFlops, st.GBs = float64(c.Ops)/st.MedianMs/1e6, float64(c.Bytes)/st.MedianMs/1e6
			st.OfPeak = top.least(c) / st.MedianMs
			least, known = least+top.least(c), known+st.MedianMs
		}
		b.Steps = append(b.Steps, st)
	}
	if known > 0 {
		b.OfPeak = least / known
	}
	return b, nil
}

func median(sorted []float64) float64 {
	n := len(sorted)
	if n == 0 {
		return 0
	}
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// BenchCommand makes the bench command.
func BenchCommand(open Opener) *cobra.Command {
	var shape, inputs []string
	var runs, threads, top, segment int
	var asJSON bool
	c := &cobra.Command{
		Use:   "bench MODEL",
		Short: "time a model, in all and by step",
		Long: `Time a model on random inputs, or on those given: the median of many runs, and the
time of each step of its plan, from further runs that are traced. For each step also
the arithmetic and the bytes that it cannot do without, per second, and the share of
what this machine can do, which is measured first.`,
		Example: "  ssdc bench model.ssda --shape batch=1,seq=512 --threads 2",
		Args:    One("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			lengths, err := ParseShape(shape)
			if err != nil {
				return err
			}
			if runs < 1 {
				return Usagef("--runs %d: want at least 1", runs)
			}
			if segment < 0 {
				return Usagef("--segment %d: want 1 or more positions, or 0 for all at once", segment)
			}
			start := time.Now()
			if threads < 0 {
				return Usagef("--threads %d: want 1 or more, or 0 for one per processor", threads)
			}
			m, err := open(cmd.Context(), args[0], threads)
			if err != nil {
				return err
			}
			defer m.Close()
			opened := time.Since(start)
			in, err := Random(m, lengths)
			if err != nil {
				return err
			}
			given, err := ReadInputs(m, inputs)
			if err != nil {
				return err
			}
			for k, v := range given {
				in[k] = v
			}
			n := threads
			if n == 0 {
				n = runtime.GOMAXPROCS(0)
			}
			b, err := Measure(cmd.Context(), m, in, runs, segment, MeasurePeak(n))
			if err != nil {
				return err
			}
			b.Model, b.Shape, b.OpenMs, b.Threads = args[0], lengths, float64(opened)/1e6, n
			if asJSON {
				return PrintJSON(cmd.OutOrStdout(), b)
			}
			return b.print(cmd.OutOrStdout(), top)
		},
	}
	f := c.Flags()
	f.StringArrayVar(&shape, "shape", nil, "lengths of symbolic axes: `NAME=N`, as in batch=1,seq=512 (default 1)")
	f.StringArrayVarP(&inputs, "input", "i", nil, "`NAME=FILE`: NAME=FILE.npy or FILE.npz, instead of random numbers; may repeat")
	f.IntVar(&runs, "runs", 30, "number `N` of timed runs")
	f.IntVar(&threads, "threads", 0, "number `N` of threads (default: one per processor)")
	f.IntVar(&segment, "segment", 0, "run long inputs in pieces of at most `N` positions (default: all at once); the steps are then those of all pieces of one length")
	f.IntVar(&top, "top", 25, "print the `N` slowest steps; 0: all, in order")
	f.BoolVar(&asJSON, "json", false, "print JSON: model, shape, threads, runs, median_ms, min_ms, p90_ms, open_ms, first_ms, peak{f32_gflops,bf16_gflops,int8_gops,read_gbs}, of_peak, steps[node,op,kernel,median_ms,share,gflops,gbs,of_peak]")
	return c
}

func (b *Bench) print(w io.Writer, top int) error {
	fmt.Fprintf(w, "median %.3f ms, fastest %.3f, 90%% within %.3f (%d runs, %d threads); opened in %.1f ms, first run %.1f ms\n", b.MedianMs, b.MinMs, b.P90Ms, b.Runs, b.Threads, b.OpenMs, b.FirstMs)
	fmt.Fprintf(w, "machine: f32 %.0f, bf16 %.0f GFLOP/s, int8 %.0f GOP/s, reads %.1f GB/s; the steps take %.0f%% of their time at these peaks\n\n",
		b.Peak.F32GFlops, b.Peak.BF16GFlops, b.Peak.Int8Gops, b.Peak.ReadGBs, 100*b.OfPeak)
	steps := append([]Step{}, b.Steps...)
	if top > 0 {
		sort.SliceStable(steps, func(i, j int) bool { return steps[i].MedianMs > steps[j].MedianMs })
	}
	rest := 0.0
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(tw, "MS\tSHARE\tGFLOP/S\tGB/S\tOF PEAK\tOP\tKERNEL\tNODE")
	for i, s := range steps {
		if top > 0 && i >= top {
			rest += s.MedianMs
			continue
		}
		k := s.Kernel
		if k == "" {
			k = "(definition)"
		}
		work := "\t\t"
		if s.GBs > 0 {
			work = fmt.Sprintf("%.1f\t%.1f\t%.0f%%", s.GFlops, s.GBs, 100*s.OfPeak)
		}
		fmt.Fprintf(tw, "%.4f\t%.1f%%\t%s\t%s\t%s\t%s\n", s.MedianMs, 100*s.Share, work, s.Op, k, s.Node)
	}
	if rest > 0 {
		fmt.Fprintf(tw, "%.4f\t\t\t\t\tother steps\t\t\n", rest)
	}
	return tw.Flush()
}
