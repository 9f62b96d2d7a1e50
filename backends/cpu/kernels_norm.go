package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/norm"
	"github.com/ssdc-go/ssdc/graph"
)

// Normalisations over the last axis. Their operands may be rows apart.

func normKernels() []*Kernel {
	onlyFirst := func(n *graph.Node, t backends.Target) error {
		for i, v := range n.Out {
			if i > 0 && v != nil && !v.Unused() {
				return fmt.Errorf("output %d, the statistics, is used", i)
			}
		}
		if a := n.Attrs.Int("axis", -1); a != -1 && a != int64(n.In[0].Type.Rank()-1) {
			return fmt.Errorf("axis %d is not the last", a)
		}
		return floats(0, 1, 2)(n, t)
	}
	return []*Kernel{
		{
			Op: onnxOp("LayerNormalization", 17), Name: "rows", Accepts: onlyFirst, Rows: anyRows(0), Over: map[int][]int{0: {0}},
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				y, x, w, bias := b.Out(0), b.In(0), b.In(1), b.In(2)
				rows, d, ldx, ok := matrix(x)
				if !ok || w.Len() != d || bias != nil && bias.Len() != d {
					return nil, ErrFallback
				}
				eps := n.Attrs.Float("epsilon", 1e-5)
				return b.Split(rows, max(1, heavyGrain/d), func(lo, hi int) {
					var shift []float32
					if bias != nil {
						shift = bias.F32
					}
					norm.LayerNorm(y.F32[lo*d:], x.F32[lo*ldx:], w.F32, shift, hi-lo, d, d, ldx, eps)
				}), nil
			},
		},
		{
			Op: onnxOp("RMSNormalization", 23), Name: "rows", Accepts: onlyFirst, Rows: anyRows(0), Over: map[int][]int{0: {0}},
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				y, x, w := b.Out(0), b.In(0), b.In(1)
				rows, d, ldx, ok := matrix(x)
				if !ok || w.Len() != d {
					return nil, ErrFallback
				}
				eps := n.Attrs.Float("epsilon", 1e-5)
				return b.Split(rows, max(1, heavyGrain/d), func(lo, hi int) {
					norm.RMSNorm(y.F32[lo*d:], x.F32[lo*ldx:], w.F32, hi-lo, d, d, ldx, eps)
				}), nil
			},
		},
		{
			Op: ssmOp("GatedRMSNorm"), Name: "rows", Accepts: floats(), Rows: anyRows(0, 1), Over: map[int][]int{0: {0}},
			Lower: func(b *Bind, n *graph.Node) (Step, error) {
				y, x, z, w := b.Out(0), b.In(0), b.In(1), b.In(2)
				rows, d, ldx, ok := matrix(x)
				zrows, zd, ldz, okz := matrix(z)
				if !ok || !okz || zrows != rows || zd != d || w.Len() != d {
					return nil, fmt.Errorf("shapes %v, %v and %v do not fit", x.Shape, z.Shape, w.Shape)
				}
				group := int(n.Attrs.Int("group_size", 0))
				if group == 0 {
					group = d
				}
				if group < 0 || d%group != 0 {
					return nil, fmt.Errorf("group_size %d does not divide %d channels", group, d)
				}
				eps, before := n.Attrs.Float("epsilon", 1e-5), n.Attrs.Int("norm_before_gate", 0) != 0
				return b.Split(rows, max(1, heavyGrain/d), func(lo, hi int) {
					norm.GatedRMSNorm(y.F32[lo*d:], x.F32[lo*ldx:], z.F32[lo*ldz:], w.F32, hi-lo, d, group, d, ldx, ldz, eps, before)
				}), nil
			},
		},
	}
}

// matrix sees m as rows of its last axis: rows x cols, ld elements apart.
func matrix(m *Mem) (rows, cols, ld int, ok bool) {
	if len(m.Shape) == 0 || m.Len() == 0 {
		return 0, 0, 0, false
	}
	cols = m.Dim(-1)
	rows = m.Len() / cols
	ld, ok = rowsOf(m, rows, cols)
	return rows, cols, ld, ok
}
