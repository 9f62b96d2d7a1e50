// Package ssd computes the SSD operator of Mamba-2 (arXiv 2405.21060) in f32.
//
// For every batch row b, head h (of group g = h div (H/G)) and position t
//
//	dt' = clamp(softplus?(dt + bias), lo, hi)      a_t = A_h * dt'_t
//	S_t = exp(a_t) * S_{t-1} + dt'_t * x_t (x) B_t     [P,N]
//	y_t = S_t C_t + D * x_t, then * silu(z_t)          [P]
//
// One definition, two algorithms. Recurrent streams the state once per step
// and is bound by memory: decoding. Chunked cuts the length into chunks of Q
// steps and turns almost all work into small matrix products on blocks that
// stay in L1 and L2: prompts. Quadratic is chunked with one chunk. The three
// agree up to f32 rounding; none materialises an L x L or an [L,P,N] tensor.
//
// Results do not depend on the number of workers. A NaN or Inf at step t never
// reaches an earlier output, and a change of SeqIdx resets the state exactly
// (chunks do not cross such a change).
package ssd

import (
	"fmt"
	"math"
)

// Seq is a [B,L,row] operand with contiguous rows. Element (b,t,i) is
// Data[b*StrideB + t*StrideL + i], so a column range of a wider row (such as x,
// B and C inside the convolution output) needs no copy.
type Seq struct {
	Data             []float32
	StrideB, StrideL int
}

// Algo selects the evaluation order.
type Algo int

const (
	// Auto picks by shape: Recurrent for a few steps, else Chunked.
	Auto Algo = iota
	Recurrent
	Chunked
	// Quadratic is the attention form: Chunked with a single chunk of L steps.
	Quadratic
)

var algoNames = [...]string{"auto", "recurrent", "chunked", "quadratic"}

// String gives the lower-case name.
func (a Algo) String() string {
	if a < 0 || int(a) >= len(algoNames) {
		return fmt.Sprintf("algo(%d)", int(a))
	}
	return algoNames[a]
}

// Args are the operands of one call. Optional operands have nil Data.
type Args struct {
	B, L, H, P, G, N int

	X Seq // rows [H*P]
	// Dt scales the input and, with A, sets the decay: rows [H]. It may be
	// absent only when LogDecay is given; the scale is then 1.
	Dt         Seq
	DtBias     []float32 // [H], nil: 0
	DtSoftplus bool
	// DtLo and DtHi clamp after softplus. Both zero (the zero value): no clamp.
	DtLo, DtHi float32
	A          []float32 // [H]; unused when LogDecay is given
	// LogDecay gives a_t directly, rows [H] ("pre-discretised": Dt is then only
	// the input scale). It may be positive.
	LogDecay  Seq
	BMat      Seq       // rows [G*N]
	CMat      Seq       // rows [G*N]
	D         []float32 // [H] or [H,P], nil: no skip
	Z         Seq       // rows [H*P]; y *= silu(z)
	H0        []float32 // [B,H,P,N], nil: zeros
	SeqIdx    []int32   // [B,L], nil: one sequence per row; H0 belongs to the first
	Y         Seq       // rows [H*P], written
	HT        []float32 // [B,H,P,N], nil: not wanted; may be the same slice as H0
	ChunkSize int       // Q, 0: chosen
	Algo      Algo
}

// span is the number of elements that a Seq must hold.
func span(b, l, row, sb, sl int) int {
	if b == 0 || l == 0 || row == 0 {
		return 0
	}
	return (b-1)*sb + (l-1)*sl + row
}

func (a *Args) checkSeq(name string, s *Seq, row int) error {
	if s.StrideB < 0 || s.StrideL < 0 {
		return fmt.Errorf("ssd: %s has negative strides (%d,%d): expected >= 0", name, s.StrideB, s.StrideL)
	}
	if need := span(a.B, a.L, row, s.StrideB, s.StrideL); len(s.Data) < need {
		return fmt.Errorf("ssd: %s has %d elements: [%d,%d,%d] with strides (%d,%d) needs %d",
			name, len(s.Data), a.B, a.L, row, s.StrideB, s.StrideL, need)
	}
	return nil
}

