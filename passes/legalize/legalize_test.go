package legalize_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/microsoft"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/legalize"
)

func table(t *testing.T) *ops.Table {
	tab := &ops.Table{}
	for _, register := range []func(*ops.Table) error{onnx.Register, ssm.Register, microsoft.Register} {
		if err := register(tab); err != nil {
			t.Fatal(err)
		}
	}
	return tab
}

// single is a graph of one node on the inputs of a case; integers and strings
// are constants, as axes and shapes mostly are.
func single(tab *ops.Table, op graph.OpID, c ops.Case, d tensor.DType) (*graph.Graph, []*tensor.Tensor, error) {
	g := graph.New("g")
	var in []*tensor.Tensor
	args := make([]*graph.Value, len(c.In))
	for i, x := range c.In {
		switch {
		case x == nil:
		case x.DType == tensor.Float32:
			y := tensor.New(d, x.Shape...)
			for j := range x.Len() {
				y.SetAt(j, x.At(j))
			}
			in = append(in, y)
			args[i] = g.AddInput(fmt.Sprintf("x%d", i), graph.TypeOf(y))
		default:
			args[i] = g.AddConst(fmt.Sprintf("c%d", i), x)
		}
	}
	n := g.Add(op, c.Attrs.Clone(), args, max(c.NOut, 1), "y")
	n.TrimIn()
	for _, v := range n.Out {
		g.AddOutput(v)
	}
	return g, in, ops.InferNode(tab, n)
}

func run(t *testing.T, tab *ops.Table, g *graph.Graph, o legalize.Options) (map[string]int, error) {
	t.Helper()
	return legalize.Run(passes.NewContext(context.Background(), tab), g, o)
}

// same compares two evaluations by norm; integers, bools and strings exactly.
func same(t *testing.T, what string, got, want []*tensor.Tensor, tol float64) {
	t.Helper()
	for i, w := range want {
		if got[i].TypeString() != w.TypeString() {
			t.Errorf("%s: output %d is %s, was %s", what, i, got[i].TypeString(), w.TypeString())
			continue
		}
		if !w.DType.IsFloat() {
			if string(got[i].Data) != string(w.Data) || fmt.Sprint(got[i].Strings) != fmt.Sprint(w.Strings) {
				t.Errorf("%s: output %d changed", what, i)
			}
			continue
		}
		var diff, norm float64
		for j := range w.Len() {
			a, b := got[i].At(j), w.At(j)
			if a == b || math.IsNaN(a) && math.IsNaN(b) {
				continue
			}
			diff, norm = diff+(a-b)*(a-b), norm+b*b
		}
		if !(math.Sqrt(diff) <= tol*math.Max(1, math.Sqrt(norm))) {
			t.Errorf("%s: output %d differs by %.2g", what, i, math.Sqrt(diff))
		}
	}
}

