package linattn

import "unsafe"

// Field order is part of the assembly: all fields take 8 bytes. ld is the
// distance of the state's rows in elements; a row holds cols columns.
const cols = 32

// readArgs: out = alpha * sum, or alpha * (v - sum) when v is not nil, where sum
// is decay * sum_d a[d] S[d].
type readArgs struct {
	state *float32
	ld    int
	dk    int
	a     *float32
	v     *float32
	alpha float32
	_     float32
	decay float32
	_     float32
	out   *float32
}

// writeArgs: S[d] = g[d] S[d] + k[d] w, and out = scale * sum_d q[d] S[d]. One g
// serves all d unless perKey is 1; a nil g leaves S as it is.
type writeArgs struct {
	state  *float32
	ld     int
	dk     int
	g      *float32
	perKey int
	k, q   *float32
	w      *float32
	scale  float32
	_      float32
	out    *float32
}

type row = [cols]float32

func rowAt(p *float32, i int) *row { return (*row)(unsafe.Add(unsafe.Pointer(p), 4*i)) }

func readPortable(a *readArgs) {
	var sum row
	for d, x := range unsafe.Slice(a.a, a.dk) {
		s := rowAt(a.state, d*a.ld)
		for j := range sum {
			sum[j] += x * s[j]
		}
	}
	out := rowAt(a.out, 0)
	for j, x := range sum {
		x *= a.decay
		if a.v != nil {
			x = rowAt(a.v, 0)[j] - x
		}
		out[j] = a.alpha * x
	}
}

func writePortable(a *writeArgs) {
	var sum row
	k, q, w := unsafe.Slice(a.k, a.dk), unsafe.Slice(a.q, a.dk), rowAt(a.w, 0)
	for d, x := range k {
		s := rowAt(a.state, d*a.ld)
		if a.g != nil {
			g := *(*float32)(unsafe.Add(unsafe.Pointer(a.g), 4*d*a.perKey))
			for j := range s {
				s[j] *= g
			}
		}
		for j := range s {
			s[j] += x * w[j]
			sum[j] += q[d] * s[j]
		}
	}
	out := rowAt(a.out, 0)
	for j, x := range sum {
		out[j] = a.scale * x
	}
}
