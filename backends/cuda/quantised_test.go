package cuda

import (
	"context"
	"fmt"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	panels "github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// stepsOf names the kernels of the launches that a session's last program has, in order.
func stepsOf(s *session) []string {
	var names []string
	for _, st := range s.programs[len(s.programs)-1].steps {
		names = append(names, st.kernel)
	}
	return names
}

// quantisedGraph multiplies x [rows,k] by a constant matrix, as Linear with bias, activation and residual, or as Gemm with the transpose.
func quantisedGraph(t *testing.T, d tensor.DType, rows, k, n int, transposed bool) *graph.Graph {
	t.Helper()
	g := graph.New("quantised")
	x := g.AddInput("x", graph.T(d, graph.D(int64(rows)), graph.D(int64(k))))
	bias := g.AddConst("bias", random(2, d, n))
	var y *graph.Value
	if transposed {
		y = g.Add(graph.OpID{Name: "Gemm", Since: 13}, graph.Attrs{"transB": int64(1), "alpha": float32(0.5)}, []*graph.Value{x, g.AddConst("w", random(1, d, n, k)), bias}, 1, "y").Out[0]
	} else {
		r := g.AddInput("r", graph.T(d, graph.D(int64(rows)), graph.D(int64(n))))
		y = g.Add(graph.OpID{Domain: "ssm", Name: "Linear", Since: 1}, graph.Attrs{"activation": "silu"}, []*graph.Value{x, g.AddConst("w", random(1, d, k, n)), bias, r}, 1, "y").Out[0]
	}
	g.AddOutput(y)
	if err := ops.InferGraph(opTable(t), g); err != nil {
		t.Fatal(err)
	}
	return g
}

// TestQuantisedWeights: products with matrices in panels of bf16, int8 and int4 against the operator's definition on the very numbers that
// the panels hold, so that only the rounding of activations is left, for few rows (streamed or not), several passes and many rows.
func TestQuantisedWeights(t *testing.T) {
	needDevice(t)
	for _, format := range []panels.Format{panels.BF16, panels.Int8, panels.Int4} {
		for _, d := range []tensor.DType{tensor.Float32, tensor.BFloat16, tensor.Float16} {
			for _, c := range []struct {
				rows, k, n int
				transposed bool
			}{{1, 64, 48, false}, {1, 264, 33, true}, {3, 100, 70, false}, {8, 136, 40, true}, {13, 520, 24, false}, {21, 72, 16, true}, {40, 96, 31, false}, {60, 130, 37, false}, {64, 128, 64, true}} {
				t.Run(fmt.Sprintf("%v/%v/%v", format, d, c), func(t *testing.T) {
					g := quantisedGraph(t, d, c.rows, c.k, c.n, c.transposed)
					e, plan := open(t, g, backends.Target{Weights: format.String(), Options: map[string]string{"blas": "off"}})
					s := session_(t, e)
					in := map[string]*tensor.Tensor{"x": random(7, d, c.rows, c.k)}
					if !c.transposed {
						in["r"] = random(8, d, c.rows, c.n)
					}
					var got *tensor.Tensor
					for range 2 {
						out, err := s.Run(context.Background(), in, nil)
						if err != nil {
							t.Fatal(err)
						}
						got = out[g.Outputs[0].Name]
					}
					// The same in float32 on the numbers of the panels.
					ref := quantisedGraph(t, tensor.Float32, c.rows, c.k, c.n, c.transposed)
					m := packed(e.kernels[g.Nodes[0]], g.Nodes[0], plan.Target)
					if m == nil {
						t.Fatal("the matrix is not packed")
					}
					stored, err := e.stored(m)
					if err != nil {
						t.Fatal(err)
					}
					m.value = ref.Nodes[0].In[1]
					if ref.Nodes[0].In[1].Const, err = m.unpack(stored); err != nil {
						t.Fatal(err)
					}
					ref.Nodes[0].In[2].Const = wide(g.Nodes[0].In[2].Const)
					args := []*tensor.Tensor{wide(in["x"])}
					if !c.transposed {
						args = append(args, wide(in["r"]))
					}
					want, err := ops.Run(context.Background(), opTable(t), ref, args)
					if err != nil {
						t.Fatal(err)
					}
					lim := limit(d)
					if format == panels.BF16 {
						lim = limit(tensor.BFloat16)
					}
					if dist, err := distance(wide(got), want[0]); err != nil || !(dist <= lim) {
						t.Errorf("distance %.2e %v", dist, err)
					}
				})
			}
		}
	}
}

// TestDigits: 4-bit weights of the model itself, DequantizeLinear by blocks before a product, as MatMulNBits and ONNX's own int4 have
// them, are multiplied as they are.
func TestDigits(t *testing.T) {
	needDevice(t)
	table := opTable(t)
	for _, c := range []struct {
		digit, scale tensor.DType
		zero         string
		transposed   bool // [n,k]
		rows, k, n   int
		size         int
	}{
		{tensor.Uint4, tensor.Float32, "middle", true, 1, 128, 33, 32}, {tensor.Uint4, tensor.Float32, "any", true, 4, 96, 40, 32}, {tensor.Uint4, tensor.Float16, "any", true, 2, 256, 20, 128},
		{tensor.Uint4, tensor.BFloat16, "any", true, 9, 64, 48, 64}, {tensor.Int4, tensor.BFloat16, "none", false, 3, 128, 24, 32}, {tensor.Uint4, tensor.Float16, "none", false, 1, 64, 18, 32},
		{tensor.Int4, tensor.Float32, "any", false, 70, 128, 34, 64},
	} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			g := graph.New("digits")
			x := g.AddInput("x", graph.T(c.scale, graph.D(int64(c.rows)), graph.D(int64(c.k))))
			along, shape, groups := 0, []int{c.k, c.n}, []int{c.k / c.size, c.n}
			if c.transposed {
				along, shape, groups = 1, []int{c.n, c.k}, []int{c.n, c.k / c.size}
			}
			fill := func(name string, d tensor.DType, seed int, shape ...int) *graph.Value {
				w := tensor.New(d, shape...)
				for i := range w.Len() {
					v := (i*37 + i*i*11 + seed) % 16
					if d == tensor.Int4 {
						v -= 8
					}
					w.SetIntAt(i, int64(v))
				}
				return g.AddConst(name, w)
			}
			scale := random(3, c.scale, groups...)
			in := []*graph.Value{fill("q", c.digit, 5, shape...), g.AddConst("s", scale)}
			switch c.zero {
			case "any":
				in = append(in, fill("z", c.digit, 3, groups...))
			case "middle":
				z := tensor.New(c.digit, groups...)
				for i := range z.Len() {
					z.SetIntAt(i, 8)
				}
				in = append(in, g.AddConst("z", z))
			}
			w := g.Add(graph.OpID{Name: "DequantizeLinear", Since: 21}, graph.Attrs{"axis": int64(along), "block_size": int64(c.size)}, in, 1, "w").Out[0]
			if c.transposed {
				w = g.Add(graph.OpID{Name: "Transpose", Since: 13}, graph.Attrs{"perm": []int64{1, 0}}, []*graph.Value{w}, 1, "wt").Out[0]
			}
			g.AddOutput(g.Add(graph.OpID{Name: "MatMul", Since: 13}, nil, []*graph.Value{x, w}, 1, "y").Out[0])
			if err := ops.InferGraph(table, g); err != nil {
				t.Fatal(err)
			}
			e, _ := open(t, g, backends.Target{Options: map[string]string{"blas": "off"}})
			s := session_(t, e)
			feed := random(9, c.scale, c.rows, c.k)
			out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"x": feed}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range stepsOf(s) {
				if name == "host" {
					t.Fatalf("steps are %v: the weights are dequantised on the host", stepsOf(s))
				}
			}
			// In float32, without rounding the weights to the type of the scales.
			ref, _ := g.Clone()
			for _, n := range ref.Nodes {
				for _, v := range n.In {
					if v.Const != nil && v.Const.DType == c.scale {
						v.Const = wide(v.Const)
						v.Type.DType = tensor.Float32
					}
				}
			}
			ref.Inputs[0].Type.DType = tensor.Float32
			if err := ops.InferGraph(table, ref); err != nil {
				t.Fatal(err)
			}
			want, err := ops.Run(context.Background(), table, ref, []*tensor.Tensor{wide(feed)})
			if err != nil {
				t.Fatal(err)
			}
			if dist, err := distance(wide(out["y"]), want[0]); err != nil || !(dist <= limit(c.scale)) {
				t.Errorf("distance %.2e %v", dist, err)
			}
		})
	}
}

