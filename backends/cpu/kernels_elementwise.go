package cpu

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// families lists the functions that make the rows, one per file.
var families = []func() []*Kernel{
	unaryKernels, binaryKernels, powKernels, typedKernels, castKernels, whereKernels,
	moveKernels, gatherKernels, reduceKernels, scanlineKernels, normKernels,
	matmulKernels, convKernels, conv2dKernels, poolKernels, resizeKernels, detectKernels, channelNormKernels, activationKernels, rnnKernels, quantKernels, quantMulKernels, ssmKernels, linattnKernels, attentionKernels, cacheKernels,
}

// Pieces of work smaller than this are not worth sharing between threads:
// about ten microseconds of a function, or of moving memory.
const (
	heavyGrain = 8 << 10
	lightGrain = 64 << 10
)

func onnxOp(name string, since int) graph.OpID { return graph.OpID{Name: name, Since: since} }
func ssmOp(name string) graph.OpID             { return graph.OpID{Domain: "ssm", Name: name, Since: 1} }

// floats accepts nodes all of whose given inputs from the list, and all of
// whose outputs, are float32 of known rank; no list means all inputs.
func floats(in ...int) func(*graph.Node, backends.Target) error {
	return func(n *graph.Node, _ backends.Target) error {
		check := func(i int, v *graph.Value) error {
			if v != nil && (v.Type.DType != tensor.Float32 || !v.Type.Ranked()) {
				return fmt.Errorf("input %d is %s, not float", i, v.Type)
			}
			return nil
		}
		if len(in) == 0 {
			for i, v := range n.In {
				if err := check(i, v); err != nil {
					return err
				}
			}
		}
		for _, i := range in {
			if err := check(i, n.Input(i)); err != nil {
				return err
			}
		}
		for i, v := range n.Out {
			if v != nil && v.Type.DType != tensor.Float32 {
				return fmt.Errorf("output %d is %s, not float", i, v.Type)
			}
		}
		return nil
	}
}

// lastAxisRows accepts rows along the last axis that lie apart.
func lastAxisRows(n *graph.Node, i int) int { return n.In[i].Type.Rank() - 1 }

// anyRows accepts rows of any axes that lie apart: for kernels that walk by strides.
func anyRows(in ...int) func(*graph.Node, int) int {
	return func(n *graph.Node, i int) int {
		for _, k := range in {
			if k == i {
				return n.In[i].Type.Rank() - 1
			}
		}
		return -1
	}
}

type unary struct {
	id    graph.OpID
	grain int
	f     func(dst, src []float32)
}

func unaryKernels() []*Kernel {
	var out []*Kernel
	for _, u := range []unary{
		{onnxOp("Exp", 6), heavyGrain, vec.Exp},
		{onnxOp("Log", 6), heavyGrain, vec.Log},
		{onnxOp("Sigmoid", 6), heavyGrain, vec.Sigmoid},
		{onnxOp("Tanh", 6), heavyGrain, vec.Tanh},
		{onnxOp("Erf", 9), heavyGrain, vec.Erf},
		{onnxOp("Softplus", 1), heavyGrain, vec.Softplus},
		{onnxOp("Relu", 6), lightGrain, vec.ReLU},
		{onnxOp("Neg", 6), lightGrain, vec.Neg},
		{onnxOp("Abs", 6), lightGrain, vec.Abs},
		{onnxOp("Sqrt", 6), lightGrain, vec.Sqrt},
		{onnxOp("Reciprocal", 6), lightGrain, vec.Reciprocal},
	} {
		out = append(out, unaryKernel(u.id, u.grain, func(*graph.Node) func(dst, src []float32) { return u.f }))
	}
	gelu := unaryKernel(onnxOp("Gelu", 20), heavyGrain, func(n *graph.Node) func(dst, src []float32) {
		if n.Attrs.Str("approximate", "none") == "tanh" {
			return vec.GELUTanh
		}
		return vec.GELU
	})
	swish := unaryKernel(onnxOp("Swish", 24), heavyGrain, func(*graph.Node) func(dst, src []float32) { return vec.SiLU })
	swish.Accepts = func(n *graph.Node, t backends.Target) error {
		if a := n.Attrs.Float("alpha", 1); a != 1 {
			return fmt.Errorf("alpha is %g, not 1", a)
		}
		return floats()(n, t)
	}
	return append(out, gelu, swish)
}

