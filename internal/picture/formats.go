package picture

import (
	"encoding/binary"
	"fmt"
)

// decodeBMP reads uncompressed bitmaps of 24 and 32 bits, and of 8 with a palette.
func decodeBMP(b []byte) (*RGB, error) {
	if len(b) < 54 {
		return nil, fmt.Errorf("a BMP of %d bytes", len(b))
	}
	le := binary.LittleEndian
	at, head := int(le.Uint32(b[10:])), int(le.Uint32(b[14:]))
	w, h := int(int32(le.Uint32(b[18:]))), int(int32(le.Uint32(b[22:])))
	bits, compression := int(le.Uint16(b[28:])), le.Uint32(b[30:])
	down := h < 0 // rows from the top
	if down {
		h = -h
	}
	out, err := newRGB(w, h)
	if err != nil {
		return nil, err
	}
	stride := (w*bits + 31) / 32 * 4
	palette := 14 + head
	if compression != 0 || bits != 8 && bits != 24 && bits != 32 || at < 54 || at > len(b) || len(b)-at < stride*h || bits == 8 && palette > at {
		return nil, fmt.Errorf("a BMP with %d bits, compression %d, %d bytes of pixels", bits, compression, len(b)-at)
	}
	for y := range h {
		row := b[at+(h-1-y)*stride:]
		if down {
			row = b[at+y*stride:]
		}
		for x := range w {
			p := row[x*bits/8:]
			if bits == 8 {
				i := palette + 4*int(p[0])
				if i+3 > at {
					return nil, fmt.Errorf("a BMP whose palette lacks color %d", p[0])
				}
				p = b[i:]
			}
			out.set(x, y, p[2], p[1], p[0])
		}
	}
	return out, nil
}

// decodePNM reads portable bit, gray and pixel maps, as text and in binary.
func decodePNM(b []byte) (*RGB, error) {
	kind, i := b[1]-'0', 2
	number := func(digits int) (int, error) {
		for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r' || b[i] == '#') {
			if b[i] == '#' {
				for i < len(b) && b[i] != '\n' {
					i++
				}
				continue
			}
			i++
		}
		n, from := 0, i
		for i < len(b) && b[i] >= '0' && b[i] <= '9' && i-from < digits {
			n = 10*n + int(b[i]-'0')
			i++
		}
		if i == from {
			return 0, fmt.Errorf("a portable map that ends at byte %d", i)
		}
		return n, nil
	}
	var size [3]int // width, height, largest value
	size[2] = 1
	for k := range size {
		if k == 2 && (kind == 1 || kind == 4) {
			break
		}
		n, err := number(9)
		if err != nil {
			return nil, err
		}
		size[k] = n
	}
	out, err := newRGB(size[0], size[1])
	if err != nil {
		return nil, err
	}
	top, channels := size[2], 1
	if kind == 3 || kind == 6 {
		channels = 3
	}
	if top < 1 || top > 65535 {
		return nil, fmt.Errorf("a portable map of values up to %d", top)
	}
	i++ // one space ends the header
	sample := func(x, y, c int) (int, error) {
		switch {
		case kind == 1:
			return number(1) // bits may stand together
		case kind <= 3:
			return number(9)
		case kind == 4:
			at := i + y*((out.W+7)/8) + x/8
			if at >= len(b) {
				return 0, fmt.Errorf("a portable map that ends at byte %d", len(b))
			}
			return int(b[at]>>(7-x%8)) & 1, nil
		}
		wide := 1
		if top > 255 {
			wide = 2
		}
		at := i + ((y*out.W+x)*channels+c)*wide
		if at+wide > len(b) {
			return 0, fmt.Errorf("a portable map that ends at byte %d", len(b))
		}
		if wide == 2 {
			return int(binary.BigEndian.Uint16(b[at:])), nil
		}
		return int(b[at]), nil
	}
	for y := range out.H {
		for x := range out.W {
			var v [3]byte
			for c := range channels {
				n, err := sample(x, y, c)
				if err != nil {
					return nil, err
				}
				if kind == 1 || kind == 4 {
					n = 1 - n&1 // ones are black
				}
				v[c] = byte(min(n, top) * 255 / top)
			}
			if channels == 1 {
				v[1], v[2] = v[0], v[0]
			}
			out.set(x, y, v[0], v[1], v[2])
		}
	}
	return out, nil
}

