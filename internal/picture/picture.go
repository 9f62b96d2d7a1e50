// Package picture decodes images to RGB bytes for ONNX's ImageDecoder: PNG, GIF
// and progressive JPEG by the standard library, BMP, TIFF (uncompressed) and portable maps
// here, and baseline JPEG too, because that operator prescribes its samples to
// the bit; WebP's planes by golang.org/x/image.
package picture

import (
	"bytes"
	"fmt"
	"image"
	_ "image/gif" // registers its decoder
	_ "image/jpeg"
	_ "image/png"
)

// RGB is an image, row by row.
type RGB struct {
	W, H int
	Pix  []byte // W*H*3
}

// maxPixels bounds what a header may ask for.
const maxPixels = 1 << 28

func newRGB(w, h int) (*RGB, error) {
	if w < 1 || h < 1 || w > maxPixels/h {
		return nil, fmt.Errorf("an image of %d by %d pixels", w, h)
	}
	return &RGB{w, h, make([]byte, 3*w*h)}, nil
}

func (p *RGB) set(x, y int, r, g, b byte) {
	i := 3 * (y*p.W + x)
	p.Pix[i], p.Pix[i+1], p.Pix[i+2] = r, g, b
}

// Decode reads an image of any of the formats.
func Decode(b []byte) (*RGB, error) {
	switch {
	case bytes.HasPrefix(b, []byte("BM")):
		return decodeBMP(b)
	case len(b) > 1 && b[0] == 'P' && b[1] >= '1' && b[1] <= '6':
		return decodePNM(b)
	case bytes.HasPrefix(b, []byte("II*\x00")), bytes.HasPrefix(b, []byte("MM\x00*")):
		return decodeTIFF(b)
	case len(b) > 12 && bytes.HasPrefix(b, []byte("RIFF")) && bytes.Equal(b[8:12], []byte("WEBP")):
		return decodeWebP(b)
	}
	if bytes.HasPrefix(b, []byte("\xff\xd8")) {
		if p, err := decodeJPEG(b); err != errOther {
			return p, err
		}
	}
	c, _, err := image.DecodeConfig(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	out, err := newRGB(c.Width, c.Height)
	if err != nil {
		return nil, err
	}
	m, _, err := image.Decode(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	if err := out.sameSize(m); err != nil {
		return nil, err
	}
	if y, ok := m.(*image.YCbCr); ok {
		out.fromYCbCr(y)
		return out, nil
	}
	out.fromImage(m)
	return out, nil
}

func (out *RGB) sameSize(m image.Image) error {
	if m.Bounds().Dx() != out.W || m.Bounds().Dy() != out.H {
		return fmt.Errorf("an image of %v, its header says %d by %d", m.Bounds(), out.W, out.H)
	}
	return nil
}

func (out *RGB) fromImage(m image.Image) {
	at := m.Bounds().Min
	for y := range out.H {
		for x := range out.W {
			r, g, b, _ := m.At(at.X+x, at.Y+y).RGBA()
			out.set(x, y, byte(r>>8), byte(g>>8), byte(b>>8))
		}
	}
}

// plane is one component of samples.
type plane struct {
	pix       []byte
	stride    int
	w, h      int
	byX, byY  int // pixels per sample along each axis, 1 or 2; others are repeated
	wide, tal bool
}

// at interpolates where there is a sample for every two pixels: three quarters
// of the nearer and a quarter of the farther one along each halved axis, halves
// rounded down on the left and up on the right.
func (p *plane) at(x, y int) int {
	cx, cy := x/p.byX, y/p.byY
	if !p.wide && !p.tal {
		return int(p.pix[cy*p.stride+cx])
	}
	nx, ny := cx, cy
	if p.wide {
		nx = min(max(cx-1+2*(x%2), 0), p.w-1)
	}
	if p.tal {
		ny = min(max(cy-1+2*(y%2), 0), p.h-1)
	}
	col := func(c int) int { return 3*int(p.pix[cy*p.stride+c]) + int(p.pix[ny*p.stride+c]) }
	switch {
	case p.wide && p.tal:
		return (3*col(cx) + col(nx) + 8 - x%2) >> 4
	case p.wide:
		return (3*int(p.pix[cy*p.stride+cx]) + int(p.pix[cy*p.stride+nx]) + 1 + x%2) >> 2
	default:
		return (col(cx) + 1 + y%2) >> 2
	}
}

func (out *RGB) fromYCbCr(m *image.YCbCr) {
	byX, byY := 1, 1
	switch m.SubsampleRatio {
	case image.YCbCrSubsampleRatio422:
		byX = 2
	case image.YCbCrSubsampleRatio420:
		byX, byY = 2, 2
	case image.YCbCrSubsampleRatio440:
		byY = 2
	case image.YCbCrSubsampleRatio411:
		byX = 4
	case image.YCbCrSubsampleRatio410:
		byX, byY = 4, 2
	}
	part := func(pix []byte) *plane {
		return &plane{pix: pix, stride: m.CStride, w: (out.W + byX - 1) / byX, h: (out.H + byY - 1) / byY, byX: byX, byY: byY, wide: byX == 2, tal: byY == 2 && byX < 4}
	}
	cb, cr := part(m.Cb), part(m.Cr)
	for y := range out.H {
		for x := range out.W {
			l, b, r := int(m.Y[y*m.YStride+x]), cb.at(x, y)-128, cr.at(x, y)-128
			// JFIF's conversion in 16 fractional bits.
			out.set(x, y, clamp(l+(91881*r+1<<15)>>16), clamp(l+(-22554*b-46802*r+1<<15)>>16), clamp(l+(116130*b+1<<15)>>16))
		}
	}
}

func clamp(v int) byte { return byte(min(max(v, 0), 255)) }

// Luma is the image in grey, by the weights of ITU-R 601.
func (p *RGB) Luma() []byte {
	out := make([]byte, p.W*p.H)
	for i := range out {
		r, g, b := int(p.Pix[3*i]), int(p.Pix[3*i+1]), int(p.Pix[3*i+2])
		out[i] = byte((19595*r + 38470*g + 7471*b + 1<<15) >> 16)
	}
	return out
}