func unaryKernel(id graph.OpID, grain int, pick func(*graph.Node) func(dst, src []float32)) *Kernel {
	return &Kernel{
		Op: id, Name: "vec", Accepts: floats(), Rows: lastAxisRows, Over: map[int][]int{0: {0}},
		Tile: func(b *Bind, n *graph.Node) func(lo, hi int) {
			dst, src, f := b.Out(0), b.In(0), pick(n)
			if !src.Dense() {
				return nil
			}
			return func(lo, hi int) { f(dst.F32[lo:hi], src.F32[lo:hi]) }
		},
		Lower: func(b *Bind, n *graph.Node) (Step, error) {
			return mapStep(b, b.Out(0), b.In(0), grain, pick(n)), nil
		},
	}
}

// mapStep applies f from src, whose rows may lie apart, to dst, which is dense.
func mapStep(b *Bind, dst, src *Mem, grain int, f func(dst, src []float32)) Step {
	if src.Dense() {
		return b.Split(dst.Len(), grain, func(lo, hi int) { f(dst.F32[lo:hi], src.F32[lo:hi]) })
	}
	w := src.Cols
	return b.Split(src.Rows, max(1, grain/w), func(lo, hi int) {
		for r := lo; r < hi; r++ {
			f(dst.F32[r*w:(r+1)*w], src.F32[r*src.Stride:][:w])
		}
	})
}

// binary has an arithmetic function for two slices, for a slice and a scalar
// on either side, and for two numbers.
type binary struct {
	id graph.OpID
	vv func(dst, a, b []float32)
	vs func(dst, a []float32, s float32)
	sv func(dst, b []float32, s float32)
	ss func(a, b float32) float32
}

func binaryKernels() []*Kernel {
	var out []*Kernel
	for _, k := range []binary{
		{onnxOp("Add", 7), vec.Add, vec.AddS, vec.AddS, func(a, b float32) float32 { return a + b }},
		{onnxOp("Sub", 7), vec.Sub, vec.SubS, vec.RSubS, func(a, b float32) float32 { return a - b }},
		{onnxOp("Mul", 7), vec.Mul, vec.MulS, vec.MulS, func(a, b float32) float32 { return a * b }},
		{onnxOp("Div", 7), vec.Div, vec.DivS, vec.RDivS, func(a, b float32) float32 { return a / b }},
		{onnxOp("Max", 8), vec.Max, vec.MaxS, vec.MaxS, func(a, b float32) float32 { return max(a, b) }},
		{onnxOp("Min", 8), vec.Min, vec.MinS, vec.MinS, func(a, b float32) float32 { return min(a, b) }},
	} {
		out = append(out, &Kernel{
			Op: k.id, Name: "vec", Over: map[int][]int{0: {0, 1}}, Rows: lastAxisRows,
			Accepts: func(n *graph.Node, t backends.Target) error {
				if len(n.In) != 2 {
					return fmt.Errorf("%d inputs, not 2", len(n.In))
				}
				return floats()(n, t)
			},
			Tile:  func(b *Bind, n *graph.Node) func(lo, hi int) { return k.tile(b) },
			Lower: func(b *Bind, n *graph.Node) (Step, error) { return k.lower(b) },
		})
	}
	return out
}

