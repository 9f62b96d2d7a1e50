package conv2d

// Images in blocks of channels: X[N, C/16, H, W, 16]. What one pixel's 16 channels
// hold is a vector, so any number of neighbouring pixels makes a tile without a
// rest, a stride is a distance like another, and results are stored as they are.

const (
	// Block is the number of channels in a block.
	Block = 16
	// PanelWidth is the number of output channels in a panel of the weight.
	PanelWidth = panelWidth
)

// maxTile is the most pixels that a kernel takes.
const maxTile = 14

// blockTile is what the kernels compute: up to maxTile pixels, in two runs of
// neighbours, of one or two blocks of output channels,
//
//	dst[pixel, m] = limits(bias[m] + sum_t sum_u w[t*unit+u, m] * src[pixel + taps[t] + u] + residual[pixel, m])
//
// The first run has one pixel more where the number is odd.
type blockTile struct {
	src   []float32
	from  [2]int // where the runs' first pixels are
	pixel int    // elements between neighbours
	taps  []int32
	unit  int       // elements that follow each tap, one after another
	reach int       // the largest tap, and what follows it
	w     []float32 // rows of 32 output channels; of a depthwise convolution, rows of 16

	dst                []float32
	to                 [2]int
	dstPixel, dstBlock int
	bias               []float32 // of all channels
	residual           []float32 // lies as dst does; nil: none
	clamp              bool
	lo, hi             float32
	next               []float32 // weights that are needed soon

	asm blockCall // what prepare makes of it
}

// each calls f for every pixel.
func (t *blockTile) each(n int, f func(from, to int)) {
	for i := range n {
		run, q := 0, i
		if first := (n + 1) / 2; i >= first {
			run, q = 1, i-first
		}
		f(t.from[run]+q*t.pixel, t.to[run]+q*t.dstPixel)
	}
}

func (t *blockTile) productPortable(n, blocks int) {
	t.each(n, func(from, to int) {
		var sums [2 * Block]float32
		copy(sums[:blocks*Block], t.bias)
		w := t.w
		for _, tap := range t.taps {
			for _, x := range t.src[from+int(tap):][:t.unit] {
				row := (*[2 * Block]float32)(w)
				for j, v := range row[:blocks*Block] {
					sums[j] += x * v
				}
				w = w[2*Block:]
			}
		}
		for b := range blocks {
			t.store(to+b*t.dstBlock, (*[Block]float32)(sums[b*Block:]))
		}
	})
}

func (t *blockTile) depthwisePortable(n int) {
	t.each(n, func(from, to int) {
		sums := *(*[Block]float32)(t.bias)
		for i, tap := range t.taps {
			w := (*[Block]float32)(t.w[i*Block:])
			for j, x := range (*[Block]float32)(t.src[from+int(tap):]) {
				sums[j] += x * w[j]
			}
		}
		t.store(to, &sums)
	})
}

func (t *blockTile) mostPortable(n int) {
	t.each(n, func(from, to int) {
		top := *(*[Block]float32)(t.bias)
		for _, tap := range t.taps {
			for j, x := range (*[Block]float32)(t.src[from+int(tap):]) {
				top[j] = max(top[j], x)
			}
		}
		t.store(to, &top)
	})
}

// store finishes the channels of one block of a pixel.
func (t *blockTile) store(to int, sums *[Block]float32) {
	if t.residual != nil {
		for j, x := range (*[Block]float32)(t.residual[to:]) {
			sums[j] += x
		}
	}
	if t.clamp {
		for j, v := range sums {
			if v < t.lo { // NaN stays
				sums[j] = t.lo
			} else if v > t.hi {
				sums[j] = t.hi
			}
		}
	}
	*(*[Block]float32)(t.dst[to:]) = *sums
}

// tiling divides the pixels of an image into tiles: pieces of a row, or two short rows
// at a time.
type tiling struct {
	width, height  int // of the rows
	pieces         int // of a row; 1 for pairs
	pair           bool
	pixel, row     int // distances in the source
	dstPixel, line int // and of pixels and rows in the result
}

// newTiling divides width x height pixels.
func newTiling(width, height, pixel, row, dstPixel int) tiling {
	t := tiling{width: width, height: height, pixel: pixel, row: row, dstPixel: dstPixel, line: width * dstPixel}
	if row == width*pixel { // one row follows another
		t.width, t.height = width*height, 1
	}
	most := tilePixels()
	t.pair = t.height > 1 && t.width <= most/2
	t.pieces = max(1, ceilDiv(t.width, most))
	return t
}

// count is the number of tiles.
func (t *tiling) count() int {
	if t.pair {
		return ceilDiv(t.height, 2)
	}
	return t.height * t.pieces
}

// begin is the first pixel of a tile, counted along the rows.
func (t *tiling) begin(i int) int {
	if t.pair {
		return min(2*i, t.height) * t.width
	}
	return i/t.pieces*t.width + i%t.pieces*t.width/t.pieces
}

// place says which pixels tile i has, src and dst from its image's first on.
func (t *tiling) place(b *blockTile, i, src, dst int) (n int) {
	if t.pair {
		y := 2 * i
		b.from[0], b.to[0] = src+y*t.row, dst+y*t.line
		if y+1 < t.height {
			b.from[1], b.to[1] = b.from[0]+t.row, b.to[0]+t.line
			return 2 * t.width
		}
		// A row alone is halved.
		half := (t.width + 1) / 2
		b.from[1], b.to[1] = b.from[0]+half*t.pixel, b.to[0]+half*t.dstPixel
		return t.width
	}
	y, p := i/t.pieces, i%t.pieces
	x := p * t.width / t.pieces
	n = (p+1)*t.width/t.pieces - x
	b.from[0], b.to[0] = src+y*t.row+x*t.pixel, dst+y*t.line+x*t.dstPixel
	half := (n + 1) / 2
	b.from[1], b.to[1] = b.from[0]+half*t.pixel, b.to[0]+half*t.dstPixel
	return n
}
