package conv2d

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// planes says how the input of a convolution lies while it is gathered: per
// channel one plane for each phase of the stride that some tap uses, padding
// written out.
type planes struct {
	direct      bool // the image itself
	rows, pitch int  // of one plane
	phase       [][2]int
	step        int    // the horizontal stride
	lds         int    // between the rows of the image that a plane takes
	moves       []move // what of a channel's planes comes from its image
	edges       []span // and what is padding
}

// move is rows of n elements of the image, step apart, to neighbours in the planes.
type move struct{ dst, src, rows, n int }

type span struct{ at, n int }

func newPlanes(s *Shape) planes {
	var p planes
	size := [2]int{}
	inside := true
	for a := range 2 {
		// What the taps reach, padding included, in steps of the stride.
		reach := (max(s.Out[a], 1)-1)*s.Stride[a] + (s.Kernel[a]-1)*s.Dilation[a] + 1
		size[a] = ceilDiv(reach, s.Stride[a])
		inside = inside && s.Stride[a] == 1 && s.Pad[a] == 0 && reach <= s.In[a]
	}
	if inside {
		p = planes{direct: true, rows: s.In[0], pitch: s.In[1], phase: [][2]int{{0, 0}}}
		p.layout(s)
		return p
	}
	p.rows, p.pitch = size[0], size[1]
	seen := map[[2]int]bool{}
	for ky := range s.Kernel[0] {
		for kx := range s.Kernel[1] {
			f := [2]int{ky * s.Dilation[0] % s.Stride[0], kx * s.Dilation[1] % s.Stride[1]}
			if !seen[f] {
				seen[f] = true
				p.phase = append(p.phase, f)
			}
		}
	}
	p.layout(s)
	return p
}

// channel is the number of elements of one channel's planes.
func (p *planes) channel() int { return len(p.phase) * p.rows * p.pitch }

// at is where tap (ky, kx) of the first channel finds its first pixel.
func (p *planes) at(s *Shape, ky, kx int) int {
	y, x := ky*s.Dilation[0], kx*s.Dilation[1]
	for i, f := range p.phase {
		if f == [2]int{y % s.Stride[0], x % s.Stride[1]} {
			return (i*p.rows+y/s.Stride[0])*p.pitch + x/s.Stride[1]
		}
	}
	panic("conv2d: a tap without its phase")
}

// taps lists where each tap of a group finds its first pixel, channel by channel.
func (p *planes) taps(s *Shape) []int32 {
	list := make([]int32, 0, s.K())
	for c := range s.Cin {
		for ky := range s.Kernel[0] {
			for kx := range s.Kernel[1] {
				list = append(list, int32(c*p.channel()+p.at(s, ky, kx)))
			}
		}
	}
	return list
}

// layout finds the moves and edges of an image.
func (p *planes) layout(s *Shape) {
	p.step, p.lds = s.Stride[1], s.Stride[0]*s.In[1]
	for i, f := range p.phase {
		first := len(p.moves)
		for r := range p.rows {
			at, y := (i*p.rows+r)*p.pitch, r*s.Stride[0]+f[0]-s.Pad[0]
			if y < 0 || y >= s.In[0] {
				p.edges = append(p.edges, span{at, p.pitch})
				continue
			}
			// Columns q of the row with 0 <= q*step+shift < width.
			shift := f[1] - s.Pad[1]
			from := 0
			if shift < 0 {
				from = min(ceilDiv(-shift, p.step), p.pitch)
			}
			to := from
			if s.In[1] > shift {
				to = max(from, min(p.pitch, ceilDiv(s.In[1]-shift, p.step)))
			}
			if from > 0 {
				p.edges = append(p.edges, span{at, from})
			}
			if to == from {
				// nothing but padding
			} else if m := len(p.moves) - 1; m >= first { // the rows of a phase follow one another
				p.moves[m].rows++
			} else {
				p.moves = append(p.moves, move{at + from, y*s.In[1] + from*p.step + shift, 1, to - from})
			}
			if to < p.pitch {
				p.edges = append(p.edges, span{at + to, p.pitch - to})
			}
		}
	}
}

// border writes the padding of one channel's planes.
func border[T float32 | uint8](p *planes, dst []T, padding T) {
	for _, e := range p.edges {
		row := dst[e.at : e.at+e.n]
		for i := range row {
			row[i] = padding
		}
	}
}

// fill writes the planes of one channel from its image.
func (p *planes) fill(dst, src []float32) {
	border(p, dst, 0)
	p.inside(dst, src)
}

// inside writes what one channel's planes take from its image.
func (p *planes) inside(dst, src []float32) {
	for _, m := range p.moves {
		switch p.step {
		case 1:
			copyFloats(dst[m.dst:], p.pitch, src[m.src:], p.lds, m.rows, m.n)
		case 2: // the usual stride
			secondOfRows(dst[m.dst:], p.pitch, src[m.src:], p.lds, m.rows, m.n)
		default:
			strided(dst[m.dst:], p.pitch, src[m.src:], p.lds, m.rows, m.n, p.step)
		}
	}
}

