// Package ref runs plans by definition: every node by its operator's Eval, one
// at a time, in the memory of the heap. It is slow and it is what the other
// backends are compared with.
package ref

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Backend is the reference backend.
type Backend struct{ ops *ops.Table }

// New makes the backend; t defines the operators.
func New(t *ops.Table) *Backend { return &Backend{t} }

// Name implements backends.Backend.
func (b *Backend) Name() string { return "ref" }

// Supports implements backends.Backend.
func (b *Backend) Supports(n *graph.Node, _ backends.Target) error {
	row, err := b.ops.Of(n)
	if err != nil {
		return err
	}
	if row.Eval == nil {
		return fmt.Errorf("%s: operator has no reference implementation", n)
	}
	return nil
}

// Compile implements backends.Backend.
func (b *Backend) Compile(g *graph.Graph, t backends.Target) (*backends.Plan, error) {
	if err := g.Verify(); err != nil {
		return nil, err
	}
	if err := backends.CheckStates(g, t.States); err != nil {
		return nil, err
	}
	if err := t.CheckOptions(b.Name()); err != nil {
		return nil, err
	}
	t.Name = b.Name()
	p := &backends.Plan{Target: t, Graph: g, States: t.States, Kernels: make([]string, len(g.Nodes))}
	var err error
	g.Walk(func(n *graph.Node) {
		if err == nil {
			err = b.Supports(n, t)
		}
	})
	for _, v := range g.Constants() {
		if c := v.Const; !c.DType.IsContainer() && c.DType != tensor.String {
			p.Weights = append(p.Weights, &backends.Weight{Name: v.Name, DType: c.DType, Shape: c.Shape,
				Load: func() (*tensor.Tensor, error) { return c, nil }})
		}
	}
	return p, err
}

// Open implements backends.Backend. The constants are those of the graph.
func (b *Backend) Open(p *backends.Plan, _ backends.Weights) (backends.Executable, error) {
	if err := backends.CheckStates(p.Graph, p.States); err != nil {
		return nil, err
	}
	for _, v := range p.Graph.Constants() {
		if c := v.Const; c.DType.Size() > 0 && len(c.Data) != c.DType.Bytes(c.Len()) {
			return nil, fmt.Errorf("constant %q is stored only in a packed form; compile the model again for the ref backend", v.Name)
		}
	}
	return &executable{b, p}, nil
}

type executable struct {
	b    *Backend
	plan *backends.Plan
}

// Plan implements backends.Executable.
func (e *executable) Plan() *backends.Plan { return e.plan }

// Close implements backends.Executable.
func (e *executable) Close() error { return nil }

// NewSession implements backends.Executable.
func (e *executable) NewSession() (backends.Session, error) {
	return &session{e: e, states: make([]*tensor.Tensor, len(e.plan.States))}, nil
}

type session struct {
	e      *executable
	states []*tensor.Tensor // nil: zeros
	trace  func(backends.StepTime)
}

// stateOf finds the pair of an input, or of an output; -1: none.
func (s *session) stateOf(name string, output bool) int {
	return slices.IndexFunc(s.e.plan.States, func(p backends.StatePair) bool {
		return output && p.Out == name || !output && p.In == name
	})
}

// Run implements backends.Session.
func (s *session) Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	g := s.e.plan.Graph
	if err := checkNames("input", in, g.Inputs); err != nil {
		return nil, err
	}
	if err := checkNames("output", out, g.Outputs); err != nil {
		return nil, err
	}
	args := make([]*tensor.Tensor, len(g.Inputs))
	kept := func(i int) bool { return s.stateOf(g.Inputs[i].Name, false) >= 0 }
	for i, v := range g.Inputs {
		args[i] = in[v.Name]
		if j := s.stateOf(v.Name, false); args[i] == nil && j >= 0 {
			args[i] = s.states[j]
		}
	}
	b, err := backends.BindShapes(g, args, kept)
	if err != nil {
		return nil, err
	}
	for i, v := range g.Inputs {
		if args[i] != nil {
			continue
		}
		for _, d := range v.Type.Shape {
			for _, sym := range d.Symbols() {
				if _, set := b[sym]; !set {
					b[sym] = 0
				}
			}
		}
		shape, ok, err := backends.EvalShape(v.Type, b)
		if err != nil || !ok {
			return nil, fmt.Errorf("state %q (%s): its shape is not clear from the other inputs; give it as an input", v.Name, v.Type)
		}
		args[i] = tensor.New(v.Type.DType, shape...)
	}
	start := time.Now()
	res, err := ops.Run(ctx, s.e.b.ops, g, args)
	if err != nil {
		return nil, err
	}
	if s.trace != nil {
		s.trace(backends.StepTime{Kernel: "ref", Took: time.Since(start)})
	}
	result := make(map[string]*tensor.Tensor, len(res))
	for i, v := range g.Outputs {
		t := res[i]
		if w := out[v.Name]; w != nil && (w.DType != t.DType || !slices.Equal(w.Shape, t.Shape)) {
			return nil, fmt.Errorf("output %q: the tensor given for it is %s, the result %s", v.Name, w.TypeString(), t.TypeString())
		}
		if j := s.stateOf(v.Name, true); j >= 0 {
			s.states[j] = t.Clone()
		}
		result[v.Name] = t
	}
	for _, v := range g.Outputs { // last: out may hold tensors of in
		if w := out[v.Name]; w != nil {
			t := result[v.Name]
			if w != t {
				copy(w.Data, t.Data)
				copy(w.Strings, t.Strings)
				w.Elems = t.Elems
			}
			result[v.Name] = w
		}
	}
	return result, nil
}

func checkNames(kind string, given map[string]*tensor.Tensor, have []*graph.Value) error {
	var names, unknown []string
	for _, v := range have {
		names = append(names, v.Name)
	}
	for k := range given {
		if !slices.Contains(names, k) {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	sort.Strings(unknown)
	return backends.UnknownName(kind, unknown[0], names)
}

// Reset implements backends.Session.
func (s *session) Reset() { clear(s.states) }

// Clone implements backends.Session.
func (s *session) Clone() (backends.Session, error) {
	c := &session{e: s.e, states: make([]*tensor.Tensor, len(s.states))}
	for i, t := range s.states {
		if t != nil {
			c.states[i] = t.Clone()
		}
	}
	return c, nil
}

// Save implements backends.Session.
func (s *session) Save(w io.Writer) error {
	var list []backends.StateEntry
	for i, p := range s.e.plan.States {
		list = append(list, backends.StateEntry{Name: p.In, Tensor: s.states[i]})
	}
	return backends.SaveStates(w, list)
}

// Restore implements backends.Session.
func (s *session) Restore(r io.Reader) error {
	var names []string
	var types []graph.Type
	for _, p := range s.e.plan.States {
		names = append(names, p.In)
		for _, v := range s.e.plan.Graph.Inputs {
			if v.Name == p.In {
				types = append(types, v.Type)
			}
		}
	}
	list, err := backends.RestoreStates(r, names, types)
	if err != nil {
		return err
	}
	for i, e := range list {
		s.states[i] = e.Tensor
	}
	return nil
}

// Trace implements backends.Session; the whole graph is one step.
func (s *session) Trace(f func(backends.StepTime)) { s.trace = f }
