package certify

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Positions are not only compared: they are rounded, cut off at zero and divided
// before they are. floor((i-j)/16) is 0 in every short sequence, and
// relu(i-j-20) too. How far the check must go for such an operator is the
// position at which its operand reaches a threshold, followed back through the
// arithmetic that it is computed by.

// steps notes how far n reaches when it is an operator with steps, or one that
// tends to a limit, of a value that no data enters.
func (r *reach) steps(n *graph.Node, data map[*graph.Value]bool) {
	if n.Op.Domain != "" || len(n.In) == 0 || n.In[0] == nil || data[n.Out[0]] {
		return
	}
	num := func(name string, otherwise float32) float64 { return math.Abs(float64(n.Attrs.Float(name, otherwise))) }
	at := math.NaN() // of the operand, in size
	switch n.Op.Name {
	case "Floor", "Ceil", "Round", "Sign", "Abs", "Relu", "LeakyRelu", "PRelu":
		at = 1
	case "Cast":
		from, to := n.In[0].Type.DType, n.Out[0].Type.DType
		if to.IsFloat() || !from.IsFloat() && to.IsInt() {
			return
		}
		at = 1
	case "Sigmoid", "Tanh", "Erf", "Elu", "Selu", "Celu", "Softplus", "Gelu", "Softsign", "Mish":
		at = 16
	case "HardSigmoid":
		at = (num("beta", 0.5) + 1) / num("alpha", 0.2)
	case "HardSwish":
		at = 3
	case "ThresholdedRelu":
		at = num("alpha", 1)
	case "Shrink":
		at = num("lambd", 0.5)
	case "BitShift":
		if x, ok := largest(n.Input(1)); ok && x < 40 {
			at = math.Exp2(x)
		}
	case "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "IsInf", "IsNaN", "OneHot", "Sin", "Cos", "Tan":
		r.cannot(n)
		return
	case "EyeLike":
		r.number(math.Abs(float64(n.Attrs.Int("k", 0))), false)
		return
	case "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Min", "Max", "Clip", "Mod":
		for i, v := range n.In { // a threshold on either side
			if v == nil {
				continue
			}
			if x, ok := largest(v); ok {
				for j, w := range n.In {
					if j != i && w != nil && w.Const == nil && !r.spans(w, x, 16) {
						r.cannot(n)
					}
				}
			}
		}
		return
	case "Div":
		if x, ok := largest(n.In[1]); ok && n.In[0].Type.DType.IsInt() {
			at = x
		} else {
			return
		}
	default:
		return
	}
	if !r.spans(n.In[0], at, 16) {
		r.cannot(n)
	}
}

// cannot notes that nobody knows how far the check must go for n.
func (r *reach) cannot(n *graph.Node) {
	if r.blind == "" {
		r.blind = fmt.Sprintf("%s (%s) is applied to positions, and where it sets in cannot be told", n.Op.Name, n.Out[0].Name)
	}
}

// spans notes the positions at which v, computed from positions, is t in size.
func (r *reach) spans(v *graph.Value, t float64, depth int) bool {
	switch {
	case v == nil || math.IsNaN(t) || depth == 0:
		return false
	case v.Const != nil || v.Type.DType.IsInt() && v.Known != nil && v.Def == nil:
		r.position(t)
		return true
	case v.Known != nil: // a length or what is computed from lengths alone
		r.position(t)
		return true
	case v.Def == nil || v.Def.Op.Domain != "" || len(v.Def.In) == 0:
		return false
	}
	n := v.Def
	in := func(i int, t float64) bool { return r.spans(n.In[i], t, depth-1) }
	switch n.Op.Name {
	case "Range":
		if x, ok := largest(n.In[2]); ok && x > 0 {
			t /= x
		}
		r.position(t)
		return true
	case "Shape", "Size", "NonZero", "CumSum", "ConstantOfShape", "EyeLike":
		r.position(t)
		return true
	case "Cast", "Neg", "Abs", "Relu", "Floor", "Ceil", "Round", "Trilu":
		return in(0, t+1)
	case "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "And", "Or", "Not", "Xor":
		return true // noted by themselves
	case "Where":
		return in(1, t) && in(2, t)
	case "Exp":
		return in(0, math.Abs(math.Log(t)))
	case "Log":
		return in(0, math.Max(math.Exp(t), math.Exp(-t)))
	case "Sqrt":
		return in(0, t*t)
	case "Reciprocal":
		return in(0, 1/t)
	case "Add", "Sub", "Mul", "Div", "Pow":
		for i, w := range n.In {
			x, ok := largest(w)
			if !ok {
				continue
			}
			switch n.Op.Name {
			case "Mul":
				t /= x
			case "Div":
				if t *= x; i == 0 {
					t = x * x / t
				}
			case "Pow":
				if t = math.Pow(t, 1/x); i == 0 {
					t = math.Abs(math.Log(math.Pow(t, x)) / math.Log(x))
				}
			default:
				t += x
			}
			return x == 0 || in(1-i, t)
		}
		switch {
		case n.Op.Name == "Add" || n.Op.Name == "Sub":
			return in(0, t) && in(1, t)
		case n.Op.Name == "Mul" && n.In[0] == n.In[1]:
			return in(0, math.Sqrt(math.Abs(t)))
		}
	default:
		if layout.Is(n) {
			return in(0, t)
		}
	}
	return false
}

// position notes one that may lie between two.
func (r *reach) position(t float64) {
	if t = math.Abs(t); t > 1 && t < 1<<40 {
		r.number(math.Ceil(t), false)
	}
}

// largest is the greatest size among a constant's elements, a mere mask's apart.
func largest(v *graph.Value) (x float64, ok bool) {
	if v == nil || v.Const == nil || v.Const.Len() == 0 {
		return 0, false
	}
	for i := range v.Const.Len() {
		x = math.Max(x, math.Abs(v.Const.At(i)))
	}
	for _, d := range v.Known {
		k, ok := d.Const()
		if !ok {
			return 0, false
		}
		x = math.Max(x, math.Abs(float64(k)))
	}
	return x, true
}

// ofData lists what the inputs of the region enter.
func (r *region) ofData() map[*graph.Value]bool {
	data := map[*graph.Value]bool{}
	for _, v := range r.g.Inputs {
		data[v] = true
	}
	for _, n := range r.g.Nodes {
		enters := len(n.Bodies) > 0
		for _, v := range n.In {
			enters = enters || data[v]
		}
		if n.Op.Is("", "Shape") || n.Op.Is("", "Size") || n.Op.Is("", "EyeLike") || !enters {
			continue
		}
		for _, v := range n.Out {
			if v != nil {
				data[v] = true
			}
		}
	}
	return data
}