// TestTiedTable: rows of a table that is the transpose of a product's matrix come from the same panels.
func TestTiedTable(t *testing.T) {
	needDevice(t)
	table := opTable(t)
	for _, format := range []panels.Format{panels.BF16, panels.Int8, panels.Int4} {
		for _, d := range []tensor.DType{tensor.Float32, tensor.BFloat16} {
			t.Run(fmt.Sprint(format, d), func(t *testing.T) {
				const rows, width = 50, 68
				g := graph.New("tied")
				ids := g.AddInput("ids", graph.T(tensor.Int64, graph.D(1), graph.D(3)))
				rowsOf := random(4, d, rows, width)
				matrix := tensor.New(d, width, rows)
				for i := range rows {
					for j := range width {
						matrix.SetAt(j*rows+i, rowsOf.At(i*width+j))
					}
				}
				h := g.Add(graph.OpID{Name: "Gather", Since: 13}, nil, []*graph.Value{g.AddConst("table", rowsOf), ids}, 1, "h").Out[0]
				g.AddOutput(h)
				g.AddOutput(g.Add(graph.OpID{Name: "MatMul", Since: 13}, nil, []*graph.Value{h, g.AddConst("head", matrix)}, 1, "y").Out[0])
				if err := ops.InferGraph(table, g); err != nil {
					t.Fatal(err)
				}
				e, plan := open(t, g, backends.Target{Weights: format.String()})
				for _, w := range plan.Weights {
					if w.Layout == "" && len(w.Shape) == 2 {
						t.Errorf("%s is stored as it is, too", w.Name)
					}
				}
				s := session_(t, e)
				out, err := s.Run(context.Background(), map[string]*tensor.Tensor{"ids": tensor.Ints(49, 0, -31).Reshaped(1, 3)}, nil)
				if err != nil {
					t.Fatal(err)
				}
				m := e.matrices[g.Nodes[0]]
				stored, err := e.stored(m)
				if err != nil {
					t.Fatal(err)
				}
				same, err := m.unpack(stored)
				if err != nil {
					t.Fatal(err)
				}
				for i, row := range []int{49, 0, 19} {
					for j := range width {
						if got, want := out["h"].At(i*width+j), same.At(row*width+j); got != want {
							t.Fatalf("row %d column %d is %v, want %v", row, j, got, want)
						}
					}
				}
				if _, err := s.Run(context.Background(), map[string]*tensor.Tensor{"ids": tensor.Ints(1, rows, 2).Reshaped(1, 3)}, nil); err == nil {
					t.Error("an index out of range passed")
				}
			})
		}
	}
}

