package gorgonia

import (
	"context"
	"fmt"
	"hash"
	"hash/fnv"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/chewxy/hm"
	gg "gorgonia.org/gorgonia"
	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Kernel is a gorgonia.Op that runs one ssdc node, at fixed shapes, on ssdc's
// CPU backend. Inputs that are constants of the node belong to the kernel, not
// to the expression graph: weights are packed once.
//
// A gorgonia Op has one result. A node with several gives them as one vector of
// bytes, from which an output Op takes each.
//
// Kernels have no derivative: gorgonia.Grad with respect to what only reaches the
// cost through one is an error.
type Kernel struct {
	serial uint64
	node   *graph.Node
	in     []*graph.Value // what the expression graph supplies
	out    []*graph.Value // what somebody asks for
	offset []int          // of each output in the vector of bytes
	bytes  int            // length of that vector

	mu      sync.Mutex // one graph may be in several machines
	session backends.Session
	exe     backends.Executable
	args    map[string]*tensor.Tensor
	results map[string]*tensor.Tensor
}

var serial atomic.Uint64

// newKernel makes a kernel of a graph with a single node whose types are static.
func newKernel(b *cpu.Backend, g *graph.Graph, threads int) (*Kernel, error) {
	k := &Kernel{serial: serial.Add(1), node: g.Nodes[0], in: g.Inputs, args: map[string]*tensor.Tensor{}, results: map[string]*tensor.Tensor{}}
	for _, v := range g.Inputs {
		if err := hostable(v); err != nil {
			return nil, fmt.Errorf("%s: input %w", k.node, err)
		}
	}
	for _, v := range k.node.Out {
		if v == nil {
			continue
		}
		if err := hostable(v); err != nil {
			return nil, fmt.Errorf("%s: output %w", k.node, err)
		}
		g.AddOutput(v)
		shape, _ := v.Type.Static()
		k.offset = append(k.offset, k.bytes)
		k.bytes += (v.Type.DType.Bytes(product(shape)) + backends.ArenaAlign - 1) &^ (backends.ArenaAlign - 1)
		k.out = append(k.out, v)
	}
	plan, err := b.Compile(g, backends.Target{Name: b.Name(), Level: 1, Threads: threads})
	if err != nil {
		return nil, err
	}
	if k.exe, err = b.Open(plan, nil); err != nil {
		return nil, err
	}
	if k.session, err = k.exe.NewSession(); err != nil {
		return nil, err
	}
	// Ops have no Close: the threads end with the kernel.
	runtime.AddCleanup(k, func(e backends.Executable) { _ = e.Close() }, k.exe)
	return k, nil
}

// hostable says why a value of an expression graph cannot have v's type.
func hostable(v *graph.Value) error {
	shape, ok := v.Type.Static()
	if !ok {
		return fmt.Errorf("%q is %s: its shape depends on what the model computes, and expression graphs have fixed shapes", v.Name, v.Type)
	}
	if err := carried(v.Type.DType); err != nil {
		return fmt.Errorf("%q: %w", v.Name, err)
	}
	if product(shape) == 0 {
		return fmt.Errorf("%q is %s: gorgonia has no tensors without elements", v.Name, v.Type)
	}
	return nil
}

// carried says why expression graphs cannot carry a dtype. Gorgonia has scalars
// of these only, so the others are not allowed in tensors either.
func carried(d tensor.DType) error {
	switch d {
	case tensor.Float32, tensor.Float64, tensor.Int32, tensor.Int64, tensor.Uint8, tensor.Bool:
		return nil
	}
	return fmt.Errorf("gorgonia's expression graphs carry no %s values", d)
}

func product(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}

// Apply adds the kernel to the graph of its inputs and returns its results, in
// the order of the node's outputs that somebody asks for.
func (k *Kernel) Apply(in ...*gg.Node) ([]*gg.Node, error) {
	packed, err := gg.ApplyOp(k, in...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", k.node, err)
	}
	if len(k.out) == 1 {
		return []*gg.Node{packed}, nil
	}
	out := make([]*gg.Node, len(k.out))
	for i := range k.out {
		if out[i], err = gg.ApplyOp(&output{k, i}, packed); err != nil {
			return nil, fmt.Errorf("%s: %w", k.node, err)
		}
	}
	return out, nil
}

// Arity implements gorgonia.Op.
func (k *Kernel) Arity() int { return len(k.in) }

// Type implements gorgonia.Op.
func (k *Kernel) Type() hm.Type {
	var ts []hm.Type
	for _, v := range k.in {
		ts = append(ts, typeOf(v.Type))
	}
	if len(k.out) == 1 {
		return hm.NewFnType(append(ts, typeOf(k.out[0].Type))...)
	}
	return hm.NewFnType(append(ts, packedType)...)
}

// packedType is that of several results in one vector of bytes.
var packedType = gg.TensorType{Dims: 1, Of: gt.Uint8}

// elementType is gorgonia's; hostable has seen to it that there is one.
func elementType(t graph.Type) gt.Dtype {
	d, _ := dense.DtypeOf(t.DType)
	return d
}

func typeOf(t graph.Type) hm.Type {
	d := elementType(t)
	if t.Rank() == 0 {
		return d
	}
	return gg.TensorType{Dims: t.Rank(), Of: d}
}

func shapeOf(t graph.Type) gt.Shape {
	s, _ := t.Static()
	return gt.Shape(s)
}

// InferShape implements gorgonia.Op. The shapes are those of the kernel.
func (k *Kernel) InferShape(in ...gg.DimSizer) (gt.Shape, error) {
	if len(in) != len(k.in) {
		return nil, fmt.Errorf("%s: %d inputs, want %d", k.node, len(in), len(k.in))
	}
	for i, d := range in {
		want := shapeOf(k.in[i].Type)
		if s, ok := d.(gt.Shape); !ok || !slices.Equal(dims(s), want) {
			return nil, fmt.Errorf("%s: input %d has shape %v, want %v", k.node, i, d, want)
		}
	}
	if len(k.out) == 1 {
		return shapeOf(k.out[0].Type), nil
	}
	return gt.Shape{k.bytes}, nil
}

// dims is a shape as ssdc writes it: gorgonia has several spellings of a scalar.
func dims(s gt.Shape) []int {
	if s.IsScalar() {
		return []int{}
	}
	return s
}

// Do implements gorgonia.Op. The result is fresh memory: Ops downstream may
// compute in place.
func (k *Kernel) Do(in ...gg.Value) (gg.Value, error) {
	if len(in) != len(k.in) {
		return nil, fmt.Errorf("%s: %d inputs, want %d", k.node, len(in), len(k.in))
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	defer clear(k.args)
	defer clear(k.results)
	for i, v := range k.in {
		t, err := fromValue(in[i])
		if err != nil {
			return nil, fmt.Errorf("%s: input %d: %w", k.node, i, err)
		}
		k.args[v.Name] = t
	}
	memory := tensor.AlignedBytes(k.bytes)
	for i, v := range k.out {
		t := k.output(memory, i)
		k.results[v.Name] = t
	}
	if _, err := k.session.Run(context.Background(), k.args, k.results); err != nil {
		return nil, err
	}
	if len(k.out) == 1 {
		return toValue(k.results[k.out[0].Name])
	}
	return gt.New(gt.WithShape(k.bytes), gt.WithBacking([]uint8(memory))), nil
}

// output is result i, in the kernel's vector of bytes.
func (k *Kernel) output(memory []byte, i int) *tensor.Tensor {
	t := k.out[i].Type
	shape, _ := t.Static()
	from, n := k.offset[i], t.DType.Bytes(product(shape))
	return &tensor.Tensor{DType: t.DType, Shape: shape, Data: memory[from : from+n : from+n]}
}

// ReturnsPtr implements gorgonia.Op: every result is new.
func (k *Kernel) ReturnsPtr() bool { return false }

// CallsExtern implements gorgonia.Op: no C, no GPU.
func (k *Kernel) CallsExtern() bool { return false }

// OverwritesInput implements gorgonia.Op: none.
func (k *Kernel) OverwritesInput() int { return -1 }

// WriteHash implements gorgonia.Op. Gorgonia merges nodes of equal hash, so the
// hash says which kernel this is, not only what it computes.
func (k *Kernel) WriteHash(h hash.Hash) { fmt.Fprintf(h, "%s#%d", k.node.Op, k.serial) }

// Hashcode implements gorgonia.Op.
func (k *Kernel) Hashcode() uint32 { return hashcode(k) }

// DiffWRT implements gorgonia.SDOp: no input has a derivative.
func (k *Kernel) DiffWRT(inputs int) []bool { return make([]bool, inputs) }

// SymDiff implements gorgonia.SDOp.
func (k *Kernel) SymDiff(gg.Nodes, *gg.Node, *gg.Node) (gg.Nodes, error) {
	return nil, fmt.Errorf("%s has no derivative", k.node)
}

func (k *Kernel) String() string { return k.node.Op.String() }

func hashcode(o interface{ WriteHash(hash.Hash) }) uint32 {
	h := fnv.New32a()
	o.WriteHash(h)
	return h.Sum32()
}

// output takes one result out of a kernel's vector of bytes, without a copy:
// nothing else writes to that vector.
type output struct {
	k *Kernel
	i int
}

// Arity implements gorgonia.Op.
func (o *output) Arity() int { return 1 }

// Type implements gorgonia.Op.
func (o *output) Type() hm.Type { return hm.NewFnType(packedType, typeOf(o.k.out[o.i].Type)) }

// InferShape implements gorgonia.Op.
func (o *output) InferShape(...gg.DimSizer) (gt.Shape, error) {
	return shapeOf(o.k.out[o.i].Type), nil
}

// Do implements gorgonia.Op.
func (o *output) Do(in ...gg.Value) (gg.Value, error) {
	if len(in) != 1 {
		return nil, fmt.Errorf("%s: %d inputs, want 1", o, len(in))
	}
	memory, ok := in[0].Data().([]uint8)
	if !ok || len(memory) != o.k.bytes {
		return nil, fmt.Errorf("%s: the input is not what the kernel gave", o)
	}
	return toValue(o.k.output(memory, o.i))
}

// ReturnsPtr implements gorgonia.Op.
func (o *output) ReturnsPtr() bool { return false }

// CallsExtern implements gorgonia.Op.
func (o *output) CallsExtern() bool { return false }

// OverwritesInput implements gorgonia.Op.
func (o *output) OverwritesInput() int { return -1 }

// WriteHash implements gorgonia.Op.
func (o *output) WriteHash(h hash.Hash) { fmt.Fprintf(h, "output %d of #%d", o.i, o.k.serial) }

// Hashcode implements gorgonia.Op.
func (o *output) Hashcode() uint32 { return hashcode(o) }

// DiffWRT implements gorgonia.SDOp.
func (o *output) DiffWRT(int) []bool { return []bool{false} }

// SymDiff implements gorgonia.SDOp.
func (o *output) SymDiff(gg.Nodes, *gg.Node, *gg.Node) (gg.Nodes, error) {
	return o.k.SymDiff(nil, nil, nil)
}

func (o *output) String() string { return fmt.Sprintf("%s[%d]", o.k, o.i) }
