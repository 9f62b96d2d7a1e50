package cpu

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
)

// Activations that take parameters.

const maxFloat32 = math.MaxFloat32

// activationKernels: LeakyRelu, HardSigmoid, HardSwish, Elu and Clip with
// bounds that are known.
func activationKernels() []*Kernel {
	simple := func(id graph.OpID, f func(n *graph.Node) func(dst, src []float32)) *Kernel {
		return unaryKernel(id, lightGrain, f)
	}
	clip := func(since, until int) *Kernel {
		k := &Kernel{
			Op: onnxOp("Clip", since), Until: until, Name: "vec", Accepts: floats(), Rows: lastAxisRows, Over: map[int][]int{0: {0}},
			Tile: func(b *Bind, n *graph.Node) func(lo, hi int) {
				f, err := clipOf(b, n)
				dst, src := b.Out(0), b.In(0)
				if err != nil || !src.Dense() {
					return nil
				}
				return func(lo, hi int) { f(dst.F32[lo:hi], src.F32[lo:hi]) }
			},
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				f, err := clipOf(b, n)
				if err != nil {
					return nil, err
				}
				return mapStep(b, b.Out(0), b.In(0), lightGrain, f), nil
			},
		}
		k.Rows = func(n *graph.Node, i int) int {
			if i == 0 {
				return n.In[0].Type.Rank() - 1
			}
			return -1
		}
		return k
	}
	return []*Kernel{
		simple(onnxOp("LeakyRelu", 1), func(n *graph.Node) func(dst, src []float32) {
			a := n.Attrs.Float("alpha", 0.01)
			return func(dst, src []float32) { leakyReLU(dst, src, a) }
		}),
		simple(onnxOp("HardSigmoid", 1), func(n *graph.Node) func(dst, src []float32) {
			a, c := n.Attrs.Float("alpha", 0.2), n.Attrs.Float("beta", 0.5)
			return func(dst, src []float32) { hardSigmoid(dst, src, a, c) }
		}),
		simple(onnxOp("HardSwish", 14), func(*graph.Node) func(dst, src []float32) { return hardSwish }),
		clip(6, 0),
	}
}

// clipOf is Clip with the bounds of n, which are attributes before opset 11.
func clipOf(b *Bind, n *graph.Node) (func(dst, src []float32), error) {
	lo, hi := float32(math.Inf(-1)), float32(math.Inf(1))
	if n.Op.Since < 11 {
		lo, hi = n.Attrs.Float("min", -maxFloat32), n.Attrs.Float("max", maxFloat32)
	}
	for i, bound := range []*float32{&lo, &hi} {
		if n.Input(1+i) == nil {
			continue
		}
		t := b.Const(1 + i)
		if t == nil || t.Len() != 1 || len(t.Data) != 4 {
			return nil, ErrFallback
		}
		*bound = float32(t.At(0))
	}
	if !(lo <= hi) {
		return nil, fmt.Errorf("%w: the bounds cross", ErrFallback)
	}
	return func(dst, src []float32) { vec.Clamp(dst, src, lo, hi) }, nil
}

func leakyReLU(dst, src []float32, alpha float32) {
	for i, x := range src {
		if x < 0 {
			x *= alpha
		}
		dst[i] = x
	}
}

func hardSigmoid(dst, src []float32, alpha, beta float32) {
	vec.MulS(dst, src, alpha)
	vec.AddS(dst, dst, beta)
	vec.Clamp(dst, dst, 0, 1)
}

func hardSwish(dst, src []float32) {
	for i, x := range src {
		dst[i] = x * min(max(x*(1.0/6)+0.5, 0), 1)
	}
}