// TestVersions takes every version of every operator, on its cases, to opsets
// 18 to 28. What cannot go says which opset it needs, or what is gone.
func TestVersions(t *testing.T) {
	tab := table(t)
	random := map[string]bool{"Bernoulli": true, "Multinomial": true, "RandomNormal": true, "RandomNormalLike": true, "RandomUniform": true, "RandomUniformLike": true}
	plain, err := legalize.Find("plain")
	if err != nil {
		t.Fatal(err)
	}
	done, refused := 0, map[string]string{}
	for _, r := range tab.All() {
		if r.ID.Domain != "" || r.Eval == nil || random[r.ID.Name] {
			continue
		}
		for _, c := range r.Cases {
			d := tensor.Float32
			g, in, err := single(tab, r.ID, c, d)
			if err != nil {
				continue // a case of a later version's types
			}
			want, err := ops.Run(context.Background(), tab, g, in)
			if err != nil {
				t.Errorf("%s %s: %v", r.ID, c.Name, err)
				continue
			}
			for _, opset := range []int{18, 20, 22, 24, 28} {
				h, _ := g.Clone()
				what := fmt.Sprintf("%s %s at opset %d", r.ID, c.Name, opset)
				if _, err := run(t, tab, h, legalize.Options{Dialect: plain, Opset: opset}); err != nil {
					if !strings.Contains(err.Error(), "opset") || !strings.Contains(err.Error(), r.ID.Name) {
						t.Errorf("%s: error %v", what, err)
					}
					refused[fmt.Sprintf("%s at %d", r.ID, opset)] = err.Error()
					continue
				}
				h.Walk(func(n *graph.Node) {
					if row := tab.Resolve("", n.Op.Name, opset); row == nil || row.ID != n.Op {
						t.Errorf("%s: holds %s", what, n.Op)
					}
				})
				got, err := ops.Run(context.Background(), tab, h, in)
				if err != nil {
					t.Errorf("%s: %v", what, err)
					continue
				}
				same(t, what, got, want, 1e-5)
				done++
			}
		}
	}
	// An operator may be refused where an opset lacks it, or where ONNX dropped
	// what it meant; nothing else.
	for what, err := range refused {
		name, opset, _ := strings.Cut(what, " at ")
		var at int
		_, _ = fmt.Sscan(opset, &at)
		id := name[:strings.LastIndex(name, "-")]
		var since int
		_, _ = fmt.Sscan(name[strings.LastIndex(name, "-")+1:], &since)
		if since > at || id == "Scan" {
			continue
		}
		t.Errorf("%s: %s", what, err)
	}
	if done < 3000 {
		t.Errorf("only %d conversions ran", done)
	}
	t.Logf("%d conversions, %d refused", done, len(refused))
}

// TestDialects writes the cases of ssdc's own operators in every dialect and
// evaluates the result.
func TestDialects(t *testing.T) {
	tab := table(t)
	for _, d := range legalize.Dialects {
		for _, r := range ssm.Rows() {
			for _, c := range r.Cases {
				for _, dt := range []tensor.DType{tensor.Float32, tensor.Float64, tensor.Float16} {
					g, in, err := single(tab, r.ID, c, dt)
					if err != nil {
						t.Fatal(err)
					}
					what := fmt.Sprintf("%s: %s %s %s", d.Name, r.ID, c.Name, dt)
					want, err := ops.Run(context.Background(), tab, g, in)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := run(t, tab, g, legalize.Options{Dialect: d}); err != nil {
						t.Errorf("%s: %v", what, err)
						continue
					}
					g.Walk(func(n *graph.Node) {
						if n.Op.Domain == ssm.Domain {
							t.Errorf("%s: holds %s", what, n.Op)
						}
					})
					got, err := ops.Run(context.Background(), tab, g, in)
					if err != nil {
						t.Errorf("%s: %v", what, err)
						continue
					}
					same(t, what, got, want, map[tensor.DType]float64{tensor.Float32: 1e-5, tensor.Float64: 1e-10, tensor.Float16: 3e-3}[dt])
				}
			}
		}
	}
}

const scan = `graph s (float[batch,length,4,8] x, float[batch,length,4] dt, float[batch,length,2,16] B, float[batch,length,2,16] C, float[batch,4,8,16] h0) => (float[batch,length,4,8] y, float[batch,4,8,16] hT)
< float[4] A = {-1, -2, -3, -4} > {
  float[batch,length,4,8] y, float[batch,4,8,16] hT = ssm.SSD-1 <dt_softplus: int = 1> (x, dt, A, B, C, _, _, _, h0)
}`

