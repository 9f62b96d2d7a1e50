package cpu

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/conv2d"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// reduction folds rows: last when the reduced axes are innermost, else first
// and then add combine whole vectors of the inner elements.
type reduction struct {
	name  string
	first func(acc []float64, x []float32)
	add   func(acc []float64, x []float32)
	last  func(x []float32) float32
	done  func(v float64, n int) float64 // of n elements
}

func reduceKernels() []*Kernel {
	keep := func(v float64, _ int) float64 { return v }
	mean := func(v float64, n int) float64 { return v / float64(n) }
	var out []*Kernel
	for _, r := range []reduction{
		{"ReduceSum", widen, accumulate, vec.Sum, keep},
		{"ReduceMean", widen, accumulate, nil, mean},
		{"ReduceSumSquare", widenSq, accumulateSq, vec.SumSq, keep},
		{"ReduceL2", widenSq, accumulateSq, nil, func(v float64, _ int) float64 { return math.Sqrt(v) }},
		{"ReduceMax", widen, largest, vec.MaxOf, keep},
		{"ReduceMin", widen, smallest, vec.MinOf, keep},
	} {
		switch r.name {
		case "ReduceMean":
			r.last = func(x []float32) float32 { return float32(vec.Sum64(x) / float64(len(x))) }
		case "ReduceL2":
			r.last = func(x []float32) float32 { return float32(math.Sqrt(vec.SumSq64(x))) }
		}
		out = append(out, &Kernel{
			Op: onnxOp(r.name, 1), Name: "vec", Rows: anyRows(0),
			Accepts: func(n *graph.Node, t backends.Target) error { return floats(0)(n, t) },
			Blocks: func(b *Bind, n *graph.Node) (Blocking, bool) {
				mark := reducedAxes(b, n, 4) // only images come in blocks
				return Blocking{In: []int{0}}, r.name == "ReduceMean" && slices.Equal(mark, []bool{false, false, true, true})
			},
			Lower: func(b *Bind, n *graph.Node) (Step, error) { return r.lower(b, n) },
		})
	}
	return out
}

// reducedAxes marks the axes that a Reduce node folds; nil: not known.
func reducedAxes(b *Bind, n *graph.Node, rank int) []bool {
	axes, given := n.Attrs.Ints("axes"), n.Attrs.Has("axes")
	if b.In(1) != nil {
		if axes, given = b.Ints(1); !given {
			return nil
		}
	}
	mark := make([]bool, rank)
	if !given || len(axes) == 0 {
		all := n.Attrs.Int("noop_with_empty_axes", 0) == 0
		for i := range mark {
			mark[i] = all
		}
		return mark
	}
	for _, a := range axes {
		i, ok := axisOf(a, rank)
		if !ok {
			return nil
		}
		mark[i] = true
	}
	return mark
}

func (r reduction) lower(b *Bind, n *graph.Node) (Step, error) {
	dst, src := b.Out(0), b.In(0)
	mark := reducedAxes(b, n, len(src.Shape))
	if mark == nil || src.Len() == 0 {
		return nil, ErrFallback
	}
	if src.Blocks {
		return meanOfBlocks(b, dst, src), nil
	}
	// [outer, folded, inner]: the folded axes must be neighbours, apart from
	// axes of length 1.
	outer, folded, inner := 1, 1, 1
	for a, l := range src.Shape {
		switch {
		case l == 1:
		case mark[a] && inner > 1:
			return nil, ErrFallback
		case mark[a]:
			folded *= l
		case folded > 1:
			inner *= l
		default:
			outer *= l
		}
	}
	if dst.Len() != outer*inner {
		return nil, fmt.Errorf("reducing %v does not give %v", src.Shape, dst.Shape)
	}
	if inner == 1 {
		at, ok := rowsOf(src, outer, folded)
		if !ok {
			return nil, ErrFallback
		}
		return b.Split(outer, max(1, lightGrain/folded), func(lo, hi int) {
			for i := lo; i < hi; i++ {
				dst.F32[i] = r.last(src.F32[i*at:][:folded])
			}
		}), nil
	}
	if !src.Dense() {
		return nil, ErrFallback
	}
	const tile = 1024 // inner elements whose sums are kept at a time
	tiles := (inner + tile - 1) / tile
	acc := b.Scratch(tensor.Float64, outer*inner)
	return b.Split(outer*tiles, max(1, lightGrain/(folded*min(inner, tile))), func(lo, hi int) {
		sums := View[float64](acc)
		for i := lo; i < hi; i++ {
			o, j := i/tiles, i%tiles*tile
			w := min(tile, inner-j)
			a := sums[o*inner+j:][:w]
			r.first(a, src.F32[o*folded*inner+j:][:w])
			for k := 1; k < folded; k++ {
				r.add(a, src.F32[(o*folded+k)*inner+j:][:w])
			}
			for q, v := range a {
				dst.F32[o*inner+j+q] = float32(r.done(v, folded))
			}
		}
	}), nil
}