// Check reports the first operand that does not fit the shapes.
func (a *Args) Check() error {
	if a.B < 0 || a.L < 0 || a.H < 0 || a.P < 0 || a.N < 0 || a.G < 0 {
		return fmt.Errorf("ssd: negative dimension in B=%d L=%d H=%d P=%d G=%d N=%d", a.B, a.L, a.H, a.P, a.G, a.N)
	}
	if a.H > 0 && (a.G == 0 || a.H%a.G != 0) {
		return fmt.Errorf("ssd: H=%d heads do not divide over G=%d groups", a.H, a.G)
	}
	if a.ChunkSize < 0 {
		return fmt.Errorf("ssd: chunk size %d: expected > 0, or 0 to let the kernel choose", a.ChunkSize)
	}
	if a.Algo < Auto || a.Algo > Quadratic {
		return fmt.Errorf("ssd: unknown algorithm %v", a.Algo)
	}
	hp, gn, states := a.H*a.P, a.G*a.N, a.B*a.H*a.P*a.N
	steps := a.B*a.L*a.H > 0
	rows := []struct {
		name string
		s    *Seq
		row  int
		opt  bool
	}{
		{"x", &a.X, hp, false}, {"y", &a.Y, hp, false}, {"B", &a.BMat, gn, false}, {"C", &a.CMat, gn, false},
		{"dt", &a.Dt, a.H, true}, {"log decay", &a.LogDecay, a.H, true}, {"z", &a.Z, hp, true},
	}
	for i := range rows {
		if r := &rows[i]; !r.opt || r.s.Data != nil {
			if err := a.checkSeq(r.name, r.s, r.row); err != nil {
				return err
			}
		}
	}
	if steps && a.LogDecay.Data == nil {
		if a.Dt.Data == nil {
			return fmt.Errorf("ssd: neither dt nor a log decay is given: expected dt [B,L,H] with A [H], or a log decay [B,L,H]")
		}
		if len(a.A) != a.H {
			return fmt.Errorf("ssd: A has %d elements: expected H=%d", len(a.A), a.H)
		}
	}
	if a.DtBias != nil && len(a.DtBias) != a.H {
		return fmt.Errorf("ssd: dt bias has %d elements: expected H=%d", len(a.DtBias), a.H)
	}
	if a.D != nil && len(a.D) != a.H && len(a.D) != hp {
		return fmt.Errorf("ssd: D has %d elements: expected H=%d or H*P=%d", len(a.D), a.H, hp)
	}
	if a.H0 != nil && len(a.H0) != states {
		return fmt.Errorf("ssd: initial state has %d elements: expected [B,H,P,N] = %d", len(a.H0), states)
	}
	if a.HT != nil && len(a.HT) != states {
		return fmt.Errorf("ssd: final state has %d elements: expected [B,H,P,N] = %d", len(a.HT), states)
	}
	if a.SeqIdx != nil && len(a.SeqIdx) != a.B*a.L {
		return fmt.Errorf("ssd: seq_idx has %d elements: expected [B,L] = %d", len(a.SeqIdx), a.B*a.L)
	}
	if a.DtLo > a.DtHi {
		return fmt.Errorf("ssd: dt limits (%g,%g): expected lo <= hi", a.DtLo, a.DtHi)
	}
	return nil
}

// clamps says whether dt limits apply.
func (a *Args) clamps() bool {
	return (a.DtLo != 0 || a.DtHi != 0) &&
		!(math.IsInf(float64(a.DtLo), -1) && math.IsInf(float64(a.DtHi), 1))
}

// skipAt is D for element p of head h.
func (a *Args) skipAt(h, p int) float32 {
	if len(a.D) == a.H {
		return a.D[h]
	}
	return a.D[h*a.P+p]
}
