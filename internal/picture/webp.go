package picture

import (
	"bytes"
	"image"

	"golang.org/x/image/webp"
)

// decodeWebP reads WebP. Lossy ones are turned to RGB as libwebp does, which
// ImageDecoder's samples come from: colours are interpolated between the four
// nearest samples, and converted in 14 fractional bits.
func decodeWebP(b []byte) (*RGB, error) {
	c, err := webp.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	out, err := newRGB(c.Width, c.Height)
	if err != nil {
		return nil, err
	}
	m, err := webp.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if err := out.sameSize(m); err != nil {
		return nil, err
	}
	switch m := m.(type) {
	case *image.YCbCr:
		out.fromWebP(m)
	case *image.NYCbCrA:
		out.fromWebP(&m.YCbCr)
	case *image.NRGBA:
		for y := range out.H {
			for x := range out.W {
				p := m.Pix[y*m.Stride+4*x:]
				out.set(x, y, p[0], p[1], p[2])
			}
		}
	default:
		out.fromImage(m)
	}
	return out, nil
}

func (out *RGB) fromWebP(m *image.YCbCr) {
	w, h := (out.W+1)/2, (out.H+1)/2
	for y := range out.H {
		cy := y / 2
		ny := min(max(cy-1+2*(y%2), 0), h-1)
		for x := range out.W {
			cx := x / 2
			nx := min(max(cx-1+2*(x%2), 0), w-1)
			chroma := func(pix []byte) int {
				at := func(x, y int) int { return int(pix[y*m.CStride+x]) }
				near, along, across := at(cx, cy), at(nx, cy), at(cx, ny)
				return ((near+3*along+3*across+at(nx, ny)+8)>>3 + near) >> 1
			}
			l, u, v := int(m.Y[y*m.YStride+x])*19077>>8, chroma(m.Cb), chroma(m.Cr)
			out.set(x, y, clamp((l+v*26149>>8-14234)>>6), clamp((l-u*6419>>8-v*13320>>8+8708)>>6), clamp((l+u*33050>>8-17685)>>6))
		}
	}
}
