package fuse

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Attention recognises softmax attention.
var Attention = &passes.Pass{
	Name: "fuse-attention",
	Doc:  "MatMul(Softmax(scale*MatMul(Q, K^T) + mask), V), heads repeated or packed, becomes Attention",
	After: []passes.Order{
		{Pass: "canon", Why: "it reads one spelling of casts, dropout and layouts"},
		{Pass: "recur", Why: "attention without a softmax is a recurrence"},
		{Pass: "fuse-rotary", Why: "rotated queries and keys are packed again"},
	},
	Run: func(c *passes.Context, g *graph.Graph) error {
		order := map[*graph.Node]int{}
		for i, n := range g.Nodes {
			order[n] = i
		}
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Is("", "MatMul") && !n.Out[0].Unused() {
				if a := matchAttention(c, n); a != nil {
					a.rewrite(c, g, order)
				}
			}
		}
		return nil
	},
}

const ruleAttention = "Attention"

// hidesKeys is the least that may stand for a hidden score: nothing is left of
// its exponential.
const hidesKeys = -1000.0

// attention is a match: y = softmax(scale*q kt + masks) v.
type attention struct {
	y, q, kt, v *graph.Value
	scores      *graph.Value // q kt
	scale       float64
	softcap     float64
	masks       []*graph.Value        // to be added, in any order
	joined      map[*graph.Value]bool // masks of scores whose heads are in one axis with the batch
	sees        *graph.Value          // Boolean: the keys to see, or with hides those to hide; or nil
	hides       bool
	fill        float64     // what stands for the scores of hidden keys
	lead        []graph.Dim // of the scores where they have four axes, or nil
}

// matchAttention starts from the product with the values.
func matchAttention(c *passes.Context, n *graph.Node) *attention {
	a := &attention{y: n.Out[0], v: n.In[1], scale: 1}
	p := a.probabilities(n.In[0])
	soft := op(p, "Softmax")
	if soft == nil {
		return nil
	}
	rank := soft.In[0].Type.Rank()
	if a.v.Type.Rank() != n.In[0].Type.Rank() || rank < 3 || rank > 4 || n.In[0].Type.Rank() < 3 || n.In[0].Type.Rank() > 4 || a.y.Type.DType != tensor.Float32 {
		return nil
	}
	why := a.descend(soft.In[0])
	if a.scores == nil {
		if why != "" {
			c.Miss(ruleAttention, a.y, 1, 4, "%s", why)
		}
		return nil
	}
	axis := soft.Attrs.Int("axis", -1)
	if soft.Op.Since < 13 {
		axis = soft.Attrs.Int("axis", 1)
	}
	if axis != -1 && axis != int64(rank-1) {
		c.Miss(ruleAttention, a.y, 1, 4, "%s runs over axis %d, not over the keys", soft, axis)
		return nil
	}
	for v := a.scores; v != a.y; {
		u := only(v)
		if u == nil && !a.guarded(v) {
			c.Miss(ruleAttention, a.y, 2, 4, "%q, a value inside the attention, is also used elsewhere", v.Name)
			return nil
		}
		if u == nil {
			u = v.Uses[0].Node
			for u.Op.Name != "Where" {
				u = u.Out[0].Uses[0].Node
			}
		}
		v = u.Out[0]
	}
	return a
}

// probabilities looks through what may stand between the softmax and the values:
// layouts, and the guard Where(IsNaN(p), 0, p) for queries that see nothing, of
// which Attention says the same.
func (a *attention) probabilities(p *graph.Value) *graph.Value {
	for p.Def != nil {
		switch n := p.Def; {
		case n.Op.Is("", "Reshape") && sameTail(n.In[0].Type, p.Type):
			p = n.In[0]
		case n.Op.Is("", "Where") && op(n.In[0], "IsNaN") != nil && n.In[0].Def.In[0] == n.In[2]:
			if k, ok := scalar(n.In[1]); !ok || k != 0 {
				return p
			}
			p = n.In[2]
		default:
			return p
		}
	}
	return p
}

