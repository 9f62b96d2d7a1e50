package gorgonia

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Name is the backend's name, as Target.Name and ssdc's --target say it.
const Name = "gorgonia"

// Backend runs plans on Gorgonia's TapeMachine. A program adds it to its
// registry:
//
//	set.Registry.Backends = append(set.Registry.Backends, gorgonia.New(set.Registry.Table))
//
// It runs every operator without bodies, on float, double, int32, int64, uint8
// and bool tensors that have elements and whose shapes follow from those of the
// inputs. Integer values that depend on shapes only may be empty.
type Backend struct {
	ops *ops.Table
	cpu *cpu.Backend
}

// New makes the backend; t defines the operators.
func New(t *ops.Table) *Backend { return &Backend{t, cpu.New(t)} }

// Name implements backends.Backend.
func (b *Backend) Name() string { return Name }

// Supports implements backends.Backend. Whether shapes depend on the contents
// of tensors shows only when the input shapes are known, at the first Run.
func (b *Backend) Supports(n *graph.Node, t backends.Target) error {
	if len(n.Bodies) > 0 {
		return fmt.Errorf("%s: expression graphs have no control flow; compile for the cpu backend", n)
	}
	for _, v := range n.In {
		if v != nil && v.Const == nil {
			if err := carried(v.Type.DType); err != nil {
				return fmt.Errorf("%s: input %q: %w; compile for the cpu backend", n, v.Name, err)
			}
		}
	}
	for _, v := range n.Out {
		if v != nil {
			if err := carried(v.Type.DType); err != nil {
				return fmt.Errorf("%s: output %q: %w; compile for the cpu backend", n, v.Name, err)
			}
		}
	}
	return b.cpu.Supports(n, t)
}

// Compile implements backends.Backend. The choice between Gorgonia's operators
// and kernels is made at the first Run, when the shapes are known.
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
	for _, n := range g.Nodes {
		if err := b.Supports(n, t); err != nil {
			return nil, err
		}
	}
	p := &backends.Plan{Target: t, Graph: g, States: t.States, Kernels: make([]string, len(g.Nodes))}
	for _, v := range g.Constants() {
		if c := v.Const; !c.DType.IsContainer() && c.DType != tensor.String {
			p.Weights = append(p.Weights, &backends.Weight{Name: v.Name, DType: c.DType, Shape: c.Shape,
				Load: func() (*tensor.Tensor, error) { return c, nil }})
		}
	}
	return p, nil
}

// Open implements backends.Backend. The constants are those of the graph.
func (b *Backend) Open(p *backends.Plan, _ backends.Weights) (backends.Executable, error) {
	if err := backends.CheckStates(p.Graph, p.States); err != nil {
		return nil, err
	}
	for _, v := range p.Graph.Constants() {
		if c := v.Const; c.DType.Size() > 0 && len(c.Data) != c.DType.Bytes(c.Len()) {
			return nil, fmt.Errorf("constant %q is stored only in a packed form; compile the model again for the gorgonia backend", v.Name)
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

// NewSession implements backends.Executable.
func (e *executable) NewSession() (backends.Session, error) {
	return &session{e: e, states: make([]*tensor.Tensor, len(e.plan.States))}, nil
}

// Close implements backends.Executable.
func (e *executable) Close() error { return nil }
