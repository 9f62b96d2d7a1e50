package tensor

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The files under testdata/npy are NumPy's own (testdata/make_npy.py): element
// i of the 2x3x4 arrays is 1.5i-7, or 9i modulo the range for unsigned types.
func TestReadNpyFromNumPy(t *testing.T) {
	signed := func(i int) float64 { return 1.5*float64(i) - 7 }
	cases := []struct {
		file string
		d    DType
		at   func(i int) float64
	}{
		{"f2", Float16, signed}, {"f4", Float32, signed}, {"f8", Float64, signed}, {"bf", BFloat16, signed},
		{"i1", Int8, func(i int) float64 { return math.Trunc(signed(i)) }},
		{"i2", Int16, func(i int) float64 { return math.Trunc(signed(i)) }},
		{"i4", Int32, func(i int) float64 { return math.Trunc(signed(i)) }},
		{"i8", Int64, func(i int) float64 { return math.Trunc(signed(i)) }},
		{"u1", Uint8, func(i int) float64 { return float64(9 * i) }}, {"u2", Uint16, func(i int) float64 { return float64(9 * i) }},
		{"u4", Uint32, func(i int) float64 { return float64(9 * i) }}, {"u8", Uint64, func(i int) float64 { return float64(9 * i) }},
		{"fortran", Float32, signed}, {"big", Float32, signed}, {"ver2", Float32, signed}, {"ver3", Float32, signed},
	}
	for _, c := range cases {
		got := load(t, c.file)
		if got.DType != c.d || !slices.Equal(got.Shape, []int{2, 3, 4}) {
			t.Errorf("%s: read %s, want %v[2,3,4]", c.file, got.TypeString(), c.d)
			continue
		}
		for i := range 24 {
			if got.At(i) != c.at(i) {
				t.Errorf("%s: element %d is %v, want %v", c.file, i, got.At(i), c.at(i))
			}
		}
	}
	for _, name := range []string{"c8", "bigc"} {
		c := load(t, name)
		for i, v := range Of[complex64](c) {
			if v != complex(float32(signed(i)), 0) {
				t.Errorf("%s: element %d is %v", name, i, v)
			}
		}
	}
	if c := load(t, "c16"); Of[complex128](c)[3] != -2.5 {
		t.Errorf("c16: element 3 is %v, want -2.5", Of[complex128](c)[3])
	}
	if b := load(t, "b1"); b.TypeString() != "bool[2,3]" || !slices.Equal(b.AsInts(), []int64{1, 0, 1, 0, 1, 0}) {
		t.Errorf("b1: %s %v", b.TypeString(), b.AsInts())
	}
	if s := load(t, "scalar"); s.TypeString() != "float[]" || s.At(0) != 2.5 {
		t.Errorf("scalar: %s", s.TypeString())
	}
	if e := load(t, "empty"); e.TypeString() != "float[0,3]" {
		t.Errorf("empty: %s", e.TypeString())
	}
	if v := load(t, "v1"); v.TypeString() != "double[3]" || v.At(2) != 2 {
		t.Errorf("v1: %s", v.TypeString())
	}
	if u := load(t, "U"); u.TypeString() != "string[2,3]" || !slices.Equal(u.Strings, []string{"héllo", "b", "", "日本", "x\x00y", "zz"}) {
		t.Errorf("U: %s %q", u.TypeString(), u.Strings)
	}
	if s := load(t, "S"); !slices.Equal(s.Strings, []string{"ab", "c"}) {
		t.Errorf("S: %q", s.Strings)
	}
}

func load(t *testing.T, name string) *Tensor {
	t.Helper()
	got, err := ReadNpyFile(filepath.Join("testdata", "npy", name+".npy"))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// Writing what NumPy wrote gives NumPy's bytes, for C-ordered little-endian files.
func TestWriteNpyAsNumPyDoes(t *testing.T) {
	for _, name := range []string{"f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "c8", "c16", "b1", "scalar", "empty", "v1", "U"} {
		want, err := os.ReadFile(filepath.Join("testdata", "npy", name+".npy"))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if err := WriteNpy(&got, load(t, name)); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s: wrote %.130q, NumPy wrote %.130q", name, got.Bytes(), want)
		}
	}
	var got bytes.Buffer
	if err := WriteNpy(&got, load(t, "bf")); err != nil {
		t.Fatal(err)
	}
	if back, err := ReadNpy(&got); err != nil || back.DType != Float32 || back.At(23) != 27.5 {
		t.Errorf("bfloat16 written as float32: %v %v", back, err)
	}
	if err := WriteNpy(&got, Seq()); err == nil {
		t.Error("a sequence was written as one array")
	}
}

