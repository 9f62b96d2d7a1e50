package conformance

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/backends/ref"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
)

var (
	update = flag.Bool("update", false, "add newly passing cases to testdata/passing.txt (it never shrinks)")
	extra  = flag.String("extra", "", "run the cases in this folder as well and report them, without judging")
)

// The data lives beside the repository: its README says how it is made.
const data = "../../shared/conformance"

const listed = "testdata/passing.txt"

func table(t *testing.T) *ops.Table {
	t.Helper()
	var tab ops.Table
	if err := library.Register(&tab); err != nil {
		t.Fatal(err)
	}
	return &tab
}

func reference(tab *ops.Table) Runner {
	return func(g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if err := ops.Verify(tab, g); err != nil {
			return nil, err
		}
		return ops.Run(context.Background(), tab, g, in)
	}
}

// TestReference holds the reference evaluation to the list of cases that it
// once passed.
func TestReference(t *testing.T) {
	if _, err := os.Stat(data); err != nil {
		t.Skip("no conformance data in " + data)
	}
	tab := table(t)
	results, err := Run(data, tab, reference(tab), nil)
	if err != nil {
		t.Fatal(err)
	}
	must := passing(t)
	status := map[string]Result{}
	for _, r := range results {
		status[r.Name] = r
	}
	for name := range must {
		switch r, ran := status[name]; {
		case !ran:
			t.Errorf("%s is listed in %s but there is no such case", name, listed)
		case r.Status != Pass:
			t.Errorf("%s: %s, but it used to pass: %s", name, r.Status, r.Reason)
		}
	}
	summary(t, results)
	fresh := 0
	for _, r := range results {
		if r.Status == Pass && !must[r.Name] && !byChance(tab, r) {
			fresh++
			must[r.Name] = true
		}
	}
	if fresh > 0 && *update {
		names := slices.Sorted(maps.Keys(must))
		if err := os.WriteFile(listed, []byte(strings.Join(names, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d cases pass for the first time (go test ./conformance -update lists them)", fresh)
}

// TestBackends holds the CPU backend, and the reference backend behind the same
// sessions, to the same list.
func TestBackends(t *testing.T) {
	if _, err := os.Stat(data); err != nil {
		t.Skip("no conformance data in " + data)
	}
	tab := table(t)
	for _, b := range []backends.Backend{cpu.New(tab), ref.New(tab)} {
		t.Run(b.Name(), func(t *testing.T) {
			results, err := Run(data, tab, On(context.Background(), tab, b), nil)
			if err != nil {
				t.Fatal(err)
			}
			must, passed := passing(t), 0
			for _, r := range results {
				switch {
				case r.Status == Pass:
					passed++
				case must[r.Name]:
					t.Errorf("%s: %s: %s", r.Name, r.Status, r.Reason)
				}
			}
			t.Logf("%d of %d cases pass", passed, len(results))
		})
	}
}

// TestRecorded runs what testdata/scripts/make_ops.py recorded from ONNX Runtime,
// all of it on both backends.
func TestRecorded(t *testing.T) {
	tab := table(t)
	for _, b := range []backends.Backend{cpu.New(tab), ref.New(tab)} {
		results, err := Run("../testdata/ops", tab, On(context.Background(), tab, b), nil)
		if err != nil || len(results) == 0 {
			t.Fatalf("%d cases, %v", len(results), err)
		}
		for _, r := range results {
			if r.Status != Pass {
				t.Errorf("%s: %s: %s: %s", b.Name(), r.Name, r.Status, r.Reason)
			}
		}
	}
}

// byChance reports a case whose result is drawn at random: that it passed once
// says nothing. (Dropout is random too, but not at inference, nor with a seed.)
func byChance(tab *ops.Table, r Result) bool {
	return slices.ContainsFunc(r.Ops, func(name string) bool {
		row := tab.Resolve("", name, 0)
		return row != nil && row.Traits&ops.Random != 0 && name != "Dropout"
	})
}

func TestExtra(t *testing.T) {
	if *extra == "" {
		t.Skip("no -extra folder")
	}
	tab := table(t)
	results, err := Run(*extra, tab, reference(tab), &Options{Import: onnx.Options{AnyOpset: true}})
	if err != nil {
		t.Fatal(err)
	}
	summary(t, results)
}

// summary logs the counts, every failure, and the missing operators.
func summary(t *testing.T, results []Result) {
	count, missing := map[Status]int{}, map[string]int{}
	for _, r := range results {
		count[r.Status]++
		for _, m := range r.Missing {
			missing[m]++
		}
		if r.Status == Fail || r.Status == Unsupported && r.Missing == nil {
			t.Logf("%s %s (%s): %s", r.Status, r.Name, strings.Join(r.Ops, ", "), r.Reason)
		}
	}
	t.Logf("%d cases: %d pass, %d fail, %d unsupported", len(results), count[Pass], count[Fail], count[Unsupported])
	var names []string
	for _, m := range slices.Sorted(maps.Keys(missing)) {
		names = append(names, fmt.Sprintf("%s (%d)", m, missing[m]))
	}
	t.Logf("operators without a row: %s", strings.Join(names, ", "))
}

func passing(t *testing.T) map[string]bool {
	f, err := os.Open(listed)
	if os.IsNotExist(err) {
		return map[string]bool{}
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	names := map[string]bool{}
	for s := bufio.NewScanner(f); s.Scan(); {
		names[s.Text()] = true
	}
	return names
}

func TestCompare(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name      string
		got, want *tensor.Tensor
		ok        bool
	}{
		{"near", tensor.From([]float32{1000.9}, 1), tensor.From([]float32{1000}, 1), true},
		{"far", tensor.From([]float32{1001.1}, 1), tensor.From([]float32{1000}, 1), false},
		{"atol", tensor.From([]float32{5e-8}, 1), tensor.From([]float32{0}, 1), true},
		{"nan", tensor.From([]float32{nan}, 1), tensor.From([]float32{nan}, 1), true},
		{"nan for a number", tensor.From([]float32{nan}, 1), tensor.From([]float32{1}, 1), false},
		{"number for nan", tensor.From([]float32{1}, 1), tensor.From([]float32{nan}, 1), false},
		{"inf", tensor.From([]float32{inf}, 1), tensor.From([]float32{inf}, 1), true},
		{"-inf", tensor.From([]float32{-inf}, 1), tensor.From([]float32{inf}, 1), false},
		{"large for inf", tensor.From([]float32{3e38}, 1), tensor.From([]float32{inf}, 1), false},
		{"dtype", tensor.From([]float64{1}, 1), tensor.From([]float32{1}, 1), false},
		{"shape", tensor.From([]float32{1}, 1), tensor.From([]float32{1}), false},
		{"ints are exact", tensor.Ints(1 << 60), tensor.Ints(1<<60 + 1), false},
		{"strings", tensor.FromStrings([]string{"a"}, 1), tensor.FromStrings([]string{"b"}, 1), false},
		{"sequence", tensor.Seq(tensor.Ints(1)), tensor.Seq(tensor.Ints(1)), true},
		{"sequence length", tensor.Seq(tensor.Ints(1)), tensor.Seq(), false},
		{"sequence member", tensor.Seq(tensor.Ints(1)), tensor.Seq(tensor.Ints(2)), false},
		{"missing", nil, tensor.Ints(1), false},
		{"complex", tensor.From([]complex64{complex(1, nan)}, 1), tensor.From([]complex64{complex(1, nan)}, 1), true},
		{"imaginary part", tensor.From([]complex64{1i}, 1), tensor.From([]complex64{2i}, 1), false},
	} {
		if err := Compare(c.got, c.want, 0, 0); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
