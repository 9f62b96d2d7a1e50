package lift_test

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
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// bodies compute y from x [B,3,4], z [B,4] and d [B] of a step, each in a graph
// that reads time along axis 1 or 0, and from what does not change: w [4,5].
var bodies = map[string]string{
	"elementwise":       "y = Exp-13 (x)",
	"broadcast":         "y = Mul-14 (x, d)",
	"broadcast rank":    "z3 = Unsqueeze-13 (z, c1)\n y = Add-14 (x, z3)",
	"lower rank":        "m = ReduceSum-13 <keepdims: int = 0> (z, c0)\n y = Mul-14 (x, m)",
	"captured":          "y = Mul-14 (x, row)",
	"captured matrix":   "y = Add-14 (x, mat)",
	"clip":              "y = Clip-13 (x, lo, hi)",
	"where":             "p = Greater-13 (x, lo)\n y = Where-16 (p, x, row)",
	"cast":              "i = Cast-13 <to: int = 7> (x)\n y = Cast-13 <to: int = 1> (i)",
	"max of three":      "y = Max-13 (x, row, mat)",
	"transpose":         "y = Transpose-13 <perm: ints = [2, 0, 1]> (x)",
	"reshape merges":    "y = Reshape-14 (x, s12)",
	"reshape batch":     "y = Reshape-14 (x, flat)",
	"unsqueeze front":   "y = Unsqueeze-13 (x, c0)",
	"unsqueeze batch":   "y = Unsqueeze-13 (x, c1)",
	"squeeze":           "u = Unsqueeze-13 (x, c12)\n y = Squeeze-13 (u, c12)",
	"expand":            "u = Unsqueeze-13 (z, c1)\n y = Expand-13 (u, to)",
	"tile":              "y = Tile-13 (x, rep)",
	"pad":               "y = Pad-18 (x, pads)",
	"concat":            "y = Concat-13 <axis: int = -1> (x, x)",
	"concat captured":   "z3 = Unsqueeze-13 (z, c1)\n y = Concat-13 <axis: int = 1> (x, z3)",
	"split":             "u, y = Split-18 <axis: int = 2> (x, halves)",
	"slice":             "y = Slice-13 (x, c1, c3, c2)",
	"gather":            "y = Gather-13 <axis: int = 2> (x, idx)",
	"gather scalar":     "y = Gather-13 <axis: int = 1> (x, one)",
	"matmul captured":   "y = MatMul-13 (x, w)",
	"matmul row":        "y = MatMul-13 (z, w)",
	"matmul both":       "t = Transpose-13 <perm: ints = [0, 2, 1]> (x)\n y = MatMul-13 (x, t)",
	"matmul left":       "y = MatMul-13 (m33, x)",
	"matmul vector":     "y = MatMul-13 (x, row)",
	"gemm":              "y = Gemm-13 <alpha: float = 0.5, beta: float = 2, transB: int = 1> (z, wt, bias)",
	"einsum":            `y = Einsum-12 <equation: string = "bhk,bk->bh"> (x, z)`,
	"einsum captured":   `y = Einsum-12 <equation: string = "bhk,kj->jbh"> (x, w)`,
	"einsum implicit":   `y = Einsum-12 <equation: string = "bhk,bk"> (x, z)`,
	"reduce":            "y = ReduceSum-13 <keepdims: int = 0> (x, c2)",
	"reduce batch":      "y = ReduceMax-18 <keepdims: int = 0> (x, c0)",
	"reduce keep":       "y = ReduceMean-18 <keepdims: int = 1> (x, c12)",
	"reduce attribute":  "y = ReduceMean-13 <axes: ints = [-1], keepdims: int = 0> (x)",
	"reduce all":        "y = ReduceSum-13 <keepdims: int = 0> (x)",
	"softmax":           "y = Softmax-13 <axis: int = 1> (x)",
	"layer norm":        "y = LayerNormalization-17 <axis: int = -1> (x, row)",
	"cumsum":            "y = CumSum-14 (x, axis)",
	"trilu":             "y = Trilu-14 <upper: int = 0> (x)",
	"if":                "y = If-16 <then_branch: graph = graph t () => (float q) {\n float q = Exp-13 (x)\n }, else_branch: graph = graph e () => (float x) {\n }> (yes)",
	"nothing from time": "y = Exp-13 (mat)",
}