// TestDecodeQuantised: the launches of a decode step take norms, convolutions and gates over with weights in fewer bits as well.
func TestDecodeQuantised(t *testing.T) {
	needDevice(t)
	ctx, table := context.Background(), opTable(t)
	for _, format := range []panels.Format{panels.BF16, panels.Int8, panels.Int4} {
		for _, c := range []blockShape{{1, 64, 4, 32, 1, 32, 3, 0}, {3, 136, 6, 24, 2, 16, 4, 0}, {11, 72, 2, 40, 1, 256, 3, 0}, {20, 64, 2, 32, 1, 32, 3, 0},
			// Those that are joined in one launch.
			{1, 128, 8, 32, 1, 128, 3, 0}, {8, 64, 8, 32, 1, 128, 3, 0}, {3, 320, 8, 64, 2, 64, 4, 0}, {5, 512, 8, 64, 1, 128, 3, 0}, {2, 1664, 8, 64, 1, 128, 3, 0}} {
			t.Run(fmt.Sprint(format, c), func(t *testing.T) {
				d := tensor.BFloat16
				g, states := decodeBlocks(t, d, c)
				e, _ := open(t, g, backends.Target{States: states, Weights: format.String(), Options: map[string]string{"blas": "off"}})
				ref, _ := decodeBlocks(t, tensor.Float32, c)
				for k, n := range g.Nodes {
					for i, v := range n.In {
						if v == nil || v.Const == nil {
							continue
						}
						ref.Nodes[k].In[i].Const = wide(v.Const)
						if m := e.matrices[n]; m != nil && i == 1 {
							stored, err := e.stored(m)
							if err != nil {
								t.Fatal(err)
							}
							own := *m
							own.value = ref.Nodes[k].In[i]
							if own.value.Const, err = own.unpack(stored); err != nil {
								t.Fatal(err)
							}
						}
					}
				}
				s := session_(t, e)
				state := map[string]*tensor.Tensor{}
				for step := range 3 {
					x := random(uint64(100+step), d, c.batch, 1, c.width)
					got, err := s.Run(ctx, map[string]*tensor.Tensor{"x": x}, nil)
					if err != nil {
						t.Fatal(err)
					}
					var in []*tensor.Tensor
					for _, v := range ref.Inputs {
						shape := []int{c.batch}
						for _, dim := range v.Type.Shape[1:] {
							n, _ := dim.Const()
							shape = append(shape, int(n))
						}
						switch {
						case v.Name == "x":
							in = append(in, wide(x))
						case state[v.Name] != nil:
							in = append(in, state[v.Name])
						default:
							in = append(in, tensor.New(tensor.Float32, shape...))
						}
					}
					want, err := ops.Run(ctx, table, ref, in)
					if err != nil {
						t.Fatal(err)
					}
					for i, v := range g.Outputs {
						if dist, err := distance(wide(got[v.Name]), want[i]); err != nil || dist > 4e-2 {
							t.Errorf("step %d, %s: distance %.2e %v", step, v.Name, dist, err)
						}
					}
					for j, pair := range states {
						state[pair.In] = want[2*(j/2)+j%2]
					}
				}
				wanted := ""
				switch {
				case c.heads%8 == 0:
					wanted = "[blocks]"
				case c.batch == 1:
					wanted = "[gemm ssd gemm gemm ssd gemm]"
				}
				if names := fmt.Sprint(stepsOf(s)); wanted != "" && names != wanted {
					t.Errorf("steps are %s, want %s", names, wanted)
				}
			})
		}
	}
}
