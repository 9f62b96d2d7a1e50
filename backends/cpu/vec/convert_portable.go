package vec

import "math"

func bf16ToF32Portable(dst []float32, src []uint16) {
	for i, h := range src {
		dst[i] = math.Float32frombits(uint32(h) << 16)
	}
}

func f32ToBF16Portable(dst []uint16, src []float32) {
	for i, x := range src {
		u := math.Float32bits(x)
		if u&0x7fffffff > 0x7f800000 {
			dst[i] = uint16(u>>16) | 0x40
			continue
		}
		dst[i] = uint16((u + 0x7fff + u>>16&1) >> 16)
	}
}

func f16ToF32Portable(dst []float32, src []uint16) {
	for i, h := range src {
		sign, exp, man := uint32(h>>15)<<31, uint32(h>>10&31), uint32(h&1023)
		switch exp {
		case 0: // zero or denormal: man * 2^-24, exact
			f := float32(man) * (1.0 / (1 << 24))
			dst[i] = math.Float32frombits(math.Float32bits(f) | sign)
		case 31:
			if man != 0 {
				man |= 512 // quiet
			}
			dst[i] = math.Float32frombits(sign | 0x7f800000 | man<<13)
		default:
			dst[i] = math.Float32frombits(sign | (exp+112)<<23 | man<<13)
		}
	}
}

func f32ToF16Portable(dst []uint16, src []float32) {
	for i, x := range src {
		u := math.Float32bits(x)
		sign := uint16(u >> 16 & 0x8000)
		switch a := u & 0x7fffffff; {
		case a > 0x7f800000:
			dst[i] = sign | 0x7e00 | uint16(a>>13&0x3ff)
		case a >= 0x477ff000: // rounds to at least 2^16
			dst[i] = sign | 0x7c00
		case a < 0x38800000: // below the least normal half, 2^-14
			// Adding 0.5 puts the unit of a half denormal, 2^-24, in the last
			// place of the sum, so the addition does the rounding.
			f := math.Float32frombits(a) + 0.5
			dst[i] = sign | uint16(math.Float32bits(f)-0x3f000000)
		default:
			dst[i] = sign | uint16((a-112<<23+0xfff+a>>13&1)>>13)
		}
	}
}
