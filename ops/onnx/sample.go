package onnx

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// sampleRows read images between their pixels: GridSample, AffineGrid and
// deformable convolution.
func sampleRows() []*ops.Op {
	x := tensor.From([]float32{1, 2, 3, 4}, 1, 1, 2, 2)
	rows := versions("GridSample", []int{16, 20, 22}, ops.Op{
		Doc: "X[N,C,d1..dr] read at grid[N,o1..or,r]: positions from -1 to 1 per axis, last axis first; outside values by padding_mode",
		In:  params("X", "grid"), Out: params("Y"),
		Attrs: []ops.Attr{attr("align_corners", int64(0)), attr("mode", "linear"), attr("padding_mode", "zeros")},
		Infer: func(c *ops.Infer) error {
			if err := want(c, 1, floatTypes); err != nil {
				return err
			}
			if err := rankAtLeast(c, 0, 3); err != nil {
				return err
			}
			t, g := c.Type(0), c.Type(1)
			out := unranked(t.DType)
			if t.Ranked() && g.Ranked() {
				if g.Rank() != t.Rank() {
					return c.Errorf("grid %s for X %s, want the same rank", g, t)
				}
				out.Shape = append(append([]graph.Dim{}, t.Shape[:2]...), g.Shape[1:g.Rank()-1]...)
			}
			c.Out(0, out)
			return nil
		},
		Eval: evalGridSample,
		Cases: []ops.Case{{Name: "corners and centre", Attrs: graph.Attrs{"align_corners": int64(1)},
			In:   []*tensor.Tensor{x, tensor.From([]float32{-1, -1, 0, 0, 1, 1}, 1, 1, 3, 2)},
			Want: one(tensor.From([]float32{1, 2.5, 4}, 1, 1, 1, 3))}},
	})
	rows = append(rows, versions("AffineGrid", []int{20}, ops.Op{
		Doc: "the grid for GridSample of an affine map: theta [N,r,r+1] applied to the pixel centres of an image of the given size [N,C,d1..dr]",
		In:  params("theta", "size"), Out: params("grid"), Attrs: []ops.Attr{attr("align_corners", int64(0))},
		Infer: func(c *ops.Infer) error {
			if err := want(c, 0, floatTypes); err != nil {
				return err
			}
			if err := rankIs(c, 0, 3); err != nil {
				return err
			}
			d := c.Type(0).DType
			if size, ok := c.Known(1); ok && len(size) > 2 {
				c.Out(0, graph.T(d, append(append([]graph.Dim{size[0]}, size[2:]...), graph.D(int64(len(size)-2)))...))
			} else {
				c.Out(0, unranked(d))
			}
			return nil
		},
		Eval: evalAffineGrid,
		Cases: []ops.Case{{Name: "identity", Attrs: graph.Attrs{"align_corners": int64(1)},
			In:   []*tensor.Tensor{tensor.From([]float32{1, 0, 0, 0, 1, 0}, 1, 2, 3), tensor.Ints(1, 1, 2, 2)},
			Want: one(tensor.From([]float32{-1, -1, 1, -1, -1, 1, 1, 1}, 1, 2, 2, 2))}},
	})...)
	return append(rows, versions("DeformConv", []int{19, 22}, ops.Op{
		Doc: "Conv whose kernel elements are displaced by offset [N,og*K*r,o...] and weighted by mask [N,og*K,o...], with linear interpolation",
		In:  params("X", "W", "offset", "B?", "mask?"), Out: params("Y"),
		Attrs: []ops.Attr{attrOpt("dilations"), attr("group", int64(1)), attrOpt("kernel_shape"), attr("offset_group", int64(1)), attrOpt("pads"), attrOpt("strides")},
		Infer: func(c *ops.Infer) error {
			if err := same(c, floatTypes, 0, 1, 2, 3, 4); err != nil {
				return err
			}
			return inferConv(c, 0, 1, c.Type(0).DType)
		},
		Eval: evalDeformConv,
		Cases: []ops.Case{{Name: "half a pixel right", In: []*tensor.Tensor{x, tensor.From([]float32{2}, 1, 1, 1, 1), tensor.From([]float32{0, 0, 0, 0, 0.5, 0.5, 0.5, 0.5}, 1, 2, 2, 2)},
			Want: one(tensor.From([]float32{3, 2, 7, 4}, 1, 1, 2, 2))}},
	})...)
}

// axisTap is one sample along an axis: an index (perhaps outside) and its weight.
type axisTap struct {
	at int
	w  float64
}

