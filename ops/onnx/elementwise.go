package onnx

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// unary describes an operator on one element. Functions take the node's
// attributes first, so that constants are read once per call.
type unary struct {
	name, doc string
	since     []int
	types     dtypes
	attrs     []ops.Attr
	f         func(a graph.Attrs) func(x float64) float64 // float types, computed in float64 and rounded once
	i         func(x int64) int64                         // integer types up to int64; nil: none
	u         func(x uint64) uint64                       // uint64, where i would be wrong
	known     func(d graph.Dim) (graph.Dim, bool)         // on symbolic contents
	cases     []ops.Case
}

// plain lifts a function without attributes.
func plain(f func(float64) float64) func(graph.Attrs) func(float64) float64 {
	return func(graph.Attrs) func(float64) float64 { return f }
}

func (u unary) rows() []*ops.Op {
	attrs := u.attrs
	if attrs == nil {
		attrs = noAttrs
	}
	return versions(u.name, u.since, ops.Op{
		Doc: u.doc, In: params("X"), Out: params("Y"), Attrs: attrs,
		Traits: ops.Elementwise, Cases: u.cases,
		Infer: func(c *ops.Infer) error {
			if err := want(c, 0, u.types); err != nil {
				return err
			}
			c.OutKnown(0, c.Type(0), mapKnown(c, u.known))
			return nil
		},
		Eval: func(c *ops.Call) ([]*tensor.Tensor, error) {
			x := c.In[0]
			out := tensor.New(x.DType, x.Shape...)
			if x.DType.IsFloat() {
				mapFloats(out, x, u.f(c.Node.Attrs))
				return one(out), nil
			}
			if x.DType == tensor.Uint64 && u.u != nil {
				o := tensor.Of[uint64](out)
				for j, v := range tensor.Of[uint64](x) {
					o[j] = u.u(v)
				}
				return one(out), nil
			}
			for j := range x.Len() {
				out.SetIntAt(j, u.i(x.IntAt(j)))
			}
			return one(out), nil
		},
	})
}

// mapKnown applies f to the known contents of input 0.
func mapKnown(c *ops.Infer, f func(graph.Dim) (graph.Dim, bool)) []graph.Dim {
	in, ok := c.Known(0)
	if !ok || f == nil {
		return nil
	}
	out := make([]graph.Dim, len(in))
	for i, d := range in {
		if out[i], ok = f(d); !ok {
			return nil
		}
	}
	return out
}

func mapFloats(out, x *tensor.Tensor, f func(float64) float64) {
	switch x.DType {
	case tensor.Float32:
		o := tensor.Of[float32](out)
		for i, v := range tensor.Of[float32](x) {
			o[i] = float32(f(float64(v)))
		}
	case tensor.Float64:
		o := tensor.Of[float64](out)
		for i, v := range tensor.Of[float64](x) {
			o[i] = f(v)
		}
	default:
		for i := range x.Len() {
			out.SetAt(i, f(x.At(i)))
		}
	}
}

// binary describes an operator on two broadcast elements of one type.
type binary struct {
	name, doc string
	since     []int
	types     dtypes
	attrs     []ops.Attr
	f         func(a graph.Attrs) func(x, y float64) float64
	i         func(a graph.Attrs) func(x, y int64) int64
	u         func(a graph.Attrs) func(x, y uint64) uint64 // uint64, where i would be wrong
	known     func(a graph.Attrs, x, y graph.Dim) (graph.Dim, bool)
	toBool    bool // a comparison: the result is bool
	commutes  bool
	variadic  bool // folds over any number of inputs
	// finish is applied to the folded value of n inputs (Mean).
	finish func(v float64, n int) float64
	cases  []ops.Case
}

// plain2 and ints2 lift functions without attributes.
func plain2(f func(x, y float64) float64) func(graph.Attrs) func(x, y float64) float64 {
	return func(graph.Attrs) func(x, y float64) float64 { return f }
}

func ints2(f func(x, y int64) int64) func(graph.Attrs) func(x, y int64) int64 {
	return func(graph.Attrs) func(x, y int64) int64 { return f }
}

func uints2(f func(x, y uint64) uint64) func(graph.Attrs) func(x, y uint64) uint64 {
	return func(graph.Attrs) func(x, y uint64) uint64 { return f }
}

func (b binary) rows() []*ops.Op {
	attrs := b.attrs
	if attrs == nil {
		attrs = noAttrs
	}
	row := ops.Op{
		Doc: b.doc, In: params("A", "B"), Out: params("C"), Attrs: attrs,
		Traits: ops.Elementwise, Cases: b.cases, Infer: b.infer, Eval: b.eval,
	}
	if b.variadic {
		row.In = params("data...")
	}
	if b.commutes {
		row.Traits |= ops.Commutative
	}
	return versions(b.name, b.since, row)
}

func (b binary) infer(c *ops.Infer) error {
	n := len(c.Node.In)
	if n == 0 {
		return c.Errorf("no inputs, want at least one")
	}
	ins := make([]int, n)
	ts := make([]graph.Type, n)
	d := tensor.Undefined
	for i := range ins {
		ins[i], ts[i] = i, c.Type(i)
		if d == tensor.Undefined {
			d = ts[i].DType
		}
	}
	if err := same(c, b.types, ins...); err != nil {
		return err
	}
	shape, err := broadcastTypes(ts...)
	if err != nil {
		return err
	}
	if b.toBool {
		d = tensor.Bool
	}
	var known []graph.Dim
	if b.known != nil && shape != nil {
		known = foldKnown(c, shape, func(x, y graph.Dim) (graph.Dim, bool) { return b.known(c.Node.Attrs, x, y) })
	}
	c.OutKnown(0, graph.Type{DType: d, Shape: shape}, known)
	return nil
}

