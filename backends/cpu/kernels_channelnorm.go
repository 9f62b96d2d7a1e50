package cpu

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
)

// Normalisations with one scale and shift per channel of [N,C,...].

func channelNormKernels() []*Kernel {
	return []*Kernel{
		{
			Op: onnxOp("BatchNormalization", 7), Name: "channels", Over: map[int][]int{0: {0}},
			Accepts: func(n *graph.Node, t backends.Target) error {
				for i, v := range n.Out {
					if i > 0 && v != nil {
						return fmt.Errorf("the statistics are asked for")
					}
				}
				if n.Attrs.Int("training_mode", 0) != 0 || n.Attrs.Int("spatial", 1) != 1 {
					return fmt.Errorf("training, or statistics per element")
				}
				return floats()(n, t)
			},
			Lower: lowerBatchNorm,
		},
		{Op: onnxOp("InstanceNormalization", 6), Name: "channels", Accepts: floats(), Lower: lowerGroupNorm, Over: map[int][]int{0: {0}}},
		{Op: onnxOp("GroupNormalization", 21), Name: "channels", Accepts: floats(), Lower: lowerGroupNorm, Over: map[int][]int{0: {0}}},
	}
}

// scaleShift writes src*scale + shift.
func scaleShift(dst, src []float32, scale, shift float32) {
	vec.MulS(dst, src, scale)
	vec.AddS(dst, dst, shift)
}

func lowerBatchNorm(b *Bind, n *graph.Node) (Step, error) {
	y, x := b.Out(0), b.In(0)
	if len(x.Shape) < 2 || x.Len() == 0 {
		return nil, ErrFallback
	}
	c := x.Shape[1]
	for i := 1; i < 5; i++ {
		if b.In(i) == nil || b.In(i).Len() != c {
			return nil, ErrFallback
		}
	}
	gain, shift, mean, variance := b.In(1), b.In(2), b.In(3), b.In(4)
	width, eps := product(x.Shape[2:]), float64(n.Attrs.Float("epsilon", 1e-5))
	return b.Split(x.Shape[0]*c, max(1, lightGrain/max(width, 1)), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			ch := i % c
			a := float64(gain.F32[ch]) / math.Sqrt(float64(variance.F32[ch])+eps)
			scaleShift(y.F32[i*width:(i+1)*width], x.F32[i*width:(i+1)*width], float32(a), float32(float64(shift.F32[ch])-a*float64(mean.F32[ch])))
		}
	}), nil
}

// lowerGroupNorm standardises groups of channels; an instance's channels are
// groups of their own.
func lowerGroupNorm(b *Bind, n *graph.Node) (Step, error) {
	y, x, gain, shift := b.Out(0), b.In(0), b.In(1), b.In(2)
	if len(x.Shape) < 2 || x.Len() == 0 {
		return nil, ErrFallback
	}
	c, width := x.Shape[1], product(x.Shape[2:])
	groups := c
	if n.Op.Name == "GroupNormalization" {
		groups = int(n.Attrs.Int("num_groups", 1))
	}
	if groups < 1 || c%groups != 0 || gain.Len() != c || shift.Len() != c {
		return nil, ErrFallback
	}
	per, eps := c/groups, float64(n.Attrs.Float("epsilon", 1e-5))
	return b.Split(x.Shape[0]*groups, max(1, lightGrain/(per*width)), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			v, o := x.F32[i*per*width:(i+1)*per*width], y.F32[i*per*width:]
			mean := vec.Sum64(v) / float64(len(v))
			// The squares about the mean: subtracting sums would cancel.
			dst := o[:len(v)]
			vec.SubS(dst, v, float32(mean))
			rest := vec.Sum64(dst) / float64(len(v))
			inv := 1 / math.Sqrt(vec.SumSq64(dst)/float64(len(v))-rest*rest+eps)
			for k := range per {
				ch := i%groups*per + k
				a := float64(gain.F32[ch]) * inv
				row := dst[k*width : (k+1)*width]
				scaleShift(row, row, float32(a), float32(float64(shift.F32[ch])-a*rest))
			}
		}
	}), nil
}
