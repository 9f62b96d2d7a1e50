// Package selscan computes the selective scan of Mamba-1 and the plain linear
// scan, in f32.
//
// Selective scan, for every batch row b, channel d and position t:
//
//	dt' = clamp(softplus?(dt + bias), lo, hi)
//	h_t[n] = exp(dt'_t * A[d,n]) * h_{t-1}[n] + dt'_t * u_t * B_t[n]     n < N
//	y_t    = sum_n h_t[n] * C_t[n] + D[d] * u_t, then * silu(z_t)
//
// Tensors are channels-last. The channels run across vector lanes with the N
// states of a lane group in registers or L1, so the length is streamed once and
// nothing of size [L,D,N] exists. The exponentials (one per channel, state and
// step) are most of the work.
//
// Linear scan: h_t = a_t * h_{t-1} + u_t, element-wise over [B,L,C].
//
// Results do not depend on the number of workers, and nothing flows from a step
// to an earlier one, whatever its value.
package selscan

import (
	"fmt"
	"math"
)

// Seq is a [B,L,row] operand with contiguous rows. Element (b,t,i) is
// Data[b*StrideB + t*StrideL + i].
type Seq struct {
	Data             []float32
	StrideB, StrideL int
}

// Dense gives the Seq of a contiguous [B,L,row] slice.
func Dense(data []float32, l, row int) Seq { return Seq{data, l * row, row} }

// Args are the operands of Run. Optional operands have nil Data.
type Args struct {
	B, L, D, N int

	U Seq // rows [D]
	// Dt, rows [D], scales the input and, with A, sets the decay. It may be
	// absent only when LogDecay is given; the scale is then 1.
	Dt         Seq
	DtBias     []float32 // [D], nil: 0
	DtSoftplus bool
	// DtLo and DtHi clamp after softplus. Both zero (the zero value): no clamp.
	DtLo, DtHi float32
	A          []float32 // [D,N]; unused when LogDecay is given
	// LogDecay, rows [D*N], replaces dt'*A. It may be positive.
	LogDecay Seq
	BMat     Seq       // rows [N]
	CMat     Seq       // rows [N]
	Skip     []float32 // D of the definition, [D], nil: none
	Z        Seq       // rows [D]; y *= silu(z)
	H0       []float32 // [B,D,N], nil: zeros
	Y        Seq       // rows [D], written; may be U, Dt or Z itself
	HT       []float32 // [B,D,N], nil: not wanted; may be the same slice as H0
}

func (s *Seq) check(name string, b, l, row int) error {
	if s.StrideB < 0 || s.StrideL < 0 {
		return fmt.Errorf("selscan: %s has negative strides (%d,%d): expected >= 0", name, s.StrideB, s.StrideL)
	}
	if b == 0 || l == 0 || row == 0 {
		return nil
	}
	if need := (b-1)*s.StrideB + (l-1)*s.StrideL + row; len(s.Data) < need {
		return fmt.Errorf("selscan: %s has %d elements: [%d,%d,%d] with strides (%d,%d) needs %d",
			name, len(s.Data), b, l, row, s.StrideB, s.StrideL, need)
	}
	return nil
}

func checkLen(name string, v []float32, n int, shape string) error {
	if v != nil && len(v) != n {
		return fmt.Errorf("selscan: %s has %d elements: expected %s = %d", name, len(v), shape, n)
	}
	return nil
}

// Check reports the first operand that does not fit the shapes.
func (a *Args) Check() error {
	if a.B < 0 || a.L < 0 || a.D < 0 || a.N < 0 {
		return fmt.Errorf("selscan: negative dimension in B=%d L=%d D=%d N=%d", a.B, a.L, a.D, a.N)
	}
	rows := []struct {
		name string
		s    *Seq
		row  int
		opt  bool
	}{
		{"u", &a.U, a.D, false}, {"y", &a.Y, a.D, false}, {"B", &a.BMat, a.N, false}, {"C", &a.CMat, a.N, false},
		{"dt", &a.Dt, a.D, true}, {"log decay", &a.LogDecay, a.D * a.N, true}, {"z", &a.Z, a.D, true},
	}
	for i := range rows {
		if r := &rows[i]; !r.opt || r.s.Data != nil {
			if err := r.s.check(r.name, a.B, a.L, r.row); err != nil {
				return err
			}
		}
	}
	if a.B*a.L*a.D > 0 && a.LogDecay.Data == nil {
		if a.Dt.Data == nil {
			return fmt.Errorf("selscan: neither dt nor a log decay is given: expected dt [B,L,D] with A [D,N], or a log decay [B,L,D,N]")
		}
		if len(a.A) != a.D*a.N {
			return fmt.Errorf("selscan: A has %d elements: expected [D,N] = %d", len(a.A), a.D*a.N)
		}
	}
	if a.DtLo > a.DtHi {
		return fmt.Errorf("selscan: dt limits (%g,%g): expected lo <= hi", a.DtLo, a.DtHi)
	}
	for _, v := range []struct {
		name  string
		v     []float32
		n     int
		shape string
	}{
		{"dt bias", a.DtBias, a.D, "D"}, {"skip", a.Skip, a.D, "D"},
		{"initial state", a.H0, a.B * a.D * a.N, "[B,D,N]"}, {"final state", a.HT, a.B * a.D * a.N, "[B,D,N]"},
	} {
		if err := checkLen(v.name, v.v, v.n, v.shape); err != nil {
			return err
		}
	}
	return nil
}

func (a *Args) clamps() bool {
	return (a.DtLo != 0 || a.DtHi != 0) &&
		!(math.IsInf(float64(a.DtLo), -1) && math.IsInf(float64(a.DtHi), 1))
}
