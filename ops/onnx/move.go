package onnx

import (
	"context"
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Data movement: operators that only choose where elements go. They work on
// bit patterns, so that one definition serves every element type, and the same
// definition run on symbolic contents gives Known (see carryKnown).

type evalFunc = func(*ops.Call) ([]*tensor.Tensor, error)

// moveND copies a lattice of elements: shape, with an offset and strides (in
// elements, of either sign, 0 to repeat) on both sides. dst and src have one
// dtype, of whole bytes or strings.
func moveND(dst *tensor.Tensor, dOff int, dSt []int, src *tensor.Tensor, sOff int, sSt []int, shape []int) {
	if product(shape) == 0 {
		return
	}
	if dst.DType == tensor.String {
		copyND(dst.Strings, dOff, dSt, src.Strings, sOff, sSt, shape)
		return
	}
	switch dst.DType.Size() {
	case 1:
		copyND(tensor.Of[uint8](dst), dOff, dSt, tensor.Of[uint8](src), sOff, sSt, shape)
	case 2:
		copyND(tensor.Of[uint16](dst), dOff, dSt, tensor.Of[uint16](src), sOff, sSt, shape)
	case 4:
		copyND(tensor.Of[uint32](dst), dOff, dSt, tensor.Of[uint32](src), sOff, sSt, shape)
	case 8:
		copyND(tensor.Of[uint64](dst), dOff, dSt, tensor.Of[uint64](src), sOff, sSt, shape)
	case 16:
		copyND(tensor.Of[complex128](dst), dOff, dSt, tensor.Of[complex128](src), sOff, sSt, shape)
	}
}

func copyND[T any](dst []T, dOff int, dSt []int, src []T, sOff int, sSt []int, shape []int) {
	walk(shape, [][]int{dSt, sSt}, func(off, step []int, n int) {
		d, s := dOff+off[0], sOff+off[1]
		if step[0] == 1 && step[1] == 1 || n == 1 {
			copy(dst[d:d+n], src[s:s+n])
			return
		}
		for range n {
			dst[d] = src[s]
			d += step[0]
			s += step[1]
		}
	})
}

// copyRun copies n consecutive elements.
func copyRun(dst *tensor.Tensor, d int, src *tensor.Tensor, s, n int) {
	if dst.DType == tensor.String {
		copy(dst.Strings[d:d+n], src.Strings[s:s+n])
		return
	}
	z := dst.DType.Size()
	copy(dst.Data[d*z:(d+n)*z], src.Data[s*z:(s+n)*z])
}

// fill sets every element of dst to element 0 of v.
func fill(dst, v *tensor.Tensor) {
	moveND(dst, 0, []int{1}, v, 0, []int{0}, []int{dst.Len()})
}

// packed reports whether elements of d are smaller than a byte.
func packed(d tensor.DType) bool { return d.Bits() > 0 && d.Bits() < 8 }

// unpack spreads a packed tensor's bit patterns over a uint8 tensor.
func unpack(t *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(tensor.Uint8, t.Shape...)
	bits := t.DType.Bits()
	for i := range out.Data {
		pos := i * bits
		out.Data[i] = t.Data[pos/8] >> (pos % 8) & (1<<bits - 1)
	}
	return out
}

// pack is the inverse of unpack.
func pack(t *tensor.Tensor, d tensor.DType) *tensor.Tensor {
	out := tensor.New(d, t.Shape...)
	bits := d.Bits()
	for i, v := range t.Data {
		pos := i * bits
		out.Data[pos/8] |= v & (1<<bits - 1) << (pos % 8)
	}
	return out
}

// onBytes lets eval, which moves whole bytes, serve packed types too.
func onBytes(eval evalFunc) evalFunc {
	return func(c *ops.Call) ([]*tensor.Tensor, error) {
		sub := tensor.Undefined
		in := append([]*tensor.Tensor{}, c.In...)
		for i, t := range in {
			if t != nil && packed(t.DType) {
				sub = t.DType
				in[i] = unpack(t)
			}
		}
		if sub == tensor.Undefined {
			return eval(c)
		}
		wide := *c
		wide.In = in
		out, err := eval(&wide)
		for i, t := range out {
			if t != nil && t.DType == tensor.Uint8 {
				out[i] = pack(t, sub)
			}
		}
		return out, err
	}
}

// setOut sets the type of output i and forgets contents that an earlier
// inference, with other input types, may have left.
func setOut(c *ops.Infer, i int, t graph.Type) { c.OutKnown(i, t, nil) }

// keepKnown sets output 0 to type t with the contents of input 0, for
// operators that leave the row-major order alone.
func keepKnown(c *ops.Infer, t graph.Type) {
	dims, _ := c.Known(0)
	c.OutKnown(0, t, dims)
}

// carryKnown finds the symbolic contents of the outputs of a data-movement
// operator, whose types are already set: it runs eval with each element of the
// payload inputs replaced by a code number and looks the codes up in the
// result. The other inputs must have numeric contents.
func carryKnown(c *ops.Infer, eval evalFunc, payload ...int) {
	small := false
	for _, v := range c.Node.Out {
		if v != nil {
			n, ok := staticLen(v.Type)
			small = small || ok && n <= ops.MaxKnown
		}
	}
	if !small {
		return
	}
	codes := []graph.Dim{{}} // code 0 is what a zero fill means: the number 0
	in := make([]*tensor.Tensor, len(c.Node.In))
	isPayload := make([]bool, len(in))
	for _, i := range payload {
		if i < len(in) {
			isPayload[i] = true
		}
	}
	for i, v := range c.Node.In {
		if v == nil {
			continue
		}
		if !isPayload[i] && v.Const != nil {
			in[i] = v.Const
			continue
		}
		dims, ok := ops.KnownOf(v)
		shape, static := v.Type.Static()
		if !ok || !static || product(shape) != len(dims) {
			return
		}
		if isPayload[i] {
			in[i] = tensor.New(tensor.Int64, shape...)
			for j, d := range dims {
				in[i].SetIntAt(j, int64(len(codes)))
				codes = append(codes, d)
			}
			continue
		}
		in[i] = tensor.New(v.Type.DType, shape...)
		for j, d := range dims {
			n, ok := d.Const()
			if !ok {
				return
			}
			in[i].SetIntAt(j, n)
		}
	}
	out := evalQuietly(eval, &ops.Call{Ctx: context.Background(), Node: c.Node, In: in})
	for i, t := range out {
		if t == nil || t.DType != tensor.Int64 || t.Len() > ops.MaxKnown || c.Node.Output(i) == nil {
			continue
		}
		dims := make([]graph.Dim, t.Len())
		for j := range dims {
			dims[j] = codes[t.IntAt(j)]
		}
		c.OutKnown(i, c.Node.Out[i].Type, dims)
	}
}

// evalQuietly returns nil where eval fails: such a node has no known contents.
func evalQuietly(eval evalFunc, call *ops.Call) (out []*tensor.Tensor) {
	defer func() {
		if recover() != nil {
			out = nil
		}
	}()
	out, err := eval(call)
	if err != nil {
		return nil
	}
	return out
}

// staticLen is the number of elements, when it is a number.
func staticLen(t graph.Type) (int, bool) {
	shape, ok := t.Static()
	if !ok {
		return 0, false
	}
	n := 1
	for _, d := range shape {
		if d < 0 || d > 1<<40 || n > 1<<40 {
			return 0, false
		}
		n *= d
	}
	return n, true
}

// freshDim is c.Fresh that also serves outputs nobody asked for.
func freshDim(c *ops.Infer, out, axis int) graph.Dim {
	if c.Node.Output(out) == nil {
		return graph.Sym("?")
	}
	return c.Fresh(out, axis)
}

// freshShape is a shape of which only the rank is known.
func freshShape(c *ops.Infer, out, rank int) []graph.Dim {
	s := make([]graph.Dim, rank)
	for i := range s {
		s[i] = freshDim(c, out, i)
	}
	return s
}

// vectorLen is the number of elements of a shape-like input: the length of a
// vector, or 1 for a scalar; false when it is not a known number.
func vectorLen(t graph.Type) (int, bool) {
	if !t.Ranked() || t.Rank() > 1 {
		return 0, false
	}
	n, ok := staticLen(t)
	return n, ok && n <= 1<<16
}

// agree is the length of an axis that two types must share: a number wins over
// a symbol, two different numbers are a contradiction.
func agree(a, b graph.Dim) (graph.Dim, bool) {
	switch {
	case a == b || !b.IsConst():
		return a, true
	case !a.IsConst():
		return b, true
	}
	return a, false
}

// axesOf normalises a list of axes and refuses repeated ones.
func axesOf(axes []int64, rank int) ([]int, error) {
	out := make([]int, len(axes))
	seen := map[int]bool{}
	for i, a := range axes {
		x, ok := axisOf(a, rank, rank)
		if !ok {
			return nil, fmt.Errorf("axis %d is outside rank %d", a, rank)
		}
		if seen[x] {
			return nil, fmt.Errorf("axis %d is given twice", a)
		}
		seen[x] = true
		out[i] = x
	}
	return out, nil
}

func cloneDims(d []graph.Dim) []graph.Dim { return append([]graph.Dim{}, d...) }
