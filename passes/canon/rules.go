package canon

import (
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// rules lists, per ONNX operator, the rewrites to try in order.
var rules map[string][]rewriteFn

func init() { // a literal would be an initialisation cycle through the rewriter
	rules = map[string][]rewriteFn{
		"Identity":        {input},
		"Dropout":         {dropout},
		"Cast":            {castNoop, castBack},
		"CastLike":        {castNoop},
		"Reshape":         {sameShape, reshapeBack, reshapeReshape},
		"Flatten":         {sameShape, reshapeBack},
		"Squeeze":         {sameShape, reshapeBack, squeezeEntry},
		"Unsqueeze":       {sameShape, reshapeBack, sinkExpand},
		"Expand":          {sameShape, expandExpand},
		"Tile":            {sameShape, tileToExpand},
		"Slice":           {sliceAll, slicePad, sinkSlice, forwardSlice},
		"Gather":          {forwardGather},
		"Split":           {forwardSplit},
		"ScatterND":       {scatterConcat},
		"ScatterElements": {scatterConcat},
		"Concat":          {concatOne},
		"Pad":             {padNone},
		"Transpose":       {transposeNoop, sinkExpand},
		"ReduceSum":       {reduceOne},
		"ReduceMean":      {reduceOne},
		"Add":             {neutral(negZero), shrinkBroadcast},
		"Sub":             {neutralRight(0), shrinkBroadcast},
		"Mul":             {neutral(1), mulSigmoid, shrinkBroadcast},
		"Div":             {neutralRight(1), oneOver, shrinkBroadcast},
		"Clip":            {clipNoop},
		"Where":           {whereSoftplus, shrinkBroadcast},
	}
	for _, name := range []string{"Exp", "Log", "Neg", "Sigmoid", "Tanh", "Softplus", "Sqrt", "Reciprocal", "Abs", "Relu", "Erf", "Max", "Min", "Pow", "Not", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual", "And", "Or", "Swish", "Gelu", "HardSwish"} {
		rules[name] = append(rules[name], shrinkBroadcast)
	}
	rules["Neg"] = append([]rewriteFn{negNeg}, rules["Neg"]...)
	rules["Clip"] = append(rules["Clip"], shrinkBroadcast)
	rules["Cast"] = append(rules["Cast"], shrinkBroadcast)
}

func input(_ *rewriter, n *graph.Node) *graph.Value { return n.In[0] }

// dropout is the identity outside training.
func dropout(_ *rewriter, n *graph.Node) *graph.Value {
	if mask := n.Output(1); mask != nil && !mask.Unused() {
		return nil
	}
	if t := n.Input(2); t != nil && (t.Const == nil || t.Const.IntAt(0) != 0) {
		return nil
	}
	return n.In[0]
}

func castNoop(_ *rewriter, n *graph.Node) *graph.Value {
	if n.In[0].Type.DType == n.Out[0].Type.DType {
		return n.In[0]
	}
	return nil
}

// castBack removes a cast to a wider float type and back.
func castBack(_ *rewriter, n *graph.Node) *graph.Value {
	d := n.In[0].Def
	if d == nil || !d.Op.Is("", "Cast") {
		return nil
	}
	from, mid := d.In[0].Type.DType, n.In[0].Type.DType
	wider := mid == tensor.Float64 && (from == tensor.Float32 || from == tensor.Float16 || from == tensor.BFloat16) ||
		mid == tensor.Float32 && (from == tensor.Float16 || from == tensor.BFloat16)
	if !wider || n.Out[0].Type.DType != from {
		return nil
	}
	return d.In[0]
}

// negNeg removes a sign that is changed twice.
func negNeg(_ *rewriter, n *graph.Node) *graph.Value {
	if d := n.In[0].Def; d != nil && d.Op.Is("", "Neg") {
		return d.In[0]
	}
	return nil
}

// sameShape removes layout operators that change nothing.
func sameShape(_ *rewriter, n *graph.Node) *graph.Value {
	a, b := n.In[0].Type, n.Out[0].Type
	if a.Ranked() && b.Ranked() && a.Equal(b) {
		return n.In[0]
	}
	return nil
}

// reshapeBack: two reshapes that end where they began.
func reshapeBack(_ *rewriter, n *graph.Node) *graph.Value {
	inner := n.In[0].Def
	if inner == nil || inner.Op.Domain != "" {
		return nil
	}
	switch inner.Op.Name {
	case "Reshape", "Squeeze", "Unsqueeze", "Flatten":
	default:
		return nil
	}
	if v := inner.In[0]; v.Type.Ranked() && n.Out[0].Type.Ranked() && v.Type.Equal(n.Out[0].Type) {
		return v
	}
	return nil
}

// sliceAll removes a Slice that keeps everything. A negative step keeps the
// shape too, but reverses.
func sliceAll(r *rewriter, n *graph.Node) *graph.Value {
	if steps := n.Input(4); steps != nil {
		k, ok := ops.KnownOf(steps)
		for _, s := range k {
			ok = ok && s.Is(1)
		}
		if !ok {
			return nil
		}
	}
	return sameShape(r, n)
}

// reshapeReshape skips an inner Reshape when the outer target does not refer to it by zeros.
func reshapeReshape(r *rewriter, n *graph.Node) *graph.Value {
	inner := n.In[0].Def
	if inner == nil {
		return nil
	}
	switch inner.Op.Name {
	case "Reshape", "Squeeze", "Unsqueeze", "Flatten":
	default:
		return nil
	}
	target, ok := ops.KnownOf(n.In[1])
	if !ok || inner.Op.Domain != "" {
		return nil
	}
	for _, d := range target {
		if d.Is(0) {
			return nil
		}
	}
	b := r.builder(n)
	return done(b, b.Op("Reshape", n.Attrs.Clone(), inner.In[0], n.In[1]))
}

func expandExpand(r *rewriter, n *graph.Node) *graph.Value {
	inner := n.In[0].Def
	if inner == nil || !inner.Op.Is("", "Expand") || n.Out[0].Type.Rank() != n.In[0].Type.Rank() {
		return nil
	}
	return r.expandTo(n, inner.In[0], n.Out[0].Type.Shape)
}

// tileToExpand: repeating an axis of length 1 is a broadcast.
func tileToExpand(r *rewriter, n *graph.Node) *graph.Value {
	in, out := n.In[0].Type, n.Out[0].Type
	if !in.Ranked() || !out.Ranked() {
		return nil
	}
	for i, d := range in.Shape {
		if d != out.Shape[i] && !d.Is(1) {
			return nil
		}
	}
	return r.expandTo(n, n.In[0], out.Shape)
}

// slicePad undoes padding: a Slice that keeps just what Pad was given.
func slicePad(_ *rewriter, n *graph.Node) *graph.Value {
	pad := n.In[0].Def
	if pad == nil || !pad.Op.Is("", "Pad") || len(n.In) < 3 || !n.Out[0].Type.Equal(pad.In[0].Type) {
		return nil
	}
	starts, ok := ops.KnownOf(n.In[1])
	pads, ok2 := ops.KnownOf(pad.Input(1))
	if !ok || !ok2 || pad.Input(3) != nil || len(pads) != 2*pad.In[0].Type.Rank() {
		return nil
	}
	for _, s := range starts {
		if !s.Is(0) {
			return nil
		}
	}
	for i, p := range pads {
		if i < len(pads)/2 && !p.Is(0) || i >= len(pads)/2 && !p.AtLeast(graph.D(0)) {
			return nil
		}
	}
	if steps := n.Input(4); steps != nil {
		k, ok := ops.KnownOf(steps)
		for _, s := range k {
			ok = ok && s.Is(1)
		}
		if !ok {
			return nil
		}
	}
	return pad.In[0]
}

// sinkSlice cuts the operands of an elementwise operator instead of its
// result: less work, and what was padded on the way in meets its Slice.
func sinkSlice(r *rewriter, n *graph.Node) *graph.Value {
	e := n.In[0].Def
	if e == nil || len(n.In[0].Uses) != 1 || n.In[0].IsOutput() || len(n.In) < 4 {
		return nil
	}
	if !e.Op.Is("", "Add") && !e.Op.Is("", "Mul") && !e.Op.Is("", "Sub") {
		return nil
	}
	axes, ok := ops.KnownOf(n.In[3])
	starts, ok2 := ops.KnownOf(n.In[1])
	if !ok || !ok2 || len(axes) != 1 || len(starts) != 1 || !starts[0].Is(0) { // padding goes at the end
		return nil
	}
	a, _ := axes[0].Const()
	out := n.Out[0].Type
	if !out.Ranked() || !n.In[0].Type.Ranked() {
		return nil
	}
	if a < 0 {
		a += int64(out.Rank())
	}
	b := r.builder(n)
	var in []*graph.Value
	for _, v := range e.In {
		if !v.Type.Ranked() {
			return nil
		}
		i := int(a) - (out.Rank() - v.Type.Rank()) // the axis, counted in v
		switch {
		case i < 0 || v.Type.Shape[i].Is(1):
			in = append(in, v)
			continue
		case v.Type.Shape[i] != n.In[0].Type.Shape[a]:
			return nil
		}
		args := append([]*graph.Value{v}, n.In[1:]...)
		args[3] = b.Ints(int64(i))
		s := b.Like(n, args...)
		if b.Err != nil {
			return nil
		}
		in = append(in, s.Out[0])
	}
	m := b.Like(e, in...)
	if b.Err != nil || !m.Out[0].Type.Equal(out) {
		return nil
	}
	return m.Out[0]
}

func concatOne(_ *rewriter, n *graph.Node) *graph.Value {
	if len(n.In) == 1 {
		return n.In[0]
	}
	return nil
}

func padNone(_ *rewriter, n *graph.Node) *graph.Value {
	pads, ok := ops.KnownOf(n.Input(1))
	if !ok {
		return nil
	}
	for _, p := range pads {
		if !p.Is(0) {
			return nil
		}
	}
	return n.In[0]
}

// perm is the permutation of a Transpose, with the default made explicit. Axes
// counted from the end are written into the node as plain ones, for every pass.
func perm(n *graph.Node) []int64 {
	rank := int64(n.In[0].Type.Rank())
	p := slices.Clone(n.Attrs.Ints("perm"))
	if p == nil {
		for i := range rank {
			p = append(p, rank-1-i)
		}
		return p
	}
	for i, a := range p {
		if a < 0 {
			p[i] = a + rank
			n.Attrs["perm"] = p
		}
	}
	return p
}

// transposeNoop removes identities and composes pairs.
func transposeNoop(r *rewriter, n *graph.Node) *graph.Value {
	if !n.In[0].Type.Ranked() {
		return nil
	}
	p := perm(n)
	identity := true
	for i, a := range p {
		identity = identity && int64(i) == a
	}
	if identity {
		return n.In[0]
	}
	inner := n.In[0].Def
	if inner == nil || !inner.Op.Is("", "Transpose") {
		return nil
	}
	q := perm(inner)
	if len(q) != len(p) {
		return nil
	}
	both := make([]int64, len(p))
	for i, a := range p {
		both[i] = q[a]
	}
	b := r.builder(n)
	return done(b, b.Op("Transpose", graph.Attrs{"perm": both}, inner.In[0]))
}

// reduceOne: a sum or mean over axes of length 1 only reshapes.
func reduceOne(r *rewriter, n *graph.Node) *graph.Value {
	in, out := n.In[0].Type, n.Out[0].Type
	if !in.Ranked() || !out.Ranked() {
		return nil
	}
	a, _ := in.Len()
	b, _ := out.Len()
	if a != b {
		return nil
	}
	if in.Equal(out) {
		return n.In[0]
	}
	bd := r.builder(n)
	return done(bd, bd.Op("Reshape", exactly(), n.In[0], r.dims(bd, out.Shape, n.In...)))
}

// exactly makes a Reshape take a computed length of 0 as it stands, not as
// "the input's length".
func exactly() graph.Attrs { return graph.Attrs{"allowzero": int64(1)} }

// uniform returns the value of a constant whose elements are all equal.
func uniform(v *graph.Value) (float64, bool) {
	if v == nil || v.Const == nil || v.Const.Len() == 0 || !(v.Const.DType.IsFloat() || v.Const.DType.IsInt()) {
		return 0, false
	}
	x := v.Const.At(0)
	for i := 1; i < v.Const.Len(); i++ {
		if v.Const.At(i) != x {
			return 0, false
		}
	}
	return x, true
}

// negZero is the zero that a float sum leaves alone: -0 + 0 is +0.
var negZero = math.Copysign(0, -1)

// isUniform reports a constant whose elements are all k, for floats with its sign.
func isUniform(v *graph.Value, k float64) bool {
	x, ok := uniform(v)
	return ok && x == k && (!v.Const.DType.IsFloat() || math.Signbit(x) == math.Signbit(k))
}

func neutralRight(k float64) rewriteFn {
	return func(_ *rewriter, n *graph.Node) *graph.Value {
		if isUniform(n.In[1], k) && n.In[0].Type.Equal(n.Out[0].Type) {
			return n.In[0]
		}
		return nil
	}
}

func neutral(k float64) rewriteFn {
	right := neutralRight(k)
	return func(r *rewriter, n *graph.Node) *graph.Value {
		if v := right(r, n); v != nil {
			return v
		}
		if isUniform(n.In[0], k) && n.In[1].Type.Equal(n.Out[0].Type) {
			return n.In[1]
		}
		return nil
	}
}

// oneOver spells 1/x as Reciprocal.
func oneOver(r *rewriter, n *graph.Node) *graph.Value {
	if x, ok := uniform(n.In[0]); !ok || x != 1 || !n.In[0].Type.DType.IsFloat() || !n.In[1].Type.Equal(n.Out[0].Type) {
		return nil
	}
	b := r.builder(n)
	return done(b, b.Op("Reciprocal", nil, n.In[1]))
}

// mulSigmoid spells x*sigmoid(x) as Swish (opset 24), the field's SiLU.
func mulSigmoid(r *rewriter, n *graph.Node) *graph.Value {
	for i, v := range n.In {
		if s := v.Def; s != nil && s.Op.Is("", "Sigmoid") && s.In[0] == n.In[1-i] {
			if r.c.Table.Resolve("", "Swish", 0) == nil {
				return nil
			}
			b := r.builder(n)
			return done(b, b.Op("Swish", nil, n.In[1-i]))
		}
	}
	return nil
}

// clipNoop removes a Clip without bounds, or whose bounds Softplus keeps
// anyway. The largest finite numbers are bounds: exporters write them to keep
// infinities out. Only above a Softplus, where an infinity is beyond repair,
// they pass for none.
func clipNoop(_ *rewriter, n *graph.Node) *graph.Value {
	lo, hi := math.Inf(-1), math.Inf(1)
	if n.Op.Since < 11 {
		lo, hi = float64(n.Attrs.Float("min", float32(lo))), float64(n.Attrs.Float("max", float32(hi)))
	} else {
		for i, p := range []*float64{&lo, &hi} {
			if v := n.Input(i + 1); v != nil {
				if v.Const == nil || v.Const.Len() != 1 {
					return nil
				}
				*p = v.Const.At(0)
			}
		}
	}
	if !n.In[0].Type.DType.IsFloat() {
		return nil
	}
	positive := n.In[0].Def != nil && n.In[0].Def.Op.Is("", "Softplus")
	if math.IsInf(lo, -1) && math.IsInf(hi, 1) || positive && lo <= 0 && hi >= math.MaxFloat32 {
		return n.In[0]
	}
	return nil
}

// whereSoftplus: PyTorch's softplus returns x itself above a threshold. From
// 20 on the two agree in float32: log1p(exp(-20)) is 2e-9, an ulp of 20 is 2e-6.
func whereSoftplus(_ *rewriter, n *graph.Node) *graph.Value {
	cond, x, soft := n.In[0].Def, n.In[1], n.In[2]
	if soft.Def == nil || !soft.Def.Op.Is("", "Softplus") || soft.Def.In[0] != x || cond == nil || !cond.Op.Is("", "Greater") || cond.In[0] != x {
		return nil
	}
	if k, ok := uniform(cond.In[1]); !ok || k < 20 || x.Type.DType == tensor.Float64 || !soft.Type.Equal(n.Out[0].Type) {
		return nil
	}
	return soft
}
