package gemm

import (
	"fmt"
	"math"
	"runtime"
	"strings"
	"sync"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Format is how a packed B is stored. All keep the panels of 32 columns; in all
// of them a panel is read once, from front to back.
//
//	F32    see the package comment
//	BF16   K is rounded up to groups of 32; a row holds two values of k for each
//	       column, the even one first: panel[k/2][j][k%2], bfloat16
//	Int8   the scale of each column, float32, and then quads of k: panel[k/4][j][k%4],
//	       uint8: 128 + B/scale; K is rounded up to groups of 32
//	Int4   per group of 32 k: the scale of each column, bfloat16, and 4 rows of
//	       [j][4] bytes: row q holds quad q in the low halves of the bytes and quad
//	       q+4 in the high ones, 8 + B/scale
//
// With BF16 the activations are rounded to bfloat16 as well; products are exact
// and sums float32. With Int8 and Int4 groups of 32 activations of a row share a
// scale, max|a|/127, and become int8; the products of a group are summed exactly
// in int32, and groups in float32. A group of activations with a NaN or an
// infinity makes its row of C NaN.
type Format uint8

const (
	F32 Format = iota
	BF16
	Int8
	Int4
	formats // their number
)

var formatNames = [formats]string{"f32", "bf16", "int8", "int4"}

func (f Format) String() string {
	if f < formats {
		return formatNames[f]
	}
	return fmt.Sprintf("format(%d)", uint8(f))
}

// ParseFormat reads the name of a format; "" is f32.
func ParseFormat(s string) (Format, error) {
	for i, n := range formatNames {
		if s == n || s == "" {
			return Format(i), nil
		}
	}
	return F32, fmt.Errorf("weight format %q: expected %s", s, strings.Join(formatNames[:], ", "))
}

const (
	group       = 32 // values of k that share a scale
	groupABytes = 40 // of a group of a row of A: 32 int8, the scale, the start of the sum
	scaleAt     = 32
	startAt     = 36

	int8Zero, int4Zero = 128, 8 // what zero is stored as
	int8Header         = 4 * PanelWidth
	int8Group          = group * PanelWidth
	int4Header         = 2 * PanelWidth // of a group
	int4Group          = int4Header + group*PanelWidth/2
)

// panelBytes is the size of one panel of k rows.
func (f Format) panelBytes(k int) int {
	switch f {
	case BF16:
		return ceilDiv(k, group) * group * 2 * PanelWidth
	case Int8:
		return int8Header + ceilDiv(k, group)*int8Group
	case Int4:
		return ceilDiv(k, group) * int4Group
	}
	return 4 * k * PanelWidth
}

// Size is the number of bytes of a packed B[k,n].
func (f Format) Size(k, n int) int { return panels(n) * f.panelBytes(k) }

// Pack writes B[k,n] to dst, Size(k, n) bytes, in this format. The source is as
// for the function Pack. Numbers that a format cannot hold are an error.
func (f Format) Pack(dst []byte, b []float32, k, n, ldb int, transB bool) error {
	rowStride, colStride := ldb, 1
	if transB {
		rowStride, colStride = 1, ldb
	}
	errs := make([]error, panels(n))
	work := make(chan int, panels(n))
	for p := range panels(n) {
		work <- p
	}
	close(work)
	var wg sync.WaitGroup
	for range min(panels(n), runtime.GOMAXPROCS(0)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			full := make([]float32, k*PanelWidth)
			for p := range work {
				j := p * PanelWidth
				packPanel(full, b[min(j*colStride, len(b)):], k, min(PanelWidth, n-j), rowStride, colStride)
				errs[p] = f.packPanel(dst[p*f.panelBytes(k):][:f.panelBytes(k)], full, k)
			}
		}()
	}
	wg.Wait()
	for p, err := range errs {
		if err != nil {
			return fmt.Errorf("columns %d to %d: %w", p*PanelWidth, min((p+1)*PanelWidth, n)-1, err)
		}
	}
	return nil
}

// packPanel stores a panel given as k rows of 32 floats.
func (f Format) packPanel(dst []byte, src []float32, k int) error {
	for i, v := range src {
		if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
			if f == Int8 || f == Int4 {
				return fmt.Errorf("a weight is %v (row %d, column %d of these), which %s cannot hold: use --weights f32 or bf16", v, i/PanelWidth, i%PanelWidth, f)
			}
		}
	}
	clear(dst)
	if k == 0 {
		return nil
	}
	switch f {
	case BF16:
		for i, v := range src {
			at := (i/PanelWidth/2*PanelWidth+i%PanelWidth)*4 + i/PanelWidth%2*2
			put16(dst[at:], tensor.F32ToBF16(v))
		}
	case Int8:
		for j := range PanelWidth {
			packInt8(dst, src[j:], k, j)
		}
	case Int4:
		for g := range ceilDiv(k, group) {
			for j := range PanelWidth {
				packInt4(dst[g*int4Group:], src[g*group*PanelWidth+j:], min(group, k-g*group), j)
			}
		}
	default:
		for i, v := range src {
			put32(dst[4*i:], math.Float32bits(v))
		}
	}
	return nil
}

// packInt8 stores column j of a panel; column elements are PanelWidth apart.
func packInt8(dst []byte, col []float32, k, j int) {
	most := float32(0)
	for i := range k {
		most = max(most, abs(col[i*PanelWidth]))
	}
	scale := most / 127
	put32(dst[4*j:], math.Float32bits(scale))
	for i := range ceilDiv(k, group) * group {
		q := 0.0
		if i < k && scale > 0 {
			q = min(max(math.RoundToEven(float64(col[i*PanelWidth])/float64(scale)), -127), 127)
		}
		dst[int8Header+(i/4*PanelWidth+j)*4+i%4] = byte(int(q) + int8Zero)
	}
}

func abs(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }

// Column writes the k values of column j of a packed B to dst.
func (f Format) Column(dst []float32, packed []byte, k, j int) {
	panel := packed[j/PanelWidth*f.panelBytes(k):][:f.panelBytes(k)]
	j %= PanelWidth
	switch f {
	case BF16:
		for i := range k {
			dst[i] = tensor.BF16ToF32(get16(panel[(i/2*PanelWidth+j)*4+i%2*2:]))
		}
	case Int8:
		scale := math.Float32frombits(get32(panel[4*j:]))
		for i := range k {
			dst[i] = float32(int(panel[int8Header+(i/4*PanelWidth+j)*4+i%4])-int8Zero) * scale
		}
	case Int4:
		for i := range k {
			g := panel[i/group*int4Group:]
			q := g[int4Header+(i%16/4*PanelWidth+j)*4+i%4] >> (i % group / 16 * 4) & 15
			dst[i] = float32(int(q)-int4Zero) * tensor.BF16ToF32(get16(g[2*j:]))
		}
	default:
		for i := range k {
			dst[i] = math.Float32frombits(get32(panel[(i*PanelWidth+j)*4:]))
		}
	}
}

func put16(b []byte, v uint16) { b[0], b[1] = byte(v), byte(v>>8) }

func get16(b []byte) uint16 { return uint16(b[0]) | uint16(b[1])<<8 }

func put32(b []byte, v uint32) { put16(b, uint16(v)); put16(b[2:], uint16(v>>16)) }

func get32(b []byte) uint32 { return uint32(get16(b)) | uint32(get16(b[2:]))<<16 }
