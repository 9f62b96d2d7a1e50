package cpu

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Mem is where a value lives in one bound program. The shape is fixed; Raw and
// F32 are set before the steps run and may change from run to run, so a step
// reads them when it runs.
//
// A Mem holds Rows rows of Cols contiguous elements, Stride elements apart.
// Kernels see Stride != Cols only on inputs for which their Rows allows it.
type Mem struct {
	DType              tensor.DType
	Shape              []int
	Rows, Cols, Stride int
	// Blocks: an image whose elements lie as [N, C/16, H, W, 16] (blocks.go).
	Blocks bool
	// Raw covers (Rows-1)*Stride+Cols elements.
	Raw []byte
	// F32 is the same memory, when DType is Float32.
	F32 []float32

	root  *root
	off   int // bytes from the start of the root
	known *tensor.Tensor
}

// Len is the number of elements.
func (m *Mem) Len() int { return m.Rows * m.Cols }

// Dense reports whether the elements follow one another without gaps.
func (m *Mem) Dense() bool { return m.Rows <= 1 || m.Stride == m.Cols }

// Const returns the contents when they are known before the program runs.
func (m *Mem) Const() *tensor.Tensor { return m.known }

// Dim is the length of an axis; negative axes count from the end.
func (m *Mem) Dim(a int) int {
	if a < 0 {
		a += len(m.Shape)
	}
	return m.Shape[a]
}

// View gives the elements as a slice of T, whose size must be the dtype's.
func View[T tensor.Element](m *Mem) []T {
	if len(m.Raw) == 0 {
		return nil
	}
	var z T
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(m.Raw))), len(m.Raw)/int(unsafe.Sizeof(z)))
}

// span is the number of bytes from the first to the last element.
func (m *Mem) span() int {
	if m.Len() == 0 {
		return 0
	}
	return m.DType.Bytes((m.Rows-1)*m.Stride + m.Cols)
}

// whole reports whether m is all of its root, without gaps.
func (m *Mem) whole() bool { return m.off == 0 && m.Dense() && m.span() == m.root.size }

// place sets the memory; base is that of the root.
func (m *Mem) place(base []byte) {
	n := m.span()
	if n == 0 {
		m.Raw, m.F32 = nil, nil
		return
	}
	m.Raw = base[m.off : m.off+n : m.off+n]
	if m.DType == tensor.Float32 {
		m.F32 = View[float32](m)
	}
}

// denseMem makes a Mem without memory.
func denseMem(d tensor.DType, shape []int) *Mem {
	n := product(shape)
	return &Mem{DType: d, Shape: shape, Rows: 1, Cols: n, Stride: n}
}

// constMem makes a Mem on a constant.
func constMem(t *tensor.Tensor) *Mem {
	m := denseMem(t.DType, t.Shape)
	m.known = t
	m.root = &root{kind: inConst, size: len(t.Data)}
	if len(t.Data) >= m.span() { // else: only packed forms are stored
		m.place(t.Data)
	}
	return m
}

// rootKind says who owns a piece of memory.
type rootKind uint8

const (
	inArena  rootKind = iota // the session's arena, at an offset
	inConst                  // read-only
	inInput                  // the caller's, read-only
	inOutput                 // the caller's or the session's, written
	inState                  // the session's state before the run
	inNext                   // the session's state after the run, when it cannot be updated in place
)

// root is one piece of memory, shared by the Mems that view it.
type root struct {
	kind  rootKind
	index int // of the input, output or state pair
	size  int // bytes
	off   int // in the arena
	// first and last step that use it.
	first, last int
	mems        []*Mem
	base        *byte // where the mems were last placed
	placed      bool
}

// place moves the root's Mems to base, if they are not there yet.
func (r *root) place(base []byte) {
	p := unsafe.SliceData(base)
	if r.placed && r.base == p {
		return
	}
	r.base, r.placed = p, true
	for _, m := range r.mems {
		m.place(base)
	}
}

func (r *root) add(m *Mem) { m.root = r; r.mems = append(r.mems, m) }

func product(s []int) int {
	n := 1
	for _, d := range s {
		n *= d
	}
	return n
}

// rawBytes gives the memory of floats as bytes.
func rawBytes(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}

// tooLarge reports whether a shape has more elements than any machine holds.
func tooLarge(shape []int) bool {
	const most = 1 << 38
	n := 1
	for _, d := range shape {
		if d > 0 && n > most/d {
			return true
		}
		n *= d
	}
	return false
}
