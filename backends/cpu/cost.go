package cpu

import (
	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/graph"
)

// cost counts what the nodes of a step have to do at least: their arithmetic, a
// multiply-add being two operations, and the bytes that go in and out, weights as
// they are stored. What nodes hand to each other inside a step is free.
func (b *binder) cost(nodes []*graph.Node) backends.Cost {
	c := backends.Cost{Format: "f32"}
	inside, seen := map[*graph.Value]bool{}, map[*graph.Value]bool{}
	for _, n := range nodes {
		for _, v := range n.Out {
			inside[v] = true
		}
	}
	for _, n := range nodes {
		c.Ops += b.operations(n)
		packed := false
		for i, v := range n.In {
			if v == nil || inside[v] || seen[v] {
				continue
			}
			seen[v] = true
			if t := b.e.packed[packKey{n, i}]; t != nil {
				if n.Op.Name == "Gather" { // some rows of it
					c.Bytes += int64(b.bytes(n.Output(0)))
					continue
				}
				packed = true
				c.Bytes += int64(len(t.Data))
				continue
			}
			if n.Op.Is("", "Gather") && i == 0 {
				c.Bytes += int64(b.bytes(n.Output(0)))
				continue
			}
			c.Bytes += int64(b.bytes(v))
		}
		if packed && weightFormat(b.e.plan.Target) != gemm.F32 {
			c.Format = weightFormat(b.e.plan.Target).String()
		}
		for _, v := range n.Out {
			if v == nil {
				continue
			}
			used := v.IsOutput()
			for _, u := range v.Uses {
				used = used || len(nodes) == 1 || !inside[u.Node.Output(0)]
			}
			if used {
				c.Bytes += int64(b.bytes(v))
			}
		}
	}
	return c
}

// bytes is the size of a value in this binding, 0 if it is not known.
func (b *binder) bytes(v *graph.Value) int {
	if v == nil {
		return 0
	}
	if m := b.of(v); m != nil {
		return m.DType.Bytes(m.Len())
	}
	return 0
}

// operations counts the arithmetic of a node, by the recurrence for scans. It is 0
// for nodes that only move data.
func (b *binder) operations(n *graph.Node) int64 {
	shape := func(v *graph.Value) []int {
		if v == nil {
			return nil
		}
		if m := b.of(v); m != nil {
			return m.Shape
		}
		return nil
	}
	length := func(v *graph.Value) int64 { return int64(product(shape(v))) }
	if len(n.Out) == 0 || n.Out[0] == nil || shape(n.Out[0]) == nil {
		return 0
	}
	out := length(n.Out[0])
	switch n.Op.Domain + "." + n.Op.Name {
	case ".MatMul", ".Gemm", "ssm.Linear":
		a := shape(n.In[0])
		if len(a) == 0 {
			return 0
		}
		k := a[len(a)-1]
		if n.Op.Name == "Gemm" && n.Attrs.Int("transA", 0) != 0 {
			k = a[0]
		}
		return 2 * out * int64(k)
	case ".Attention": // both products, of every query with every key
		q, k, v := shape(n.In[0]), shape(n.In[1]), shape(n.In[2])
		if len(q) == 4 && len(k) == 4 && len(v) == 4 {
			keys := k[2]
			if p := shape(n.Input(4)); len(p) == 4 {
				keys += p[2]
			}
			return 2 * int64(product(q[:3])) * int64(keys) * int64(q[3]+v[3])
		}
		if h := n.Attrs.Int("kv_num_heads", 0); len(q) == 3 && len(k) == 3 && len(v) == 3 && h > 0 {
			keys, hq := k[1], n.Attrs.Int("q_num_heads", h)
			if p := shape(n.Input(4)); len(p) == 4 {
				keys += p[2]
			}
			return 2 * int64(product(q)*keys) * (1 + int64(v[2])*hq/(h*int64(max(q[2], 1))))
		}
	case "ssm.SSD": // decay, input and output of each element of the state
		if s := shape(n.Input(3)); len(s) == 4 {
			return 5 * out * int64(s[3])
		}
	case "ssm.SelectiveScan":
		if s := shape(n.Input(2)); len(s) == 2 {
			return 6 * out * int64(s[1])
		}
	case "ssm.CausalConv":
		if w := shape(n.Input(1)); len(w) > 0 {
			return (2*int64(w[len(w)-1]) + 4) * out
		}
	case ".Conv":
		if w := shape(n.Input(1)); len(w) > 1 && w[0] > 0 {
			return 2 * out * int64(product(w)/w[0])
		}
	case ".RMSNormalization", ".LayerNormalization", ".Softmax":
		return 4 * out
	case "ssm.GatedRMSNorm":
		return 8 * out
	case "ssm.LinearScan":
		return 2 * out
	}
	if k := b.e.kernels[n]; k != nil && k.Tile != nil {
		return out
	}
	return 0
}
