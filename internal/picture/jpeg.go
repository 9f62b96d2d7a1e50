package picture

import (
	"fmt"
	"image"
)

// Baseline JPEG (ITU-T T.81) with the integer inverse cosine transform that most
// decoders use, so that samples are the same to the last bit. What is not
// sequential Huffman coding with 8 bits is left to the standard library.

// errOther is what is left to the standard library.
var errOther = fmt.Errorf("not a baseline JPEG")

type jpegPart struct {
	id, h, v, quant byte
	dc, ac          *huffman
	last            int // dc of the block before
	w, rows         int // of pix
	pix             []byte
}

// huffman decodes by code length: codes of n bits run from first[n] to last[n].
type huffman struct {
	first, last [17]int
	at          [17]int // in values, of first[n]
	values      []byte
}

type jpegReader struct {
	b       []byte
	i       int
	bits    uint32
	n       int // bits that are left in bits
	quant   [4][64]int
	huff    [8]*huffman // 0 to 3 dc, 4 to 7 ac
	parts   []jpegPart
	w, h    int
	restart int
}

// zigzag is the place of the k-th coefficient in its block.
var zigzag = [64]int{0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
	35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63}

// decodeJPEG reads a baseline JPEG of one or three components.
func decodeJPEG(b []byte) (*RGB, error) {
	r := &jpegReader{b: b, i: 2}
	for {
		for r.i < len(b) && b[r.i] != 0xff {
			r.i++
		}
		for r.i < len(b) && b[r.i] == 0xff {
			r.i++
		}
		if r.i+3 > len(b) {
			return nil, fmt.Errorf("a JPEG that ends at byte %d", len(b))
		}
		marker, size := b[r.i], int(b[r.i+1])<<8|int(b[r.i+2])
		if size < 2 || r.i+1+size > len(b) {
			return nil, fmt.Errorf("a JPEG segment of %d bytes at byte %d of %d", size, r.i, len(b))
		}
		seg := b[r.i+3 : r.i+1+size]
		r.i += 1 + size
		var err error
		switch {
		case marker == 0xdb:
			err = r.quantTables(seg)
		case marker == 0xc4:
			err = r.huffmanTables(seg)
		case marker == 0xc0 || marker == 0xc1:
			err = r.frame(seg)
		case marker >= 0xc2 && marker <= 0xcf || marker == 0xee: // progressive, arithmetic; another color space
			return nil, errOther
		case marker == 0xdd && len(seg) >= 2:
			r.restart = int(seg[0])<<8 | int(seg[1])
		case marker == 0xda:
			if err = r.scan(seg); err == nil {
				return r.image()
			}
		}
		if err != nil {
			return nil, err
		}
	}
}

func (r *jpegReader) quantTables(seg []byte) error {
	for len(seg) > 0 {
		wide, id := int(seg[0]>>4), seg[0]&15
		if wide > 1 || id > 3 || len(seg) < 1+64*(1+wide) {
			return fmt.Errorf("a JPEG quantization table %d of %d bytes", id, len(seg))
		}
		for k, z := range zigzag {
			if wide == 1 {
				r.quant[id][z] = int(seg[1+2*k])<<8 | int(seg[2+2*k])
			} else {
				r.quant[id][z] = int(seg[1+k])
			}
		}
		seg = seg[1+64*(1+wide):]
	}
	return nil
}

func (r *jpegReader) huffmanTables(seg []byte) error {
	for len(seg) >= 17 {
		class, id := int(seg[0]>>4), int(seg[0]&15)
		h, total, code := &huffman{}, 0, 0
		for n := 1; n <= 16; n++ {
			count := int(seg[n])
			h.first[n], h.last[n], h.at[n] = code, code+count-1, total
			total += count
			code = (code + count) << 1
		}
		if class > 1 || id > 3 || len(seg) < 17+total {
			return fmt.Errorf("a JPEG Huffman table %d.%d of %d values", class, id, total)
		}
		h.values = seg[17 : 17+total]
		r.huff[4*class+id] = h
		seg = seg[17+total:]
	}
	return nil
}

