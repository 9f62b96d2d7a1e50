package igemm

import "math"

// Output says how numbers become bytes: rounded to nearest, ties to even, Zero
// added, kept between the least and the largest value of the type.
type Output struct {
	Zero   int32
	Lo, Hi int32 // of the type: 0 and 255, or -128 and 127
}

// Uint8 and Int8 are the outputs of the two types.
func Uint8(zero int32) Output { return Output{zero, 0, 255} }

// Int8 is the output of signed bytes.
func Int8(zero int32) Output { return Output{zero, -128, 127} }

// bounds are the limits before the zero point is added.
func (o *Output) bounds() (lo, hi float32) { return float32(o.Lo - o.Zero), float32(o.Hi - o.Zero) }

func round(f, lo, hi float32) int32 {
	return int32(math.RoundToEven(float64(min(max(f, lo), hi))))
}

// Requantize writes (acc+add)*scale.
func (o *Output) Requantize(dst []uint8, acc []int32, add int32, scale float32) {
	lo, hi := o.bounds()
	if fast() && len(acc) > 0 {
		_ = dst[len(acc)-1]
		requantizeAVX512(&dst[0], &acc[0], len(acc), add, scale, lo, hi, o.Zero)
		return
	}
	for i, v := range acc {
		dst[i] = uint8(round(float32(v+add)*scale, lo, hi) + o.Zero)
	}
}

// RequantizeRows writes rows of Width columns, ldd apart in dst and dense in acc:
// (acc+add)*scale, with an add and a scale per row.
func (o *Output) RequantizeRows(dst []uint8, ldd int, acc, add []int32, scales []float32) {
	rows := len(add)
	if fast() && rows > 0 {
		lo, hi := o.bounds()
		_, _, _ = dst[(rows-1)*ldd+Width-1], acc[rows*Width-1], scales[rows-1]
		requantizeRowsAVX512(&dst[0], ldd, &acc[0], rows, &add[0], &scales[0], lo, hi, o.Zero)
		return
	}
	for r, a := range add {
		o.Requantize(dst[r*ldd:], acc[r*Width:(r+1)*Width], a, scales[r])
	}
}

// RequantizeSums writes (acc+add)*scale, where acc holds whole numbers in float32.
func (o *Output) RequantizeSums(dst []uint8, acc []float32, add, scale float32) {
	lo, hi := o.bounds()
	dst = dst[:len(acc)]
	if fast() && len(acc) > 0 {
		requantizeSumsAVX512(&dst[0], &acc[0], len(acc), add, scale, lo, hi, o.Zero)
		return
	}
	for i, v := range acc {
		dst[i] = uint8(round(float32(v+add)*scale, lo, hi) + o.Zero)
	}
}

// SubtractRows subtracts one row from rows of Width columns, ldc apart.
func SubtractRows(c []int32, ldc, rows int, less *[Width]int32) {
	if fast() && rows > 0 {
		_ = c[(rows-1)*ldc+Width-1]
		subtractRowsAVX512(&c[0], 4*ldc, rows, &less[0])
		return
	}
	for r := range rows {
		row := (*[Width]int32)(c[r*ldc:])
		for j, v := range less {
			row[j] -= v
		}
	}
}

// Floats writes whole numbers as floats.
func Floats(dst []float32, src []int32) {
	src = src[:len(dst)]
	if fast() && len(dst) > 0 {
		floatsAVX512(&dst[0], &src[0], len(dst))
		return
	}
	for i, v := range src {
		dst[i] = float32(v)
	}
}

// RequantizeColumns writes acc[i]*scales[i].
func (o *Output) RequantizeColumns(dst []uint8, acc []int32, scales []float32) {
	lo, hi := o.bounds()
	dst, scales = dst[:len(acc)], scales[:len(acc)]
	if fast() && len(acc) > 0 {
		requantizeColumnsAVX512(&dst[0], &acc[0], &scales[0], len(acc), lo, hi, o.Zero)
		return
	}
	for i, v := range acc {
		dst[i] = uint8(round(float32(v)*scales[i], lo, hi) + o.Zero)
	}
}

// Quantize writes src/scale. What is not a number becomes the least value.
func (o *Output) Quantize(dst []uint8, src []float32, scale float32) {
	lo, hi := o.bounds()
	if fast() && len(src) > 0 {
		_ = dst[len(src)-1]
		quantizeAVX512(&dst[0], &src[0], len(src), scale, lo, hi, o.Zero)
		return
	}
	for i, v := range src {
		f := v / scale
		if f != f {
			f = lo
		}
		dst[i] = uint8(round(f, lo, hi) + o.Zero)
	}
}

// Dequantize writes (src-zero)*scale.
func Dequantize(dst []float32, src []uint8, signed bool, zero int32, scale float32) {
	src = src[:len(dst)]
	if fast() && len(dst) > 0 {
		if signed {
			dequantizeInt8AVX512(&dst[0], &src[0], len(dst), scale, zero)
		} else {
			dequantizeUint8AVX512(&dst[0], &src[0], len(dst), scale, zero)
		}
		return
	}
	for i, v := range src {
		x := int32(v)
		if signed {
			x = int32(int8(v))
		}
		dst[i] = float32(x-zero) * scale
	}
}

// Add writes the sum of two quantised vectors, a*ra + (b*rb + rest), where the
// factors are the ratios of the operands' scales to the result's and rest is
// what the zero points come to.
func (o *Output) Add(dst, a, b []uint8, signed bool, ra, rb, rest float32) {
	a, b = a[:len(dst)], b[:len(dst)]
	lo, hi := float32(o.Lo), float32(o.Hi)
	if fast() && len(dst) > 0 {
		if signed {
			addInt8AVX512(&dst[0], &a[0], &b[0], len(dst), ra, rb, rest, lo, hi)
		} else {
			addUint8AVX512(&dst[0], &a[0], &b[0], len(dst), ra, rb, rest, lo, hi)
		}
		return
	}
	fma := func(x, y, z float32) float32 { return float32(math.FMA(float64(x), float64(y), float64(z))) }
	for i := range dst {
		x, y := float32(a[i]), float32(b[i])
		if signed {
			x, y = float32(int8(a[i])), float32(int8(b[i]))
		}
		dst[i] = uint8(round(fma(x, ra, fma(y, rb, rest)), lo, hi))
	}
}