// decodeTIFF reads baseline images without compression, 8 bits per sample, gray
// or RGB.
func decodeTIFF(b []byte) (*RGB, error) {
	var order binary.ByteOrder = binary.LittleEndian
	if b[0] == 'M' {
		order = binary.BigEndian
	}
	if len(b) < 8 {
		return nil, fmt.Errorf("a TIFF of %d bytes", len(b))
	}
	dir := int64(order.Uint32(b[4:]))
	if dir < 8 || dir+2 > int64(len(b)) {
		return nil, fmt.Errorf("a TIFF whose directory is at byte %d of %d", dir, len(b))
	}
	n := int64(order.Uint16(b[dir:]))
	if dir+2+12*n > int64(len(b)) {
		return nil, fmt.Errorf("a TIFF with %d entries at byte %d of %d", n, dir, len(b))
	}
	fields := map[uint16][]int64{}
	for k := range n {
		e := b[dir+2+12*k:]
		kind, count := order.Uint16(e[2:]), int64(order.Uint32(e[4:]))
		size := map[uint16]int64{1: 1, 3: 2, 4: 4}[kind]
		if size == 0 {
			continue // no integers: of no use here
		}
		v := e[8:]
		if count*size > 4 {
			at := int64(order.Uint32(v))
			if count > 1<<20 || at+count*size > int64(len(b)) {
				return nil, fmt.Errorf("a TIFF whose field %d lies at byte %d of %d", order.Uint16(e), at, len(b))
			}
			v = b[at:]
		}
		list := make([]int64, count)
		for i := range list {
			switch p := v[int64(i)*size:]; size {
			case 1:
				list[i] = int64(p[0])
			case 2:
				list[i] = int64(order.Uint16(p))
			default:
				list[i] = int64(order.Uint32(p))
			}
		}
		fields[order.Uint16(e)] = list
	}
	first := func(tag uint16, def int64) int64 {
		if l := fields[tag]; len(l) > 0 {
			return l[0]
		}
		return def
	}
	w, h := first(256, 0), first(257, 0)
	bits, compression, color, samples, planar := first(258, 1), first(259, 1), first(262, 1), first(277, 1), first(284, 1)
	rows, strips := first(278, h), fields[273]
	if bits != 8 || compression != 1 || color > 2 || planar != 1 || samples < 1 || samples > 4 || color == 2 && samples < 3 || w > maxPixels || h > maxPixels || rows < 1 {
		return nil, fmt.Errorf("a TIFF of %d samples with %d bits, compression %d, color %d", samples, bits, compression, color)
	}
	out, err := newRGB(int(w), int(h))
	if err != nil {
		return nil, err
	}
	for y := range h {
		s := y / rows
		if s >= int64(len(strips)) {
			return nil, fmt.Errorf("a TIFF of %d rows in %d strips of %d", h, len(strips), rows)
		}
		at := strips[s] + y%rows*w*samples
		if at+w*samples > int64(len(b)) {
			return nil, fmt.Errorf("a TIFF that ends in row %d", y)
		}
		for x := range w {
			p := b[at+x*samples:]
			switch color {
			case 0:
				out.set(int(x), int(y), 255-p[0], 255-p[0], 255-p[0])
			case 1:
				out.set(int(x), int(y), p[0], p[0], p[0])
			default:
				out.set(int(x), int(y), p[0], p[1], p[2])
			}
		}
	}
	return out, nil
}
