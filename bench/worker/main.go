// Command worker is the ssdc side of bench/layer.py: it opens an artifact and
// one set of inputs and then runs on request, so that the start of a process
// and the opening of a model are in no time.
//
//	worker MODEL.ssda INPUTS.npz
//
// It answers every line of its input with one line of JSON, after one that
// says that it is ready:
//
//	run         {"ms": 20.1}                one run of the session
//	memory      {"start_kb": 1, "peak_kb": 2}  VmHWM before opening, and now
//	save FILE   {"saved": "FILE"}           the results of the last run, as .npz
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: worker MODEL.ssda INPUTS.npz")
		os.Exit(2)
	}
	if err := serve(os.Args[1], os.Args[2], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "worker:", err)
		os.Exit(1)
	}
}

func serve(path, inputs string, r io.Reader, w io.Writer) error {
	startKB, err := peakKB()
	if err != nil {
		return err
	}
	begin := time.Now()
	m, err := ssdc.Open(path)
	if err != nil {
		return err
	}
	defer m.Close()
	opened := milliseconds(begin)
	s, err := m.NewSession()
	if err != nil {
		return err
	}
	in, _, err := tensor.ReadNpz(inputs)
	if err != nil {
		return err
	}
	answer := json.NewEncoder(w)
	if err := answer.Encode(map[string]any{"version": ssdc.Version(), "open_ms": opened}); err != nil {
		return err
	}
	var out map[string]*tensor.Tensor
	for lines := bufio.NewScanner(r); lines.Scan(); {
		var reply any
		switch verb, arg, _ := strings.Cut(lines.Text(), " "); verb {
		case "run":
			begin := time.Now()
			if out, err = s.Run(context.Background(), in); err != nil {
				return err
			}
			reply = map[string]any{"ms": milliseconds(begin)}
		case "memory":
			now, err := peakKB()
			if err != nil {
				return err
			}
			reply = map[string]any{"start_kb": startKB, "peak_kb": now}
		case "save":
			if err := save(arg, out); err != nil {
				return err
			}
			reply = map[string]any{"saved": arg}
		default:
			return fmt.Errorf("%q: want run, memory or save FILE", lines.Text())
		}
		if err := answer.Encode(reply); err != nil {
			return err
		}
	}
	return nil
}

func milliseconds(since time.Time) float64 { return float64(time.Since(since)) / 1e6 }

func save(path string, out map[string]*tensor.Tensor) error {
	var names []string
	var tensors []*tensor.Tensor
	for name, t := range out {
		names, tensors = append(names, name), append(tensors, t)
	}
	return tensor.WriteNpzFile(path, names, tensors)
}

// peakKB is the most memory this process has held so far, as Linux counts it.
func peakKB() (int, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("peak memory is read from Linux's /proc: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			return strconv.Atoi(strings.Fields(rest)[0])
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmHWM")
}
