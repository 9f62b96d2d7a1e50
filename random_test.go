package ssdc_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

// finish chooses outputs: values of any kind, inputs, constants and repetitions
// among them. only >= 0 asks for that value alone.
func (m *graphMaker) finish(only int) *graph.Graph {
	all := append(slices.Clone(m.vals), m.ints...)
	if only >= 0 {
		if only >= len(all) {
			return nil
		}
		m.g.AddOutput(all[only])
		m.g.Sweep()
		return m.g
	}
	for range 1 + m.r.IntN(3) {
		m.g.AddOutput(all[len(all)-1-m.r.IntN(min(len(all), 6))])
	}
	switch m.r.IntN(12) {
	case 0:
		m.g.AddOutput(m.g.Inputs[0])
	case 1:
		m.g.AddOutput(m.g.Outputs[0])
	case 2:
		m.g.AddOutput(m.constant(m.g.Inputs[0].Type))
	}
	m.g.Sweep()
	return m.g
}

func standard(t testing.TB) *plugin.Set {
	t.Helper()
	set, err := plugin.Join(std.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// build compiles g for the CPU at a level. g is not changed.
func build(set *plugin.Set, g *graph.Graph, level int) (*model.Model, error) {
	g, _ = g.Clone()
	if level > 0 {
		if err := set.Pipeline.Run(passes.NewContext(context.Background(), set.Registry.Table), g); err != nil {
			return nil, err
		}
	}
	b, err := set.Registry.Backend("cpu")
	if err != nil {
		return nil, err
	}
	p, err := b.Compile(g, backends.Target{Name: "cpu", Level: level, Threads: 1})
	if err != nil {
		return nil, err
	}
	return set.Registry.Load(p, nil, model.Options{})
}

// feed makes inputs of g with symbols replaced.
func feed(r *rand.Rand, g *graph.Graph, lengths map[string]int64) ([]*tensor.Tensor, map[string]*tensor.Tensor) {
	var list []*tensor.Tensor
	byName := map[string]*tensor.Tensor{}
	for _, v := range g.Inputs {
		var shape []int
		for _, d := range v.Type.Shape {
			n, _ := d.Eval(lengths)
			shape = append(shape, int(n))
		}
		t := tensor.New(v.Type.DType, shape...)
		for i := range t.Len() {
			t.SetAt(i, r.NormFloat64())
		}
		list = append(list, t)
		byName[v.Name] = t
	}
	return list, byName
}

// differ says where two results disagree, by more than 1e-4 of the largest value.
func differ(got, want *tensor.Tensor) error {
	if got == nil {
		return fmt.Errorf("no result")
	}
	if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
		return fmt.Errorf("got %s, want %s", got.TypeString(), want.TypeString())
	}
	scale := 1.0
	for i := range want.Len() {
		if a := math.Abs(want.At(i)); a > scale && !math.IsInf(a, 0) {
			scale = a
		}
	}
	for i := range want.Len() {
		a, b := got.At(i), want.At(i)
		if a == b || math.IsNaN(a) && math.IsNaN(b) || math.Abs(a-b) <= 1e-4*scale {
			continue
		}
		return fmt.Errorf("element %d of %s: got %g, want %g", i, want.TypeString(), a, b)
	}
	return nil
}

// compare runs g at both levels on several lengths against the definition.
func compare(set *plugin.Set, g *graph.Graph, seed uint64) error {
	var models [2]*model.Model
	for level := range models {
		m, err := build(set, g, level)
		if err != nil {
			return fmt.Errorf("level %d does not compile: %w", level, err)
		}
		defer m.Close()
		models[level] = m
	}
	r := rand.New(rand.NewPCG(seed, 23))
	var sessions [2]*model.Session
	for level, m := range models {
		s, err := m.NewSession()
		if err != nil {
			return err
		}
		sessions[level] = s
	}
	for _, lengths := range []map[string]int64{{"batch": 2, "seq": 3}, {"batch": 1, "seq": 1}, {"batch": 3, "seq": 4}} {
		list, byName := feed(r, g, lengths)
		want, wantErr := ops.Run(context.Background(), set.Registry.Table, g, list)
		for level, s := range sessions {
			got, err := s.Run(context.Background(), byName)
			if wantErr != nil && os.Getenv("RANDOM_STRICT") == "" {
				break // contradictory lengths: where a pass drops the check, a result may come out
			}
			if (err == nil) != (wantErr == nil) {
				return fmt.Errorf("level %d, %v: error %v, the definition's %v", level, lengths, err, wantErr)
			}
			if err != nil {
				continue
			}
			for i, v := range g.Outputs {
				if err := differ(got[v.Name], want[i]); err != nil {
					return fmt.Errorf("level %d, %v, output %d (%s): %w", level, lengths, i, v.Name, err)
				}
			}
		}
	}
	return nil
}

// TestRandomGraphs: whatever the graph, the passes and the CPU backend compute
// what the operators' definitions compute, or fail where those fail.
// RANDOM_GRAPHS=from:n tries more seeds.
func TestRandomGraphs(t *testing.T) {
	set := standard(t)
	from, n := uint64(0), uint64(600)
	if s := os.Getenv("RANDOM_GRAPHS"); s != "" {
		if _, err := fmt.Sscanf(s, "%d:%d", &from, &n); err != nil {
			t.Fatalf("RANDOM_GRAPHS=%s: want FROM:N", strconv.Quote(s))
		}
	}
	failures := 0
	for seed := from; seed < from+n; seed++ {
		g := newGraphMaker(set.Registry.Table, seed).finish(-1)
		err := compare(set, g, seed)
		if err == nil {
			continue
		}
		for i := 0; ; i++ { // the first value that is wrong by itself
			h := newGraphMaker(set.Registry.Table, seed).finish(i)
			if h == nil {
				break
			}
			if e := compare(set, h, seed); e != nil {
				g, err = h, e
				break
			}
		}
		t.Errorf("seed %d: %v\n%s", seed, err, g)
		if failures++; failures > 20 {
			t.Fatal("and perhaps more")
		}
	}
}
