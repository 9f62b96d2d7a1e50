package gorgonia

import (
	"fmt"
	"sync"

	gg "gorgonia.org/gorgonia"
	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// standard is the table of ONNX's operators and ssdc's own.
var standard = sync.OnceValues(func() (*ops.Table, error) {
	t := &ops.Table{}
	if err := onnx.Register(t); err != nil {
		return nil, err
	}
	return t, ssm.Register(t)
})

// Option adds an optional input or a setting to a scan.
type Option func(*scan)

// scan collects the operands of an operator of ops/ssm by position.
type scan struct {
	in      []*gg.Node
	attrs   graph.Attrs
	name    string
	at      map[string]int // positions of the optional inputs
	threads int
	err     error
}

func (s *scan) set(input string, n *gg.Node) {
	i, ok := s.at[input]
	switch {
	case !ok:
		s.err = fmt.Errorf("ssm.%s has no input %q", s.name, input)
	case n == nil:
		s.err = fmt.Errorf("ssm.%s: input %q is nil", s.name, input)
	default:
		s.in[i] = n
	}
}

func input(name string, n *gg.Node) Option { return func(s *scan) { s.set(name, n) } }

// D adds the skip connection D*x: [H] or [H,P] for SSD, [D] for SelectiveScan.
func D(n *gg.Node) Option { return input("D", n) }

// Gate multiplies the result by silu(z); z has the shape of x.
func Gate(z *gg.Node) Option { return input("z", z) }

// Bias adds to dt: [H] for SSD, [D] for SelectiveScan.
func Bias(n *gg.Node) Option { return input("dt_bias", n) }

// Initial is the state before the first step, of the shape of hT.
func Initial(h0 *gg.Node) Option { return input("h0", h0) }

// Sequences resets the state wherever seqIdx, int32 [B,L], changes along L (SSD only).
func Sequences(seqIdx *gg.Node) Option { return input("seq_idx", seqIdx) }

// Softplus applies softplus to dt plus its bias.
func Softplus() Option {
	return func(s *scan) { s.attrs["dt_softplus"] = int64(1) }
}

// Clamp bounds dt, after softplus (SSD only).
func Clamp(lo, hi float32) Option {
	return func(s *scan) {
		if s.name != "SSD" {
			s.err = fmt.Errorf("ssm.%s has no clamp", s.name)
			return
		}
		s.attrs["dt_min"], s.attrs["dt_max"] = lo, hi
	}
}

// Threads is the number of threads; 0, the default, means one per processor.
func Threads(n int) Option { return func(s *scan) { s.threads = n } }

// SSD adds Mamba-2's state space scan to the graph of its inputs: x [B,L,H,P],
// dt [B,L,H], A [H] (or [B,L,H], the log decay itself), B and C [B,L,G,N] give
// y [B,L,H,P] and the state after the last step, hT [B,H,P,N]. See ssm.SSD in
// ops/ssm for the definition. The shapes of the nodes must be known.
func SSD(x, dt, A, B, C *gg.Node, opts ...Option) (y, hT *gg.Node, err error) {
	return apply("SSD", []*gg.Node{x, dt, A, B, C}, map[string]int{"D": 5, "z": 6, "dt_bias": 7, "h0": 8, "seq_idx": 9}, opts)
}

// SelectiveScan adds Mamba's scan: u and dt [B,L,D], A [D,N], B and C [B,L,N]
// give y [B,L,D] and hT [B,D,N]. See ssm.SelectiveScan in ops/ssm.
func SelectiveScan(u, dt, A, B, C *gg.Node, opts ...Option) (y, hT *gg.Node, err error) {
	return apply("SelectiveScan", []*gg.Node{u, dt, A, B, C}, map[string]int{"D": 5, "z": 6, "dt_bias": 7, "h0": 8}, opts)
}

func apply(name string, required []*gg.Node, optional map[string]int, opts []Option) (y, hT *gg.Node, err error) {
	s := &scan{name: name, at: optional, attrs: graph.Attrs{}, in: make([]*gg.Node, len(required)+len(optional))}
	copy(s.in, required)
	for _, o := range opts {
		if o(s); s.err != nil {
			return nil, nil, s.err
		}
	}
	t, err := standard()
	if err != nil {
		return nil, nil, err
	}
	g := graph.New(name)
	in := make([]*graph.Value, len(s.in))
	var given []*gg.Node
	for i, n := range s.in {
		if n == nil {
			if i < len(required) {
				return nil, nil, fmt.Errorf("ssm.%s: input %d is nil", name, i)
			}
			continue
		}
		ty, err := nodeType(n)
		if err != nil {
			return nil, nil, fmt.Errorf("ssm.%s: input %d (%v): %w", name, i, n, err)
		}
		in[i] = g.AddInput(fmt.Sprintf("in%d", i), ty)
		given = append(given, n)
	}
	node := g.Add(graph.OpID{Domain: ssm.Domain, Name: name, Since: 1}, s.attrs, in, 2, "out")
	node.TrimIn()
	if err := ops.InferNode(t, node); err != nil {
		return nil, nil, err
	}
	k, err := newKernel(cpu.New(t), g, s.threads)
	if err != nil {
		return nil, nil, err
	}
	out, err := k.Apply(given...)
	if err != nil {
		return nil, nil, err
	}
	return out[0], out[1], nil
}

// nodeType is the type of a node of an expression graph.
func nodeType(n *gg.Node) (graph.Type, error) {
	var of gt.Dtype
	rank := 0
	switch t := n.Type().(type) {
	case gt.Dtype:
		of = t
	case gg.TensorType:
		d, ok := t.Of.(gt.Dtype)
		if !ok {
			return graph.Type{}, fmt.Errorf("the type %v is not of numbers", t)
		}
		of, rank = d, t.Dims
	default:
		return graph.Type{}, fmt.Errorf("the type %v is not that of a tensor", t)
	}
	d, err := dense.DTypeOf(of)
	if err != nil {
		return graph.Type{}, err
	}
	if d == tensor.Int64 && of != gt.Int64 {
		return graph.Type{}, fmt.Errorf("the type is Go's int: use int32 or int64")
	}
	if len(dims(n.Shape())) != rank {
		return graph.Type{}, fmt.Errorf("the shape is not known; give it with gorgonia.WithShape")
	}
	shape := []graph.Dim{}
	for _, l := range dims(n.Shape()) {
		shape = append(shape, graph.D(int64(l)))
	}
	return graph.T(d, shape...), nil
}