// TestOperators: which operators a scan becomes, with the attributes that must
// not be left to their defaults.
func TestOperators(t *testing.T) {
	tab := table(t)
	for dialect, want := range map[string][]string{
		"onnx":      {" LinearAttention-27 <kv_num_heads: int = 4, q_num_heads: int = 4, scale: float = 1, update_rule: string = \"gated\">", "Expand-13"},
		"microsoft": {" com.microsoft.LinearAttention-1 <kv_num_heads: int = 4, q_num_heads: int = 2, scale: float = 1, update_rule: string = \"gated\">", "Softplus-22"},
		"plain":     {"MatMul-13", "Exp-13", "CumSum-14", "Softplus-1 "},
	} {
		g, err := graph.ParseString(scan)
		if err != nil {
			t.Fatal(err)
		}
		d, err := legalize.Find(dialect)
		if err != nil {
			t.Fatal(err)
		}
		if err := ops.InferGraph(tab, g); err != nil {
			t.Fatal(err)
		}
		if _, err := run(t, tab, g, legalize.Options{Dialect: d}); err != nil {
			t.Fatal(err)
		}
		for _, w := range want {
			if !strings.Contains(g.String(), w) {
				t.Errorf("%s: no %q in\n%s", dialect, w, g)
			}
		}
		if g.Outputs[0].Name != "y" || g.Outputs[1].Name != "hT" {
			t.Errorf("%s: outputs %q and %q", dialect, g.Outputs[0].Name, g.Outputs[1].Name)
		}
		if s := g.Outputs[0].Type.String(); s != "float[batch,length,4,8]" {
			t.Errorf("%s: y is %s", dialect, s)
		}
	}
}

// TestLengths evaluates the plain form of a scan at many lengths.
func TestLengths(t *testing.T) {
	tab := table(t)
	plain, _ := legalize.Find("plain")
	g, err := graph.ParseString(scan)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.InferGraph(tab, g); err != nil {
		t.Fatal(err)
	}
	h, _ := g.Clone()
	if _, err := run(t, tab, h, legalize.Options{Dialect: plain}); err != nil {
		t.Fatal(err)
	}
	for _, L := range []int{0, 1, 2, 63, 64, 65, 129, 300} {
		rng := rand.New(rand.NewPCG(1, uint64(L)))
		var in []*tensor.Tensor
		for _, v := range g.Inputs {
			var shape []int
			for _, d := range v.Type.Shape {
				n, _ := d.Eval(graph.Bindings{"batch": 2, "length": int64(L)})
				shape = append(shape, int(n))
			}
			x := tensor.New(tensor.Float32, shape...)
			for i := range x.Len() {
				x.SetAt(i, rng.NormFloat64())
			}
			in = append(in, x)
		}
		want, err := ops.Run(context.Background(), tab, g, in)
		if err != nil {
			t.Fatal(err)
		}
		got, err := ops.Run(context.Background(), tab, h, in)
		if err != nil {
			t.Fatalf("L=%d: %v", L, err)
		}
		same(t, fmt.Sprintf("L=%d", L), got, want, 1e-5)
	}
}

func TestErrors(t *testing.T) {
	tab := table(t)
	standard, plain := legalize.Dialects[0], legalize.Dialects[2]
	for _, c := range []struct {
		text  string
		o     legalize.Options
		words []string
	}{
		{scan, legalize.Options{Dialect: standard, Opset: 26}, []string{"opset 26", `"onnx"`, "needs 27"}},
		{scan, legalize.Options{Dialect: standard, Opset: 99}, []string{"opset 99", "newer than 28"}},
		{`graph r (float[2] x, int64[1] n) => (float[2] y) {
  float[2] y = TensorScatter-24 (x, x, n)
}`, legalize.Options{Dialect: plain, Opset: 20}, []string{"TensorScatter", "opset 24 or newer"}},
		{`graph r (float[B,L,H,P] x, float[B,L,H] dt, float[B,L,G,N] b) => (float[B,L,H,P] y)
< float[2] A = {-1, -2} > {
  float[B,L,H,P] y = ssm.SSD-1 (x, dt, A, b, b)
}`, legalize.Options{Dialect: plain}, []string{"ssm.SSD", "axis", "bind it"}},
	} {
		g, err := graph.ParseString(c.text)
		if err != nil {
			t.Fatal(err)
		}
		_ = ops.InferGraph(tab, g)
		_, err = run(t, tab, g, c.o)
		if err == nil {
			t.Errorf("%v: no error", c.words)
			continue
		}
		for _, w := range c.words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("error %q does not say %q", err, w)
			}
		}
	}
	if _, err := legalize.Find("nosuch"); err == nil || !strings.Contains(err.Error(), "onnx, microsoft, plain") {
		t.Errorf("error %v", err)
	}
}
