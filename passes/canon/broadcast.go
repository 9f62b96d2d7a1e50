package canon

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// Exporters write broadcasts out: Hugging Face's decode step expands dt, A and
// dt_bias to [B,H,P,N] before it multiplies them. Elementwise operators
// broadcast by themselves, so an Expand in front of one is dropped, and where
// all operands are expanded along an axis the operator runs on the short form
// and the Expand moves behind it. Constants that repeat along an axis count as
// expanded. Each element is still computed by the same operation.

// dims makes a shape vector. Symbols come from the inputs of the model where
// they can, so that no value stays alive only for its shape.
func (r *rewriter) dims(b *graph.Builder, dims []graph.Dim, from ...*graph.Value) *graph.Value {
	src := append([]*graph.Value{}, r.root.Inputs...)
	for _, v := range from {
		if v != nil {
			src = append(src, v)
		}
	}
	return ssm.ShapeOf(b, dims, src...)
}

// expandTo broadcasts v to a shape, at the place of n.
func (r *rewriter) expandTo(n *graph.Node, v *graph.Value, shape []graph.Dim) *graph.Value {
	b := r.builder(n)
	out := b.Op("Expand", nil, v, r.dims(b, shape, append([]*graph.Value{v}, n.In...)...))
	if out = done(b, out); out != nil && !out.Type.Equal(graph.Type{DType: v.Type.DType, Shape: shape}) {
		return nil
	}
	return out
}

// maxConstScan bounds the constants that are looked through for repetition.
const maxConstScan = 1 << 20

// short returns the operand before its expansion: the input of an Expand, or a
// constant with repeated axes cut to length 1.
func (r *rewriter) short(v *graph.Value) *graph.Value {
	if d := v.Def; d != nil && d.Op.Is("", "Expand") && d.In[0].Type.Ranked() {
		return d.In[0]
	}
	if v.Const == nil || v.Const.Rank() == 0 || v.Const.Len() > maxConstScan || v.Const.Len() < 2 || v.Type.DType == tensor.String {
		return v
	}
	if c := cutRepeats(v.Const); c != v.Const {
		return r.root.AddConst(v.Name, c)
	}
	return v
}

// cutRepeats shortens axes along which t is constant to length 1.
func cutRepeats(t *tensor.Tensor) *tensor.Tensor {
	size := t.DType.Size()
	if size == 0 {
		return t
	}
	for a := 0; a < t.Rank(); a++ {
		n := t.Shape[a]
		if n <= 1 {
			continue
		}
		inner := size
		for _, m := range t.Shape[a+1:] {
			inner *= m
		}
		outer := len(t.Data) / (inner * n)
		if !repeats(t.Data, outer, n, inner) {
			continue
		}
		shape := append([]int{}, t.Shape...)
		shape[a] = 1
		c := tensor.New(t.DType, shape...)
		for o := range outer {
			copy(c.Data[o*inner:][:inner], t.Data[o*n*inner:])
		}
		t = c
	}
	return t
}

func repeats(data []byte, outer, n, inner int) bool {
	for o := range outer {
		first := data[o*n*inner:][:inner]
		for i := 1; i < n; i++ {
			if string(data[(o*n+i)*inner:][:inner]) != string(first) {
				return false
			}
		}
	}
	return true
}

// shrinkBroadcast applies the idea above to an elementwise node.
func shrinkBroadcast(r *rewriter, n *graph.Node) *graph.Value {
	out := n.Out[0].Type
	if !out.Ranked() || len(n.Out) != 1 {
		return nil
	}
	in := make([]*graph.Value, len(n.In))
	any := false
	for i, v := range n.In {
		if v == nil {
			continue
		}
		if !v.Type.Ranked() {
			return nil
		}
		in[i] = r.short(v)
		any = any || in[i] != v
	}
	if !any {
		return nil
	}
	b := r.builder(n)
	m := b.Like(n, in...)
	if b.Err != nil {
		return nil
	}
	v := m.Out[0]
	if !v.Type.Ranked() || v.Type.DType != out.DType {
		return nil
	}
	if v.Type.Equal(out) {
		return v
	}
	if allConst(n.In) {
		return nil // folding will deal with it
	}
	for i, d := range v.Type.Shape { // each axis stays or shrinks to 1
		if o := out.Shape[out.Rank()-v.Type.Rank()+i]; d != o && !d.Is(1) {
			return nil
		}
	}
	return r.expandTo(n, v, out.Shape)
}

func allConst(vs []*graph.Value) bool {
	for _, v := range vs {
		if v != nil && v.Const == nil {
			return false
		}
	}
	return true
}

// sinkExpand moves an Expand behind an Unsqueeze or Transpose.
func sinkExpand(r *rewriter, n *graph.Node) *graph.Value {
	e := n.In[0].Def
	if e == nil || !e.Op.Is("", "Expand") || e.In[0].Type.Rank() != n.In[0].Type.Rank() || !n.Out[0].Type.Ranked() {
		return nil
	}
	in := append([]*graph.Value{e.In[0]}, n.In[1:]...)
	b := r.builder(n)
	m := b.Like(n, in...)
	if b.Err != nil {
		return nil
	}
	return r.expandTo(n, m.Out[0], n.Out[0].Type.Shape)
}
