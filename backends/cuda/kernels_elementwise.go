package cuda

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Element-wise operators. A chain of them in which each result has one reader of the same shape is one launch: a
// program for the accumulator of kernels/elementwise.cu.

// Codes of kernels/elementwise.cu, enum Op.
var binaryCodes = map[string]int{
	"Add": 1, "Sub": 2, "Mul": 3, "Div": 4, "Pow": 5, "Mod": 6, "FMod": 7, "Min": 8, "Max": 9, "Equal": 10, "Less": 11, "LessOrEqual": 12,
	"Greater": 13, "GreaterOrEqual": 14, "And": 15, "Or": 16, "Xor": 17, "BitwiseAnd": 18, "BitwiseOr": 19, "BitwiseXor": 20, "PRelu": 21,
}

var unaryCodes = map[string]int{
	"Neg": 32, "Abs": 33, "Exp": 34, "Log": 35, "Sqrt": 36, "Reciprocal": 37, "Sigmoid": 38, "Tanh": 39, "Erf": 40, "Softplus": 41, "Relu": 42,
	"Swish": 43, "Gelu": 44, "GeluTanh": 45, "Floor": 46, "Ceil": 47, "Round": 48, "Sign": 49, "Sin": 50, "Cos": 51, "Tan": 52, "Asin": 53,
	"Acos": 54, "Atan": 55, "Sinh": 56, "Cosh": 57, "Asinh": 58, "Acosh": 59, "Atanh": 60, "Not": 61, "IsNaN": 62, "IsInf": 63, "Softsign": 64,
	"LeakyRelu": 65, "Elu": 66, "HardSigmoid": 67, "BitwiseNot": 69,
}

const (
	codeMove  = 0
	codeWhere = 96

	fromInput    = 0
	fromConstant = 1

	maxChainInputs = 8
	maxChainRank   = 6
	maxChainCode   = 24
)

// chainOp is what a node does to the accumulator: it takes operand acc over the others.
type chainOp struct {
	code      int
	acc       []int // operands that may be the accumulator, the best first
	constants [2]float64
	clip      bool // limits are inputs 1 and 2
}

func elementwiseKernels() []*Kernel {
	var out []*Kernel
	row := func(name string, since int, accepts func(*graph.Node, backends.Target) error, chain func(*graph.Node) (chainOp, bool)) {
		out = append(out, &Kernel{Op: onnxOp(name, since), Name: "chain", Accepts: accepts, Lower: lowerChain, chain: chain})
	}
	for name, since := range map[string]int{
		"Exp": 6, "Log": 6, "Sigmoid": 6, "Tanh": 6, "Erf": 9, "Softplus": 1, "Relu": 6, "Neg": 6, "Abs": 6, "Sqrt": 6, "Reciprocal": 6,
		"Floor": 6, "Ceil": 6, "Round": 11, "Sign": 9, "Sin": 7, "Cos": 7, "Tan": 7, "Asin": 7, "Acos": 7, "Atan": 7, "Sinh": 9, "Cosh": 9,
		"Asinh": 9, "Acosh": 9, "Atanh": 9, "Not": 1, "Softsign": 1, "IsNaN": 9, "BitwiseNot": 18,
	} {
		row(name, since, computable, fixed(chainOp{code: unaryCodes[name], acc: []int{0}}))
	}
	row("LeakyRelu", 6, computable, func(n *graph.Node) (chainOp, bool) {
		return chainOp{code: unaryCodes["LeakyRelu"], acc: []int{0}, constants: [2]float64{float64(n.Attrs.Float("alpha", 0.01))}}, true
	})
	row("Elu", 6, computable, func(n *graph.Node) (chainOp, bool) {
		return chainOp{code: unaryCodes["Elu"], acc: []int{0}, constants: [2]float64{float64(n.Attrs.Float("alpha", 1))}}, true
	})
	row("HardSigmoid", 6, computable, func(n *graph.Node) (chainOp, bool) {
		return chainOp{code: unaryCodes["HardSigmoid"], acc: []int{0}, constants: [2]float64{float64(n.Attrs.Float("alpha", 0.2)), float64(n.Attrs.Float("beta", 0.5))}}, true
	})
	row("Gelu", 20, computable, func(n *graph.Node) (chainOp, bool) {
		name := "Gelu"
		if n.Attrs.Str("approximate", "none") == "tanh" {
			name = "GeluTanh"
		}
		return chainOp{code: unaryCodes[name], acc: []int{0}}, true
	})
	row("Swish", 24, computable, func(n *graph.Node) (chainOp, bool) {
		a := float64(n.Attrs.Float("alpha", 1))
		return chainOp{code: unaryCodes["Swish"], acc: []int{0}, constants: [2]float64{a}}, a != 0
	})
	for name, since := range map[string]int{
		"Add": 7, "Sub": 7, "Mul": 7, "Div": 7, "Pow": 7, "Equal": 7, "Less": 7, "LessOrEqual": 12, "Greater": 7, "GreaterOrEqual": 12, "And": 7,
		"Or": 7, "Xor": 7, "BitwiseAnd": 18, "BitwiseOr": 18, "BitwiseXor": 18, "PRelu": 7,
	} {
		row(name, since, computable, fixed(chainOp{code: binaryCodes[name], acc: []int{0, 1}}))
	}
	row("Mod", 10, computable, func(n *graph.Node) (chainOp, bool) {
		name := "Mod"
		if n.Attrs.Int("fmod", 0) != 0 {
			name = "FMod"
		}
		return chainOp{code: binaryCodes[name], acc: []int{0, 1}}, true
	})
	for _, name := range []string{"Min", "Max"} {
		row(name, 8, func(n *graph.Node, t backends.Target) error {
			if len(n.In) != 2 {
				return fmt.Errorf("it has %d operands", len(n.In))
			}
			return computable(n, t)
		}, fixed(chainOp{code: binaryCodes[name], acc: []int{0, 1}}))
	}
	row("Where", 9, func(n *graph.Node, t backends.Target) error {
		if d := n.Out[0].Type.DType; isReal(d) || d == tensor.Int64 || d == tensor.Int32 || d == tensor.Float64 || d == tensor.Bool {
			return nil
		}
		return fmt.Errorf("its operands are %s", n.Out[0].Type)
	}, fixed(chainOp{code: codeWhere, acc: []int{0}}))
	row("Clip", 11, func(n *graph.Node, t backends.Target) error {
		if !isReal(n.Out[0].Type.DType) {
			return fmt.Errorf("its operand is %s", n.Out[0].Type)
		}
		return computable(n, t)
	}, fixed(chainOp{code: binaryCodes["Max"], acc: []int{0}, clip: true}))
	row("Cast", 6, castable, fixed(chainOp{code: codeMove, acc: []int{0}}))
	row("CastLike", 15, func(n *graph.Node, t backends.Target) error { return castable(n, t) }, fixed(chainOp{code: codeMove, acc: []int{0}}))
	return out
}

