//go:build amd64 && !purego

package conv2d

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

//go:generate go run -C ../asm . -kernels conv2d/blocks -pkg conv2d -out ../conv2d/blocks_amd64.s -stubs ../conv2d/blocks_amd64.go

// blockCall is a blockTile as the assembly reads it, word by word; distances are bytes.
type blockCall struct {
	src0, src1, pixel        uintptr // the first pixel of both runs
	taps, tapsEnd, unit, w   uintptr
	dst0, dst1               uintptr
	dstPixel, dstBlock, bias uintptr
	residual                 uintptr // from dst to it; 0: none
	clamp                    uintptr
	lo, hi                   float32
	next                     uintptr
}

type blockKernel func(c *byte)

var blockKernels = [2][maxTile + 1]blockKernel{{
	1: block1x1AVX512, 2: block2x1AVX512, 3: block3x1AVX512, 4: block4x1AVX512, 5: block5x1AVX512, 6: block6x1AVX512, 7: block7x1AVX512,
	8: block8x1AVX512, 9: block9x1AVX512, 10: block10x1AVX512, 11: block11x1AVX512, 12: block12x1AVX512, 13: block13x1AVX512, 14: block14x1AVX512,
}, {
	1: block1x2AVX512, 2: block2x2AVX512, 3: block3x2AVX512, 4: block4x2AVX512, 5: block5x2AVX512, 6: block6x2AVX512, 7: block7x2AVX512,
	8: block8x2AVX512, 9: block9x2AVX512, 10: block10x2AVX512, 11: block11x2AVX512, 12: block12x2AVX512, 13: block13x2AVX512, 14: block14x2AVX512,
}}

var blockKernelsAVX2 = [7]blockKernel{1: block1AVX2, 2: block2AVX2, 3: block3AVX2, 4: block4AVX2, 5: block5AVX2, 6: block6AVX2}

// channelKernels are those of depthwise convolutions and of maxima.
var channelKernels = [2][maxTile + 1]blockKernel{{
	1: depth1AVX512, 2: depth2AVX512, 3: depth3AVX512, 4: depth4AVX512, 5: depth5AVX512, 6: depth6AVX512, 7: depth7AVX512,
	8: depth8AVX512, 9: depth9AVX512, 10: depth10AVX512, 11: depth11AVX512, 12: depth12AVX512, 13: depth13AVX512, 14: depth14AVX512,
}, {
	1: most1AVX512, 2: most2AVX512, 3: most3AVX512, 4: most4AVX512, 5: most5AVX512, 6: most6AVX512, 7: most7AVX512,
	8: most8AVX512, 9: most9AVX512, 10: most10AVX512, 11: most11AVX512, 12: most12AVX512, 13: most13AVX512, 14: most14AVX512,
}}

var channelKernelsAVX2 = [2][7]blockKernel{
	{1: depth1AVX2, 2: depth2AVX2, 3: depth3AVX2, 4: depth4AVX2, 5: depth5AVX2, 6: depth6AVX2},
	{1: most1AVX2, 2: most2AVX2, 3: most3AVX2, 4: most4AVX2, 5: most5AVX2, 6: most6AVX2},
}

// tilePixels is how many pixels a tile has at most.
func tilePixels() int {
	switch {
	case isa.Current() >= isa.AVX512:
		return maxTile
	case isa.Current() >= isa.AVX2:
		return 6
	}
	return 4
}

// prepare translates what all tiles of a panel have in common.
func (t *blockTile) prepare(blocks int) {
	_ = t.bias[blocks*Block-1]
	taps := uintptr(unsafe.Pointer(unsafe.SliceData(t.taps)))
	t.asm = blockCall{
		pixel: 4 * uintptr(t.pixel), taps: taps, tapsEnd: taps + 4*uintptr(len(t.taps)), unit: uintptr(t.unit), w: address(t.w),
		dstPixel: 4 * uintptr(t.dstPixel), dstBlock: 4 * uintptr(t.dstBlock), bias: address(t.bias), lo: t.lo, hi: t.hi,
	}
	if t.residual != nil {
		t.asm.residual = address(t.residual) - address(t.dst)
	}
	if t.clamp {
		t.asm.clamp = 1
	}
}

func address(x []float32) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(x))) }

// call translates a tile of n pixels; the assembly checks nothing.
func (t *blockTile) call(n, blocks int) *blockCall {
	c := &t.asm
	for i, r := range [2]int{(n + 1) / 2, n / 2} {
		if r == 0 {
			continue
		}
		first, last := t.to[i], t.to[i]+(r-1)*t.dstPixel+(blocks-1)*t.dstBlock+Block-1
		_, _, _, _ = t.src[t.from[i]], t.src[t.from[i]+(r-1)*t.pixel+t.reach], t.dst[first], t.dst[last]
		if t.residual != nil {
			_ = t.residual[last]
		}
	}
	src, dst := address(t.src), address(t.dst)
	c.src0, c.src1 = src+4*uintptr(t.from[0]), src+4*uintptr(t.from[1])
	c.dst0, c.dst1 = dst+4*uintptr(t.to[0]), dst+4*uintptr(t.to[1])
	c.next = address(t.next)
	return c
}

// product computes n pixels of one or two blocks of output channels.
func (t *blockTile) product(n, blocks int) {
	level := isa.Current()
	if level < isa.AVX2 {
		t.productPortable(n, blocks)
		return
	}
	_ = t.w[len(t.taps)*t.unit*panelWidth-1]
	c := t.call(n, blocks)
	if level >= isa.AVX512 {
		blockKernels[blocks-1][n]((*byte)(unsafe.Pointer(c)))
		return
	}
	w, bias := c.w, c.bias
	for range blocks {
		blockKernelsAVX2[n]((*byte)(unsafe.Pointer(c)))
		c.w, c.bias = c.w+4*Block, c.bias+4*Block
		c.dst0, c.dst1 = c.dst0+c.dstBlock, c.dst1+c.dstBlock
	}
	c.w, c.bias = w, bias
}

// depthwise computes n pixels of one block of channels, each by its own taps.
func (t *blockTile) depthwise(n int) {
	if isa.Current() < isa.AVX2 {
		t.depthwisePortable(n)
		return
	}
	_ = t.w[len(t.taps)*Block-1]
	t.channels(n, 0)
}

// most computes the largest of what the taps see of one block of channels.
func (t *blockTile) most(n int) {
	if isa.Current() < isa.AVX2 {
		t.mostPortable(n)
		return
	}
	t.channels(n, 1)
}

func (t *blockTile) channels(n, kind int) {
	c := t.call(n, 1)
	if isa.Current() >= isa.AVX512 {
		channelKernels[kind][n]((*byte)(unsafe.Pointer(c)))
		return
	}
	channelKernelsAVX2[kind][n]((*byte)(unsafe.Pointer(c)))
}