func (r *jpegReader) frame(seg []byte) error {
	if len(seg) < 6 || r.parts != nil {
		return fmt.Errorf("a JPEG frame of %d bytes", len(seg))
	}
	r.h, r.w = int(seg[1])<<8|int(seg[2]), int(seg[3])<<8|int(seg[4])
	n := int(seg[5])
	if seg[0] != 8 || n != 1 && n != 3 || len(seg) < 6+3*n {
		return errOther
	}
	if _, err := newRGB(r.w, r.h); err != nil {
		return err
	}
	for k := range n {
		p := jpegPart{id: seg[6+3*k], h: seg[7+3*k] >> 4, v: seg[7+3*k] & 15, quant: seg[8+3*k]}
		if n == 1 {
			p.h, p.v = 1, 1
		}
		if p.h < 1 || p.h > 2 || p.v < 1 || p.v > 2 || k > 0 && (p.h != 1 || p.v != 1) || p.quant > 3 {
			return errOther
		}
		r.parts = append(r.parts, p)
	}
	mx, my := r.units()
	for k := range r.parts {
		p := &r.parts[k]
		p.w, p.rows = mx*8*int(p.h), my*8*int(p.v)
		p.pix = make([]byte, p.w*p.rows)
	}
	return nil
}

// units counts the groups of blocks in a row and in a column.
func (r *jpegReader) units() (x, y int) {
	h, v := 8*int(r.parts[0].h), 8*int(r.parts[0].v)
	return (r.w + h - 1) / h, (r.h + v - 1) / v
}

func (r *jpegReader) scan(seg []byte) error {
	if r.parts == nil || len(seg) < 1+2*len(r.parts) || int(seg[0]) != len(r.parts) {
		return errOther
	}
	for k := range r.parts {
		p, t := &r.parts[k], seg[2+2*k]
		if p.id != seg[1+2*k] || t>>4 > 3 || t&15 > 3 {
			return errOther
		}
		if p.dc, p.ac = r.huff[t>>4], r.huff[4+t&15]; p.dc == nil || p.ac == nil {
			return fmt.Errorf("a JPEG without its Huffman tables")
		}
	}
	mx, my := r.units()
	for unit := range mx * my {
		if r.restart > 0 && unit > 0 && unit%r.restart == 0 {
			r.bits, r.n = 0, 0
			for r.i+1 < len(r.b) && (r.b[r.i] != 0xff || r.b[r.i+1]&0xf8 != 0xd0) {
				r.i++
			}
			r.i += 2
			for k := range r.parts {
				r.parts[k].last = 0
			}
		}
		for k := range r.parts {
			p := &r.parts[k]
			for v := range int(p.v) {
				for h := range int(p.h) {
					var block [64]int
					if err := r.block(p, &block); err != nil {
						return err
					}
					at := (unit/mx*int(p.v)+v)*8*p.w + (unit%mx*int(p.h)+h)*8
					inverseDCT(&block, p.pix[at:], p.w)
				}
			}
		}
	}
	return nil
}

// bit reads from the scan, in which a zero follows every byte 0xff.
func (r *jpegReader) bit() (int, error) {
	if r.n == 0 {
		if r.i >= len(r.b) {
			return 0, fmt.Errorf("a JPEG that ends at byte %d", len(r.b))
		}
		c := r.b[r.i]
		if c == 0xff {
			if r.i+1 >= len(r.b) || r.b[r.i+1] != 0 {
				return 0, fmt.Errorf("a JPEG whose scan stops at byte %d", r.i)
			}
			r.i++
		}
		r.i++
		r.bits, r.n = uint32(c), 8
	}
	r.n--
	return int(r.bits>>r.n) & 1, nil
}

func (r *jpegReader) symbol(h *huffman) (byte, error) {
	code := 0
	for n := 1; n <= 16; n++ {
		b, err := r.bit()
		if err != nil {
			return 0, err
		}
		if code = code<<1 | b; code <= h.last[n] && code >= h.first[n] {
			return h.values[h.at[n]+code-h.first[n]], nil
		}
	}
	return 0, fmt.Errorf("a JPEG with a code that its table lacks, at byte %d", r.i)
}

