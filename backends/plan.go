package backends

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Plan is a compiled graph: data that an artifact stores.
type Plan struct {
	Target Target
	// Graph is the legalised graph. In a plan that was read from an artifact, a
	// constant of which only packed forms are stored has no Data.
	Graph  *graph.Graph
	States []StatePair
	// Kernels names the kernel of Graph.Nodes[i]; "" is the operator's Eval.
	Kernels []string
	// Weights lists the stored constants, each once per layout.
	Weights []*Weight
	// Options are the backend's own notes from Compile to Open.
	Options map[string]string
}

// Weight is one stored form of a constant of the graph.
type Weight struct {
	Name   string
	Layout string // "": row-major, as in the graph
	DType  tensor.DType
	Shape  []int // of the stored tensor
	// Load gives the stored tensor, packing it now if need be. It is nil in a
	// plan read from an artifact, which has the bytes itself.
	Load func() (*tensor.Tensor, error)
}

// Bytes is the size of the stored tensor.
func (w *Weight) Bytes() int {
	n := 1
	for _, d := range w.Shape {
		n *= d
	}
	return w.DType.Bytes(n)
}

// Loaded is the Weights of a plan in memory. Each is packed on first use.
type Loaded struct {
	plan *Plan
	got  map[[2]string]*tensor.Tensor
}

// Own gives the plan's own weights.
func (p *Plan) Own() *Loaded { return &Loaded{p, map[[2]string]*tensor.Tensor{}} }

// Weight implements Weights.
func (l *Loaded) Weight(name, layout string) (*tensor.Tensor, error) {
	k := [2]string{name, layout}
	if t := l.got[k]; t != nil {
		return t, nil
	}
	for _, w := range l.plan.Weights {
		if w.Name != name || w.Layout != layout {
			continue
		}
		if w.Load == nil {
			return nil, fmt.Errorf("weight %q: the plan was read from a file and holds no data; open it with the file's weights", name)
		}
		t, err := w.Load()
		if err != nil {
			return nil, fmt.Errorf("weight %q (%s): %w", name, layoutName(layout), err)
		}
		l.got[k] = t
		return t, nil
	}
	return nil, fmt.Errorf("weight %q (%s) is not in the plan", name, layoutName(layout))
}

func layoutName(l string) string {
	if l == "" {
		return "row-major"
	}
	return "packed as " + l
}

// CheckOptions refuses settings that the target's backend does not know.
func (t Target) CheckOptions(backend string, known ...string) error {
	for _, k := range slices.Sorted(maps.Keys(t.Options)) {
		if slices.Contains(known, k) {
			continue
		}
		if len(known) == 0 {
			return fmt.Errorf("option %s=%s: the %s backend has no settings", k, t.Options[k], backend)
		}
		known = slices.Compact(slices.Sorted(slices.Values(known)))
		return fmt.Errorf("option %s=%s: the %s backend knows %s", k, t.Options[k], backend, strings.Join(known, ", "))
	}
	return nil
}

// CheckStates reports a pair whose names or types do not fit the graph.
func CheckStates(g *graph.Graph, pairs []StatePair) error {
	ins, outs := map[string]*graph.Value{}, map[string]*graph.Value{}
	var inNames, outNames []string
	for _, v := range g.Inputs {
		ins[v.Name] = v
		inNames = append(inNames, v.Name)
	}
	for _, v := range g.Outputs {
		outs[v.Name] = v
		outNames = append(outNames, v.Name)
	}
	seenIn, seenOut := map[string]bool{}, map[string]bool{}
	for _, p := range pairs {
		i, o := ins[p.In], outs[p.Out]
		switch {
		case i == nil:
			return fmt.Errorf("state %s=%s: the model has no input %q%s", p.In, p.Out, p.In, meant(p.In, inNames))
		case o == nil:
			return fmt.Errorf("state %s=%s: the model has no output %q%s", p.In, p.Out, p.Out, meant(p.Out, outNames))
		case seenIn[p.In] || seenOut[p.Out]:
			return fmt.Errorf("state %s=%s: an input or output can be in one pair only", p.In, p.Out)
		case i.Type.DType != o.Type.DType || i.Type.Ranked() && o.Type.Ranked() && i.Type.Rank() != o.Type.Rank():
			return fmt.Errorf("state %s=%s: the input is %s but the output is %s", p.In, p.Out, i.Type, o.Type)
		case i.Type.DType.Size() == 0 || !i.Type.Ranked():
			return fmt.Errorf("state %s=%s: a state must be a tensor of known rank, not %s", p.In, p.Out, i.Type)
		}
		seenIn[p.In], seenOut[p.Out] = true, true
	}
	return nil
}