func tapsAt(x float64, mode string) []axisTap {
	i := int(math.Floor(x))
	t := x - float64(i)
	switch mode {
	case "nearest":
		return []axisTap{{int(math.RoundToEven(x)), 1}}
	case "cubic": // Keys' kernel with a = -0.75
		const a = -0.75
		far := func(d float64) float64 { return ((a*d-5*a)*d+8*a)*d - 4*a }
		near := func(d float64) float64 { return ((a+2)*d-(a+3))*d*d + 1 }
		return []axisTap{{i - 1, far(t + 1)}, {i, near(t)}, {i + 1, near(1 - t)}, {i + 2, far(2 - t)}}
	}
	return []axisTap{{i, 1 - t}, {i + 1, t}}
}

// sampler reads an image of one channel between pixels.
type sampler struct {
	dims    []int
	mode    string
	padding string
	corners bool
}

// border is the range on axis a outside of which positions are reflected.
func (s sampler) border(a int) (lo, hi float64) {
	if s.corners {
		return 0, float64(s.dims[a] - 1)
	}
	return -0.5, float64(s.dims[a]) - 0.5
}

// reflect folds x back into [lo, hi].
func reflect(x, lo, hi float64) float64 {
	span := hi - lo
	if span <= 0 {
		return lo
	}
	d := math.Mod(math.Abs(x-lo), 2*span)
	if d > span {
		d = 2*span - d
	}
	return lo + d
}

// inside brings a position outside the border in, where the padding mode does so.
func (s sampler) inside(a int, x float64) float64 {
	lo, hi := s.border(a)
	if x >= lo && x <= hi {
		return x
	}
	switch s.padding {
	case "border":
		if s.mode == "cubic" { // PyTorch and ONNX Runtime hold the four pixels at the border, not the position
			return clamp(x, -4, float64(s.dims[a]+3))
		}
		return clamp(x, 0, float64(s.dims[a]-1))
	case "reflection":
		return reflect(x, lo, hi)
	}
	return x
}

// index maps a pixel index to one inside the image; ok is false for a zero pixel.
func (s sampler) index(a, i int) (int, bool) {
	if i >= 0 && i < s.dims[a] {
		return i, true
	}
	switch s.padding {
	case "border":
		return min(max(i, 0), s.dims[a]-1), true
	case "reflection":
		lo, hi := s.border(a)
		return min(max(int(reflect(float64(i), lo, hi)), 0), s.dims[a]-1), true
	}
	return 0, false
}

// weights lists the pixels (flat) and weights that make the value at pos.
func (s sampler) weights(pos []float64, out []axisTap) []axisTap {
	out = append(out[:0], axisTap{0, 1})
	for a, x := range pos {
		ts := tapsAt(x, s.mode)
		var next []axisTap
		for _, o := range out {
			for _, t := range ts {
				if i, ok := s.index(a, t.at); ok && t.w != 0 {
					next = append(next, axisTap{o.at*s.dims[a] + i, o.w * t.w})
				}
			}
		}
		out = next
	}
	return out
}

func evalGridSample(c *ops.Call) ([]*tensor.Tensor, error) {
	x, grid, a := c.In[0], c.In[1], c.Node.Attrs
	r := x.Rank() - 2
	if grid.Rank() != x.Rank() || grid.Shape[r+1] != r || grid.Shape[0] != x.Shape[0] {
		return nil, fmt.Errorf("grid %s does not fit X %s", grid.TypeString(), x.TypeString())
	}
	s := sampler{dims: x.Shape[2:], mode: a.Str("mode", "linear"), padding: a.Str("padding_mode", "zeros"), corners: a.Int("align_corners", 0) != 0}
	switch s.mode {
	case "bilinear":
		s.mode = "linear"
	case "bicubic":
		s.mode = "cubic"
	}
	if s.mode != "linear" && s.mode != "cubic" && s.mode != "nearest" {
		return nil, fmt.Errorf("attribute mode is %q, want linear, nearest or cubic", s.mode)
	}
	shape := append([]int{x.Shape[0], x.Shape[1]}, grid.Shape[1:r+1]...)
	v, g := floatsOf(x), floatsOf(grid)
	points, pixels, channels := product(shape[2:]), product(s.dims), x.Shape[1]
	y := make([]float64, product(shape))
	pos := make([]float64, r)
	var ws []axisTap
	for n := range x.Shape[0] {
		for p := range points {
			for i := range r {
				q, d := g[(n*points+p)*r+r-1-i], float64(s.dims[i])
				if s.corners {
					pos[i] = (q + 1) / 2 * (d - 1)
				} else {
					pos[i] = ((q+1)*d - 1) / 2
				}
				if s.mode == "nearest" {
					pos[i] = math.RoundToEven(pos[i])
				}
				pos[i] = s.inside(i, pos[i])
			}
			ws = s.weights(pos, ws)
			for ch := range channels {
				base, sum := (n*channels+ch)*pixels, 0.0
				for _, t := range ws {
					sum += t.w * v[base+t.at]
				}
				y[(n*channels+ch)*points+p] = sum
			}
		}
	}
	return one(fromFloats(x.DType, y, shape...)), nil
}