// guarded: v goes to IsNaN and to the Where that this decides, and nowhere else.
func (a *attention) guarded(v *graph.Value) bool {
	if len(v.Uses) != 2 || v.IsOutput() {
		return false
	}
	test, pick := v.Uses[0].Node, v.Uses[1].Node
	if test.Op.Name == "Where" {
		test, pick = pick, test
	}
	return test.Op.Is("", "IsNaN") && pick.Op.Is("", "Where") && len(test.Out[0].Uses) == 1 && test.Out[0].Uses[0].Node == pick && pick.In[2] == v
}

// sameTail: both have the same last two axes.
func sameTail(a, b graph.Type) bool {
	m, n := a.Rank(), b.Rank()
	return m >= 2 && n >= 2 && a.Shape[m-1] == b.Shape[n-1] && a.Shape[m-2] == b.Shape[n-2]
}

// descend follows the scores from the softmax down to the product of queries
// and keys. Without one, it says what is in the way, if it looks like attention.
func (a *attention) descend(v *graph.Value) string {
	for v.Def != nil && v.Def.Op.Domain == "" {
		n := v.Def
		switch n.Op.Name {
		case "MatMul":
			if v.Type.Rank() < 3 || n.In[0].Type.Rank() != v.Type.Rank() || n.In[1].Type.Rank() != v.Type.Rank() {
				return ""
			}
			a.scores, a.q, a.kt = v, n.In[0], n.In[1]
			a.factors()
			return ""
		case "Mul", "Div":
			x, k, ok := times(n)
			if !ok {
				return ""
			}
			if t := op(x, "Tanh"); t != nil && a.softcap == 0 {
				inner, f := t.In[0], 1.0
				if d := inner.Def; d != nil {
					if y, g, ok := times(d); ok {
						inner, f = y, g
					}
				}
				if a.scale != 1 {
					return fmt.Sprintf("%s is a soft cap, and the scale is applied after it", n)
				}
				a.softcap, a.scale, v = k, f*k, inner
				continue
			}
			a.scale, v = a.scale*k, x
		case "Add":
			s, m := a.side(n)
			if s == nil || a.softcap != 0 {
				return ""
			}
			if a.scale != 1 {
				return fmt.Sprintf("the scale is applied after the mask %q is added", m.Name)
			}
			a.join(m, v)
			a.masks, v = append(a.masks, m), s
		case "Where":
			s, fill := n.In[1], n.In[2]
			k, ok := scalar(fill)
			if !ok {
				s, fill = fill, s
				if k, ok = scalar(fill); !ok {
					return ""
				}
				a.hides = true
			}
			if k > hidesKeys || a.sees != nil || a.scale != 1 || a.softcap != 0 {
				return fmt.Sprintf("%s hides keys with %g; expected at most %g, once and before the scale", n, k, hidesKeys)
			}
			a.join(n.In[0], v)
			a.sees, a.fill, v = n.In[0], k, s
		case "Reshape":
			if !sameTail(n.In[0].Type, v.Type) {
				return ""
			}
			if v.Type.Rank() == 4 && n.In[0].Type.Rank() == 3 {
				a.lead = v.Type.Shape[:2]
			}
			v = n.In[0]
		default:
			return ""
		}
	}
	return ""
}

// join notes a mask of scores on three axes that has a row of its own for every
// head of the batch.
func (a *attention) join(mask, scores *graph.Value) {
	if scores.Type.Rank() == 3 && mask.Type.Rank() == 3 && !mask.Type.Shape[0].Is(1) {
		if a.joined == nil {
			a.joined = map[*graph.Value]bool{}
		}
		a.joined[mask] = true
	}
}

// side tells the scores, which come from a product, from the mask in a sum.
func (a *attention) side(n *graph.Node) (scores, mask *graph.Value) {
	for _, p := range pair(n) {
		if p[0].Type.Equal(n.Out[0].Type) && fromProduct(p[0]) {
			return p[0], p[1]
		}
	}
	return nil, nil
}

func fromProduct(v *graph.Value) bool {
	for range 8 {
		if v.Def == nil || v.Def.Op.Domain != "" {
			return false
		}
		switch n := v.Def; n.Op.Name {
		case "MatMul":
			return n.In[1].Const == nil
		case "Mul", "Div":
			x, _, ok := times(n)
			if !ok {
				return false
			}
			v = x
		case "Tanh", "Reshape":
			v = n.In[0]
		case "Where":
			if v = n.In[1]; v.Const != nil {
				v = n.In[2]
			}
		case "Add":
			if fromProduct(n.In[0]) {
				return true
			}
			v = n.In[1]
		default:
			return false
		}
	}
	return false
}

