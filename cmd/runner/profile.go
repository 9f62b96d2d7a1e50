package runner

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// event is one entry of a trace in the Trace Event Format, which chrome://tracing
// and Perfetto open: a complete event ("X") with times in microseconds.
type event struct {
	Name  string         `json:"name"`
	Cat   string         `json:"cat"`
	Phase string         `json:"ph"`
	Ts    float64        `json:"ts"`
	Dur   float64        `json:"dur"`
	Pid   int            `json:"pid"`
	Tid   int            `json:"tid"`
	Args  map[string]any `json:"args,omitempty"`
}

// ProfileCommand makes the profile command.
func ProfileCommand(open Opener) *cobra.Command {
	var shape, inputs []string
	var runs, threads int
	var out string
	c := &cobra.Command{
		Use:   "profile MODEL",
		Short: "write the steps of a model as a trace",
		Long: `Run a model on random inputs, or on those given, and write when each step of its plan
began and how long it took, for chrome://tracing or ui.perfetto.dev. The first run,
which binds the plan to the shapes, is not in it.`,
		Example: "  ssdc profile model.ssda --shape batch=1,seq=512 -o trace.json",
		Args:    One("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			lengths, err := ParseShape(shape)
			if err != nil {
				return err
			}
			if runs < 1 {
				return Usagef("--runs %d: want at least 1", runs)
			}
			if threads < 0 {
				return Usagef("--threads %d: want 1 or more, or 0 for one per processor", threads)
			}
			if err := wholefile.Check(out); err != nil {
				return err
			}
			m, err := open(cmd.Context(), args[0], threads)
			if err != nil {
				return err
			}
			defer m.Close()
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
			s, err := m.NewSession()
			if err != nil {
				return err
			}
			if _, err := s.Run(cmd.Context(), in); err != nil {
				return err
			}
			var events []event
			start := time.Now()
			us := func(t time.Time) float64 { return float64(t.Sub(start)) / 1e3 }
			s.Trace(func(st backends.StepTime) {
				begin := st.Start
				if begin.IsZero() { // a backend that tells only durations
					begin = time.Now().Add(-st.Took)
				}
				events = append(events, stepEvent(st, us(begin)))
			})
			for i := range runs {
				begin := time.Now()
				if _, err := s.Run(cmd.Context(), in); err != nil {
					return err
				}
				events = append(events, event{Name: fmt.Sprintf("run %d", i+1), Cat: "run", Phase: "X", Ts: us(begin), Dur: float64(time.Since(begin)) / 1e3, Pid: 1, Tid: 1})
			}
			if err := wholefile.Write(out, func(w io.Writer) error { return writeTrace(w, events) }); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d events of %d runs; open it in chrome://tracing or ui.perfetto.dev\n", out, len(events), runs)
			return nil
		},
	}
	f := c.Flags()
	f.StringArrayVar(&shape, "shape", nil, "lengths of symbolic axes: `NAME=N`, as in batch=1,seq=512 (default 1)")
	f.StringArrayVarP(&inputs, "input", "i", nil, "`NAME=FILE`: NAME=FILE.npy or FILE.npz, instead of random numbers; may repeat")
	f.IntVar(&runs, "runs", 3, "number `N` of runs to trace")
	f.IntVar(&threads, "threads", 0, "number `N` of threads (default: one per processor)")
	f.StringVarP(&out, "output", "o", "trace.json", "`FILE` to write")
	return c
}

func stepEvent(st backends.StepTime, ts float64) event {
	e := event{Name: "copy", Cat: "step", Phase: "X", Ts: ts, Dur: float64(st.Took) / 1e3, Pid: 1, Tid: 1, Args: map[string]any{"kernel": st.Kernel}}
	if n := st.Node; n != nil {
		e.Name = n.Op.Name
		if n.From != "" {
			e.Args["node"] = n.From
		}
	}
	if strings.HasPrefix(st.Kernel, "tiled ") {
		e.Name = strings.TrimPrefix(st.Kernel, "tiled ")
	}
	if us := e.Dur; st.Cost.Bytes > 0 && us > 0 {
		e.Args["gflops"] = float64(st.Cost.Ops) / us / 1e3
		e.Args["gb_per_s"] = float64(st.Cost.Bytes) / us / 1e3
	}
	return e
}

func writeTrace(w io.Writer, events []event) error {
	b := bufio.NewWriter(w)
	fmt.Fprintln(b, `{"displayTimeUnit": "ms", "traceEvents": [`)
	for i, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		if i > 0 {
			fmt.Fprintln(b, ",")
		}
		if _, err := b.Write(data); err != nil {
			return err
		}
	}
	fmt.Fprintln(b, "\n]}")
	return b.Flush()
}
