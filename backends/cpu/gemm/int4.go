package gemm

import "github.com/ssdc-go/ssdc/graph/tensor"

// packInt4 stores n values of one group of column j; elements of the column are
// PanelWidth apart.
func packInt4(dst []byte, col []float32, n, j int) {
	var v [group]float32
	for i := range n {
		v[i] = col[i*PanelWidth]
	}
	scale := scale4(&v)
	put16(dst[2*j:], tensor.F32ToBF16(scale))
	var q [group]float32
	round4(&q, &v, scale)
	for i := range group / 2 {
		low, high := byte(int(q[i])+int4Zero), byte(int(q[i+group/2])+int4Zero)
		dst[int4Header+(i/4*PanelWidth+j)*4+i%4] = low | high<<4
	}
}

// scale4 is the scale, a bfloat16, that leaves a group the smallest squared error
// of those tried. The steps are -8 to 7, so a scale of either sign is worth a try,
// and so is one too small for the largest value, whose error may then pay for
// finer steps of all others. For each of them, the scale of least squares for the
// steps that it chose is tried as well.
func scale4(v *[group]float32) float32 {
	most := float32(0) // with its sign: -8 reaches one further than 7
	for _, x := range v {
		if abs(x) > abs(most) {
			most = x
		}
	}
	if abs(most) < 0x1p-120 {
		return 0 // a scale would be denormal
	}
	var unit, q [group]float32 // in units of most: no square leaves float32's range
	for i, x := range v {
		unit[i] = x / most
	}
	var scale float32
	least := float32(group)
	try := func(s float32) {
		rounded := tensor.BF16ToF32(tensor.F32ToBF16(s * most))
		if s = rounded / most; s == 0 {
			return
		}
		round4(&q, &unit, s)
		var e float32
		for i, x := range unit {
			d := x - q[i]*s
			e += d * d
		}
		if e < least {
			least, scale = e, rounded
		}
	}
	for level := float32(6); level <= 9; level += 0.5 {
		for _, s := range [2]float32{-1 / level, 1 / level} {
			try(s)
			// q holds the steps of this scale: now the best scale for the steps.
			var xq, qq float32
			for i, x := range unit {
				xq += x * q[i]
				qq += q[i] * q[i]
			}
			if qq > 0 {
				try(xq / qq)
			}
		}
	}
	return scale
}

// round4 gives the steps of values in a scale, -8 to 7.
func round4(q, v *[group]float32, scale float32) {
	if scale == 0 {
		*q = [group]float32{}
		return
	}
	const shift = 3 << 22 // where float32 has no fractions: adding it rounds, to even
	inverse := 1 / scale
	for i, x := range v {
		r := min(max(x*inverse, -8), 7)
		q[i] = float32(r+shift) - shift
	}
}