// times reads a product with, or a quotient by, a constant number.
func times(n *graph.Node) (x *graph.Value, k float64, ok bool) {
	switch {
	case n.Op.Is("", "Mul"):
		for _, p := range pair(n) {
			if k, ok := scalar(p[1]); ok && p[0].Type.Equal(n.Out[0].Type) {
				return p[0], k, true
			}
		}
	case n.Op.Is("", "Div"):
		if k, ok := scalar(n.In[1]); ok && k != 0 && n.In[0].Type.Equal(n.Out[0].Type) {
			return n.In[0], 1 / k, true
		}
	}
	return nil, 0, false
}

// factors takes what scales the queries or the keys into the scale.
func (a *attention) factors() {
	for _, v := range []**graph.Value{&a.q, &a.kt} {
		for (*v).Def != nil {
			x, k, ok := times((*v).Def)
			if !ok {
				break
			}
			a.scale, *v = a.scale*k, x
		}
	}
}

// rewrite replaces the match. Where no data enters the masks they may be
// causality: then none is given, and none is as large as all pairs of positions.
func (a *attention) rewrite(c *passes.Context, g *graph.Graph, order map[*graph.Node]int) {
	if a.positional() && a.replace(c, g, order, true) == nil {
		return
	}
	if err := a.replace(c, g, order, false); err != nil {
		c.Miss(ruleAttention, a.y, 3, 4, "%v", err)
	}
}

// positional: there are masks, and they depend on positions and lengths alone.
func (a *attention) positional() bool {
	stack := append([]*graph.Value{}, a.masks...)
	if a.sees != nil {
		stack = append(stack, a.sees)
	}
	if len(stack) == 0 {
		return false
	}
	seen := map[*graph.Value]bool{}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || seen[v] || v.Const != nil || v.Known != nil {
			continue
		}
		seen[v] = true
		if v.Def == nil || len(v.Def.Bodies) > 0 || len(seen) > 1000 {
			return false
		}
		if n := v.Def; !n.Op.Is("", "Shape") && !n.Op.Is("", "Size") {
			stack = append(stack, n.In...)
		}
	}
	return true
}

// replace builds Attention on heads that stay packed, [B,S,H*d], when queries,
// keys, values and result all are; else on [B,H,S,d].
func (a *attention) replace(c *passes.Context, g *graph.Graph, order map[*graph.Node]int, causal bool) error {
	b := c.Builder(g, a.y.Def.From)
	first := len(g.Nodes)
	k := a.keys(b)
	q, v := a.q, a.v
	lead := a.lead
	if b.Err == nil && q.Type.Rank() == 3 { // heads in one axis with the batch
		if lead == nil {
			lead = []graph.Dim{graph.D(1), q.Type.Shape[0]}
		}
		for _, x := range []**graph.Value{&q, &k, &v} {
			s := (*x).Type.Shape
			if layout.Product(lead...) != s[0] {
				return fmt.Errorf("%q has %s heads in its first axis, and the scores %v", (*x).Name, s[0], lead)
			}
			*x = layout.Reshape(b, *x, append(append([]graph.Dim{}, lead...), s[1], s[2]))
		}
	}
	if b.Err != nil {
		return b.Err
	}
	h := heads{b: b, q: q, k: ungroup(k), v: ungroup(v), y: a.y, order: order, first: first}
	if h.k.Type.Shape[1] != h.v.Type.Shape[1] { // only one of them is repeated
		h.k, h.v = k, v
	}
	cl := &certify.Claim{}
	attrs := graph.Attrs{"scale": float32(a.scale)}
	var mask *graph.Value
	if causal {
		attrs["is_causal"] = int64(1)
	} else {
		if lead == nil {
			lead = q.Type.Shape[:2]
		}
		for m := range a.joined {
			if layout.Product(lead...) != m.Type.Shape[0] {
				return fmt.Errorf("the mask %q has %s heads in its first axis, and the scores %v", m.Name, m.Type.Shape[0], lead)
			}
		}
		mask = a.mask(b, cl, lead)
	}
	h.pack(mask)
	if a.softcap != 0 {
		attrs["softcap"] = float32(a.softcap)
	}
	outs := h.attend(attrs, mask, cl)
	if b.Err != nil {
		return b.Err
	}
	cl.Old, cl.New = append([]*graph.Value{h.y}, h.old...), outs
	a.sizes(cl, h)
	if float64(float32(a.scale)) != a.scale || float64(float32(a.softcap)) != a.softcap {
		cl.Tol = 1e-6 // the attributes are float32
	}
	return certify.Rewrite(c, ruleAttention, cl)
}

