package cuda

import (
	"context"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// TestStepLayout: real models on real devices. Slices cover the matrices and weigh alike, everything fits, and the ring holds a group of rows.
func TestStepLayout(t *testing.T) {
	const limit = 227 << 10
	for _, width := range []int{768, 1024, 1536, 2048, 2560} {
		for _, rows := range []int{1, 5, 8} {
			for _, multiprocessors := range []int{114, 132, 148} {
				inner := 2 * width
				k := stepShape{rows: rows, width: width, columns: 2*inner + 256 + inner/64, inner: inner, heads: inner / 64, headDim: 64, groups: 1, state: 128, convTaps: 4, convWidth: 4}
				l, ok := k.layout(multiprocessors, limit)
				if !ok || l.shared > limit || l.slots < 8/l.inRows || l.slots < 8/l.outRows {
					t.Errorf("width %d, %d rows, %d multiprocessors: %+v, ok %v", width, rows, multiprocessors, l, ok)
					continue
				}
				last := multiprocessors
				if !slices.IsSorted(l.firstIn) || !slices.IsSorted(l.firstOut) || l.firstIn[0] != 0 || l.firstOut[0] != 0 || l.firstIn[last] != k.columns/8 || l.firstOut[last] != width/8 {
					t.Errorf("width %d, %d multiprocessors: in %v, out %v", width, multiprocessors, l.firstIn, l.firstOut)
				}
				whole := k.columns/8*width + width/8*inner
				for c := range last {
					if share := (l.firstIn[c+1]-l.firstIn[c])*width + (l.firstOut[c+1]-l.firstOut[c])*inner; width >= 2048 && share*multiprocessors > whole*11/10 {
						t.Errorf("width %d: multiprocessor %d of %d reads %d of %d", width, c, multiprocessors, share, whole)
					}
				}
			}
		}
	}
	wide := stepShape{rows: 1, width: 4096, columns: 16800, inner: 8192, heads: 128, headDim: 64, groups: 1, state: 128, convTaps: 4, convWidth: 3}
	if _, ok := wide.layout(132, limit); ok {
		t.Error("rows of 8192 are beyond the registers of the kernel")
	}
}

// TestBlocksOff: on request every part of a block stays a launch.
func TestBlocksOff(t *testing.T) {
	g, states := decodeBlocks(t, tensor.BFloat16, blockShape{1, 128, 8, 32, 1, 128, 3, 0})
	e, _ := open(t, g, backends.Target{States: states, Options: map[string]string{"blas": "off", "blocks": "off"}})
	s := session_(t, e)
	if _, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": random(1, tensor.BFloat16, 1, 1, 128)}, nil); err != nil {
		t.Fatal(err)
	}
	for _, st := range s.programs[0].steps {
		if st.kernel == "blocks" {
			t.Error("blocks were joined")
		}
	}
}

// TestBitsLayout: the same with matrices in fewer bits, a tile of which fits the ring.
func TestBitsLayout(t *testing.T) {
	const limit = 227 << 10
	for _, width := range []int{768, 1024, 1536, 2048, 2560} {
		for _, rows := range []int{1, 5, 8} {
			for _, size := range []int{1024, 512 + 64, 512 + 128} {
				inner, bits := 2*width, 4
				if size == 1024 {
					bits = 8
				}
				k := bitsShape{rows: rows, width: width, columns: 2*inner + 256 + inner/64, inner: inner, heads: inner / 64, headDim: 64, groups: 1, state: 128, convTaps: 4, convWidth: 4, bits: bits, size: size}
				for _, multiprocessors := range []int{114, 132, 148} {
					l, ok := k.layout(multiprocessors, limit)
					last := multiprocessors
					switch {
					case !ok || l.shared > limit || l.slot < l.inPart*size || l.slot < l.outPart*size || l.inPart < min(8, width/64) || l.outPart < min(8, inner/64):
						t.Errorf("width %d, %d rows, %d multiprocessors, blocks of %d: %+v, ok %v", width, rows, multiprocessors, size, l, ok)
					case !slices.IsSorted(l.firstIn) || !slices.IsSorted(l.firstOut) || l.firstIn[0] != 0 || l.firstOut[0] != 0 || l.firstIn[last] != ceilDiv(k.columns, 16) || l.firstOut[last] != width/16:
						t.Errorf("width %d, %d multiprocessors: in %v, out %v", width, multiprocessors, l.firstIn, l.firstOut)
					}
				}
			}
		}
	}
}
