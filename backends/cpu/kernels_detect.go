package cpu

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// What detectors do after their convolutions.

func detectKernels() []*Kernel {
	return []*Kernel{{
		Op: onnxOp("NonMaxSuppression", 10), Name: "classes",
		Accepts: func(n *graph.Node, _ backends.Target) error {
			for _, v := range n.In[:2] {
				if v.Type.DType != tensor.Float32 {
					return fmt.Errorf("%s is %s", v.Name, v.Type)
				}
			}
			return nil
		},
		Lower: func(*Bind, *graph.Node) (Step, error) { return nil, ErrFallback },
		Whole: func(b *Bind, n *graph.Node) func(in []*tensor.Tensor) ([]*tensor.Tensor, error) {
			p, centre := b.Pool(), n.Attrs.Int("center_point_box", 0) != 0
			return func(in []*tensor.Tensor) ([]*tensor.Tensor, error) {
				if b, c := in[0].Shape, in[1].Shape; len(b) != 3 || len(c) != 3 || b[2] != 4 || b[0] != c[0] || b[1] != c[2] {
					return nil, fmt.Errorf("boxes are %v and scores %v, want [images,boxes,4] and [images,classes,boxes]", b, c)
				}
				s := newSuppression(in, centre)
				p.Run(len(s.kept), task(func(_, i int) { s.class(i) }))
				return []*tensor.Tensor{s.result()}, nil
			}
		},
	}}
}

// suppression is one NonMaxSuppression. Overlaps are computed in float64, as its
// definition does: equal boxes are kept.
type suppression struct {
	boxes, scores []float32
	n, classes    int
	centre        bool
	limit         int
	iou, floor    float64
	all           bool    // no score is too low
	kept          [][]int // per image and class
}

// box is its corners and its area.
type box struct{ x0, y0, x1, y1, area float64 }

func newSuppression(in []*tensor.Tensor, centre bool) *suppression {
	scalar := func(i int, def float64) float64 {
		if i < len(in) && in[i] != nil && in[i].Len() > 0 {
			return in[i].At(0)
		}
		return def
	}
	return &suppression{
		boxes: tensor.Of[float32](in[0]), scores: tensor.Of[float32](in[1]), n: in[0].Shape[1], classes: in[1].Shape[1], centre: centre,
		limit: int(scalar(2, 0)), iou: scalar(3, 0), floor: scalar(4, math.Inf(-1)), all: len(in) < 5 || in[4] == nil,
		kept: make([][]int, in[1].Shape[0]*in[1].Shape[1]),
	}
}

// scanBlock is how many scores are looked at together: few classes are seen.
const scanBlock = 256

// class keeps the boxes of one class of one image.
func (s *suppression) class(i int) {
	scores := s.scores[i*s.n : (i+1)*s.n]
	var order []int
	for lo := 0; lo < s.n; lo += scanBlock {
		block := scores[lo:min(lo+scanBlock, s.n)]
		if !s.all && float64(vec.MaxOf(block)) <= s.floor {
			continue
		}
		for j, v := range block {
			if s.all || float64(v) > s.floor {
				order = append(order, lo+j)
			}
		}
	}
	slices.SortStableFunc(order, func(a, b int) int {
		switch {
		case scores[a] > scores[b]:
			return -1
		case scores[b] > scores[a]:
			return 1
		}
		return 0
	})
	var kept []box
next:
	for _, j := range order {
		if len(kept) >= s.limit {
			return
		}
		b := s.box(s.boxes[(i/s.classes*s.n+j)*4:][:4])
		for k := range kept {
			if intersection(&b, &kept[k]) > s.iou {
				continue next
			}
		}
		kept = append(kept, b)
		s.kept[i] = append(s.kept[i], j)
	}
}

func (s *suppression) box(v []float32) box {
	a, b, c, d := float64(v[0]), float64(v[1]), float64(v[2]), float64(v[3])
	x := box{x0: math.Min(b, d), y0: math.Min(a, c), x1: math.Max(b, d), y1: math.Max(a, c)}
	if s.centre { // x, y, width, height
		x = box{x0: a - c/2, y0: b - d/2, x1: a + c/2, y1: b + d/2}
	}
	x.area = (x.x1 - x.x0) * (x.y1 - x.y0)
	return x
}

// intersection is that of two boxes over their union.
func intersection(a, b *box) float64 {
	w, h := math.Min(a.x1, b.x1)-math.Max(a.x0, b.x0), math.Min(a.y1, b.y1)-math.Max(a.y0, b.y0)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / (a.area + b.area - w*h)
}

// result lists image, class and box of what is kept.
func (s *suppression) result() *tensor.Tensor {
	var list []int64
	for i, kept := range s.kept {
		for _, j := range kept {
			list = append(list, int64(i/s.classes), int64(i%s.classes), int64(j))
		}
	}
	return tensor.From(list, len(list)/3, 3)
}