// keys undoes the transposition of the keys.
func (a *attention) keys(b *graph.Builder) *graph.Value {
	rank := a.kt.Type.Rank()
	swap := func(p []int64) []int64 { p[rank-1], p[rank-2] = p[rank-2], p[rank-1]; return p }
	if n := op(a.kt, "Transpose"); n != nil {
		p := append([]int64{}, n.Attrs.Ints("perm")...)
		if len(p) == rank {
			return layout.Transpose(b, n.In[0], swap(p)...)
		}
	}
	s := a.kt.Type.Shape
	for v := a.kt; v.Def != nil && (v.Def.Op.Is("", "Reshape") || v.Def.Op.Is("", "Transpose")); {
		v = v.Def.In[0]
		if t := v.Type.Shape; len(t) == rank && t[rank-1] == s[rank-2] && t[rank-2] == s[rank-1] && sameDims(t[:rank-2], s[:rank-2]) {
			return v // the certificate tells whether it was just transposed
		}
	}
	p := make([]int64, rank)
	for i := range p {
		p[i] = int64(i)
	}
	return layout.Transpose(b, a.kt, swap(p)...)
}

func sameDims(a, b []graph.Dim) bool {
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// mask adds up the masks. A query that sees nothing is not part of the claim:
// there the softmax is NaN, or with finite numbers the mean of what is hidden,
// and Attention gives zeros. lead are the batch and the heads.
func (a *attention) mask(b *graph.Builder, cl *certify.Claim, lead []graph.Dim) *graph.Value {
	apart := func(m *graph.Value) *graph.Value {
		if a.joined[m] {
			return layout.Reshape(b, m, append(slices.Clone(lead), m.Type.Shape[1:]...))
		}
		return m
	}
	var sum *graph.Value
	add := func(m *graph.Value) {
		if sum == nil {
			sum = m
		} else {
			sum = b.Op("Add", nil, m, sum)
		}
	}
	for _, m := range a.masks {
		cl.In = append(cl.In, certify.Input{Value: m})
		add(apart(m))
	}
	if a.sees == nil {
		return sum
	}
	sees, kind := a.sees, certify.Seen
	if a.hides {
		kind = certify.Hidden
	}
	if _, known := ops.KnownOf(sees); !known { // else it is checked as it is
		cl.In = append(cl.In, certify.Input{Value: sees, Kind: kind})
	}
	if sees = apart(sees); b.Err != nil {
		return nil
	}
	if sum == nil && math.IsInf(a.fill, -1) {
		if a.hides {
			return b.Op("Not", nil, sees)
		}
		return sees
	}
	zero, fill := b.Const(tensor.Scalar(float32(0))), b.Const(tensor.Scalar(float32(a.fill)))
	if a.hides {
		zero, fill = fill, zero
	}
	add(b.Op("Where", nil, sees, zero, fill))
	return sum
}

// sizes says how the claim is tried: at a few lengths, with small heads.
func (a *attention) sizes(cl *certify.Claim, h heads) {
	t := a.scores.Type
	keys, queries := t.Shape[t.Rank()-1], t.Shape[t.Rank()-2]
	along := keys
	if along.IsConst() {
		along = queries
	}
	cl.Along(along, 2, 5)
	sh := certify.NewShrinker(h.heads...)
	sh.To(keys, 7)
	sh.To(queries, 6)
	d, dv := a.q.Type.Shape[a.q.Type.Rank()-1], a.v.Type.Shape[a.v.Type.Rank()-1]
	sh.To(d, 4)
	sh.To(dv, 5)
	for _, n := range h.heads { // packed rows
		for _, d := range []graph.Dim{d, dv} {
			sh.To(n.Mul(d), func() int64 { k, _ := n.Const(); return k * sh.Of(d) }())
		}
	}
	cl.Shrink = sh.Map
}