func fixed(op chainOp) func(*graph.Node) (chainOp, bool) {
	return func(*graph.Node) (chainOp, bool) { return op, true }
}

// computable accepts operands that one of the kernel's three registers holds: f32, f64, or 64-bit integers.
func computable(n *graph.Node, _ backends.Target) error {
	_, err := register(n)
	return err
}

// castable accepts what a plain conversion does right: no saturation, no narrow integers from floats.
func castable(n *graph.Node, _ backends.Target) error {
	from, to := n.In[0].Type.DType, n.Out[0].Type.DType
	kind := func(d tensor.DType) int {
		switch {
		case isReal(d):
			return 1
		case d == tensor.Float64:
			return 2
		case d == tensor.Bool:
			return 3
		case d == tensor.Int64 || d == tensor.Int32:
			return 4
		case d.IsInt() && d.Bits() >= 8 && d != tensor.Uint64:
			return 5
		}
		return 0
	}
	a, b := kind(from), kind(to)
	if a == 0 || b == 0 || (a == 1 || a == 2) && b == 5 {
		return fmt.Errorf("it converts %s to %s", n.In[0].Type, n.Out[0].Type)
	}
	return nil
}

// register says which of the kernels serves a node: chain_f32, chain_f64 or chain_i64.
func register(n *graph.Node) (string, error) {
	reg := ""
	meet := func(d tensor.DType) error {
		r := ""
		switch {
		case isReal(d):
			r = "f32"
		case d == tensor.Float64:
			r = "f64"
		case d == tensor.Bool:
			return nil
		case d.IsInt() && d.Bits() >= 8 && d != tensor.Uint64:
			r = "i64"
		default:
			return fmt.Errorf("it has an operand of %v", d)
		}
		switch {
		case reg == "" || reg == r:
			reg = r
		case reg == "i64" || r == "i64": // an integer exponent: exact up to 2^24 or 2^53
			if n.Op.Name != "Pow" {
				return fmt.Errorf("it mixes integers and floats")
			}
			if reg == "i64" {
				reg = r
			}
		default:
			reg = "f64"
		}
		return nil
	}
	for i, v := range n.In {
		if v == nil || n.Op.Name == "Where" && i == 0 || n.Op.Name == "CastLike" && i == 1 {
			continue
		}
		if !v.Type.Ranked() {
			return "", fmt.Errorf("input %d is %s", i, v.Type)
		}
		if err := meet(v.Type.DType); err != nil {
			return "", err
		}
	}
	if len(n.In) > 0 && n.Op.Name != "Cast" && n.Op.Name != "CastLike" {
		if err := meet(n.Out[0].Type.DType); err != nil {
			return "", err
		}
	}
	if reg == "" {
		reg = "i64" // bool
	}
	return reg, nil
}

