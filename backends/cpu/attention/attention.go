// Package attention computes softmax(scale*Q K^T + mask) V in float32 without
// the matrix of scores: keys pass by in blocks, while each query keeps the
// largest score so far, the sum of exponentials and the weighted sum of values
// (online softmax, arXiv 1805.02867; in blocks, arXiv 2205.14135). Memory grows
// linearly with the number of keys.
//
// Many queries: keys and values are first copied into the panels that the
// kernels of package gemm read, once for all the query heads that share them;
// then blocks of queries are independent tasks. Few queries, as in decoding:
// keys and values are read where they are, once for all query heads of a group.
//
// Blocks of keys that the mask or causality hides from a whole block of queries
// are not computed. Results do not depend on the number of workers.
package attention

import "fmt"

// Heads is a [B,H,S,d] operand with contiguous rows: element (b,h,s,i) is
// Data[b*StrideB + h*StrideH + s*StrideS + i].
type Heads struct {
	Data                      []float32
	StrideB, StrideH, StrideS int
}

func (x *Heads) at(b, h, s int) []float32 { return x.Data[b*x.StrideB+h*x.StrideH+s*x.StrideS:] }

// Mask is what is added to the scores, or for Bool which keys are seen. A stride
// is 0 where the mask is broadcast. Keys from Len on are hidden.
type Mask struct {
	F                                  []float32
	Bool                               []byte
	StrideB, StrideH, StrideS, StrideT int
	Len                                int
}

func (m *Mask) given() bool { return m.F != nil || m.Bool != nil }

func (m *Mask) at(b, h, s int) int { return b*m.StrideB + h*m.StrideH + s*m.StrideS }

// Args are the operands of one call. HQ is a multiple of HKV: query head h reads
// key/value head h/(HQ/HKV).
type Args struct {
	B, HQ, HKV, S, T, D, DV int

	Q, K, V, O Heads
	Mask       Mask
	// Query s stands at place Offset+s among the keys, in batch row b at
	// Offsets[b]+s when that is given. Causal hides the keys behind that place,
	// Left and Right, when not negative, those farther away.
	Offset      int
	Offsets     []int
	Causal      bool
	Left, Right int
	// Valid, when given, is how many keys of each batch row there are.
	Valid []int

	Scale, Softcap float32
}

// Shape is what decides the size of a workspace.
type Shape struct{ B, HQ, HKV, S, T, D, DV int }

// Shape of the call.
func (a *Args) Shape() Shape { return Shape{a.B, a.HQ, a.HKV, a.S, a.T, a.D, a.DV} }

func (x *Heads) check(name string, b, h, s, d int) error {
	if x.StrideB < 0 || x.StrideH < 0 || x.StrideS < 0 {
		return fmt.Errorf("attention: %s has negative strides (%d,%d,%d)", name, x.StrideB, x.StrideH, x.StrideS)
	}
	if b*h*s*d == 0 {
		return nil
	}
	if need := (b-1)*x.StrideB + (h-1)*x.StrideH + (s-1)*x.StrideS + d; len(x.Data) < need {
		return fmt.Errorf("attention: %s has %d elements: [%d,%d,%d,%d] with strides (%d,%d,%d) needs %d", name, len(x.Data), b, h, s, d, x.StrideB, x.StrideH, x.StrideS, need)
	}
	return nil
}

// Check reports the first operand that does not fit the shapes.
func (a *Args) Check() error {
	if a.B < 0 || a.S < 0 || a.T < 0 || a.D < 0 || a.DV < 0 || a.HKV < 1 || a.HQ < 1 || a.HQ%a.HKV != 0 {
		return fmt.Errorf("attention: B=%d HQ=%d HKV=%d S=%d T=%d D=%d DV=%d: expected HQ to be a multiple of HKV", a.B, a.HQ, a.HKV, a.S, a.T, a.D, a.DV)
	}
	for _, c := range []struct {
		name    string
		x       *Heads
		h, s, d int
	}{{"query", &a.Q, a.HQ, a.S, a.D}, {"key", &a.K, a.HKV, a.T, a.D}, {"value", &a.V, a.HKV, a.T, a.DV}, {"output", &a.O, a.HQ, a.S, a.DV}} {
		if err := c.x.check(c.name, a.B, c.h, c.s, c.d); err != nil {
			return err
		}
	}
	m := &a.Mask
	if m.given() {
		have := max(len(m.F), len(m.Bool))
		if m.StrideB < 0 || m.StrideH < 0 || m.StrideS < 0 || m.StrideT < 0 || m.StrideT > 1 || m.Len < 0 || m.Len > a.T {
			return fmt.Errorf("attention: the mask has strides (%d,%d,%d,%d) and covers %d of %d keys", m.StrideB, m.StrideH, m.StrideS, m.StrideT, m.Len, a.T)
		}
		if a.B*a.S*m.Len > 0 && m.at(a.B-1, a.HQ-1, a.S-1)+(m.Len-1)*m.StrideT >= have {
			return fmt.Errorf("attention: the mask has %d elements, too few for [%d,%d,%d,%d]", have, a.B, a.HQ, a.S, m.Len)
		}
	}
	if a.Valid != nil && len(a.Valid) != a.B || a.Offsets != nil && len(a.Offsets) != a.B {
		return fmt.Errorf("attention: %d numbers of keys and %d offsets for a batch of %d", len(a.Valid), len(a.Offsets), a.B)
	}
	return nil
}

// sees is the range of keys that query s of batch row b may see, mask apart.
func (a *Args) sees(b, s int) (lo, hi int) {
	hi = a.T
	if a.Mask.given() {
		hi = a.Mask.Len
	}
	if a.Valid != nil {
		hi = min(hi, max(a.Valid[b], 0))
	}
	p := a.Offset + s
	if a.Offsets != nil {
		p = a.Offsets[b] + s
	}
	if a.Causal {
		hi = min(hi, p+1)
	}
	if a.Right >= 0 && a.Right < a.T {
		hi = min(hi, p+a.Right+1)
	}
	if a.Left >= 0 && p > a.Left {
		lo = p - a.Left
	}
	return lo, max(hi, lo)
}
