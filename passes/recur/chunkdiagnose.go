package recur

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// decayKind tells log decays that are shown to be at most 0: forms that clamp
// sums of them at 0 are scans for these only.
func decayKind(v *graph.Value) certify.Kind {
	if sign(v, 8) < 0 {
		return certify.NonPositive
	}
	return certify.LogDecay
}

// sign is 1 for values that are never below 0, -1 for those never above, else 0.
func sign(v *graph.Value, depth int) int {
	if v.Const != nil {
		switch ofSign(v.Const) {
		case certify.LogDecay:
			return -1
		case certify.Positive:
			return 1
		}
		return 0
	}
	n := v.Def
	if n == nil || n.Op.Domain != "" || depth == 0 {
		return 0
	}
	switch n.Op.Name {
	case "Softplus", "Exp", "Sigmoid", "Relu", "Abs":
		return 1
	case "Neg":
		return -sign(n.In[0], depth-1)
	case "Mul":
		return sign(n.In[0], depth-1) * sign(n.In[1], depth-1)
	case "Cast", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Slice":
		return sign(n.In[0], depth-1)
	}
	return 0
}

// diagnosis adds what is known about a mismatch.
type diagnosis struct {
	*certify.Mismatch
	why string
}

func (d *diagnosis) Error() string { return d.Mismatch.Error() + "; " + d.why }
func (d *diagnosis) Unwrap() error { return d.Mismatch }

// diagnose recognises what often keeps a chunked form from being an SSD: groups
// in another order, and states that are not carried from chunk to chunk.
func (r *scanRoles) diagnose(m *certify.Mismatch, bs, cs []*graph.Value) error {
	for _, forms := range [][]*graph.Value{bs, cs} {
		for _, v := range forms {
			if tiled(v, r.a[2]) {
				return &diagnosis{m, fmt.Sprintf("%q is tiled over the heads (head h reads group h mod G), where an SSD's groups are repeated one by one (h div H/G); transformers 4.49 and older export this, 4.57 does not", v.Name)}
			}
		}
	}
	if q, ok := r.q.Const(); ok && q > 1 && m.Trial > 0 {
		return &diagnosis{m, fmt.Sprintf("the two agree within a chunk of %d tokens and differ across chunks: the states are not carried on as exp(sum of the decays) tells", q)}
	}
	return m
}

// tiled: v is [B,L,H,N] by repetition of whole runs of groups.
func tiled(v *graph.Value, heads graph.Dim) bool {
	if v.Type.Rank() != 4 || v.Type.Shape[2] != heads {
		return false
	}
	for _, u := range layout.Chain(v) {
		if u.Def != nil && u.Def.Op.Is("", "Tile") {
			return true
		}
	}
	return false
}
