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
				k := stepShape{rows: rows, width: width, inner: inner, heads: inner / 64, headDim: 64, groups: 1, state: 128, sides: 256 + inner/64, convTaps: 4, convWidth: 4}
				l, ok := k.layout(multiprocessors, limit)
				if !ok || l.shared > limit || l.slots < 8/l.inRows || l.slots < 8/l.outRows {
					t.Errorf("width %d, %d rows, %d multiprocessors: %+v, ok %v", width, rows, multiprocessors, l, ok)
					continue
				}
				for _, part := range []struct {
					first []int
					end   int
				}{{l.unit, inner / stepUnit}, {l.side, k.sides / 8}, {l.out, width / stepUnit}} {
					if !slices.IsSorted(part.first) || part.first[0] != 0 || part.first[l.blocks] != part.end {
						t.Errorf("width %d, %d multiprocessors: %v", width, multiprocessors, part.first)
					}
				}
				whole := (2*inner+k.sides)*width + width*inner
				for c := range l.blocks {
					share := (l.unit[c+1]-l.unit[c])*2*stepUnit*width + (l.side[c+1]-l.side[c])*8*width + (l.out[c+1]-l.out[c])*stepUnit*inner
					if width >= 2048 && share*l.blocks > whole*11/10 {
						t.Errorf("width %d: multiprocessor %d of %d reads %d of %d", width, c, multiprocessors, share, whole)
					}
				}
			}
		}
	}
	wide := stepShape{rows: 1, width: 4096, inner: 8192, heads: 128, headDim: 64, groups: 1, state: 128, convTaps: 4, convWidth: 3}
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

// TestManyBlocks: what blocks of threads tell each other is used again from the third block of a model on; the numbers are those of three
// launches a block, but for roundings.
func TestManyBlocks(t *testing.T) {
	for _, batch := range []int{1, 6} {
		g, states := decodeManyBlocks(t, tensor.BFloat16, blockShape{batch, 64, 8, 32, 1, 64, 3, 0}, 7)
		var s []*session
		for _, blocks := range []string{"on", "off"} {
			e, _ := open(t, g, backends.Target{States: states, Options: map[string]string{"blas": "off", "blocks": blocks}})
			s = append(s, session_(t, e))
		}
		for step := range 3 {
			x := random(uint64(100+step), tensor.BFloat16, batch, 1, 64)
			var got []map[string]*tensor.Tensor
			for _, s := range s {
				y, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": x}, nil)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, y)
			}
			for name := range got[0] {
				if dist, err := distance(wide(got[0][name]), wide(got[1][name])); err != nil || dist > 2e-2 {
					t.Errorf("batch %d, step %d, %s: distance %.2e %v", batch, step, name, dist, err)
				}
			}
		}
		if st := s[0].programs[0].steps; len(st) != 1 || st[0].kernel != "blocks" {
			t.Errorf("%d steps, the first is %q; want one of all blocks", len(st), st[0].kernel)
		}
	}
}