const text = `graph g (float[%s] xs, float[%s] zs, float[%s] ds, float[4,5] w) => (float out)
<
  int64[1] c0 = {0}
  int64[1] c1 = {1}
  int64[1] c2 = {2}
  int64[1] c3 = {3}
  int64[2] c12 = {1, 2}
  int64[2] s12 = {0, 12}
  int64[2] flat = {-1, 4}
  int64[3] to = {1, 3, 4}
  int64[3] rep = {1, 2, 1}
  int64[6] pads = {0, 1, 0, 0, 0, 2}
  int64[2] halves = {1, 3}
  int64[2] idx = {3, 0}
  int64[] one = {1}
  int64[] axis = {1}
  bool[] yes = {1}
  float[] lo = {-0.5}
  float[] hi = {0.5}
  float[4] row = {1, -2, 3, -4}
  float[3,4] mat = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}
  float[3,3] m33 = {1, 2, 3, 4, 5, 6, 7, 8, 9}
  float[2,4] wt = {1, 2, 3, 4, 5, 6, 7, 8}
  float[2] bias = {0.5, -0.5}
> {
  float out = Scan-16 <num_scan_inputs: int = 3, scan_input_axes: ints = [%[4]d, %[4]d, %[4]d], body: graph = graph body (float x, float z, float d0) => (float y) {
      float d = Unsqueeze-13 (d0, c12)
      %[5]s
    }> (xs, zs, ds)
}`

// typed gives the results of body lines an unranked type, which inference replaces.
func typed(lines string) string {
	var out []string
	for _, l := range strings.Split(lines, "\n") {
		l = strings.TrimSpace(l)
		if left, right, ok := strings.Cut(l, " = "); ok && !strings.HasPrefix(l, "float") && !strings.HasPrefix(l, "}") {
			names := strings.Split(left, ", ")
			for i := range names {
				names[i] = "float " + names[i]
			}
			l = strings.Join(names, ", ") + " = " + right
		}
		out = append(out, l)
	}
	return strings.Join(out, "\n")
}

// TestSequences: what a body computes in each step is what its sequence holds.
func TestSequences(t *testing.T) {
	tab := &ops.Table{}
	for _, err := range []error{onnx.Register(tab), ssm.Register(tab)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for name, lines := range bodies {
		for axis, shapes := range [][3]string{{"L,B,3,4", "L,B,4", "L,B"}, {"B,L,3,4", "B,L,4", "B,L"}} {
			t.Run(fmt.Sprintf("%s, time on axis %d", name, axis), func(t *testing.T) {
				g, err := graph.ParseString(fmt.Sprintf(text, shapes[0], shapes[1], shapes[2], axis, typed(lines)))
				if err != nil {
					t.Fatal(err)
				}
				if err := ops.InferGraph(tab, g); err != nil {
					t.Fatal(err)
				}
				check(t, tab, g)
			})
		}
	}
}

func check(t *testing.T, tab *ops.Table, g *graph.Graph) {
	t.Helper()
	loop, err := lift.Open(g.Nodes[len(g.Nodes)-1])
	if err != nil {
		t.Fatal(err)
	}
	l := lift.New(ops.NewBuilder(tab, g), tab, loop)
	s, err := l.Of(loop.Writes[0].Out)
	if err != nil {
		t.Fatal(err)
	}
	s = l.Over(s, 0)
	if l.B.Err != nil {
		t.Fatal(l.B.Err)
	}
	g.AddOutput(s.V)
	if err := g.Sort(); err != nil {
		t.Fatal(err)
	}
	if err := ops.Verify(tab, g); err != nil {
		t.Fatal(err)
	}
	for _, size := range []graph.Bindings{{"B": 2, "L": 5}, {"B": 1, "L": 1}, {"B": 3, "L": 3}} {
		rng := rand.New(rand.NewPCG(1, 2))
		var in []*tensor.Tensor
		for _, v := range g.Inputs {
			var shape []int
			for _, d := range v.Type.Shape {
				n, err := d.Eval(size)
				if err != nil {
					t.Fatal(err)
				}
				shape = append(shape, int(n))
			}
			x := tensor.New(v.Type.DType, shape...)
			for i := range x.Len() {
				x.SetAt(i, rng.NormFloat64())
			}
			in = append(in, x)
		}
		out, err := ops.Run(context.Background(), tab, g, in)
		if err != nil {
			t.Fatalf("%v: %v\n%s", size, err, g)
		}
		if out[0].TypeString() != out[1].TypeString() {
			t.Fatalf("%v: the loop gives %s, the sequence is %s", size, out[0].TypeString(), out[1].TypeString())
		}
		for i := range out[0].Len() {
			if a, b := out[0].At(i), out[1].At(i); !(math.Abs(a-b) <= 1e-5*(1+math.Abs(a))) {
				t.Fatalf("%v: element %d is %g in the loop, %g in the sequence\n%s", size, i, a, b, g)
			}
		}
	}
}
