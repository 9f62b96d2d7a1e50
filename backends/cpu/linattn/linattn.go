// Package linattn computes linear attention with a matrix state in f32: the
// recurrences of ONNX's LinearAttention-27, in its own layouts.
//
// For every batch row b, key/value head h and position t, with a state S of
// [DK,DV] and rows k, v, q of the step:
//
//	S = exp(g) S            by head, or by key row      (gated rules)
//	w = beta (v - S^T k)    or w = v                    (delta rules, or not)
//	S = S + k (x) w
//	o = scale S^T q         for each of the HQ/HKV query heads of h
//
// The state of a head is walked in panels of 32 columns, which do not depend on
// each other: [DK,32] stays in the first level of cache while all steps pass
// over it, twice for a delta rule and once otherwise. The chunked forms (arXiv
// 2406.06484, 2412.06464) were built and measured too: at DK=128, DV=64 their
// matrix products, 1.2 to 1.9 times the work, took 1.6 to 2.8 times as long; and
// this form is exact at any decay.
//
// Results do not depend on the number of workers, and a step is the same alone
// and within a longer sequence, bit for bit.
package linattn

import "fmt"

// Seq is a [B,T,row] operand with contiguous rows: element (b,t,i) is
// Data[b*StrideB + t*StrideT + i].
type Seq struct {
	Data             []float32
	StrideB, StrideT int
}

func (s *Seq) at(b, t int) []float32 { return s.Data[b*s.StrideB+t*s.StrideT:] }

// Args are the operands of one call. Optional operands have nil Data.
type Args struct {
	B, T, HQ, HKV, DK, DV int

	Q, K, V Seq // rows [HQ*DK], [HKV*DK], [HKV*DV]
	// Decay is g: rows [HKV], or [HKV*DK] when PerKey. Absent: 0.
	Decay  Seq
	PerKey bool
	// Beta gives a delta rule: rows [HKV], or [1] when BetaShared.
	Beta       Seq
	BetaShared bool
	Scale      float32
	S0         []float32 // [B,HKV,DK,DV], nil: zeros
	ST         []float32 // the final state; may be the same slice as S0
	O          Seq       // rows [HQ*DV], written
}

func (a *Args) checkSeq(name string, s *Seq, row int, optional bool) error {
	if s.Data == nil && optional {
		return nil
	}
	if s.StrideB < 0 || s.StrideT < 0 {
		return fmt.Errorf("linattn: %s has negative strides (%d,%d)", name, s.StrideB, s.StrideT)
	}
	need := 0
	if a.B > 0 && a.T > 0 && row > 0 {
		need = (a.B-1)*s.StrideB + (a.T-1)*s.StrideT + row
	}
	if len(s.Data) < need {
		return fmt.Errorf("linattn: %s has %d elements: [%d,%d,%d] with strides (%d,%d) needs %d", name, len(s.Data), a.B, a.T, row, s.StrideB, s.StrideT, need)
	}
	return nil
}

// Check reports the first operand that does not fit the shapes.
func (a *Args) Check() error {
	if a.B < 0 || a.T < 0 || a.DK < 0 || a.DV < 0 || a.HKV < 1 || a.HQ < 1 || a.HQ%a.HKV != 0 {
		return fmt.Errorf("linattn: B=%d T=%d HQ=%d HKV=%d DK=%d DV=%d: expected HQ to be a multiple of HKV", a.B, a.T, a.HQ, a.HKV, a.DK, a.DV)
	}
	decay, beta := a.HKV, a.HKV
	if a.PerKey {
		decay *= a.DK
	}
	if a.BetaShared {
		beta = 1
	}
	for _, s := range []struct {
		name     string
		seq      *Seq
		row      int
		optional bool
	}{{"query", &a.Q, a.HQ * a.DK, false}, {"key", &a.K, a.HKV * a.DK, false}, {"value", &a.V, a.HKV * a.DV, false},
		{"decay", &a.Decay, decay, true}, {"beta", &a.Beta, beta, true}, {"output", &a.O, a.HQ * a.DV, false}} {
		if err := a.checkSeq(s.name, s.seq, s.row, s.optional); err != nil {
			return err
		}
	}
	states := a.B * a.HKV * a.DK * a.DV
	if a.S0 != nil && len(a.S0) != states || len(a.ST) != states {
		return fmt.Errorf("linattn: states have %d and %d elements: expected [B,HKV,DK,DV] = %d", len(a.S0), len(a.ST), states)
	}
	return nil
}
