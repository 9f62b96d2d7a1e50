package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/conv2d"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// resizeKernels: nearest neighbours where images become a whole number of times
// as high and wide. Then input pixel j/factor is nearest to output pixel j, by
// floor from the corner and by rounding from the centre alike. Other modes run by
// their definition.
func resizeKernels() []*Kernel {
	row := func(since, until int) *Kernel {
		return &Kernel{Op: onnxOp("Resize", since), Until: until, Name: "repeat", Accepts: acceptResize, Blocks: blocksOfResize, Lower: lowerResize}
	}
	return []*Kernel{row(10, 10), row(11, 0)}
}

func acceptResize(n *graph.Node, _ backends.Target) error {
	a := n.Attrs
	if n.In[0].Type.DType != tensor.Float32 {
		return fmt.Errorf("x is %s", n.In[0].Type)
	}
	if mode := a.Str("mode", "nearest"); mode != "nearest" {
		return fmt.Errorf("mode %q", mode)
	}
	if n.In[0].Type.Rank() < 3 || a.Has("axes") || a.Str("keep_aspect_ratio_policy", "stretch") != "stretch" {
		return fmt.Errorf("%s: not an image resized in its last two axes by scales or sizes of all", n.In[0].Type)
	}
	if n.Op.Since > 10 {
		pair := a.Str("coordinate_transformation_mode", "half_pixel") + ", " + a.Str("nearest_mode", "round_prefer_floor")
		switch pair {
		case "asymmetric, floor", "half_pixel, round_prefer_floor", "half_pixel, round_prefer_ceil":
		default:
			return fmt.Errorf("positions are %s", pair)
		}
	}
	return nil
}

// repeats is how often a Resize from shape x to y repeats rows and columns; it is not ok
// where it does something else.
func repeats(b *Bind, n *graph.Node, x, y []int) (fy, fx int, ok bool) {
	r := len(x)
	if product(x) == 0 || product(y) == 0 || len(y) != r {
		return 0, 0, false
	}
	factor := make([]int, r)
	for i, d := range x {
		factor[i] = y[i] / d
		if factor[i]*d != y[i] || i < r-2 && factor[i] != 1 {
			return 0, 0, false
		}
	}
	// A scale of 2.1 gives some lengths twice over, too, but other positions.
	sized := false
	scales := 1
	if n.Op.Since > 10 {
		scales = 2
		s, ok := b.Ints(3)
		sized = ok && len(s) > 0
	}
	if !sized {
		s := b.Const(scales)
		if s == nil || s.Len() != r {
			return 0, 0, false
		}
		for i, f := range factor {
			if s.At(i) != float64(f) {
				return 0, 0, false
			}
		}
	}
	return factor[r-2], factor[r-1], true
}

func blocksOfResize(b *Bind, n *graph.Node) (Blocking, bool) {
	x, okX := b.b.typeOf(n.In[0]).Static()
	y, okY := b.b.typeOf(n.Out[0]).Static()
	if !okX || !okY || len(x) != 4 {
		return Blocking{}, false
	}
	_, _, ok := repeats(b, n, x, y)
	return Blocking{Tied: []int{0}}, ok
}

func lowerResize(b *Bind, n *graph.Node) (Step, error) {
	y, x := b.Out(0), b.In(0)
	fy, fx, ok := repeats(b, n, x.Shape, y.Shape)
	if !ok {
		return nil, ErrFallback
	}
	w := x.Dim(-1)
	if x.Blocks {
		return repeatBlocks(b, y, x, fy, fx), nil
	}
	return b.Split(x.Len()/w, max(1, lightGrain/(w*fy*fx)), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			src, dst := x.F32[i*w:(i+1)*w], y.F32[i*fy*w*fx:(i+1)*fy*w*fx]
			row := dst[:w*fx]
			switch fx {
			case 1:
				copy(row, src)
			case 2:
				for j, v := range src {
					pair := row[2*j : 2*j+2 : 2*j+2]
					pair[0], pair[1] = v, v
				}
			default:
				for j, v := range src {
					repeated := row[j*fx : (j+1)*fx]
					for k := range repeated {
						repeated[k] = v
					}
				}
			}
			for k := 1; k < fy; k++ {
				copy(dst[k*w*fx:], row)
			}
		}
	}), nil
}

// repeatBlocks is the same for an image in blocks of channels.
func repeatBlocks(b *Bind, y, x *Mem, fy, fx int) Step {
	const block = conv2d.Block
	w := x.Dim(3)
	line := w * fx * block
	return b.Split(x.Len()/(w*block), max(1, lightGrain/(line*fy)), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			src, dst := x.F32[i*w*block:(i+1)*w*block], y.F32[i*fy*line:(i+1)*fy*line]
			for j := range w {
				v := (*[block]float32)(src[j*block:])
				for k := range fx {
					*(*[block]float32)(dst[(j*fx+k)*block:]) = *v
				}
			}
			for k := 1; k < fy; k++ {
				copy(dst[k*line:], dst[:line])
			}
		}
	})
}
