package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Integer arithmetic, comparisons and logic: plain loops, since models use them
// on lengths and masks.

type number interface{ ~float32 | ~int64 | ~int32 }

func typedKernels() []*Kernel {
	var out []*Kernel
	row := func(name string, since int, lower func(b *Bind, n *graph.Node) (Step, error), types ...tensor.DType) {
		out = append(out, &Kernel{Op: onnxOp(name, since), Name: "loop", Accepts: sameTypes(types...), Lower: lower,
			Rows: lastAxisRows})
	}
	ints := []tensor.DType{tensor.Int64, tensor.Int32}
	row("Add", 7, byInt(func(a, b int64) int64 { return a + b }, func(a, b int32) int32 { return a + b }), ints...)
	row("Sub", 7, byInt(func(a, b int64) int64 { return a - b }, func(a, b int32) int32 { return a - b }), ints...)
	row("Mul", 7, byInt(func(a, b int64) int64 { return a * b }, func(a, b int32) int32 { return a * b }), ints...)

	all := []tensor.DType{tensor.Float32, tensor.Int64, tensor.Int32}
	row("Equal", 7, compare(equal[float32], equal[int64], equal[int32]), all...)
	row("Less", 7, compare(less[float32], less[int64], less[int32]), all...)
	row("LessOrEqual", 12, compare(lessEq[float32], lessEq[int64], lessEq[int32]), all...)
	row("Greater", 7, compare(greater[float32], greater[int64], greater[int32]), all...)
	row("GreaterOrEqual", 12, compare(greaterEq[float32], greaterEq[int64], greaterEq[int32]), all...)

	row("And", 7, pairs(func(a, b bool) bool { return a && b }), tensor.Bool)
	row("Or", 7, pairs(func(a, b bool) bool { return a || b }), tensor.Bool)
	row("Xor", 7, pairs(func(a, b bool) bool { return a != b }), tensor.Bool)
	row("Not", 1, func(b *Bind, n *graph.Node) (Step, error) {
		dst, x := b.Out(0), b.In(0)
		w, err := broadcastWalk(dst.Shape, x)
		if err != nil {
			return nil, err
		}
		return w.each(b, lightGrain, func(d int, off [3]int, n int) {
			o, v := View[bool](dst)[d:d+n], View[bool](x)[off[0]:]
			for i := range o {
				o[i] = !v[i*w.step[0]]
			}
		}), nil
	}, tensor.Bool)
	return out
}

// sameTypes accepts one or two inputs of one dtype from the list.
func sameTypes(types ...tensor.DType) func(*graph.Node, backends.Target) error {
	return func(n *graph.Node, _ backends.Target) error {
		if len(n.In) > 2 || len(n.In) == 0 {
			return fmt.Errorf("%d inputs", len(n.In))
		}
		d := n.In[0].Type.DType
		for i, v := range n.In {
			if v == nil || v.Type.DType != d || !v.Type.Ranked() {
				return fmt.Errorf("input %d is not %v of known rank", i, d)
			}
		}
		for _, t := range types {
			if t == d {
				return nil
			}
		}
		return fmt.Errorf("inputs are %v", d)
	}
}

func equal[T number](a, b T) bool     { return a == b }
func less[T number](a, b T) bool      { return a < b }
func lessEq[T number](a, b T) bool    { return a <= b }
func greater[T number](a, b T) bool   { return a > b }
func greaterEq[T number](a, b T) bool { return a >= b }

// pairs makes a Lower for f on broadcast operands.
func pairs[T, R tensor.Element](f func(a, b T) R) func(*Bind, *graph.Node) (Step, error) {
	return func(b *Bind, n *graph.Node) (Step, error) {
		dst, x, y := b.Out(0), b.In(0), b.In(1)
		w, err := broadcastWalk(dst.Shape, x, y)
		if err != nil {
			return nil, err
		}
		sx, sy := w.step[0], w.step[1]
		return w.each(b, lightGrain, func(d int, off [3]int, n int) {
			o, p, q := View[R](dst)[d:d+n], View[T](x)[off[0]:], View[T](y)[off[1]:]
			for i := range o {
				o[i] = f(p[i*sx], q[i*sy])
			}
		}), nil
	}
}

func byInt(f64 func(a, b int64) int64, f32 func(a, b int32) int32) func(*Bind, *graph.Node) (Step, error) {
	return func(b *Bind, n *graph.Node) (Step, error) {
		if n.In[0].Type.DType == tensor.Int32 {
			return pairs(f32)(b, n)
		}
		return pairs(f64)(b, n)
	}
}

func compare(f func(a, b float32) bool, i func(a, b int64) bool, j func(a, b int32) bool) func(*Bind, *graph.Node) (Step, error) {
	return func(b *Bind, n *graph.Node) (Step, error) {
		switch n.In[0].Type.DType {
		case tensor.Float32:
			return pairs(f)(b, n)
		case tensor.Int64:
			return pairs(i)(b, n)
		}
		return pairs(j)(b, n)
	}
}

// whereKernels choose between two tensors of any dtype of 1, 2, 4 or 8 bytes.
func whereKernels() []*Kernel {
	return []*Kernel{{
		Op: onnxOp("Where", 9), Name: "loop", Rows: lastAxisRows,
		Accepts: func(n *graph.Node, _ backends.Target) error {
			for i, v := range n.In {
				if !v.Type.Ranked() || v.Type.DType.Size() == 0 || v.Type.DType.Size() > 8 {
					return fmt.Errorf("input %d is %s", i, v.Type)
				}
			}
			return nil
		},
		Lower: func(b *Bind, n *graph.Node) (Step, error) {
			switch b.Out(0).DType.Size() {
			case 1:
				return where[uint8](b)
			case 2:
				return where[uint16](b)
			case 4:
				return where[uint32](b)
			}
			return where[uint64](b)
		},
	}}
}

func where[T tensor.Element](b *Bind) (Step, error) {
	dst, c, x, y := b.Out(0), b.In(0), b.In(1), b.In(2)
	w, err := broadcastWalk(dst.Shape, c, x, y)
	if err != nil {
		return nil, err
	}
	s := [3]int{w.step[0], w.step[1], w.step[2]}
	return w.each(b, lightGrain, func(d int, off [3]int, n int) {
		o, cond, p, q := View[T](dst)[d:d+n], View[bool](c)[off[0]:], View[T](x)[off[1]:], View[T](y)[off[2]:]
		for i := range o {
			if cond[i*s[0]] {
				o[i] = p[i*s[1]]
			} else {
				o[i] = q[i*s[2]]
			}
		}
	}), nil
}
