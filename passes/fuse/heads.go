package fuse

import (
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// heads are the operands of an attention, [B,H,S,d], or packed, [B,S,H*d].
type heads struct {
	b              *graph.Builder
	q, k, v, y     *graph.Value
	pastKey, pastV *graph.Value
	hq, hkv        int64          // the numbers of heads when packed, else 0
	heads          []graph.Dim    // of the queries and of the keys
	old            []*graph.Value // keys and values with the past, when Attention makes them
	order          map[*graph.Node]int
	first          int // nodes from here on are new
}

// ungroup undoes the repetition of the heads of v for groups of query heads:
// Reshape(Expand(Unsqueeze(v))), [B,G,T,d] to [B,H,T,d].
func ungroup(v *graph.Value) *graph.Value {
	re := op(v, "Reshape")
	if re == nil || v.Type.Rank() != 4 {
		return v
	}
	ex := op(re.In[0], "Expand")
	if ex == nil || ex.Out[0].Type.Rank() != 5 {
		return v
	}
	un := ex.In[0].Def
	if un == nil || un.Op.Domain != "" || un.Op.Name != "Unsqueeze" && un.Op.Name != "Reshape" || un.In[0].Type.Rank() != 4 {
		return v
	}
	in, wide, s := un.In[0].Type.Shape, ex.Out[0].Type.Shape, v.Type.Shape
	if in[0] != s[0] || in[2] != s[2] || in[3] != s[3] || wide[1] != in[1] || !ex.In[0].Type.Shape[2].Is(1) || wide[1].Mul(wide[2]) != s[1] {
		return v
	}
	return un.In[0]
}

// packedHeads gives [B,S,H*d] where v is Transpose(Reshape(that)), [B,H,S,d],
// perhaps in another float type.
func packedHeads(b *graph.Builder, v *graph.Value) *graph.Value {
	cast := op(v, "Cast")
	if cast != nil {
		v = cast.In[0]
	}
	tr := op(v, "Transpose")
	if tr == nil || !slices.Equal(tr.Attrs.Ints("perm"), []int64{0, 2, 1, 3}) {
		return nil
	}
	re := op(tr.In[0], "Reshape")
	if re == nil {
		return nil
	}
	s, x := tr.In[0].Type.Shape, re.In[0]
	want := []graph.Dim{s[0], s[1], s[2].Mul(s[3])}
	if layout.Numel(x) != layout.Product(want...) {
		return nil
	}
	if x = layout.Reshape(b, x, want); cast != nil && b.Err == nil {
		x = b.Like(cast, x).Out[0]
	}
	return x
}

// pack takes the past of keys and values into the operator, and changes to
// packed operands when all of them are.
func (h *heads) pack(mask *graph.Value) {
	h.heads = []graph.Dim{h.q.Type.Shape[1], h.k.Type.Shape[1]}
	if h.b.Err != nil {
		return
	}
	k, pastK := afterPast(h.k)
	v, pastV := afterPast(h.v)
	if (pastK == nil) != (pastV == nil) {
		return
	}
	if pastK != nil {
		for _, made := range []*graph.Value{h.k, h.v} {
			for _, v := range []*graph.Value{h.q, k, v, pastK, pastV, mask} {
				if h.needs(v, made.Def) {
					return
				}
			}
		}
		h.old = []*graph.Value{h.k, h.v}
		h.k, h.v, h.pastKey, h.pastV = k, v, pastK, pastV
	}
	hq, ok := h.q.Type.Shape[1].Const()
	hkv, ok2 := h.k.Type.Shape[1].Const()
	y := packedResult(h.y)
	if !ok || !ok2 || y == nil {
		return
	}
	if q3, k3, v3 := packedHeads(h.b, h.q), packedHeads(h.b, h.k), packedHeads(h.b, h.v); q3 != nil && k3 != nil && v3 != nil {
		h.q, h.k, h.v, h.hq, h.hkv, h.y = q3, k3, v3, hq, hkv, y
	}
}

// packedResult is Reshape(Transpose(y)), [B,S,H*d] or with the first two axes as
// one, where that is all that y is used for.
func packedResult(y *graph.Value) *graph.Value {
	tr := only(y)
	if tr == nil || !tr.Op.Is("", "Transpose") || !slices.Equal(tr.Attrs.Ints("perm"), []int64{0, 2, 1, 3}) {
		return nil
	}
	re := only(tr.Out[0])
	if re == nil || !re.Op.Is("", "Reshape") {
		return nil
	}
	s, t := tr.Out[0].Type.Shape, re.Out[0].Type.Shape
	if width := s[2].Mul(s[3]); len(t) == 0 || t[len(t)-1] != width || layout.Numel(re.Out[0]) != layout.Product(s[0], s[1], width) {
		return nil
	}
	return re.Out[0]
}

// needs reports that v is computed from what n makes: an attention that makes
// that could not read v. Only nodes after n are looked at.
func (h *heads) needs(v *graph.Value, n *graph.Node) bool {
	from, seen := h.order[n], map[*graph.Node]bool{}
	stack := []*graph.Value{v}
	for len(stack) > 0 {
		u := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if u == nil || u.Def == nil || seen[u.Def] {
			continue
		}
		if u.Def == n || len(seen) > 1000 {
			return true
		}
		if at, ok := h.order[u.Def]; ok && at < from {
			continue
		}
		seen[u.Def] = true
		stack = append(stack, u.Def.In...)
		if len(u.Def.Bodies) > 0 {
			return true // captures are not listed
		}
	}
	return false
}

// source is v before what this rewrite put around it.
func (h *heads) source(v *graph.Value) *graph.Value {
	for v.Def != nil {
		if _, old := h.order[v.Def]; old || !slices.Contains(h.b.Graph.Nodes[h.first:], v.Def) {
			break
		}
		v = v.Def.In[0]
	}
	return v
}

// afterPast splits Concat(past, fresh) along the tokens of [B,H,T,d].
func afterPast(v *graph.Value) (fresh, past *graph.Value) {
	n := op(v, "Concat")
	if n == nil || len(n.In) != 2 || v.Type.Rank() != 4 {
		return v, nil
	}
	if a := n.Attrs.Int("axis", 0); a != 2 && a != -2 {
		return v, nil
	}
	return n.In[1], n.In[0]
}

// attend builds the node and gives what stands for y and old.
func (h *heads) attend(attrs graph.Attrs, mask *graph.Value, cl *certify.Claim) []*graph.Value {
	b := h.b
	if b.Err != nil {
		return nil
	}
	for _, v := range []*graph.Value{h.q, h.k, h.v, h.pastKey, h.pastV} {
		if v != nil {
			cl.In = append(cl.In, certify.Input{Value: h.source(v)})
		}
	}
	n := 1 + len(h.old)
	if h.hq > 0 {
		attrs["q_num_heads"], attrs["kv_num_heads"] = h.hq, h.hkv
	}
	m := b.Node("", "Attention", attrs, n, h.q, h.k, h.v, mask, h.pastKey, h.pastV)
	if b.Err != nil {
		return nil
	}
	return append([]*graph.Value{layout.Reshape(b, m.Out[0], h.y.Type.Shape)}, m.Out[1:]...)
}
