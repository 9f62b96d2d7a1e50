package onnx

import (
	"fmt"
	"math"
	"sort"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// regionRows work on boxes: pooling of regions and non-maximum suppression.
func regionRows() []*ops.Op {
	x := tensor.From([]float32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, 1, 1, 4, 4)
	align := ops.Op{
		Doc: "X[N,C,H,W] averaged (or maximised) over bilinear samples in the bins of rois [R,4] as x1 y1 x2 y2; Y[R,C,output_height,output_width]",
		In:  params("X", "rois", "batch_indices"), Out: params("Y"),
		Attrs: []ops.Attr{attr("mode", "avg"), attr("output_height", int64(1)), attr("output_width", int64(1)), attr("sampling_ratio", int64(0)), attr("spatial_scale", float32(1))},
		Infer: func(c *ops.Infer) error {
			if err := same(c, floatTypes, 0, 1); err != nil {
				return err
			}
			a := c.Node.Attrs
			return inferRegions(c, 4, a.Int("output_height", 1), a.Int("output_width", 1))
		},
		Eval: evalRoiAlign,
		Cases: []ops.Case{{Name: "one sample", Attrs: graph.Attrs{"sampling_ratio": int64(1)},
			In: []*tensor.Tensor{x, tensor.From([]float32{0, 0, 3, 3}, 1, 4), tensor.Ints(0)}}},
	}
	rows := versions("RoiAlign", []int{10}, align)
	align.Attrs = append(append([]ops.Attr{}, align.Attrs...), attr("coordinate_transformation_mode", "half_pixel"))
	rows = append(rows, versions("RoiAlign", []int{16, 22}, align)...)
	rows = append(rows, versions("MaxRoiPool", []int{1, 22}, ops.Op{
		Doc: "maximum of X[N,C,H,W] over the bins of rois [R,5] as batch x1 y1 x2 y2, with corners rounded to pixels",
		In:  params("X", "rois"), Out: params("Y"), Attrs: []ops.Attr{attr("pooled_shape", nil), attr("spatial_scale", float32(1))},
		Infer: func(c *ops.Infer) error {
			if err := same(c, floatTypes, 0, 1); err != nil {
				return err
			}
			p := c.Node.Attrs.Ints("pooled_shape")
			if len(p) != 2 {
				return c.Errorf("attribute pooled_shape is %v, want two lengths", p)
			}
			return inferRegions(c, 5, p[0], p[1])
		},
		Eval: evalMaxRoiPool,
		Cases: []ops.Case{{Name: "quarters", Attrs: graph.Attrs{"pooled_shape": []int64{2, 2}}, In: []*tensor.Tensor{x, tensor.From([]float32{0, 0, 0, 3, 3}, 1, 5)},
			Want: one(tensor.From([]float32{6, 8, 14, 16}, 1, 1, 2, 2))}},
	})...)
	return append(rows, versions("NonMaxSuppression", []int{10, 11}, ops.Op{
		Doc: "per batch and class, boxes by falling score, dropping those whose overlap (intersection over union) with a kept one is above iou_threshold; " +
			"rows are batch, class, box",
		In:  params("boxes", "scores", "max_output_boxes_per_class?", "iou_threshold?", "score_threshold?"),
		Out: params("selected_indices"), Attrs: []ops.Attr{attr("center_point_box", int64(0))},
		Infer: func(c *ops.Infer) error {
			if err := same(c, floatTypes, 0, 1); err != nil {
				return err
			}
			for i := range 2 {
				if err := rankIs(c, i, 3); err != nil {
					return err
				}
			}
			c.Out(0, graph.T(tensor.Int64, c.Fresh(0, 0), graph.D(3)))
			return nil
		},
		Eval: evalNonMaxSuppression,
		Cases: []ops.Case{{Name: "two of three", In: []*tensor.Tensor{
			tensor.From([]float32{0, 0, 1, 1, 0, 0.1, 1, 1.1, 0, 10, 1, 11}, 1, 3, 4), tensor.From([]float32{0.9, 0.75, 0.6}, 1, 1, 3),
			tensor.Ints(3), tensor.From([]float32{0.5}, 1)}, Want: one(tensor.From([]int64{0, 0, 0, 0, 0, 2}, 2, 3))}},
	})...)
}

func inferRegions(c *ops.Infer, columns, h, w int64) error {
	if err := rankIs(c, 0, 4); err != nil {
		return err
	}
	if err := rankIs(c, 1, 2); err != nil {
		return err
	}
	x, rois := c.Type(0), c.Type(1)
	out := graph.T(x.DType, graph.Sym("?rois"), graph.Sym("?channels"), graph.D(h), graph.D(w))
	if out.Shape[0] = c.Fresh(0, 0); rois.Ranked() {
		if d := rois.Shape[1]; d.IsConst() && !d.Is(columns) {
			return c.Errorf("rois %s, want %d columns", rois, columns)
		}
		out.Shape[0] = rois.Shape[0]
	}
	if out.Shape[1] = c.Fresh(0, 1); x.Ranked() {
		out.Shape[1] = x.Shape[1]
	}
	c.Out(0, out)
	return nil
}

// clampedBilinear lists the four pixels and weights at (y, x) in an h by w
// image; none when the point is more than a pixel outside.
func clampedBilinear(y, x float64, h, w int) (at [4]int, wt [4]float64) {
	if y < -1 || y > float64(h) || x < -1 || x > float64(w) {
		return at, wt
	}
	axis := func(p float64, n int) (lo, hi int, f float64) {
		p = math.Max(p, 0)
		if lo = int(p); lo >= n-1 {
			return n - 1, n - 1, 0
		}
		return lo, lo + 1, p - float64(lo)
	}
	y0, y1, fy := axis(y, h)
	x0, x1, fx := axis(x, w)
	return [4]int{y0*w + x0, y0*w + x1, y1*w + x0, y1*w + x1}, [4]float64{(1 - fy) * (1 - fx), (1 - fy) * fx, fy * (1 - fx), fy * fx}
}

// maxSamples bounds the points of a bin: more than the pixels of any image's bin.
const maxSamples = 1 << 22

func evalRoiAlign(c *ops.Call) ([]*tensor.Tensor, error) {
	x, rois, batchOf, a := c.In[0], c.In[1], c.In[2], c.Node.Attrs
	oh, ow, ratio := int(a.Int("output_height", 1)), int(a.Int("output_width", 1)), int(a.Int("sampling_ratio", 0))
	scale, isMax := float64(a.Float("spatial_scale", 1)), a.Str("mode", "avg") == "max"
	half := c.Node.Op.Since >= 16 && a.Str("coordinate_transformation_mode", "half_pixel") == "half_pixel"
	n, ch, h, w := rois.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	v, box := floatsOf(x), floatsOf(rois)
	y := make([]float64, n*ch*oh*ow)
	for r := range n {
		img := int(batchOf.IntAt(r))
		if img < 0 || img >= x.Shape[0] {
			return nil, fmt.Errorf("batch_indices[%d] is %d, want 0 to %d", r, img, x.Shape[0]-1)
		}
		shift := 0.0
		if half {
			shift = 0.5
		}
		x0, y0 := box[r*4]*scale-shift, box[r*4+1]*scale-shift
		rw, rh := box[r*4+2]*scale-shift-x0, box[r*4+3]*scale-shift-y0
		if !half {
			rw, rh = math.Max(rw, 1), math.Max(rh, 1)
		}
		bw, bh := rw/float64(ow), rh/float64(oh)
		sw, sh := ratio, ratio
		if ratio <= 0 {
			sw, sh = int(math.Ceil(bw)), int(math.Ceil(bh))
		}
		if sw < 0 || sh < 0 || sw > 0 && sh > maxSamples/sw {
			return nil, fmt.Errorf("box %d, %v, is sampled at %d by %d points for each result, more than %d", r, box[r*4:r*4+4], sh, sw, maxSamples)
		}
		for bin := range oh * ow {
			by, bx := float64(bin/ow), float64(bin%ow)
			for k := range ch {
				src := v[(img*ch+k)*h*w:]
				sum, best := 0.0, math.Inf(-1)
				for s := range sh * sw {
					at, wt := clampedBilinear(y0+by*bh+(float64(s/sw)+0.5)*bh/float64(sh), x0+bx*bw+(float64(s%sw)+0.5)*bw/float64(sw), h, w)
					for i := range at {
						p := wt[i] * src[at[i]]
						sum, best = sum+p, math.Max(best, p)
					}
				}
				o := (r*ch+k)*oh*ow + bin
				switch {
				case sh*sw == 0:
				case isMax: // the largest weighted pixel, not the largest interpolated value
					y[o] = best
				default:
					y[o] = sum / float64(sh*sw)
				}
			}
		}
	}
	return one(fromFloats(x.DType, y, n, ch, oh, ow)), nil
}

func evalMaxRoiPool(c *ops.Call) ([]*tensor.Tensor, error) {
	x, rois, a := c.In[0], c.In[1], c.Node.Attrs
	p, scale := a.Ints("pooled_shape"), float64(a.Float("spatial_scale", 1))
	oh, ow := int(p[0]), int(p[1])
	n, ch, h, w := rois.Shape[0], x.Shape[1], x.Shape[2], x.Shape[3]
	v, box := floatsOf(x), floatsOf(rois)
	y := make([]float64, n*ch*oh*ow)
	for r := range n {
		b := box[r*5 : r*5+5]
		img := int(b[0])
		if img < 0 || img >= x.Shape[0] {
			return nil, fmt.Errorf("rois[%d] names image %d of %d", r, img, x.Shape[0])
		}
		x0, y0 := int(math.Round(b[1]*scale)), int(math.Round(b[2]*scale))
		bw := float64(max(int(math.Round(b[3]*scale))-x0+1, 1)) / float64(ow)
		bh := float64(max(int(math.Round(b[4]*scale))-y0+1, 1)) / float64(oh)
		span := func(start, i int, size float64, limit int) (int, int) {
			lo, hi := start+int(math.Floor(float64(i)*size)), start+int(math.Ceil(float64(i+1)*size))
			return min(max(lo, 0), limit), min(max(hi, 0), limit)
		}
		for k := range ch {
			for bin := range oh * ow {
				ylo, yhi := span(y0, bin/ow, bh, h)
				xlo, xhi := span(x0, bin%ow, bw, w)
				best := math.Inf(-1)
				for i := ylo; i < yhi; i++ {
					for j := xlo; j < xhi; j++ {
						best = math.Max(best, v[((img*ch+k)*h+i)*w+j])
					}
				}
				if ylo >= yhi || xlo >= xhi {
					best = 0 // an empty bin
				}
				y[(r*ch+k)*oh*ow+bin] = best
			}
		}
	}
	return one(fromFloats(x.DType, y, n, ch, oh, ow)), nil
}

// corners returns a box as its smallest and largest coordinates.
func corners(b []float64, centre bool) (x0, y0, x1, y1 float64) {
	if centre { // x, y, width, height
		return b[0] - b[2]/2, b[1] - b[3]/2, b[0] + b[2]/2, b[1] + b[3]/2
	}
	return math.Min(b[1], b[3]), math.Min(b[0], b[2]), math.Max(b[1], b[3]), math.Max(b[0], b[2])
}

func overlap(a, b []float64, centre bool) float64 {
	ax0, ay0, ax1, ay1 := corners(a, centre)
	bx0, by0, bx1, by1 := corners(b, centre)
	w, h := math.Min(ax1, bx1)-math.Max(ax0, bx0), math.Min(ay1, by1)-math.Max(ay0, by0)
	if w <= 0 || h <= 0 {
		return 0
	}
	return w * h / ((ax1-ax0)*(ay1-ay0) + (bx1-bx0)*(by1-by0) - w*h)
}

func evalNonMaxSuppression(c *ops.Call) ([]*tensor.Tensor, error) {
	boxes, scores := c.In[0], c.In[1]
	n := boxes.Shape[1]
	scalar := func(i int, def float64) float64 {
		if t := c.Arg(i); t != nil && t.Len() > 0 {
			return t.At(0)
		}
		return def
	}
	limit, iou, floor := int(scalar(2, 0)), scalar(3, 0), scalar(4, math.Inf(-1))
	centre := c.Node.Attrs.Int("center_point_box", 0) != 0
	bv, sv := floatsOf(boxes), floatsOf(scores)
	var out []int64
	for b := range scores.Shape[0] {
		for k := range scores.Shape[1] {
			s := sv[(b*scores.Shape[1]+k)*n : (b*scores.Shape[1]+k+1)*n]
			var order []int
			for i := range s {
				if s[i] > floor || c.Arg(4) == nil {
					order = append(order, i)
				}
			}
			sort.SliceStable(order, func(i, j int) bool { return s[order[i]] > s[order[j]] })
			var kept []int
		next:
			for _, i := range order {
				if len(kept) >= limit {
					break
				}
				for _, j := range kept {
					if overlap(bv[(b*n+i)*4:(b*n+i)*4+4], bv[(b*n+j)*4:(b*n+j)*4+4], centre) > iou {
						continue next
					}
				}
				kept = append(kept, i)
				out = append(out, int64(b), int64(k), int64(i))
			}
		}
	}
	return one(tensor.From(out, len(out)/3, 3)), nil
}
