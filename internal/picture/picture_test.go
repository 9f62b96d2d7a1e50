package picture

import (
	"bytes"
	"image"
	"image/color"
	"image/jpeg"
	"image/png"
	"os"
	"testing"
)

func sample() *image.RGBA {
	m := image.NewRGBA(image.Rect(0, 0, 5, 3))
	for y := range 3 {
		for x := range 5 {
			m.Set(x, y, color.RGBA{uint8(50 * x), uint8(80 * y), uint8(20*x + 10*y), 255})
		}
	}
	return m
}

func TestFormats(t *testing.T) {
	want := sample()
	var pn bytes.Buffer
	if err := png.Encode(&pn, want); err != nil {
		t.Fatal(err)
	}
	ppm := []byte("P6\n# made here\n5 3\n255\n")
	bmp := append([]byte("BM\x00\x00\x00\x00\x00\x00\x00\x00\x36\x00\x00\x00\x28\x00\x00\x00\x05\x00\x00\x00\x03\x00\x00\x00\x01\x00\x18\x00"), make([]byte, 24)...)
	for y := range 3 {
		for x := range 5 {
			c := want.RGBAAt(x, y)
			ppm = append(ppm, c.R, c.G, c.B)
			b := want.RGBAAt(x, 2-y)
			bmp = append(bmp, b.B, b.G, b.R)
		}
		bmp = append(bmp, 0)
	}
	for name, data := range map[string][]byte{"png": pn.Bytes(), "ppm": ppm, "bmp": bmp} {
		got, err := Decode(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i := range 15 {
			c := want.RGBAAt(i%5, i/5)
			if !bytes.Equal(got.Pix[3*i:3*i+3], []byte{c.R, c.G, c.B}) {
				t.Errorf("%s: pixel %d is %v, want %v", name, i, got.Pix[3*i:3*i+3], c)
			}
		}
	}
	if p, err := Decode([]byte("P1 2 2\n10\n01\n")); err != nil || !bytes.Equal(p.Luma(), []byte{0, 255, 255, 0}) {
		t.Errorf("bit map: %v, %v", p, err)
	}
}

// TestWebP: lossy and lossless, to the bit as libwebp decodes them (by Pillow, to the
// portable maps beside them).
func TestWebP(t *testing.T) {
	for _, name := range []string{"lossy", "lossless"} {
		var p [2]*RGB
		for i, suffix := range []string{".webp", ".ppm"} {
			b, err := os.ReadFile("testdata/" + name + suffix)
			if err != nil {
				t.Fatal(err)
			}
			if p[i], err = Decode(b); err != nil {
				t.Fatalf("%s%s: %v", name, suffix, err)
			}
		}
		if p[0].W != p[1].W || p[0].H != p[1].H || !bytes.Equal(p[0].Pix, p[1].Pix) {
			t.Errorf("%s: other pixels", name)
		}
	}
}

// FuzzDecode: any bytes end as an image or an error.
func FuzzDecode(f *testing.F) {
	var pn, jp bytes.Buffer
	if png.Encode(&pn, sample()) != nil || jpeg.Encode(&jp, sample(), nil) != nil {
		f.Fatal("cannot encode")
	}
	for _, s := range [][]byte{pn.Bytes(), jp.Bytes(), []byte("P3 1 1 9 1 2 3"), []byte("P4 9 1\n\xaa\x80"), []byte("BM"), []byte("II*\x00\x08\x00\x00\x00\x00\x00")} {
		f.Add(s)
	}
	for _, name := range []string{"lossy.webp", "lossless.webp"} {
		b, err := os.ReadFile("testdata/" + name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := Decode(b)
		if err == nil && len(p.Pix) != 3*p.W*p.H {
			t.Errorf("%d by %d with %d bytes", p.W, p.H, len(p.Pix))
		}
	})
}
