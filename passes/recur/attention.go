package recur

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Named takes recurrences that the model calls by name: LinearAttention of
// ONNX 27 and of ONNX Runtime's contrib operators. With one decay per head, or
// none, it is ssm.SSD with C for the query, B for the key and dt*x for the value.
var Named = &passes.Pass{
	Name:  "named",
	Doc:   "LinearAttention (linear, gated per head) becomes ssm.SSD",
	After: []passes.Order{{Pass: "canon", Why: "it reads one spelling of groups that are repeated per head"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Name != "LinearAttention" || n.Op.Domain != "" && n.Op.Domain != "com.microsoft" {
				continue
			}
			if err := (&attention{c: c, g: g, n: n}).rewrite(); err != nil {
				c.Miss(ruleAttention, firstOut(n), 1, 2, "%s: %v", n, err)
			}
		}
		return nil
	},
}

// fewTokens is how many tokens LinearAttention's own kernel, which takes the
// state as it comes, is faster for: 0.010 ms against 0.062 for one token of 24
// heads, N = 128, P = 64; 0.11 against 0.16 for 16; 0.35 against 0.38 for 64;
// 3.1 against 2.7 for 512. Where the number is not known the scan is chosen: what
// a prompt gains by it one step does not lose.
const fewTokens = 32

const ruleAttention = "ssm.SSD (LinearAttention)"

type attention struct {
	c *passes.Context
	g *graph.Graph
	n *graph.Node
}

func (a *attention) rewrite() error {
	n := a.n
	rule := n.Attrs.Str("update_rule", "gated_delta")
	if rule != "gated" && rule != "linear" {
		return fmt.Errorf("update_rule %q corrects the state by what it holds, which no scan with a decay does", rule)
	}
	hq, h := n.Attrs.Int("q_num_heads", 0), n.Attrs.Int("kv_num_heads", 0)
	if hq > h {
		return fmt.Errorf("%d query heads read %d states; a scan has one readout per head", hq, h)
	}
	q, k, v, past, decay := n.In[0], n.In[1], n.In[2], n.Input(3), n.Input(4)
	if !q.Type.Ranked() || !v.Type.Ranked() || q.Type.DType == tensor.Float64 {
		return fmt.Errorf("query is %s and value %s; expected known ranks", q.Type, v.Type)
	}
	B, T := v.Type.Shape[0], v.Type.Shape[1]
	H := graph.D(h)
	N, P := q.Type.Shape[2].FloorDiv(graph.D(hq)), v.Type.Shape[2].FloorDiv(H)
	if decay != nil && decay.Type.Shape[2] != H {
		return fmt.Errorf("the decay %s differs along the state; expected one per head, [B,T,%d]", decay.Type, h)
	}
	if t, ok := T.Const(); ok && t <= fewTokens && past != nil && n.Op.Domain == "" && a.c.Target != "cuda" { // where a kernel is
		return fmt.Errorf("for a sequence of %d it is not worth turning the given state from [N,P] to [P,N] and back", t)
	}
	b := a.c.Builder(a.g, n.From)
	G := graph.D(hq)
	if bk, bq := groupsBelow(k, B, T, H, N), groupsBelow(q, B, T, H, N); hq == h && bk != nil && bq != nil && layout.Numel(bk) == layout.Numel(bq) {
		k, q = bk, bq
		G, _ = layout.Numel(bk).DivExact(layout.Product(B, T, N))
	}
	q, k, v = unpacked(q, B, T, G, N), unpacked(k, B, T, G, N), unpacked(v, B, T, H, P)
	cl := &certify.Claim{In: []certify.Input{{Value: q}, {Value: k}, {Value: v}}}
	c := layout.Reshape(b, q, []graph.Dim{B, T, G, N})
	if scale := n.Attrs.Float("scale", 0); scale != 1 {
		s := tensor.New(q.Type.DType)
		nk, ok := N.Const()
		if scale == 0 && !ok {
			return fmt.Errorf("its scale is 1/sqrt(%s), which is not a number", N)
		}
		s.SetAt(0, float64(scale))
		if scale == 0 {
			s.SetAt(0, 1/math.Sqrt(float64(nk)))
		}
		c = b.Op("Mul", nil, c, b.Const(s))
	}
	if decay == nil {
		zero := b.Const(tensor.New(v.Type.DType, 1, 1, 1))
		decay = b.Op("Expand", nil, zero, layout.Shape(b, []graph.Dim{B, T, H}, v))
	} else {
		cl.In = append(cl.In, certify.Input{Value: decay, Kind: certify.LogDecay})
	}
	var h0 *graph.Value
	if past != nil {
		cl.In = append(cl.In, certify.Input{Value: past})
		h0 = layout.Transpose(b, past, 0, 1, 3, 2)
	}
	attrs := graph.Attrs{}
	if q := n.Attrs.Int("chunk_size", 0); q > 0 {
		attrs["chunk_size"] = q
	}
	m := b.Node(ssm.Domain, "SSD", attrs, 2, layout.Reshape(b, v, []graph.Dim{B, T, H, P}), nil, decay,
		layout.Reshape(b, k, []graph.Dim{B, T, G, N}), c, nil, nil, nil, h0)
	if b.Err != nil {
		return b.Err
	}
	cl.Old = []*graph.Value{n.Out[0]}
	cl.New = []*graph.Value{layout.Reshape(b, m.Out[0], n.Out[0].Type.Shape)}
	if s := n.Output(1); s != nil && !s.Unused() {
		cl.Old, cl.New = append(cl.Old, s), append(cl.New, layout.Transpose(b, m.Out[1], 0, 1, 3, 2))
	}
	if b.Err != nil {
		return b.Err
	}
	cl.Along(T, 1, 7)
	sh := certify.NewShrinker(T, H, G)
	if n.Attrs.Float("scale", 0) != 0 {
		sh.To(N, 5)
	} else { // 1/sqrt(N) is of the full N, and rounded to the model's type
		cl.Tol = 1e-6
	}
	sh.To(P, 3)
	groups, _ := G.Const()
	sh.To(H.Mul(N), h*sh.Of(N))
	sh.To(G.Mul(N), groups*sh.Of(N))
	sh.To(H.Mul(P), h*sh.Of(P))
	cl.Shrink = sh.Map
	return certify.Rewrite(a.c, ruleAttention, cl)
}

// unpacked is v as it was before its heads were packed into one axis, so that
// neighbours of the scan are next to it; v itself when they never stood apart.
func unpacked(v *graph.Value, shape ...graph.Dim) *graph.Value {
	want := graph.Type{DType: v.Type.DType, Shape: shape}
	for u := v; u.Def != nil && u.Def.Op.Is("", "Reshape"); {
		if u = u.Def.In[0]; u.Type.Equal(want) {
			return u
		}
	}
	return v
}

// groupsBelow finds what a key or query [B,T,H*N] repeats per head: a layout of
// it with fewer elements.
func groupsBelow(v *graph.Value, B, T, H, N graph.Dim) *graph.Value {
	for _, u := range layout.Chain(v) {
		g, ok := layout.Numel(u).DivExact(layout.Product(B, T, N))
		if k, number := g.Const(); ok && number && k > 0 && g != H && u.Type.Rank() >= 3 && u.Type.Shape[0] == B && u.Type.Shape[1] == T {
			if h, _ := H.Const(); h%k == 0 {
				return u
			}
		}
	}
	return nil
}
