package gemm

import (
	"math"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

var portableBF16 = kernels{rows: 2, byRows: [maxRows + 1]kernel{1: portableBF16Rows1, 2: portableBF16Rows2}}

func portableBF16Rows1(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	portableBF16Rows(1, k, a, lda, b, c, ldc, d, ldd, alpha)
}

func portableBF16Rows2(k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	portableBF16Rows(2, k, a, lda, b, c, ldc, d, ldd, alpha)
}

// portableBF16Rows adds the odd value of k of each pair first, as VDPBF16PS does.
func portableBF16Rows(m, k int, a []float32, lda int, b, c []float32, ldc int, d []float32, ldd int, alpha float32) {
	const upper = 0xffff0000
	words := view[uint32](b)
	for i := range m {
		var sums [PanelWidth]float32
		for p, x := range view[uint32](a[min(i*lda, len(a)):][:k]) {
			odd, even := math.Float32frombits(x&upper), math.Float32frombits(x<<16)
			for j, w := range (*[PanelWidth]uint32)(words[p*PanelWidth:]) {
				s := sums[j] + float32(odd*math.Float32frombits(w&upper))
				sums[j] = s + float32(even*math.Float32frombits(w<<16))
			}
		}
		portableStore(&sums, c[i*ldc:], d, i*ldd, alpha)
	}
}

func portableStore(sums *[PanelWidth]float32, c, d []float32, at int, alpha float32) {
	for j, s := range sums {
		s *= alpha
		if d != nil {
			s += d[at+j]
		}
		c[j] = s
	}
}

var portableQuant = quantKernels{
	rows:     1,
	int8:     [maxQuantRows + 1]quantKernel{1: portableInt8},
	int4:     [maxQuantRows + 1]quantKernel{1: portableInt4},
	quantize: quantizePortable,
}

// quantizePortable writes the groups of src, whole ones, to dst: for each the
// rounded values, the scale and what the sum of products with stored weights
// starts from, since those stand zero too high.
func quantizePortable(dst []byte, src []float32, zero int32) {
	for len(src) > 0 {
		most, poison := float32(0), float32(0)
		for _, v := range src[:group] {
			most = max(most, abs(v))
			poison += v * 0 // NaN for a NaN or an infinity
		}
		scale, inv := most/127, 127/most
		if most < 0x1p-100 {
			scale, inv = 0, 0
		}
		sum := int32(0)
		for i, v := range src[:group] {
			q := int32(0)
			if poison == 0 {
				q = int32(math.RoundToEven(float64(v * inv)))
			}
			dst[i] = byte(q)
			sum += q
		}
		put32(dst[scaleAt:], math.Float32bits(scale+poison))
		put32(dst[startAt:], uint32(-zero*sum))
		dst, src = dst[groupABytes:], src[group:]
	}
}

func portableInt8(groups int, a []byte, _ int, b []byte, s, c []float32, _ int, d []float32, _ int, alpha float32) {
	var sums [PanelWidth]float32
	for g := range groups {
		ag, bg := a[g*groupABytes:][:groupABytes], b[g*int8Group:][:int8Group]
		scale, start := math.Float32frombits(get32(ag[scaleAt:])), int32(get32(ag[startAt:]))
		for j := range PanelWidth {
			n := start
			for i := range group {
				n += int32(int8(ag[i])) * int32(bg[(i/4*PanelWidth+j)*4+i%4])
			}
			sums[j] += float32(float32(n) * scale)
		}
	}
	for j := range sums {
		sums[j] *= s[j] * alpha
	}
	portableStore(&sums, c, d, 0, 1)
}

func portableInt4(groups int, a []byte, _ int, b []byte, _, c []float32, _ int, d []float32, _ int, alpha float32) {
	var sums [PanelWidth]float32
	for g := range groups {
		ag, bg := a[g*groupABytes:][:groupABytes], b[g*int4Group:][:int4Group]
		scale, start := math.Float32frombits(get32(ag[scaleAt:])), int32(get32(ag[startAt:]))
		for j := range PanelWidth {
			n := start
			for i := range group / 2 {
				w := int32(bg[int4Header+(i/4*PanelWidth+j)*4+i%4])
				n += int32(int8(ag[i]))*(w&15) + int32(int8(ag[i+group/2]))*(w>>4)
			}
			sums[j] += float32(float32(n) * float32(tensor.BF16ToF32(get16(bg[2*j:]))*scale))
		}
	}
	portableStore(&sums, c, d, 0, alpha)
}