// joinChains decides which element-wise nodes are computed by the launch of their reader.
func (b *binder) joinChains() {
	length := map[*graph.Node]int{} // instructions and inputs so far
	inputs := map[*graph.Node]int{}
	for _, n := range b.nodes {
		k := b.e.kernels[n]
		if k == nil || k.chain == nil || b.dynamic(n) {
			continue
		}
		op, ok := k.chain(n)
		reg, err := register(n)
		if !ok || err != nil {
			continue
		}
		length[n], inputs[n] = 2, len(n.In)
		shape, ok := b.typeOf(n.Out[0]).Static()
		if !ok {
			continue
		}
		for _, a := range op.acc {
			v := n.In[a]
			if v == nil || v.Def == nil || b.contents(v) != nil || b.uses[v] != 1 || v.IsOutput() {
				continue
			}
			m := v.Def
			mk := b.e.kernels[m]
			if _, runs := b.at[m]; !runs || mk == nil || mk.chain == nil || length[m] == 0 || b.joined[m] != nil {
				continue
			}
			mreg, err := register(m)
			mshape, ok := b.typeOf(v).Static()
			if err != nil || !ok || mreg != reg || m.Op.Name == "Cast" || product(mshape) != product(shape) || len(mshape) != len(shape) || v.Type.DType == tensor.Bool && reg != "i64" {
				continue
			}
			if length[m]+length[n] > maxChainCode || inputs[m]+inputs[n] > maxChainInputs {
				continue
			}
			b.joined[m] = n
			length[n] += length[m]
			inputs[n] += inputs[m]
			// What m reads must live until n runs.
			break
		}
	}
	for _, n := range b.nodes {
		end := n
		for b.joined[end] != nil {
			end = b.joined[end]
		}
		if end == n {
			continue
		}
		for _, v := range n.In {
			if v != nil {
				b.alive[v] = max(b.alive[v], b.at[end])
			}
		}
	}
}

// instruction is one line of a chain.
type instruction struct {
	code, from, index, swap, index2 int
	constants                       [2]float64
}

// chain is the program of one launch.
type chain struct {
	in   []*Mem
	code []instruction
}

func lowerChain(b *Bind, n *graph.Node) error {
	out := b.Out(0)
	c := &chain{}
	if err := b.chainOf(c, n); err != nil {
		return err
	}
	reg, err := register(n)
	if err != nil {
		return err
	}
	return b.launchChain(c, out, reg)
}

// chainOf appends what n computes; its accumulator comes first.
func (b *Bind) chainOf(c *chain, n *graph.Node) error {
	op, ok := b.b.e.kernels[n].chain(n)
	if !ok {
		return ErrFallback
	}
	acc := op.acc[0]
	for _, a := range op.acc {
		if v := n.In[a]; v != nil && v.Def != nil && b.b.joined[v.Def] == n {
			acc = a
		}
	}
	if v := n.In[acc]; v.Def != nil && b.b.joined[v.Def] == n {
		if err := b.chainOf(c, v.Def); err != nil {
			return err
		}
	} else if err := b.operand(c, v); err != nil {
		return err
	}
	ins := instruction{code: op.code, constants: op.constants}
	switch {
	case op.code == codeWhere:
		for i := 1; i < 3; i++ {
			if err := b.operand(c, n.In[i]); err != nil {
				return err
			}
		}
		ins.index, ins.index2 = len(c.in)-2, len(c.in)-1
		c.code = append(c.code, ins)
		return nil
	case op.clip:
		for i, code := range []int{binaryCodes["Max"], binaryCodes["Min"]} {
			v := n.Input(i + 1)
			if v == nil {
				continue
			}
			if err := b.other(c, v, instruction{code: code}); err != nil {
				return err
			}
		}
		return nil
	case op.code == codeMove:
		return nil // the store converts
	case op.code >= 32:
		c.code = append(c.code, ins)
		return nil
	}
	if acc == 1 {
		ins.swap = 1
	}
	return b.other(c, n.In[1-acc], ins)
}

