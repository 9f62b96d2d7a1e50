package tensor

import (
	"encoding/binary"
	"fmt"
	"io"
	"strings"

	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// WriteNpy writes t as .npy version 1.0 in C order. NumPy has no names for
// some types: bfloat16, float8 and float4 are written as float32, 4- and 2-bit
// integers as 8-bit ones; all of these conversions are exact.
func WriteNpy(w io.Writer, t *Tensor) error {
	if t.DType.IsContainer() || t.DType == Undefined {
		return fmt.Errorf("npy: a %v cannot be written as one array; write its members", t.DType)
	}
	t = forNpy(t)
	descr, data := "", t.Data
	if t.DType == String {
		descr, data = utf32Array(t.Strings)
	} else {
		for k, d := range npyTypes {
			if d == t.DType {
				descr = "<" + k
			}
		}
		if t.DType.Size() == 1 {
			descr = "|" + descr[1:]
		}
	}
	var shape strings.Builder
	for _, d := range t.Shape {
		fmt.Fprintf(&shape, "%d,", d)
	}
	s := shape.String()
	if len(t.Shape) > 1 {
		s = strings.ReplaceAll(strings.TrimSuffix(s, ","), ",", ", ")
	}
	head := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, s)
	pad := 63 - (10+len(head))%64 // the data starts on a multiple of 64
	head += strings.Repeat(" ", pad) + "\n"
	if len(head) > 1<<16-1 {
		return fmt.Errorf("npy: rank %d is too large", len(t.Shape))
	}
	pre := binary.LittleEndian.AppendUint16([]byte(npyMagic+"\x01\x00"), uint16(len(head)))
	if _, err := w.Write(append(pre, head...)); err != nil {
		return err
	}
	_, err := w.Write(data)
	return err
}

// WriteNpyFile writes a .npy file: complete, or not at all.
func WriteNpyFile(path string, t *Tensor) error {
	return wholefile.Write(path, func(w io.Writer) error { return WriteNpy(w, t) })
}

// forNpy converts to the nearest type that NumPy can name.
func forNpy(t *Tensor) *Tensor {
	var to DType
	switch d := t.DType; {
	case d == BFloat16, d.IsFloat() && d.Bits() <= 8:
		to = Float32
	case d == Int4 || d == Int2:
		to = Int8
	case d == Uint4 || d == Uint2:
		to = Uint8
	default:
		return t
	}
	out := New(to, t.Shape...)
	for i := range out.Len() {
		out.SetAt(i, t.At(i))
	}
	return out
}

// utf32Array lays strings out as NumPy's U type.
func utf32Array(ss []string) (descr string, data []byte) {
	width := 1 // NumPy cannot read U0 back
	for _, s := range ss {
		width = max(width, len([]rune(s)))
	}
	for _, s := range ss {
		rs := []rune(s)
		for i := range width {
			var r rune
			if i < len(rs) {
				r = rs[i]
			}
			data = binary.LittleEndian.AppendUint32(data, uint32(r))
		}
	}
	return fmt.Sprintf("<U%d", width), data
}
