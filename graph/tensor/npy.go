package tensor

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"os"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The .npy format: magic, version, a Python dict literal with the element type
// ("descr"), the order and the shape, then the elements (numpy.lib.format,
// versions 1.0 to 3.0).
const npyMagic = "\x93NUMPY"

// maxNpyHeader bounds the header; NumPy's own are a few hundred bytes.
const maxNpyHeader = 1 << 16

// npyTypes maps descr without the byte-order mark. V2 is how NumPy names the
// two-byte elements of ml_dtypes.bfloat16.
var npyTypes = map[string]DType{
	"f2": Float16, "f4": Float32, "f8": Float64, "c8": Complex64, "c16": Complex128, "b1": Bool, "V2": BFloat16,
	"i1": Int8, "i2": Int16, "i4": Int32, "i8": Int64, "u1": Uint8, "u2": Uint16, "u4": Uint32, "u8": Uint64,
}

// ReadNpy reads one array. Fortran order and big-endian elements are converted;
// fixed-width strings (U, S) become a String tensor. Memory grows with the data
// that arrives, not with what the header claims.
func ReadNpy(r io.Reader) (*Tensor, error) {
	h, err := readNpyHeader(r)
	if err != nil {
		return nil, fmt.Errorf("npy: %w", err)
	}
	n, err := elements(h.shape)
	if err != nil {
		return nil, fmt.Errorf("npy: %w", err)
	}
	hi, size := bits.Mul64(uint64(n), uint64(h.width))
	if hi != 0 || size > 1<<62 {
		return nil, fmt.Errorf("npy: shape %v of %s does not fit in memory", h.shape, h.descr)
	}
	if left, known := remaining(r); known && int64(size) > left {
		return nil, fmt.Errorf("npy: shape %v of %s needs %d bytes, the file has %d", h.shape, h.descr, size, left)
	}
	if h.width == 0 && n > 1<<20 {
		return nil, fmt.Errorf("npy: shape %v of %s claims %d elements of no bytes", h.shape, h.descr, n)
	}
	data, err := readAligned(r, int(size))
	if err != nil {
		return nil, fmt.Errorf("npy: shape %v of %s needs %d bytes: %w", h.shape, h.descr, size, err)
	}
	t := &Tensor{DType: h.dtype, Shape: h.shape}
	if h.swap {
		swapBytes(data, h.word)
	}
	if h.fortran && len(h.shape) > 1 && n > 1 {
		data = fromFortran(data, h.shape, h.width)
	}
	if h.dtype != String {
		t.Data = data
		if h.dtype == Bool {
			for i, b := range data {
				data[i] = min(b, 1) // any other pattern is not a Go bool
			}
		}
		return t, nil
	}
	t.Strings = make([]string, n)
	for i := range t.Strings {
		t.Strings[i] = fixedString(data[i*h.width:(i+1)*h.width], h.word == 4)
	}
	return t, nil
}

// ReadNpyFile reads a .npy file.
func ReadNpyFile(path string) (*Tensor, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	t, err := ReadNpy(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

type npyHeader struct {
	descr   string
	dtype   DType
	width   int // bytes per element
	word    int // bytes per unit of byte order
	swap    bool
	fortran bool
	shape   []int
}

func readNpyHeader(r io.Reader) (*npyHeader, error) {
	var pre [12]byte
	if _, err := io.ReadFull(r, pre[:10]); err != nil {
		return nil, fmt.Errorf("too short for a header: %w", err)
	}
	if string(pre[:6]) != npyMagic {
		return nil, fmt.Errorf("starts with %q, not with the magic bytes of a .npy file", pre[:6])
	}
	n := int64(binary.LittleEndian.Uint16(pre[8:]))
	switch pre[6] {
	case 1:
	case 2, 3:
		if _, err := io.ReadFull(r, pre[10:12]); err != nil {
			return nil, fmt.Errorf("header cut short: %w", err)
		}
		n = int64(binary.LittleEndian.Uint32(pre[8:]))
	default:
		return nil, fmt.Errorf("format version %d.%d is not known (1.0 to 3.0 are)", pre[6], pre[7])
	}
	if n > maxNpyHeader {
		return nil, fmt.Errorf("header of %d bytes, the limit is %d", n, maxNpyHeader)
	}
	text := make([]byte, n)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, fmt.Errorf("header cut short: %w", err)
	}
	h, err := parseNpyHeader(string(text))
	if err != nil {
		return nil, fmt.Errorf("header %.120q: %w", text, err)
	}
	return h, nil
}

func parseNpyHeader(s string) (*npyHeader, error) {
	descr, err := headerField(s, "descr")
	if err != nil {
		return nil, err
	}
	order, err := headerField(s, "fortran_order")
	if err != nil {
		return nil, err
	}
	shape, err := headerField(s, "shape")
	if err != nil {
		return nil, err
	}
	h := &npyHeader{fortran: order == "True", shape: []int{}}
	if order != "True" && order != "False" {
		return nil, fmt.Errorf("fortran_order is %q", order)
	}
	for _, d := range strings.Split(strings.Trim(shape, "()"), ",") {
		if d = strings.TrimSuffix(strings.TrimSpace(d), "L"); d == "" {
			continue
		}
		n, err := strconv.Atoi(d)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("bad length %q in the shape", d)
		}
		if h.shape = append(h.shape, n); len(h.shape) > 64 { // NumPy's own limit
			return nil, fmt.Errorf("more than 64 axes")
		}
	}
	return h, h.setDescr(descr)
}