func evalAffineGrid(c *ops.Call) ([]*tensor.Tensor, error) {
	theta, size := c.In[0], c.In[1].AsInts()
	r := len(size) - 2
	if r < 1 || theta.Rank() != 3 || theta.Shape[1] != r || theta.Shape[2] != r+1 || int64(theta.Shape[0]) != size[0] {
		return nil, fmt.Errorf("theta %s does not fit size %v", theta.TypeString(), size)
	}
	dims := make([]int, r)
	for i := range dims {
		dims[i] = int(size[i+2])
	}
	corners := c.Node.Attrs.Int("align_corners", 0) != 0
	centre := func(a, i int) float64 {
		d := float64(dims[a])
		if corners {
			return -1 + 2*float64(i)/(d-1)
		}
		return -1 + (2*float64(i)+1)/d
	}
	t := floatsOf(theta)
	batch, points := theta.Shape[0], product(dims)
	out := make([]float64, 0, batch*points*r)
	for n := range batch {
		for p := range points {
			at := unravel(p, dims)
			for row := range r {
				m := t[(n*r+row)*(r+1) : (n*r+row+1)*(r+1)]
				s := m[r]
				for j := range r { // coordinates are listed last axis first
					s += m[j] * centre(r-1-j, at[r-1-j])
				}
				out = append(out, s)
			}
		}
	}
	shape := append(append([]int{batch}, dims...), r)
	return one(fromFloats(theta.DType, out, shape...)), nil
}

func evalDeformConv(c *ops.Call) ([]*tensor.Tensor, error) {
	x, w, offset, a := c.In[0], c.In[1], c.In[2], c.Node.Attrs
	group, og := int(a.Int("group", 1)), int(a.Int("offset_group", 1))
	r := x.Rank() - 2
	win, err := readWindow(a, r, w.Shape[2:])
	if err != nil {
		return nil, err
	}
	out, err := win.place(x.Shape[2:])
	if err != nil {
		return nil, err
	}
	batch, channels, maps, perGroup := x.Shape[0], x.Shape[1], w.Shape[0], w.Shape[1]
	nk, no, ni := product(win.kernel), product(out), product(x.Shape[2:])
	if group < 1 || og < 1 || perGroup*group != channels || maps%group != 0 || channels%og != 0 || offset.Len() != batch*og*nk*r*no {
		return nil, fmt.Errorf("weight %s and offset %s with group=%d, offset_group=%d do not fit X %s", w.TypeString(), offset.TypeString(), group, og, x.TypeString())
	}
	xv, wv, ov := floatsOf(x), floatsOf(w), floatsOf(offset)
	var mv []float64
	if m := c.Arg(4); m != nil {
		mv = floatsOf(m)
	}
	y := make([]float64, batch*maps*no)
	s := sampler{dims: x.Shape[2:], mode: "linear", padding: "zeros"}
	pos, sampled := make([]float64, r), make([]float64, channels)
	var ws []axisTap
	for n := range batch {
		for k := range nk {
			ki := unravel(k, win.kernel)
			for o := range no {
				oi := unravel(o, out)
				for g := range og {
					for i := range r {
						pos[i] = float64(oi[i]*win.stride[i]+ki[i]*win.dilation[i]-win.begin[i]) + ov[(((n*og+g)*nk+k)*r+i)*no+o]
					}
					ws = s.weights(pos, ws)
					for ch := g * (channels / og); ch < (g+1)*(channels/og); ch++ {
						sum := 0.0
						for _, t := range ws {
							sum += t.w * xv[(n*channels+ch)*ni+t.at]
						}
						if mv != nil {
							sum *= mv[((n*og+g)*nk+k)*no+o]
						}
						sampled[ch] = sum
					}
				}
				for m := range maps {
					first := m / (maps / group) * perGroup
					for ch := range perGroup {
						y[(n*maps+m)*no+o] += wv[(m*perGroup+ch)*nk+k] * sampled[first+ch]
					}
				}
			}
		}
	}
	shape := append([]int{batch, maps}, out...)
	if b := c.Arg(3); b != nil {
		addChannelBias(y, shape, floatsOf(b))
	}
	return one(fromFloats(x.DType, y, shape...)), nil
}