// meanOfBlocks is the mean over the pixels of each channel of an image in blocks.
func meanOfBlocks(b *Bind, dst, src *Mem) Step {
	pixels := src.Dim(2) * src.Dim(3)
	return b.Split(dst.Len()/conv2d.Block, max(1, lightGrain/(pixels*conv2d.Block)), func(lo, hi int) {
		for i := lo; i < hi; i++ {
			var sums [conv2d.Block]float64
			for p := range pixels {
				for j, v := range (*[conv2d.Block]float32)(src.F32[(i*pixels+p)*conv2d.Block:]) {
					sums[j] += float64(v)
				}
			}
			for j, v := range sums {
				dst.F32[i*conv2d.Block+j] = float32(v / float64(pixels))
			}
		}
	})
}

// rowsOf gives the distance of rows when m is seen as rows x cols.
func rowsOf(m *Mem, rows, cols int) (stride int, ok bool) {
	switch {
	case m.Dense():
		return cols, true
	case m.Rows == rows:
		return m.Stride, true
	case m.Cols%max(cols, 1) == 0 && m.Stride == m.Cols:
		return cols, true
	}
	return 0, false
}

func widen(acc []float64, x []float32) {
	for i, v := range x {
		acc[i] = float64(v)
	}
}

func widenSq(acc []float64, x []float32) {
	for i, v := range x {
		acc[i] = float64(v) * float64(v)
	}
}

func accumulate(acc []float64, x []float32) {
	for i, v := range x {
		acc[i] += float64(v)
	}
}

func accumulateSq(acc []float64, x []float32) {
	for i, v := range x {
		acc[i] += float64(v) * float64(v)
	}
}

func largest(acc []float64, x []float32) {
	for i, v := range x {
		acc[i] = max(acc[i], float64(v))
	}
}

func smallest(acc []float64, x []float32) {
	for i, v := range x {
		acc[i] = min(acc[i], float64(v))
	}
}

// scanlineKernels: CumSum, Softmax, LogSoftmax.
func scanlineKernels() []*Kernel {
	soft := func(name string, f func(dst, src []float32)) *Kernel {
		return &Kernel{
			Op: onnxOp(name, 13), Name: "vec", Rows: lastAxisRows, Over: map[int][]int{0: {0}},
			Accepts: func(n *graph.Node, t backends.Target) error {
				if a := n.Attrs.Int("axis", -1); a != -1 && a != int64(n.In[0].Type.Rank()-1) {
					return fmt.Errorf("axis %d is not the last", a)
				}
				return floats()(n, t)
			},
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				dst, src := b.Out(0), b.In(0)
				if len(src.Shape) == 0 || src.Len() == 0 {
					return nil, ErrFallback
				}
				w := src.Dim(-1)
				at, ok := rowsOf(src, src.Len()/w, w)
				if !ok {
					return nil, ErrFallback
				}
				return b.Split(src.Len()/w, max(1, heavyGrain/w), func(lo, hi int) {
					for r := lo; r < hi; r++ {
						f(dst.F32[r*w:(r+1)*w], src.F32[r*at:][:w])
					}
				}), nil
			},
		}
	}
	return []*Kernel{
		soft("Softmax", vec.Softmax), soft("LogSoftmax", vec.LogSoftmax),
		{
			Op: onnxOp("CumSum", 11), Name: "loop", Accepts: floats(0), Lower: lowerCumSum,
		},
	}
}

func lowerCumSum(b *Bind, n *graph.Node) (Step, error) {
	dst, src := b.Out(0), b.In(0)
	list, ok := b.Ints(1)
	if !ok || len(list) != 1 {
		return nil, ErrFallback
	}
	axis, ok := axisOf(list[0], len(src.Shape))
	if !ok {
		return nil, fmt.Errorf("axis %d of %v", list[0], src.Shape)
	}
	outer, length, inner := product(src.Shape[:axis]), src.Shape[axis], product(src.Shape[axis+1:])
	exclusive, reverse := n.Attrs.Int("exclusive", 0) != 0, n.Attrs.Int("reverse", 0) != 0
	if src.Len() == 0 {
		return func() error { return nil }, nil
	}
	const tile = 256
	tiles := (inner + tile - 1) / tile
	return b.Split(outer*tiles, max(1, lightGrain/(length*min(inner, tile))), func(lo, hi int) {
		var sums [tile]float64
		for i := lo; i < hi; i++ {
			o, j := i/tiles, i%tiles*tile
			w := min(tile, inner-j)
			clear(sums[:w])
			for k := range length {
				t := k
				if reverse {
					t = length - 1 - k
				}
				at := (o*length+t)*inner + j
				x, y := src.F32[at:][:w], dst.F32[at:][:w]
				if exclusive {
					for q, v := range x {
						y[q] = float32(sums[q])
						sums[q] += float64(v)
					}
					continue
				}
				for q, v := range x {
					sums[q] += float64(v)
					y[q] = float32(sums[q])
				}
			}
		}
	}), nil
}