// headerField returns the text of a field of the dict: a quoted string without
// its quotes, a parenthesised tuple with its parentheses, or a bare word.
func headerField(s, name string) (string, error) {
	i := strings.Index(s, "'"+name+"'")
	if i < 0 {
		return "", fmt.Errorf("no field %q", name)
	}
	v := strings.TrimLeft(s[i+len(name)+2:], " ")
	if !strings.HasPrefix(v, ":") {
		return "", fmt.Errorf("no value for %q", name)
	}
	v = strings.TrimLeft(v[1:], " ")
	stop, skip := ",}", 0
	switch {
	case strings.HasPrefix(v, "["):
		return "", fmt.Errorf("structured element types are not supported; save one array per field")
	case strings.HasPrefix(v, "'"):
		stop, skip = "'", 1
	case strings.HasPrefix(v, "("):
		stop = ")"
	}
	end := strings.IndexAny(v[skip:], stop)
	if end < 0 {
		return "", fmt.Errorf("no end of the value of %q", name)
	}
	return strings.TrimSpace(v[skip : skip+end]), nil
}

func (h *npyHeader) setDescr(descr string) error {
	h.descr = descr
	kind := strings.TrimLeft(descr, "<>|=")
	h.swap = strings.HasPrefix(descr, ">")
	if d, ok := npyTypes[kind]; ok {
		h.dtype, h.width, h.word = d, d.Size(), d.Size()
		if d == Complex64 || d == Complex128 {
			h.word /= 2
		}
		return nil
	}
	if kind == "O" {
		return fmt.Errorf("the array holds pickled Python objects; save it with a numeric dtype")
	}
	if len(kind) > 1 && (kind[0] == 'U' || kind[0] == 'S') {
		n, err := strconv.Atoi(kind[1:])
		if err == nil && n >= 0 && n < 1<<28 {
			h.dtype, h.word = String, 1
			if kind[0] == 'U' {
				h.word = 4
			}
			h.width = n * h.word
			return nil
		}
	}
	return fmt.Errorf("element type %q is not supported", descr)
}

// elements multiplies a shape, refusing products that do not fit. Zero axes do
// not hide oversized ones.
func elements(shape []int) (int, error) {
	n, zero := uint64(1), false
	for _, d := range shape {
		if d == 0 {
			zero = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > 1<<48 {
			return 0, fmt.Errorf("shape %v does not fit in memory", shape)
		}
		n = lo
	}
	if zero {
		return 0, nil
	}
	return int(n), nil
}

// remaining is the number of bytes left in r, where that can be known.
func remaining(r io.Reader) (int64, bool) {
	switch r := r.(type) {
	case interface{ Len() int }:
		return int64(r.Len()), true
	case *os.File:
		info, err := r.Stat()
		if err != nil || !info.Mode().IsRegular() {
			return 0, false
		}
		pos, err := r.Seek(0, io.SeekCurrent)
		return info.Size() - pos, err == nil
	}
	return 0, false
}

// readAligned reads n bytes into aligned memory. When the length of r is not
// known it starts small and doubles, so that a false claim costs little.
func readAligned(r io.Reader, n int) ([]byte, error) {
	size := n
	if _, known := remaining(r); !known {
		size = min(n, 1<<20)
	}
	buf := AlignedBytes(size)
	for have := 0; ; {
		m, err := io.ReadFull(r, buf[have:])
		if have += m; err != nil {
			return nil, fmt.Errorf("the data ends after %d: %w", have, err)
		}
		if have == n {
			return buf, nil
		}
		grown := AlignedBytes(min(n, 2*have))
		copy(grown, buf)
		buf = grown
	}
}

func swapBytes(data []byte, word int) {
	if word > 1 {
		for i := 0; i+word <= len(data); i += word {
			slices.Reverse(data[i : i+word])
		}
	}
}

// fromFortran copies first-axis-fastest data into row-major order.
func fromFortran(src []byte, shape []int, width int) []byte {
	dst := AlignedBytes(len(src))
	stride := make([]int, len(shape)) // of src, in elements
	step := 1
	for i, d := range shape {
		stride[i] = step
		step *= d
	}
	idx, from := make([]int, len(shape)), 0
	for to := 0; to < len(dst); to += width {
		copy(dst[to:to+width], src[from*width:])
		for a := len(shape) - 1; a >= 0; a-- {
			idx[a]++
			from += stride[a]
			if idx[a] < shape[a] {
				break
			}
			from -= idx[a] * stride[a]
			idx[a] = 0
		}
	}
	return dst
}

// fixedString decodes one element: UTF-32 (U) or bytes (S), NUL-padded.
func fixedString(b []byte, utf32 bool) string {
	if !utf32 {
		return string(bytes.TrimRight(b, "\x00"))
	}
	var out []byte
	for i := 0; i+4 <= len(b); i += 4 {
		out = utf8.AppendRune(out, rune(binary.LittleEndian.Uint32(b[i:])))
	}
	return string(bytes.TrimRight(out, "\x00"))
}
