package cuda

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// blockShape is that of a Mamba-2 block for decoding.
type blockShape struct {
	batch, width, heads, headDim, groups, state, columns, groupSize int
}

// decodeBlocks is a model of two blocks for one position, with its states; every constant is random.
func decodeBlocks(t *testing.T, d tensor.DType, c blockShape) (*graph.Graph, []backends.StatePair) {
	t.Helper()
	return decodeManyBlocks(t, d, c, 2)
}

func decodeManyBlocks(t *testing.T, d tensor.DType, c blockShape, blocks int) (*graph.Graph, []backends.StatePair) {
	t.Helper()
	g := graph.New("blocks")
	inner := c.heads * c.headDim
	conv := inner + 2*c.groups*c.state
	seed := uint64(0)
	weight := func(d tensor.DType, scale float64, shape ...int) *graph.Value {
		seed++
		x := random(seed, d, shape...)
		for i := range x.Len() {
			x.SetAt(i, x.At(i)*scale)
		}
		return g.AddConst(fmt.Sprint("w", seed), x)
	}
	ints := func(v ...int64) *graph.Value {
		seed++
		return g.AddConst(fmt.Sprint("i", seed), tensor.Ints(v...))
	}
	h := g.AddInput("x", graph.T(d, graph.Sym("batch"), graph.D(1), graph.D(int64(c.width))))
	var states []backends.StatePair
	for l := range blocks {
		one := func(domain, op string, since int, attrs graph.Attrs, outs int, in ...*graph.Value) []*graph.Value {
			return g.Add(graph.OpID{Domain: domain, Name: op, Since: since}, attrs, in, outs, fmt.Sprintf("l%d.%s%d", l, op, len(g.Nodes))).Out
		}
		n := one("", "RMSNormalization", 23, graph.Attrs{"epsilon": float32(1e-5)}, 1, h, weight(d, 1, c.width))[0]
		all := one("ssm", "Linear", 1, nil, 1, n, weight(d, 0.03, c.width, inner+conv+c.heads))[0]
		zxd := one("", "Split", 18, graph.Attrs{"axis": int64(-1)}, 3, all, ints(int64(inner), int64(conv), int64(c.heads)))
		convIn := g.AddInput(fmt.Sprint("conv", l), graph.T(d, graph.Sym("batch"), graph.D(int64(conv)), graph.D(int64(c.columns))))
		xbc := one("ssm", "CausalConv", 1, graph.Attrs{"activation": "silu"}, 2, zxd[1], weight(d, 1, conv, 4), weight(d, 1, conv), convIn)
		parts := one("", "Split", 18, graph.Attrs{"axis": int64(-1)}, 3, xbc[0], ints(int64(inner), int64(c.groups*c.state), int64(c.groups*c.state)))
		shape := func(v *graph.Value, last ...int64) *graph.Value {
			return one("", "Reshape", 14, nil, 1, v, ints(append([]int64{0, 0}, last...)...))[0]
		}
		ssmIn := g.AddInput(fmt.Sprint("ssm", l), graph.T(tensor.Float32, graph.Sym("batch"), graph.D(int64(c.heads)), graph.D(int64(c.headDim)), graph.D(int64(c.state))))
		a := weight(tensor.Float32, 1, c.heads)
		for i := range c.heads {
			a.Const.SetAt(i, -math.Abs(a.Const.At(i))-0.1)
		}
		y := one("ssm", "SSD", 1, graph.Attrs{"dt_softplus": int64(1)}, 2, shape(parts[0], int64(c.heads), int64(c.headDim)), zxd[2], a, shape(parts[1], int64(c.groups), int64(c.state)),
			shape(parts[2], int64(c.groups), int64(c.state)), weight(tensor.Float32, 1, c.heads), nil, weight(tensor.Float32, 1, c.heads), ssmIn)
		gated := one("ssm", "GatedRMSNorm", 1, graph.Attrs{"group_size": int64(c.groupSize)}, 1, shape(y[0], int64(inner)), zxd[0], weight(d, 1, inner))[0]
		h = one("ssm", "Linear", 1, nil, 1, gated, weight(d, 0.1, inner, c.width), nil, h)[0]
		g.AddOutput(xbc[1])
		g.AddOutput(y[1])
		states = append(states, backends.StatePair{In: convIn.Name, Out: xbc[1].Name}, backends.StatePair{In: ssmIn.Name, Out: y[1].Name})
	}
	g.AddOutput(h)
	if err := ops.InferGraph(opTable(t), g); err != nil {
		t.Fatal(err)
	}
	return g, states
}