// value reads n bits; numbers whose first bit is 0 are negative.
func (r *jpegReader) value(n int) (int, error) {
	v := 0
	for range n {
		b, err := r.bit()
		if err != nil {
			return 0, err
		}
		v = v<<1 | b
	}
	if n > 0 && v < 1<<(n-1) {
		v -= 1<<n - 1
	}
	return v, nil
}

func (r *jpegReader) block(p *jpegPart, out *[64]int) error {
	q := &r.quant[p.quant]
	size, err := r.symbol(p.dc)
	if err != nil {
		return err
	}
	d, err := r.value(int(size & 15))
	if err != nil {
		return err
	}
	p.last += d
	out[0] = p.last * q[0]
	for k := 1; k < 64; k++ {
		s, err := r.symbol(p.ac)
		if err != nil {
			return err
		}
		if s&15 == 0 {
			if s != 0xf0 {
				break
			}
			k += 15
			continue
		}
		if k += int(s >> 4); k > 63 {
			return fmt.Errorf("a JPEG block of more than 64 coefficients")
		}
		v, err := r.value(int(s & 15))
		if err != nil {
			return err
		}
		out[zigzag[k]] = v * q[zigzag[k]]
	}
	return nil
}

func (r *jpegReader) image() (*RGB, error) {
	out, err := newRGB(r.w, r.h)
	if err != nil {
		return nil, err
	}
	y := &r.parts[0]
	if len(r.parts) == 1 {
		for i := range r.w * r.h {
			v := y.pix[i/r.w*y.w+i%r.w]
			out.set(i%r.w, i/r.w, v, v, v)
		}
		return out, nil
	}
	ratio := map[[2]byte]image.YCbCrSubsampleRatio{{1, 1}: image.YCbCrSubsampleRatio444, {2, 1}: image.YCbCrSubsampleRatio422, {2, 2}: image.YCbCrSubsampleRatio420, {1, 2}: image.YCbCrSubsampleRatio440}
	out.fromYCbCr(&image.YCbCr{Y: y.pix, Cb: r.parts[1].pix, Cr: r.parts[2].pix, YStride: y.w, CStride: r.parts[1].w, SubsampleRatio: ratio[[2]byte{y.h, y.v}]})
	return out, nil
}

// inverseDCT is the algorithm of Loeffler, Ligtenberg and Moschytz (ICASSP 1989)
// in integers: constants have 13 fractional bits, the pass over the columns
// leaves 2 more for that over the rows.
func inverseDCT(b *[64]int, out []byte, stride int) {
	for c := range 8 {
		lane(b[c:], 8, 13-2)
	}
	for r := range 8 {
		row := b[8*r : 8*r+8]
		lane(row, 1, 13+2+3)
		for c, v := range row {
			out[r*stride+c] = clamp(v + 128)
		}
	}
}

// lane transforms 8 numbers that are step apart, and rounds shift bits away.
func lane(v []int, step, shift int) {
	at := func(i int) int { return v[i*step] }
	z := (at(2) + at(6)) * 4433
	t2, t3 := z-at(6)*15137, z+at(2)*6270
	t0, t1 := (at(0)+at(4))<<13, (at(0)-at(4))<<13
	e := [4]int{t0 + t3, t1 + t2, t1 - t2, t0 - t3}

	a, b, c, d := at(7), at(5), at(3), at(1)
	z5 := (a + c + b + d) * 9633
	z1, z2 := -(a+d)*7373, -(b+c)*20995
	z3, z4 := z5-(a+c)*16069, z5-(b+d)*3196
	o := [4]int{d*12299 + z1 + z4, c*25172 + z2 + z3, b*16819 + z2 + z4, a*2446 + z1 + z3}
	half := 1 << (shift - 1)
	for i := range 4 {
		v[i*step], v[(7-i)*step] = (e[i]+o[i]+half)>>shift, (e[i]-o[i]+half)>>shift
	}
}