// insideBytes is inside for bytes.
func (p *planes) insideBytes(dst, src []uint8, flip uint8) {
	for _, m := range p.moves {
		switch p.step {
		case 1:
			copyBytes(dst[m.dst:], p.pitch, src[m.src:], p.lds, m.rows, m.n, flip)
		case 2:
			secondBytes(dst[m.dst:], p.pitch, src[m.src:], p.lds, m.rows, m.n, flip)
		default:
			stridedBytes(dst[m.dst:], p.pitch, src[m.src:], p.lds, m.rows, m.n, p.step, flip)
		}
	}
}

// stridedBytes is strided with flip combined by exclusive or.
func stridedBytes(dst []uint8, ldd int, src []uint8, lds, rows, n, step int, flip uint8) {
	strided(dst, ldd, src, lds, rows, n, step)
	for r := range rows {
		row := dst[r*ldd:][:n]
		for i := range row {
			row[i] ^= flip
		}
	}
}

func mostBytesPortable(dst, src []uint8) {
	for i, v := range src {
		dst[i] = max(dst[i], v)
	}
}

// copyFloats copies rows of n elements.
func copyFloats(dst []float32, ldd int, src []float32, lds, rows, n int) {
	copyBytes(bytesOf(dst), 4*ldd, bytesOf(src), 4*lds, rows, 4*n, 0)
}

func bytesOf(x []float32) []uint8 {
	return unsafe.Slice((*uint8)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

func copyBytesPortable(dst []uint8, ldd int, src []uint8, lds, rows, n int, flip uint8) {
	for r := range rows {
		to := dst[r*ldd:][:n]
		copy(to, src[r*lds:])
		for i := range to {
			if flip == 0 {
				break
			}
			to[i] ^= flip
		}
	}
}

// strided writes rows of every step-th element.
func strided[T float32 | uint8](dst []T, ldd int, src []T, lds, rows, n, step int) {
	for r := range rows {
		row, line := dst[r*ldd:][:n], src[r*lds:]
		for q := range row {
			row[q] = line[q*step]
		}
	}
}

// panel is up to 32 neighbouring output pixels: runs of them that lie in one row.
type panel struct{ runs []run }

// run takes n pixels from element from (of a tap whose first pixel is at 0) to
// columns at, at+1, ...
type run struct{ at, from, n int }

func (p *planes) panels(s *Shape) []panel {
	pixels := s.Out[0] * s.Out[1]
	list := make([]panel, ceilDiv(pixels, panelWidth))
	for i := range list {
		for j := i * panelWidth; j < min((i+1)*panelWidth, pixels); {
			y, x := j/s.Out[1], j%s.Out[1]
			n := min(s.Out[1]-x, min((i+1)*panelWidth, pixels)-j)
			from := y*p.pitch + x
			if runs := list[i].runs; len(runs) > 0 && runs[len(runs)-1].from+runs[len(runs)-1].n == from {
				runs[len(runs)-1].n += n
			} else {
				list[i].runs = append(runs, run{j - i*panelWidth, from, n})
			}
			j += n
		}
	}
	return list
}

// gather writes the rows of P for the taps, 32 columns each. Columns beyond the
// last pixel keep what was there: their results are dropped.
func (p *panel) gather(dst, src []float32, taps []int32) {
	if len(p.runs) == 1 && p.runs[0].n == panelWidth {
		from := p.runs[0].from
		for t, base := range taps {
			*(*[panelWidth]float32)(dst[t*panelWidth:]) = *(*[panelWidth]float32)(src[int(base)+from:])
		}
		return
	}
	gatherRuns(dst, src, taps, p.runs)
}

func gatherRuns(dst, src []float32, taps []int32, runs []run) {
	for t, base := range taps {
		row := (*[panelWidth]float32)(dst[t*panelWidth:])
		for _, r := range runs {
			copy(row[r.at:r.at+r.n], src[int(base)+r.from:])
		}
	}
}

// finish adds the residual to rows of n elements, ld apart from element at of Y
// on, and applies the activation.
func (a *Args) finish(at, ld, rows, n int) {
	if a.Residual == nil && a.Act == nil && a.Clamp {
		clampRows(a.Y[at:], ld, rows, n, a.Lo, a.Hi)
		return
	}
	if a.Residual == nil && a.Act == nil {
		return
	}
	for i := range rows {
		row := a.Y[at+i*ld:][:n]
		if a.Residual != nil {
			vec.Add(row, row, a.Residual[at+i*ld:][:n])
		}
		if a.Act != nil {
			a.Act(row)
		}
		if a.Clamp {
			vec.Clamp(row, row, a.Lo, a.Hi)
		}
	}
}

func biasRowsPortable(dst, bias []float32) {
	for i, v := range bias {
		vec.Fill(dst[i*panelWidth:][:panelWidth], v)
	}
}

func clampRowsPortable(x []float32, ldx, rows, n int, lo, hi float32) {
	for i := range rows {
		row := x[i*ldx:][:n]
		vec.Clamp(row, row, lo, hi)
	}
}