func (k binary) lower(b *Bind) (Step, error) {
	dst, x, y := b.Out(0), b.In(0), b.In(1)
	w, err := broadcastWalk(dst.Shape, x, y)
	if err != nil {
		return nil, err
	}
	switch {
	case w.step[0] == 1 && w.step[1] == 1:
		return w.each(b, lightGrain, func(d int, off [3]int, n int) {
			k.vv(dst.F32[d:d+n], x.F32[off[0]:off[0]+n], y.F32[off[1]:off[1]+n])
		}), nil
	case w.step[0] == 1 && w.step[1] == 0:
		return w.each(b, lightGrain, func(d int, off [3]int, n int) {
			k.vs(dst.F32[d:d+n], x.F32[off[0]:off[0]+n], y.F32[off[1]])
		}), nil
	case w.step[0] == 0 && w.step[1] == 1:
		return w.each(b, lightGrain, func(d int, off [3]int, n int) {
			k.sv(dst.F32[d:d+n], y.F32[off[1]:off[1]+n], x.F32[off[0]])
		}), nil
	}
	return w.each(b, lightGrain, func(d int, off [3]int, n int) {
		for i := range n {
			dst.F32[d+i] = k.ss(x.F32[off[0]+i*w.step[0]], y.F32[off[1]+i*w.step[1]])
		}
	}), nil
}

// tile handles operands that are as long as the result, numbers, rows and columns.
func (k binary) tile(b *Bind) func(lo, hi int) {
	dst, x, y := b.Out(0), b.In(0), b.In(1)
	w, err := broadcastWalk(dst.Shape, x, y)
	if err != nil || len(w.shape) > 1 || w.step[0] > 1 || w.step[1] > 1 || w.step[0]+w.step[1] == 0 || w.inner == 0 {
		return nil
	}
	var rowX, rowY int
	if len(w.shape) == 1 {
		rowX, rowY = w.stride[0][0], w.stride[1][0]
	}
	vecX, vecY := w.step[0] == 1, w.step[1] == 1
	return func(lo, hi int) {
		for lo < hi {
			row, col := lo/w.inner, lo%w.inner
			n := min(hi-lo, w.inner-col)
			o, atX, atY := dst.F32[lo:lo+n], row*rowX, row*rowY
			switch {
			case vecX && vecY:
				k.vv(o, x.F32[atX+col:][:n], y.F32[atY+col:][:n])
			case vecX:
				k.vs(o, x.F32[atX+col:][:n], y.F32[atY])
			default:
				k.sv(o, y.F32[atY+col:][:n], x.F32[atX])
			}
			lo += n
		}
	}
}

// powKernels raise to a constant power; others run pairwise.
func powKernels() []*Kernel {
	pair := binary{
		vv: func(dst, a, b []float32) {
			for i := range dst {
				dst[i] = pow(a[i], b[i])
			}
		},
		vs: func(dst, a []float32, s float32) {
			for i := range dst {
				dst[i] = pow(a[i], s)
			}
		},
		sv: func(dst, b []float32, s float32) {
			for i := range dst {
				dst[i] = pow(s, b[i])
			}
		},
		ss: pow,
	}
	return []*Kernel{{
		Op: onnxOp("Pow", 7), Name: "vec", Accepts: floats(), Rows: lastAxisRows, Over: map[int][]int{0: {0}},
		Lower: func(b *Bind, n *graph.Node) (Step, error) {
			dst, x := b.Out(0), b.In(0)
			if e := b.Const(1); e != nil && e.Len() == 1 && len(e.Data) == 4 && dst.Len() == x.Len() {
				switch e.At(0) {
				case 1:
					return mapStep(b, dst, x, lightGrain, func(dst, src []float32) { copy(dst, src) }), nil
				case 2:
					return mapStep(b, dst, x, lightGrain, vec.Square), nil
				case 3:
					return mapStep(b, dst, x, lightGrain, cube), nil
				case -1:
					return mapStep(b, dst, x, lightGrain, vec.Reciprocal), nil
				}
			}
			return pair.lower(b)
		},
	}}
}

func cube(dst, src []float32) {
	for i, x := range src {
		dst[i] = x * x * x
	}
}

func pow(a, b float32) float32 { return float32(math.Pow(float64(a), float64(b))) }