// other appends an instruction with another operand: a constant when it is one.
func (b *Bind) other(c *chain, v *graph.Value, ins instruction) error {
	if t := b.b.contents(v); t != nil && t.Len() == 1 && len(t.Data) == t.DType.Size() && (t.DType.IsFloat() || t.DType.IsInt()) {
		x := t.At(0)
		if t.DType != tensor.Int64 || math.Abs(x) < 1<<53 {
			ins.from, ins.constants[0] = fromConstant, x
			c.code = append(c.code, ins)
			return nil
		}
	}
	if err := b.operand(c, v); err != nil {
		return err
	}
	ins.from, ins.index = fromInput, len(c.in)-1
	c.code = append(c.code, ins)
	return nil
}

func (b *Bind) operand(c *chain, v *graph.Value) error {
	m, err := b.b.of(v)
	if err != nil {
		return err
	}
	c.in = append(c.in, m)
	if len(c.in) > maxChainInputs {
		return ErrFallback
	}
	return nil
}

// launchChain runs c over the shape of out.
func (b *Bind) launchChain(c *chain, out *Mem, reg string) error {
	if len(c.code) > maxChainCode {
		return ErrFallback
	}
	views := make([]*Mem, len(c.in))
	for i, m := range c.in {
		if views[i] = broadcastTo(m, out.Shape); views[i] == nil {
			return fmt.Errorf("an operand of shape %v does not broadcast to %v", m.Shape, out.Shape)
		}
	}
	dims, strides := merged(out.Shape, append([]*Mem{out}, views...))
	if len(dims) > maxChainRank {
		return ErrFallback
	}
	// Four neighbours at once where rows and starts allow it.
	last, width := len(dims)-1, 1
	if reg == "f32" && dims[last]%4 == 0 && out.aligned(16) {
		width = 4
		for i, m := range views {
			s := strides[i+1]
			if s[last] == 1 && isReal(m.DType) {
				ok := m.aligned(4 * m.DType.Size())
				for a := range last {
					ok = ok && s[a]%4 == 0
				}
				if !ok {
					width = 1
				}
			}
		}
	}
	name := "chain_" + reg
	if width == 4 {
		name += "x4"
	}
	n := out.Len()
	p := (&params{}).i64(n, len(dims), len(c.in), len(c.code)).i64(pad(dims, maxChainRank)...).tensor(out)
	for i := range maxChainInputs {
		if i < len(views) {
			p.tensor(views[i]).i64(pad(strides[i+1], maxChainRank)...)
		} else {
			p.i64(make([]int, 2+maxChainRank)...)
		}
	}
	for _, ins := range c.code {
		p.i32(ins.code, ins.from, ins.index, ins.swap, 0, ins.index2).f64(ins.constants[0]).f64(ins.constants[1])
	}
	for range maxChainCode - len(c.code) {
		p.i64(make([]int, 5)...)
	}
	blocks := ceilDiv(ceilDiv(n, width), 256)
	if rtc := b.set().rtc; (rtc == "on" || rtc == "auto" && n >= compileFrom) && blocks > 0 && blocks < 1<<31 {
		ends := make([]int, len(views))
		for i := range views {
			ends[i] = strides[i+1][last]
		}
		if text, ok := c.source(reg, width, len(dims), out, views, ends); ok {
			if f := b.dev().compiled(text); f != nil {
				b.submit(b.name, &launch{f, blocks, 256, 0, p})
				return nil
			}
		}
	}
	return b.Launch("elementwise", name, blocks, 256, 0, p)
}

func pad(v []int, n int) []int { return append(append([]int{}, v...), make([]int, n-len(v))...) }

// merged joins neighbouring axes over which all mems step evenly, and drops those of length 1. There is at least one axis.
func merged(shape []int, mems []*Mem) (dims []int, strides [][]int) {
	strides = make([][]int, len(mems))
	for a, n := range shape {
		if n == 1 {
			continue
		}
		joins := len(dims) > 0
		for i, m := range mems {
			if joins {
				s := strides[i]
				joins = s[len(s)-1] == m.Strides[a]*n
			}
		}
		if joins {
			dims[len(dims)-1] *= n
		} else {
			dims = append(dims, n)
		}
		for i, m := range mems {
			if joins {
				strides[i][len(strides[i])-1] = m.Strides[a]
			} else {
				strides[i] = append(strides[i], m.Strides[a])
			}
		}
	}
	if len(dims) == 0 {
		dims = []int{1}
		for i := range strides {
			strides[i] = []int{0}
		}
		strides[0][0] = 1
	}
	return dims, strides
}
