package cpu

import "github.com/ssdc-go/ssdc/graph"

// arithmetic is what is known of a node when its operations are counted: the
// shapes of this binding, nil where they are not known.
type arithmetic struct {
	n  *graph.Node
	of func(*graph.Value) *Mem
}

func shapeIn(a arithmetic, v *graph.Value) []int {
	if v == nil {
		return nil
	}
	if m := a.of(v); m != nil {
		return m.Shape
	}
	return nil
}

func (a arithmetic) in(i int) []int  { return shapeIn(a, a.n.Input(i)) }
func (a arithmetic) out(i int) []int { return shapeIn(a, a.n.Output(i)) }

// elements is the length of output 0.
func (a arithmetic) elements() int64 { return int64(product(a.out(0))) }

// bytewise are the operators whose arithmetic is on bytes.
var bytewise = map[string]bool{"MatMulInteger": true, "QLinearMatMul": true, "QGemm": true, "QLinearConv": true}

// operationsOf counts the arithmetic of operators with a kernel, by the
// recurrence for scans; a multiply-add is two. Element-wise kernels, those with
// a Tile, count one for each element and need no row. What only moves data has
// none either; operations_test.go names those operators.
var operationsOf = map[string]func(a arithmetic) int64{
	".MatMul": products(0), ".Gemm": products(0), "ssm.Linear": products(0), ".MatMulInteger": products(0), ".QLinearMatMul": products(0), "com.microsoft.QGemm": products(0),
	".Conv": windows(1), "com.microsoft.FusedConv": windows(1), ".QLinearConv": windows(3),
	".ConvTranspose": func(a arithmetic) int64 { // every input element meets every tap
		w := a.in(1)
		if len(w) < 2 || w[0] == 0 {
			return 0
		}
		return 2 * int64(product(a.in(0))) * int64(product(w)/w[0])
	},
	".Attention": attentionOperations,
	".LSTM":      gates(4), ".GRU": gates(3),
	// Decay, input and output of each element of the state.
	"ssm.SSD":           statesOf(3, 4, 5),
	"ssm.SelectiveScan": statesOf(2, 2, 6),
	".LinearAttention": func(a arithmetic) int64 {
		q, v := a.in(0), a.in(2)
		h, hv := a.n.Attrs.Int("q_num_heads", 0), a.n.Attrs.Int("kv_num_heads", 0)
		if len(q) != 3 || len(v) != 3 || h < 1 || hv < 1 {
			return 0
		}
		return 5 * int64(product(q)) * int64(v[2]) / hv // B*T*heads states of DK by DV
	},
	"ssm.CausalConv":       taps(4),
	".CausalConvWithState": taps(0),
	".RMSNormalization":    each(4), ".LayerNormalization": each(4), ".Softmax": each(4), ".LogSoftmax": each(4), "ssm.GatedRMSNorm": each(8),
	".GroupNormalization": each(4), ".InstanceNormalization": each(4), ".BatchNormalization": each(2),
	".RotaryEmbedding": each(3), "ssm.LinearScan": each(2), ".CumSum": each(1), "com.microsoft.QLinearAdd": each(4),
	".DynamicQuantizeLinear": each(4),
	".ReduceMax":             reads(1), ".ReduceMean": reads(1), ".ReduceMin": reads(1), ".ReduceSum": reads(1), ".ReduceL2": reads(2), ".ReduceSumSquare": reads(2),
	".GlobalAveragePool": reads(1), ".GlobalMaxPool": reads(1), ".MaxPool": pools, ".AveragePool": pools,
	".NonMaxSuppression": reads(0), // what it compares depends on the scores
	".Add":               each(1), ".Sub": each(1), ".Mul": each(1), ".Pow": each(1), ".And": each(1), ".Or": each(1), ".Xor": each(1), ".Not": each(1),
	".Equal": each(1), ".Greater": each(1), ".GreaterOrEqual": each(1), ".Less": each(1), ".LessOrEqual": each(1),
}

func each(ops int64) func(arithmetic) int64 {
	return func(a arithmetic) int64 { return ops * a.elements() }
}

func reads(ops int64) func(arithmetic) int64 {
	return func(a arithmetic) int64 { return ops * int64(product(a.in(0))) }
}

// products: every element of the result sums as many products as input x has columns.
func products(x int) func(arithmetic) int64 {
	return func(a arithmetic) int64 {
		s := a.in(x)
		if len(s) == 0 {
			return 0
		}
		k := s[len(s)-1]
		if a.n.Op.Name == "Gemm" && a.n.Attrs.Int("transA", 0) != 0 {
			k = s[0]
		}
		return 2 * a.elements() * int64(k)
	}
}

// windows: every element of the result sums what a filter of input w has.
func windows(w int) func(arithmetic) int64 {
	return func(a arithmetic) int64 {
		s := a.in(w)
		if len(s) < 2 || s[0] == 0 {
			return 0
		}
		return 2 * a.elements() * int64(product(s)/s[0])
	}
}

// statesOf: input i ends in the size of the state of every element of the result.
func statesOf(i, rank int, ops int64) func(arithmetic) int64 {
	return func(a arithmetic) int64 {
		s := a.in(i)
		if len(s) != rank {
			return 0
		}
		return ops * a.elements() * int64(s[rank-1])
	}
}

// taps: a convolution along one axis, whose weight ends in its width, and more.
func taps(more int64) func(arithmetic) int64 {
	return func(a arithmetic) int64 {
		w := a.in(1)
		if len(w) == 0 {
			return 0
		}
		return (2*int64(w[len(w)-1]) + more) * a.elements()
	}
}

// gates: both products of a recurrent layer, of [T,B,I] with [D,G*H,I] and of its
// states with [D,G*H,H].
func gates(count int64) func(arithmetic) int64 {
	return func(a arithmetic) int64 {
		x, r := a.in(0), a.in(2)
		if len(x) != 3 || len(r) != 3 {
			return 0
		}
		return 2 * int64(x[0]*x[1]*r[0]) * count * int64(r[2]) * int64(x[2]+r[2])
	}
}

func pools(a arithmetic) int64 {
	ops := a.elements()
	for _, k := range a.n.Attrs.Ints("kernel_shape") {
		ops *= k
	}
	return ops
}

// attentionOperations counts both products, of every query with every key.
func attentionOperations(a arithmetic) int64 {
	q, k, v, past := a.in(0), a.in(1), a.in(2), a.in(4)
	if len(q) == 4 && len(k) == 4 && len(v) == 4 {
		keys := k[2]
		if len(past) == 4 {
			keys += past[2]
		}
		return 2 * int64(product(q[:3])) * int64(keys) * int64(q[3]+v[3])
	}
	h := a.n.Attrs.Int("kv_num_heads", 0)
	if len(q) != 3 || len(k) != 3 || len(v) != 3 || h < 1 {
		return 0
	}
	keys, hq := k[1], a.n.Attrs.Int("q_num_heads", h)
	if len(past) == 4 {
		keys += past[2]
	}
	return 2 * int64(product(q)*keys) * (1 + int64(v[2])*hq/(h*int64(max(q[2], 1))))
}

// operations counts the arithmetic of a node. It is 0 for nodes that only move data.
func (b *binder) operations(n *graph.Node) int64 {
	if len(n.Out) == 0 || n.Out[0] == nil || b.of(n.Out[0]) == nil {
		return 0
	}
	a := arithmetic{n, b.of}
	if f := operationsOf[n.Op.Domain+"."+n.Op.Name]; f != nil {
		return f(a)
	}
	if k := b.e.kernels[n]; k != nil && k.Tile != nil {
		return a.elements()
	}
	return 0
}