func TestNpz(t *testing.T) {
	for _, name := range []string{"st", "de"} {
		ts, names, err := ReadNpz(filepath.Join("testdata", "npy", name+".npz"))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(names, []string{"b", "a"}) || ts["b"].At(23) != 27.5 || ts["a"].TypeString() != "int64[3]" {
			t.Errorf("%s.npz: %v", name, names)
		}
		path := filepath.Join(t.TempDir(), "x.npz")
		if err := WriteNpzFile(path, names, []*Tensor{ts["b"], ts["a"]}); err != nil {
			t.Fatal(err)
		}
		again, order, err := ReadNpz(path)
		if err != nil || !slices.Equal(order, names) || !bytes.Equal(again["b"].Data, ts["b"].Data) {
			t.Errorf("round trip: %v %v", order, err)
		}
	}
	if err := WriteNpz(&bytes.Buffer{}, []string{"a", "a"}, []*Tensor{Ints(1), Ints(2)}); err == nil {
		t.Error("two arrays of one name were written")
	}
}

func npyBytes(header string, data ...byte) []byte {
	b := append([]byte(npyMagic+"\x01\x00"), byte(len(header)), byte(len(header)>>8))
	return append(append(b, header...), data...)
}

func TestNpyErrors(t *testing.T) {
	for _, c := range []struct {
		in   []byte
		want string
	}{
		{[]byte("PK\x03\x04 nothing"), "magic bytes"},
		{[]byte{0x93}, "too short"},
		{[]byte("\x93NUMPY\x09\x00\x01\x00x"), "version 9.0"},
		{[]byte("\x93NUMPY\x02\x00\xff\xff\xff\xff"), "limit"},
		{npyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 1000000), }"), "the file has 0"},
		{npyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }"), "does not fit"},
		{npyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807, 0), }"), "does not fit"},
		{npyBytes("{'descr': '<f4', 'fortran_order': False, 'shape': (-2,), }"), "bad length"},
		{npyBytes("{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2,), }"), "fortran_order"},
		{npyBytes("{'descr': '|O', 'fortran_order': False, 'shape': (2,), }"), "pickled"},
		{npyBytes("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2,), }"), "structured"},
		{npyBytes("{'descr': '<M8[ns]', 'fortran_order': False, 'shape': (2,), }"), "not supported"},
		{npyBytes("{'descr': '<f4', 'shape': (2,), }"), "fortran_order"},
		{npyBytes("{'descr': '<U100000000', 'fortran_order': False, 'shape': (100000000,), }"), "the file has 0"},
		{npyBytes("{'descr': '<U0', 'fortran_order': False, 'shape': (100000000000,), }"), "claims"},
	} {
		_, err := ReadNpy(bytes.NewReader(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.90q: error %v, want one about %q", c.in, err, c.want)
		}
	}
	// Of unknown length: fails at the end of the data, having allocated little.
	var before, after = allocated(), uint64(0)
	in := npyBytes("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,), }", 1, 2, 3)
	_, err := ReadNpy(struct{ *hidden }{&hidden{bytes.NewReader(in)}})
	after = allocated()
	if err == nil || after-before > 16<<20 {
		t.Errorf("error %v after allocating %d bytes", err, after-before)
	}
}

func FuzzReadNpy(f *testing.F) {
	files, _ := filepath.Glob("testdata/npy/*.npy")
	for _, name := range files {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		a, err := ReadNpy(bytes.NewReader(in))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := WriteNpy(&out, a); err != nil {
			t.Fatal(err)
		}
		b, err := ReadNpy(&out)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(a.Shape, b.Shape) || a.DType == b.DType && !bytes.Equal(a.Data, b.Data) {
			t.Fatalf("%s came back as %s", a.TypeString(), b.TypeString())
		}
	})
}