// foldKnown combines the known contents of all inputs under broadcasting.
func foldKnown(c *ops.Infer, shape []graph.Dim, f func(x, y graph.Dim) (graph.Dim, bool)) []graph.Dim {
	size, ok := graph.Type{Shape: shape}.Static()
	if !ok || product(size) > ops.MaxKnown {
		return nil
	}
	acc := make([]graph.Dim, product(size))
	for i := range c.Node.In {
		in, known := c.Known(i)
		s, static := c.Type(i).Static()
		if !known || !static || len(in) != product(s) {
			return nil
		}
		for j, o := range offsets(size, broadcastStrides(s, size)) {
			if i == 0 {
				acc[j] = in[o]
			} else if acc[j], ok = f(acc[j], in[o]); !ok {
				return nil
			}
		}
	}
	return acc
}

func (b binary) eval(c *ops.Call) ([]*tensor.Tensor, error) {
	shapes := make([][]int, len(c.In))
	for i, t := range c.In {
		shapes[i] = t.Shape
	}
	shape, err := broadcastSizes(shapes...)
	if err != nil {
		return nil, err
	}
	d := c.In[0].DType
	if len(c.In) == 2 && b.finish == nil {
		if b.toBool {
			d = tensor.Bool
		}
		out := tensor.New(d, shape...)
		b.apply(c.Node.Attrs, out, c.In[0], c.In[1])
		return one(out), nil
	}
	// Variadic: floats are folded in float64 and rounded once.
	wide := d
	if d.IsFloat() {
		wide = tensor.Float64
	}
	acc := tensor.New(wide, shape...)
	expandInto(acc, c.In[0])
	for _, t := range c.In[1:] {
		b.apply(c.Node.Attrs, acc, acc, t)
	}
	if !d.IsFloat() {
		return one(acc), nil
	}
	v := tensor.Of[float64](acc)
	if b.finish != nil {
		for i := range v {
			v[i] = b.finish(v[i], len(c.In))
		}
	}
	return one(fromFloats(d, v, shape...)), nil
}

// expandInto broadcasts x into out, converting its type.
func expandInto(out, x *tensor.Tensor) {
	st := [][]int{strides(out.Shape), broadcastStrides(x.Shape, out.Shape)}
	walk(out.Shape, st, func(off, step []int, n int) {
		for j := range n {
			if x.DType.IsFloat() {
				out.SetAt(off[0]+j*step[0], x.At(off[1]+j*step[1]))
			} else {
				out.SetIntAt(off[0]+j*step[0], x.IntAt(off[1]+j*step[1]))
			}
		}
	})
}

// apply computes out = f(x, y); out may be x when their shapes are equal.
func (b binary) apply(a graph.Attrs, out, x, y *tensor.Tensor) {
	st := [][]int{strides(out.Shape), broadcastStrides(x.Shape, out.Shape), broadcastStrides(y.Shape, out.Shape)}
	switch {
	case x.DType == tensor.Float32 && out.DType == tensor.Float32 && y.DType == tensor.Float32:
		f := b.f(a)
		ov, xv, yv := tensor.Of[float32](out), tensor.Of[float32](x), tensor.Of[float32](y)
		walk(out.Shape, st, func(off, step []int, n int) {
			o, p, q := off[0], off[1], off[2]
			for range n {
				ov[o] = float32(f(float64(xv[p]), float64(yv[q])))
				o, p, q = o+step[0], p+step[1], q+step[2]
			}
		})
	case x.DType == tensor.Float64 && out.DType == tensor.Float64 && y.DType == tensor.Float64:
		f := b.f(a)
		ov, xv, yv := tensor.Of[float64](out), tensor.Of[float64](x), tensor.Of[float64](y)
		walk(out.Shape, st, func(off, step []int, n int) {
			o, p, q := off[0], off[1], off[2]
			for range n {
				ov[o] = f(xv[p], yv[q])
				o, p, q = o+step[0], p+step[1], q+step[2]
			}
		})
	case x.DType.IsFloat():
		f := b.f(a)
		walk(out.Shape, st, func(off, step []int, n int) {
			for j := range n {
				out.SetAt(off[0]+j*step[0], f(x.At(off[1]+j*step[1]), y.At(off[2]+j*step[2])))
			}
		})
	case x.DType == tensor.Uint64 && b.u != nil:
		f := b.u(a)
		xv, yv := tensor.Of[uint64](x), tensor.Of[uint64](y)
		walk(out.Shape, st, func(off, step []int, n int) {
			for j := range n {
				out.SetIntAt(off[0]+j*step[0], int64(f(xv[off[1]+j*step[1]], yv[off[2]+j*step[2]])))
			}
		})
	default:
		f := b.i(a)
		walk(out.Shape, st, func(off, step []int, n int) {
			for j := range n {
				out.SetIntAt(off[0]+j*step[0], f(x.IntAt(off[1]+j*step[1]), y.IntAt(off[2]+j*step[2])))
			}
		})
	}
}
