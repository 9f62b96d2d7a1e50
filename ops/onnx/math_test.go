package onnx

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// infer types one node, in the notation of arg.
func infer(t *testing.T, tab *ops.Table, op string, attrs graph.Attrs, in string, nOut int) (string, error) {
	t.Helper()
	g := graph.New("g")
	var vals []*graph.Value
	for _, s := range strings.Fields(in) {
		vals = append(vals, arg(t, g, s))
	}
	name, since, versioned := strings.Cut(op, "-")
	id := tab.Resolve("", name, 27).ID
	if versioned {
		_, _ = fmt.Sscan(since, &id.Since)
	}
	n := g.Add(id, attrs, vals, nOut, "n")
	for i, v := range n.Out {
		v.Name = fmt.Sprint("out", i)
	}
	err := ops.InferNode(tab, n)
	var got []string
	for _, v := range n.Out {
		got = append(got, describeValue(v))
	}
	return strings.Join(got, " "), err
}

func TestMathInference(t *testing.T) {
	type A = graph.Attrs
	type ints = []int64
	const chunks = "floor((T+63)/64)"
	cases := []struct {
		op    string
		attrs A
		in    string
		want  string // outputs, or "error: ..."
	}{
		{"Add", nil, "float[B,1,64] float[T,1]", "float[B,T,64]"},
		{"Add", nil, "float[B,T] float[T]", "float[B,T]"},
		{"Add", nil, "float[S] float[4]", "float[4]"},
		{"Add", nil, "float[S] float[T+2]", "float[T+2]"},
		{"Add", nil, "float[S] float[T]", "float[max(S,T)]"},
		{"Add", nil, "float[B,T] float", "float"},
		{"Add", nil, "float[2,3] float[4]", "error: cannot broadcast [2 3] with [4]"},
		{"Add", nil, "float[2] double[2]", "error: inputs A and B have types float[2] and double[2]"},
		{"Add", nil, "bool[2] bool[2]", "error: input A has type bool[2], want one of"},
		{"Exp", nil, "float[B,T]", "float[B,T]"},
		{"Exp", nil, "int64[2]", "error: input X has type int64[2]"},
		{"Sigmoid", nil, "float", "float"},

		// Shape arithmetic: pad = (Q - T%Q) % Q, chunks = (T+pad)/Q.
		{"Mod", nil, "int64[]={T} int64[]={64}", "int64[]={T-64*floor((T)/64)}"},
		{"Add", nil, "int64[2]={T,3} int64[]={1}", "int64[2]={T+1,4}"},
		{"Sub", nil, "int64[1]={T} int64[1]={T}", "int64[1]={0}"},
		{"Mul", nil, "int64[]={B} int64[2]={T,2}", "int64[2]={B*T,2*B}"},
		{"Div", nil, "int64[]={T+63} int64[]={64}", "int64[]={" + chunks + "}"},
		{"Div", nil, "int64[]={T-3} int64[]={2}", "int64[]"}, // truncation is not floor below zero
		{"Div", nil, "int64[]={-7} int64[]={2}", "int64[]={-3}"},
		{"Div", nil, "int64[]={T} int64[]={0}", "int64[]"},
		{"Neg", nil, "int64[]={T}", "int64[]={-T}"},
		{"Abs", nil, "int64[]={T}", "int64[]={T}"},
		{"Min", nil, "int64[]={T} int64[]={T+3}", "int64[]={T}"},
		{"Max", nil, "int64[]={T} int64[]={4} int64[]={4}", "int64[]={max(4,T)}"},
		{"Clip", nil, "int64[]={T} int64[]={2} -", "int64[]={max(2,T)}"},
		{"Cast", A{"to": int64(6)}, "int64[1]={T}", "int32[1]={T}"},
		{"Cast", A{"to": int64(9)}, "int64[2]={T+1,0}", "bool[2]={1,0}"},
		{"Cast", A{"to": int64(1)}, "int64[1]={T}", "float[1]"},
		{"Cast", A{"to": int64(99)}, "int64[1]", "error: cannot cast to"},
		{"Equal", nil, "int64[2]={3,4} int64[2]={3,5}", "bool[2]={1,0}"},
		{"Equal", nil, "int64[]={T} int64[]={-1}", "bool[]={0}"},
		{"Equal", nil, "int64[]={T} int64[]={2}", "bool[]"},
		{"Less", nil, "int64[]={T} int64[]={T+1}", "bool[]={1}"},
		{"GreaterOrEqual", nil, "int64[]={T} int64[]={0}", "bool[]={1}"},
		{"Not", nil, "bool[1]={1}", "bool[1]={0}"},
		{"And", nil, "bool[1]={1} bool[1]={0}", "bool[1]={0}"},
		{"ReduceProd", A{"keepdims": int64(0)}, "int64[3]={B,T,8}", "int64[]={8*B*T}"},
		{"ReduceMax", nil, "int64[2]={T,T+1}", "int64[1]={T+1}"},

		{"ReduceSum", nil, "float[B,T,4] int64[1]={-1}", "float[B,T,1]"},
		{"ReduceSum", A{"keepdims": int64(0)}, "float[B,T,4] int64[2]={0,2}", "float[T]"},
		{"ReduceSum", nil, "float[B,T] int64[k]", "float[?out0.0,?out0.1]"},
		{"ReduceSum", A{"keepdims": int64(0)}, "float[B,T,4] int64[1]", "float[?out0.0,?out0.1]"},
		{"ReduceSum", A{"keepdims": int64(0)}, "float[B,T,4] int64[k]", "float"},
		{"ReduceSum", A{"noop_with_empty_axes": int64(1)}, "float[B,T]", "float[B,T]"},
		{"ReduceMean-13", A{"axes": ints{1}}, "float[B,T]", "float[B,1]"},
		{"ReduceMean-13", A{"axes": ints{2}}, "float[B,T]", "error: axes [2] for data float[B,T]"},
		{"ArgMax", A{"axis": int64(-1), "keepdims": int64(0)}, "float[B,T]", "int64[B]"},

		{"MatMul", nil, "float[B,T,8] float[8,N]", "float[B,T,N]"},
		{"MatMul", nil, "float[8] float[B,8,N]", "float[B,N]"},
		{"MatMul", nil, "float[B,1,T,8] float[H,8,N]", "float[B,H,T,N]"},
		{"MatMul", nil, "float[T,8] float[4,N]", "error: inner lengths 8 and 4"},
		{"Gemm", A{"transB": int64(1)}, "float[T,8] float[16,8] float[16]", "float[T,16]"},
		{"Gemm", nil, "float[T,8] float[4,16]", "error: inner lengths 8 and 4"},
		{"Einsum", A{"equation": "bclhn,bcshn->bhcls"}, "float[B,C,64,24,16] float[B,C,64,24,16]", "float[B,24,C,64,64]"},
		{"Einsum", A{"equation": "...ij,...jk"}, "float[B,T,4] float[4,5]", "float[B,T,5]"},
		{"Einsum", A{"equation": "ij,jk->ik"}, "float[2,3] float[4,5]", "error: has lengths 3 and 4"},
		{"Einsum", A{"equation": "ij->k"}, "float[2,3]", "error: label 'k'"},
		{"Softmax", nil, "float[B,T]", "float[B,T]"},
		{"Softmax", A{"axis": int64(2)}, "float[B,T]", "error: axis 2"},
		{"LayerNormalization", nil, "float[B,T,8] float[8]", "float[B,T,8]"},
		{"RMSNormalization", nil, "float[B,T,8] float16[8]", "float16[B,T,8]"},

		{"Conv", A{"pads": ints{3, 0}, "group": int64(8)}, "float[B,8,T] float[8,1,4]", "float[B,8,T]"},
		{"Conv", A{"pads": ints{3, 3}, "group": int64(8)}, "float[B,8,T] float[8,1,4]", "float[B,8,T+3]"},
		{"Conv", A{"strides": ints{2, 2}, "auto_pad": "SAME_UPPER"}, "float[1,3,H,W] float[8,3,3,3]", "float[1,8,floor((H+1)/2),floor((W+1)/2)]"},
		{"Conv", nil, "float[1,4,9] float[8,3,3]", "error: takes 3 channels"},
		{"Conv", nil, "float[1,3,2] float[8,3,5]", "error: longer than spatial axis"},
		{"ConvTranspose", A{"strides": ints{2}}, "float[B,8,T] float[8,4,3]", "float[B,4,2*T+1]"},
		{"MaxPool", A{"kernel_shape": ints{2}, "strides": ints{2}}, "float[B,8,T]", "float[B,8,floor((T)/2)]"},
		{"GlobalAveragePool", nil, "float[B,8,H,W]", "float[B,8,1,1]"},
		{"LinearAttention", A{"q_num_heads": int64(4), "kv_num_heads": int64(2)}, "float[B,T,32] float[B,T,16] float[B,T,64] - float[B,T,2] float[B,T,2]", "float[B,T,128] float[B,2,8,32]"},
		{"LinearAttention", A{"q_num_heads": int64(4), "kv_num_heads": int64(2)}, "float[B,T,32] float[B,T,16] float[B,T,64]", "error: gated rules need decay"},
		{"CausalConvWithState", nil, "float[B,8,T] float[8,1,4]", "float[B,8,T] float[B,8,3]"},
		{"Attention", A{"q_num_heads": int64(4), "kv_num_heads": int64(2)}, "float[B,T,32] float[B,T,16] float[B,T,24] - float[B,2,P,8] float[B,2,P,12]", "float[B,T,48] float[B,2,P+T,8] float[B,2,P+T,12]"},
		{"LSTM", nil, "float[T,B,8] float[1,16,8] float[1,16,4]", "float[T,1,B,4] float[1,B,4] float[1,B,4]"},
		{"DequantizeLinear", A{"axis": int64(0)}, "int8[8,T] float[8]", "float[8,T]"},
		{"STFT", nil, "float[B,T,1] int64[]={4} float[16]", "float[B,floor((T)/4)-3,9,2]"},
	}
	tab := table(t)
	for _, c := range cases {
		t.Run(c.op+"/"+c.in, func(t *testing.T) {
			msg, refusal := strings.CutPrefix(c.want, "error: ")
			nOut := len(strings.Fields(c.want))
			if refusal {
				nOut = 1
			}
			got, err := infer(t, tab, c.op, c.attrs, c.in, nOut)
			switch {
			case refusal && (err == nil || !strings.Contains(err.Error(), msg)):
				t.Errorf("got error %v, want %q", err, msg)
			case !refusal && err != nil:
				t.Error(err)
			case !refusal && got != c.want:
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// closeTo compares values; NaN equals NaN.
func closeTo(got, want *tensor.Tensor, rtol, atol float64) error {
	if got.DType.IsContainer() || got.DType == tensor.String {
		return nil // compared in TestMovementCases and the conformance tests
	}
	if fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		return fmt.Errorf("shape %v, want %v", got.Shape, want.Shape)
	}
	for i := range want.Len() {
		a, b := got.At(i), want.At(i)
		if a != b && !(math.IsNaN(a) && math.IsNaN(b)) && !(math.Abs(a-b) <= atol+rtol*math.Abs(b)) {
			return fmt.Errorf("element %d is %v, want %v", i, a, b)
		}
	}
	return nil
}

func TestCaseValues(t *testing.T) {
	tab := table(t)
	for _, r := range tab.All() {
		for _, c := range r.Cases {
			if c.Want == nil {
				continue
			}
			n, err := caseNode(tab, r, c)
			if err != nil {
				t.Errorf("%s %s: %v", r.ID, c.Name, err)
				continue
			}
			out, err := ops.Eval(context.Background(), tab, n, c.In)
			if err != nil {
				t.Errorf("%s %s: %v", r.ID, c.Name, err)
				continue
			}
			for i, w := range c.Want {
				if err := closeTo(out[i], w, max(c.Rtol, 1e-5), max(c.Atol, 1e-6)); err != nil {
					t.Errorf("%s %s output %d: %v", r.ID, c.Name, i, err)
				}
			}
		}
	}
}

// TestFloatTypes runs every case that is all in float32 in the other float
// types, where the row takes them, and compares the results.
func TestFloatTypes(t *testing.T) {
	tab := table(t)
	tried := map[tensor.DType]int{}
	for _, r := range tab.All() {
		if r.Traits&ops.Random != 0 {
			continue
		}
		for _, c := range r.Cases {
			ref := evalCase(tab, r, c, tensor.Float32)
			if ref == nil {
				continue
			}
			for d, tol := range map[tensor.DType]float64{tensor.Float64: 1e-5, tensor.Float16: 0.02, tensor.BFloat16: 0.1} {
				for i, got := range evalCase(tab, r, c, d) {
					tried[d]++
					if !got.DType.IsFloat() {
						continue // the rounding of inputs may flip comparisons
					}
					if err := closeTo(got, ref[i], tol, tol); err != nil {
						t.Errorf("%s %s in %v, output %d: %v", r.ID, c.Name, d, i, err)
					}
				}
			}
		}
	}
	for d, n := range tried {
		if n < 200 {
			t.Errorf("only %d results in %v", n, d)
		}
	}
}

// evalCase evaluates a case with its float32 inputs converted; nil when the
// row does not take that type.
func evalCase(tab *ops.Table, r *ops.Op, c ops.Case, d tensor.DType) []*tensor.Tensor {
	floats := false
	in := make([]*tensor.Tensor, len(c.In))
	for i, x := range c.In {
		in[i] = x
		if x != nil && x.DType == tensor.Float32 {
			in[i], floats = fromFloats(d, floatsOf(x), x.Shape...), true
		}
	}
	if !floats {
		return nil
	}
	c.In = in
	n, err := caseNode(tab, r, c)
	if err != nil {
		return nil
	}
	out, err := ops.Eval(context.Background(), tab, n, in)
	if err != nil {
		return nil
	}
	return out
}

func TestExactIntegers(t *testing.T) {
	tab := table(t)
	big := int64(1)<<62 + 1
	u := func(v ...uint64) *tensor.Tensor { return tensor.From(v, len(v)) }
	i8 := func(v ...int8) *tensor.Tensor { return tensor.From(v, len(v)) }
	cases := []struct {
		op    string
		attrs graph.Attrs
		in    []*tensor.Tensor
		want  *tensor.Tensor
	}{
		{"Add", nil, []*tensor.Tensor{tensor.Ints(big), tensor.Ints(1)}, tensor.Ints(big + 1)},
		{"Mul", nil, []*tensor.Tensor{tensor.Ints(1<<53 + 1), tensor.Ints(3)}, tensor.Ints(3<<53 + 3)},
		{"Sub", nil, []*tensor.Tensor{i8(-128), i8(1)}, i8(127)},
		{"Div", nil, []*tensor.Tensor{u(math.MaxUint64), u(2)}, u(math.MaxUint64 / 2)},
		{"Max", nil, []*tensor.Tensor{u(math.MaxUint64), u(1)}, u(math.MaxUint64)},
		{"Mod", nil, []*tensor.Tensor{tensor.Ints(-(1<<53 + 1)), tensor.Ints(4)}, tensor.Ints(3)},
		{"Less", nil, []*tensor.Tensor{u(1), u(math.MaxUint64)}, tensor.From([]bool{true}, 1)},
		{"Equal", nil, []*tensor.Tensor{tensor.Ints(1<<53 + 1), tensor.Ints(1 << 53)}, tensor.From([]bool{false}, 1)},
		{"ReduceSum", nil, []*tensor.Tensor{tensor.Ints(big, 1)}, tensor.Ints(big + 1)},
		{"ReduceMax", nil, []*tensor.Tensor{tensor.Ints(1<<53, 1<<53+1)}, tensor.Ints(1<<53 + 1)},
		{"ArgMax", nil, []*tensor.Tensor{tensor.Ints(1<<53, 1<<53+1)}, tensor.Ints(1)},
		{"Pow", nil, []*tensor.Tensor{tensor.Ints(3), tensor.Ints(39)}, tensor.Ints(4052555153018976267)},
		{"Clip", nil, []*tensor.Tensor{u(math.MaxUint64, 5), tensor.Scalar(uint64(7))}, u(math.MaxUint64, 7)},
		{"MatMul", nil, []*tensor.Tensor{tensor.Ints(1<<53+1, 1), tensor.Ints(1, 1)}, tensor.Scalar(int64(1<<53 + 2))},
		{"Einsum", graph.Attrs{"equation": "i,i->"}, []*tensor.Tensor{tensor.Ints(1<<53+1, 1), tensor.Ints(1, 1)}, tensor.Scalar(int64(1<<53 + 2))},
		{"Cast", graph.Attrs{"to": int64(tensor.Float32)}, []*tensor.Tensor{tensor.Ints(1<<60 + 1<<36 + 1)}, tensor.From([]float32{1<<60 + 1<<37}, 1)},
		{"BitShift", graph.Attrs{"direction": "RIGHT"}, []*tensor.Tensor{u(1 << 63), u(63)}, u(1)},
	}
	for _, c := range cases {
		row := tab.Resolve("", c.op, 27)
		n, err := caseNode(tab, row, ops.Case{Attrs: c.attrs, In: c.in})
		if err != nil {
			t.Error(err)
			continue
		}
		out, err := ops.Eval(context.Background(), tab, n, c.in)
		if err != nil {
			t.Error(err)
			continue
		}
		if out[0].TypeString() != c.want.TypeString() || string(out[0].Data) != string(c.want.Data) {
			t.Errorf("%s: got %s %v, want %s %v", c.op, out[0].TypeString(), out[0].AsInts(), c.want.TypeString(), c.want.AsInts())
		}
	}
}

// TestContradictions: shapes that only disagree at run time end as errors.
func TestContradictions(t *testing.T) {
	tab := table(t)
	f := func(s ...int) *tensor.Tensor { return tensor.New(tensor.Float32, s...) }
	for _, c := range []struct {
		op    string
		attrs graph.Attrs
		in    []*tensor.Tensor
	}{
		{"Add", nil, []*tensor.Tensor{f(2), f(3)}},
		{"Div", nil, []*tensor.Tensor{tensor.Ints(1), tensor.Ints(0)}},
		{"MatMul", nil, []*tensor.Tensor{f(2, 3), f(4, 5)}},
		{"Gemm", nil, []*tensor.Tensor{f(2, 3), f(3, 5), f(4)}},
		{"Einsum", graph.Attrs{"equation": "ij,jk->ik"}, []*tensor.Tensor{f(2, 3), f(4, 5)}},
		{"Conv", nil, []*tensor.Tensor{f(1, 3, 8), f(4, 2, 3)}},
		{"LayerNormalization", nil, []*tensor.Tensor{f(2, 3), f(4)}},
		{"LinearAttention", graph.Attrs{"q_num_heads": int64(1), "kv_num_heads": int64(1), "update_rule": "linear"}, []*tensor.Tensor{f(1, 2, 4), f(1, 2, 3), f(1, 2, 4)}},
		{"CausalConvWithState", nil, []*tensor.Tensor{f(1, 2, 4), f(3, 1, 4)}},
		{"Softmax", graph.Attrs{"axis": int64(3)}, []*tensor.Tensor{f(2, 2)}},
	} {
		row := tab.Resolve("", c.op, 27)
		g := graph.New("g")
		n := g.Add(row.ID, c.attrs, nil, 2, "n")
		if _, err := ops.Eval(context.Background(), tab, n, c.in); err == nil {
			t.Errorf("%s accepted %v", c.op, c.in)
		}
	}
}