// wide is a graph of 16-bit floats in float32, for a reference.
func wide(x *tensor.Tensor) *tensor.Tensor {
	if x.DType != tensor.BFloat16 && x.DType != tensor.Float16 {
		return x
	}
	w := tensor.New(tensor.Float32, x.Shape...)
	for i := range x.Len() {
		w.SetAt(i, x.At(i))
	}
	return w
}

// TestDecodeSteps: blocks of a model, decoded position after position with states on the device, in three launches a block, against the
// operators' definitions.
func TestDecodeSteps(t *testing.T) {
	for _, d := range []tensor.DType{tensor.BFloat16, tensor.Float16} {
		for _, c := range []blockShape{
			{1, 64, 4, 32, 1, 32, 3, 0}, {3, 136, 6, 24, 2, 16, 4, 0}, {8, 64, 4, 64, 1, 128, 3, 0}, {11, 72, 2, 40, 1, 256, 3, 0}, {2, 1032, 8, 64, 1, 64, 3, 256}, {17, 64, 2, 32, 1, 32, 3, 0},
			// Those that are joined in one launch.
			{1, 128, 8, 32, 1, 128, 3, 0}, {8, 64, 8, 32, 1, 128, 3, 0}, {3, 320, 8, 64, 2, 64, 4, 0}, {2, 192, 8, 48, 4, 128, 3, 0}, {5, 512, 8, 64, 1, 128, 3, 0},
		} {
			t.Run(fmt.Sprintf("%v/%v", d, c), func(t *testing.T) {
				g, states := decodeBlocks(t, d, c)
				e, _ := open(t, g, backends.Target{States: states, Options: map[string]string{"blas": "off"}})
				s := session_(t, e)
				ctx, table := context.Background(), opTable(t)
				state := map[string]*tensor.Tensor{}
				limit := map[tensor.DType]float64{tensor.BFloat16: 4e-2, tensor.Float16: 5e-3}[d]
				for step := range 4 {
					x := random(uint64(100+step), d, c.batch, 1, c.width)
					got, err := s.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil)
					if err != nil {
						t.Fatal(err)
					}
					// The same in float32, which rounds nothing in between.
					ref, _ := decodeBlocks(t, tensor.Float32, c)
					for k, n := range g.Nodes {
						for i, v := range n.In {
							if v != nil && v.Const != nil {
								ref.Nodes[k].In[i].Const = wide(v.Const)
							}
						}
					}
					var in []*tensor.Tensor
					for _, v := range ref.Inputs {
						switch {
						case v.Name == "x":
							in = append(in, wide(x))
						case state[v.Name] != nil:
							in = append(in, state[v.Name])
						default:
							shape := []int{c.batch}
							for _, dim := range v.Type.Shape[1:] {
								n, _ := dim.Const()
								shape = append(shape, int(n))
							}
							in = append(in, tensor.New(tensor.Float32, shape...))
						}
					}
					want, err := ops.Run(ctx, table, ref, in)
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range g.Outputs {
						dist, err := distance(wide(got[v.Name]), want[i])
						if err != nil || dist > limit {
							t.Errorf("step %d, %s: distance %.2e %v", step, v.Name, dist, err)
						}
					}
					for j, pair := range states {
						state[pair.In] = want[2*(j/2)+j%2]
					}
				}
				var names []string
				for _, st := range s.programs[0].steps {
					names = append(names, st.kernel)
				}
				wanted := "gemm ssd gemm gemm ssd gemm"
				joined := d == tensor.BFloat16 && c.batch <= stepRows && c.heads%8 == 0 && c.groupSize == 0
				switch {
				case joined:
					wanted = "blocks"
				case c.batch > streamRows:
					wanted = strings.Join(names, " ") // the general way
				case d == tensor.Float16 || c.groupSize != 0 || (2*c.heads*c.headDim+2*c.groups*c.state+c.heads)%4 != 0: // B and C not in fours
					wanted = "gemm ssd rows gemm gemm ssd rows gemm"
				}
				if got := strings.Join(names, " "); got != wanted {
					t.Errorf("steps are %q, want %q", got, wanted)
				}
			})
		}
	}
}
