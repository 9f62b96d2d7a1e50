package cpu

import (
	"bytes"
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Constant matrices are stored in the panels of package gemm, in the format that
// the target asks for. The name of a layout, panel32.f32 or panel32.int4.transposed,
// is part of the artifact format; "transposed" says that the constant of the graph
// is [N,K].

// weightFormat is the format of constant matrices.
func weightFormat(t backends.Target) gemm.Format {
	f, _ := gemm.ParseFormat(t.Weights) // Compile and Open checked it
	return f
}

// weightFormat is the format of constant matrices in this plan.
func (b *Bind) weightFormat() gemm.Format { return weightFormat(b.b.e.plan.Target) }

// packB packs input 1, B[K,N] or its transpose.
func packB(trans bool) func(*graph.Node, backends.Target) []Packing {
	return func(n *graph.Node, t backends.Target) []Packing {
		return []Packing{panels(1, n.In[1].Const, weightFormat(t), trans)}
	}
}

// panels is the packing of input i, the constant c.
func panels(i int, c *tensor.Tensor, f gemm.Format, trans bool) Packing {
	k, n := c.Shape[0], c.Shape[1]
	pk := Packing{In: i, Layout: "panel32." + f.String(), DType: tensor.Uint8}
	if trans {
		k, n = n, k
		pk.Layout += ".transposed"
	}
	pk.Shape = []int{f.Size(k, n)}
	if f == gemm.F32 {
		pk.DType, pk.Shape = tensor.Float32, []int{gemm.PackedSize(k, n)}
	}
	pk.Pack = func(src *tensor.Tensor) (*tensor.Tensor, error) {
		dst := tensor.New(pk.DType, pk.Shape...)
		if f == gemm.F32 {
			gemm.Pack(tensor.Of[float32](dst), tensor.Of[float32](src), k, n, src.Shape[1], trans)
			return dst, nil
		}
		return dst, f.Pack(dst.Data, tensor.Of[float32](src), k, n, src.Shape[1], trans)
	}
	pk.Unpack = func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error) {
		dst := tensor.New(tensor.Float32, shape...)
		o := tensor.Of[float32](dst)
		column := make([]float32, k)
		for j := range n {
			f.Column(column, packed.Data, k, j)
			if trans {
				copy(o[j*k:], column)
				continue
			}
			for i, v := range column {
				o[i*n+j] = v
			}
		}
		return dst, nil
	}
	return pk
}

// tiedGather looks rows up in the packed form of a table whose transpose is the
// matrix of a product: the tied embedding of a language model. Both are then one
// weight, which an artifact stores once.
func tiedGather() *Kernel {
	return &Kernel{
		Op: onnxOp("Gather", 1), Name: "panels",
		Accepts: func(n *graph.Node, t backends.Target) error {
			c := n.In[0].Const
			if c == nil || len(c.Shape) != 2 || c.DType != tensor.Float32 || n.Attrs.Int("axis", 0) != 0 {
				return fmt.Errorf("not rows of a constant float matrix")
			}
			if d := n.In[1].Type.DType; d != tensor.Int64 && d != tensor.Int32 || !n.In[1].Type.Ranked() {
				return fmt.Errorf("indices are %s", n.In[1].Type)
			}
			// A plan read from an artifact has only the packed form left: it was tied.
			if len(c.Data) == c.DType.Bytes(c.Len()) && !tied(n.Graph, c) {
				return fmt.Errorf("no product has its transpose as a constant matrix")
			}
			return nil
		},
		Pack: func(n *graph.Node, t backends.Target) []Packing {
			return []Packing{panels(0, n.In[0].Const, weightFormat(t), true)}
		},
		Lower: func(b *Bind, n *graph.Node) (Step, error) {
			dst, idx, table := b.Out(0), b.In(1), b.Packed(0).Data
			shape := n.In[0].Const.Shape
			rows, width, count, f := shape[0], shape[1], idx.Len(), b.weightFormat()
			if dst.Len() != count*width {
				return nil, fmt.Errorf("gathering %d of %v does not give %v", count, shape, dst.Shape)
			}
			copies := b.Split(count, max(1, lightGrain/16/max(width, 1)), func(lo, hi int) {
				for k := lo; k < hi; k++ {
					f.Column(dst.F32[k*width:][:width], table, width, wrap(indexAt(idx, k), rows))
				}
			})
			return checked(n, idx, rows, copies), nil
		},
	}
}

// tied reports whether a node of g multiplies by the transpose of c.
func tied(g *graph.Graph, c *tensor.Tensor) bool {
	for _, m := range g.Nodes {
		if m.Op.Name == "Gemm" && m.Op.Domain == "" && m.In[1].Const == c && m.Attrs.Int("transB", 0) != 0 {
			return true
		}
		product := m.Op.Domain == "" && m.Op.Name == "MatMul" || m.Op.Domain == "ssm" && m.Op.Name == "Linear"
		if !product || m.Input(1) == nil || m.In[1].Const == nil {
			continue
		}
		b := m.In[1].Const
		if b.DType == c.DType && len(b.Shape) == 2 && b.Shape[0] == c.Shape[1] && b.Shape[1] == c.Shape[0] &&
			len(b.Data) == len(c.Data) && transposes(tensor.Of[float32](b), tensor.Of[float32](c), b.Shape[0], b.Shape[1]) {
			return true
		}
	}
	return false
}

// transposes compares b[k,n] with c[n,k], by blocks that stay in cache.
func transposes(b, c []float32, k, n int) bool {
	const block = 64
	column := make([]float32, block)
	for j0 := 0; j0 < n; j0 += block {
		for i0 := 0; i0 < k; i0 += block {
			rows := min(block, k-i0)
			for j := j0; j < min(j0+block, n); j++ {
				for i := range rows {
					column[i] = b[(i0+i)*n+j]
				}
				if !bytes.Equal(rawBytes(column[:rows]), rawBytes(c[j*k+i0:][:rows])) {
					return false
				}
			}
		}
	}
	return true
}
