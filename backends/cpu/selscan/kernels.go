package selscan

import (
	"math"
	"unsafe"
)

// Field order is part of the assembly: all fields take 8 bytes. Leading
// dimensions (ld) are in elements.

// rateArgs: dt = clamp(softplus?(raw + bias), lo, hi) over t rows of w.
type rateArgs struct {
	t, w     int
	raw      *float32
	ldraw    int
	dt       *float32
	lddt     int
	bias     *float32   // [w]
	softplus int        // 1: yes
	lo, hi   [2]float32 // the first counts
}

// gateArgs: y = sum*silu(z) over t rows of w.
type gateArgs struct {
	t, w  int
	sum   *float32
	ldsum int
	z     *float32
	ldz   int
	y     *float32
	ldy   int
}

// scanArgs: t steps of groups*16 channels with n states each.
//
//	state[n] = exp2(rate_t*a_t[n])*state[n] + dt_t*u_t*b_t[n]
//	y_t      = sum_n state[n]*c_t[n] + skip*u_t
//
// over rows of 16 lanes, b and c scalars. a is the same at every step when lda
// is 0; a nil skip drops the last term. The kernel changes the arguments.
type scanArgs struct {
	groups  int
	state   *float32 // [groups][n][16]
	n, t    int
	a       *float32 // [groups][n][16]
	lda     int
	rate    *float32
	ldrate  int
	dt, u   *float32
	y       *float32
	ld      int // of dt, u and y
	b       *float32
	ldb     int
	c       *float32
	ldc     int
	skip    *float32
	ahead   [4]uintptr // addresses to prefetch at each step
	ldahead [4]int     // their distance from step to step, in bytes
}

// stepArgs: one step of d channels, states in rows of n.
//
//	to[d][n] = exp(dt[d]*a[d][n])*from[d][n] + dt[d]*u[d]*b[n]; y[d] = sum_n to[d][n]*c[n]
type stepArgs struct {
	from, to *float32
	a        *float32
	dt, u, y *float32
	b, c     *float32
	d, n     int
}

// linArgs: h = a_t*h + u_t, stored to y_t, for w <= 64 channels.
type linArgs struct {
	h   *float32 // [64]
	t   int
	a   *float32
	lda int
	u   *float32
	ldu int
	y   *float32
	ldy int
	w   int
}

type lane = [lanes]float32

func laneAt(p *float32, i int) *lane {
	return (*lane)(unsafe.Add(unsafe.Pointer(p), 4*i))
}

func rowAt(p *float32, at, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Add(unsafe.Pointer(p), 4*at)), n)
}

func ratePortable(k *rateArgs) {
	bias := rowAt(k.bias, 0, k.w)
	for t := range k.t {
		raw, dt := rowAt(k.raw, t*k.ldraw, k.w), rowAt(k.dt, t*k.lddt, k.w)
		for i, x := range raw {
			x += bias[i]
			if k.softplus != 0 {
				x = float32(max(float64(x), 0) + math.Log1p(math.Exp(-math.Abs(float64(x)))))
			}
			if x < k.lo[0] { // comparisons, so that NaN stays NaN
				x = k.lo[0]
			} else if x > k.hi[0] {
				x = k.hi[0]
			}
			dt[i] = x
		}
	}
}

func gatePortable(k *gateArgs) {
	for t := range k.t {
		sum, z, y := rowAt(k.sum, t*k.ldsum, k.w), rowAt(k.z, t*k.ldz, k.w), rowAt(k.y, t*k.ldy, k.w)
		for i, x := range z {
			y[i] = float32(float64(sum[i]) * float64(x) / (1 + math.Exp(-float64(x))))
		}
	}
}

func scanPortable(k *scanArgs) {
	for ; k.groups > 0; k.groups-- {
		scanGroup(k)
		for _, p := range []**float32{&k.a, &k.state} {
			*p = (*float32)(unsafe.Add(unsafe.Pointer(*p), 4*k.n*lanes))
		}
		for _, p := range []**float32{&k.rate, &k.dt, &k.u, &k.y, &k.skip} {
			if *p != nil {
				*p = (*float32)(unsafe.Add(unsafe.Pointer(*p), 4*lanes))
			}
		}
	}
}

func scanGroup(k *scanArgs) {
	for t := range k.t {
		rate, dt, u := laneAt(k.rate, t*k.ldrate), laneAt(k.dt, t*k.ld), laneAt(k.u, t*k.ld)
		b, c := rowAt(k.b, t*k.ldb, k.n), rowAt(k.c, t*k.ldc, k.n)
		var du, sum lane
		for j := range du {
			du[j] = dt[j] * u[j]
		}
		for n := range k.n {
			a, h := laneAt(k.a, t*k.lda+n*lanes), laneAt(k.state, n*lanes)
			for j := range h {
				h[j] = float32(math.Exp2(float64(rate[j]*a[j])))*h[j] + du[j]*b[n]
				sum[j] += h[j] * c[n]
			}
		}
		if k.skip != nil {
			skip := laneAt(k.skip, 0)
			for j := range sum {
				sum[j] += skip[j] * u[j]
			}
		}
		*laneAt(k.y, t*k.ld) = sum
	}
}

func stepPortable(k *stepArgs) {
	b, c := rowAt(k.b, 0, k.n), rowAt(k.c, 0, k.n)
	dt, u, y := rowAt(k.dt, 0, k.d), rowAt(k.u, 0, k.d), rowAt(k.y, 0, k.d)
	for d, r := range dt {
		a, from, to := rowAt(k.a, d*k.n, k.n), rowAt(k.from, d*k.n, k.n), rowAt(k.to, d*k.n, k.n)
		du := r * u[d]
		var sum float32
		for n, h := range from {
			h = float32(math.Exp(float64(r*a[n])))*h + du*b[n]
			to[n] = h
			sum += h * c[n]
		}
		y[d] = sum
	}
}

func linPortable(k *linArgs) {
	w := k.w
	h := rowAt(k.h, 0, w)
	for t := range k.t {
		a, u, y := rowAt(k.a, t*k.lda, w), rowAt(k.u, t*k.ldu, w), rowAt(k.y, t*k.ldy, w)
		for i, v := range h {
			v = a[i]*v + u[i]
			h[i] = v
			y[i] = v
		}
	}
}
