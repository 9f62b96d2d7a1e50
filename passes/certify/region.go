package certify

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// MaxRegion bounds the nodes of a region; a larger one is not a region but the
// rest of the model, reached because an input was not named.
const MaxRegion = 200_000

// region is a closed graph: the claim's inputs to Old then New outputs.
type region struct {
	g     *graph.Graph
	kinds []Kind
}

// extract copies what lies between the inputs and the outputs. Shapes are cut:
// an integer value with Known contents becomes a node-less input that concrete
// replaces by a constant.
func extract(c *Claim) (*region, error) {
	r := &region{g: graph.New("region")}
	x := &extractor{g: r.g, m: map[*graph.Value]*graph.Value{}}
	for i, in := range c.In {
		if x.m[in.Value] != nil {
			continue
		}
		v := r.g.AddInput(fmt.Sprintf("x%d", i), in.Value.Type)
		x.m[in.Value] = v
		r.kinds = append(r.kinds, in.Kind)
	}
	x.roots = len(r.g.Inputs)
	var outs []*graph.Value
	for _, v := range append(append([]*graph.Value{}, c.Old...), c.New...) {
		w, err := x.value(v)
		if err != nil {
			return nil, err
		}
		outs = append(outs, w)
	}
	for _, v := range outs {
		r.g.AddOutput(v)
	}
	return r, nil
}

type extractor struct {
	g     *graph.Graph
	m     map[*graph.Value]*graph.Value
	roots int
	n     int
}

// value copies v and what it needs, without recursion: traces are deep.
func (x *extractor) value(v *graph.Value) (*graph.Value, error) {
	stack := []*graph.Value{v}
	for len(stack) > 0 {
		u := stack[len(stack)-1]
		if x.m[u] != nil {
			stack = stack[:len(stack)-1]
			continue
		}
		if known, ok := ops.KnownOf(u); ok && u.Const == nil && (u.Type.DType.IsInt() || u.Type.DType == tensor.Bool) {
			w := &graph.Value{Name: x.g.UniqueName("k"), Type: u.Type, Known: known}
			w.Const = tensor.New(u.Type.DType, knownShape(u, len(known))...)
			w.Type = graph.TypeOf(w.Const)
			x.m[u] = w
			continue
		}
		if u.Const != nil {
			x.m[u] = x.g.AddConst("c", u.Const)
			continue
		}
		if u.Def == nil {
			return nil, fmt.Errorf("the region also depends on input %q", u.Name)
		}
		n := u.Def
		ready := true
		need := func(w *graph.Value) {
			if w != nil && x.m[w] == nil {
				stack = append(stack, w)
				ready = false
			}
		}
		for _, w := range n.In {
			need(w)
		}
		inner := map[*graph.Value]bool{}
		for _, b := range n.Bodies {
			captures(b.Graph, inner, need)
		}
		if !ready {
			continue
		}
		if x.n++; x.n > MaxRegion {
			return nil, fmt.Errorf("the region has more than %d nodes", MaxRegion)
		}
		if err := x.node(n); err != nil {
			return nil, err
		}
	}
	return x.m[v], nil
}

// captures calls f for every outer value that a body uses.
func captures(b *graph.Graph, inner map[*graph.Value]bool, f func(*graph.Value)) {
	for _, v := range b.Inputs {
		inner[v] = true
	}
	see := func(v *graph.Value) {
		if v != nil && !inner[v] {
			f(v)
		}
	}
	for _, n := range b.Nodes {
		for _, v := range n.In {
			see(v)
		}
		for _, c := range n.Bodies {
			captures(c.Graph, inner, f)
		}
		for _, v := range n.Out {
			if v != nil {
				inner[v] = true
			}
		}
	}
	for _, v := range b.Outputs {
		see(v)
	}
}

func (x *extractor) node(n *graph.Node) error {
	k := x.copyNode(x.g, n)
	x.g.Nodes = append(x.g.Nodes, k)
	return nil
}

func (x *extractor) copyNode(g *graph.Graph, n *graph.Node) *graph.Node {
	k := &graph.Node{Op: n.Op, Attrs: n.Attrs.Clone(), Graph: g}
	k.In = make([]*graph.Value, len(n.In))
	for i, v := range n.In {
		if v != nil {
			k.SetIn(i, x.inner(v))
		}
	}
	for _, b := range n.Bodies {
		c := k.AddBody(b.Attr, b.Name)
		for _, v := range b.Inputs {
			w := &graph.Value{Name: x.g.UniqueName("b"), Type: v.Type}
			x.m[v] = w
			c.Inputs = append(c.Inputs, w)
		}
		for _, m := range b.Nodes {
			c.Nodes = append(c.Nodes, x.copyNode(c, m))
		}
		for _, v := range b.Outputs {
			c.AddOutput(x.inner(v))
		}
	}
	for _, v := range n.Out {
		if v == nil {
			k.Out = append(k.Out, nil)
			continue
		}
		w := &graph.Value{Name: x.g.UniqueName("v"), Type: v.Type, Def: k}
		x.m[v] = w
		k.Out = append(k.Out, w)
	}
	return k
}

// inner maps a value used inside a node or body; constants are copied on the way.
func (x *extractor) inner(v *graph.Value) *graph.Value {
	if x.m[v] == nil && v.Const != nil {
		x.m[v] = x.g.AddConst("c", v.Const)
	}
	return x.m[v]
}

func knownShape(v *graph.Value, n int) []int {
	if s, ok := v.Type.Static(); ok {
		return s
	}
	return []int{n}
}

// concrete binds the symbols, shrinks axes and turns float types into float64.
func (r *region) concrete(t *ops.Table, size graph.Bindings, shrink map[int64]int64) (*graph.Graph, error) {
	g, copies := r.g.Clone()
	b := binder{with: map[string]graph.Dim{}, shrink: shrink}
	// A batch of one hides what is repeated or laid out wrongly, so symbols that are a
	// length somewhere come first; of the others one, since 256*blocks is long enough.
	for _, bare := range []bool{true, false} {
		for _, v := range g.Inputs {
			for _, d := range v.Type.Shape {
				for _, s := range d.Symbols() {
					if _, bound := b.with[s]; bound {
						continue
					}
					_, isLength := d.AsSym()
					if n, ok := size[s]; ok {
						b.with[s] = graph.D(n)
					} else if isLength {
						b.with[s] = graph.D(int64(2 + len(b.with)))
					} else if !bare {
						b.with[s] = graph.D(1)
					}
				}
			}
		}
	}
	for _, v := range g.Inputs {
		var err error
		if v.Type, err = b.typ(v.Type); err != nil {
			return nil, err
		}
	}
	for old, v := range copies {
		if v.Const == nil {
			continue
		}
		if old.Known != nil {
			shape, _ := v.Type.Static()
			c := tensor.New(v.Type.DType, shape...)
			for i, d := range old.Known {
				n, err := b.dim(d)
				if err != nil {
					return nil, err
				}
				c.SetIntAt(i, n)
			}
			v.Const, v.Known = c, nil
			continue
		}
		c := b.constant(v.Const)
		if c.Len() < v.Const.Len() && !repeats(v.Const, c) {
			return nil, fmt.Errorf("a constant %s does not fit in %s: its parts differ", v.Const.TypeString(), c.TypeString())
		}
		v.Const, v.Type = c, graph.TypeOf(c)
	}
	g.Walk(func(n *graph.Node) {
		if n.Op.Is("", "ConstantOfShape") && !n.Attrs.Has("value") { // its default is a float32 zero
			n.Attrs["value"] = tensor.New(tensor.Float64, 1)
		}
		for k, a := range n.Attrs {
			n.Attrs[k] = widenAttr(n, k, a)
			if groups, ok := a.(int64); ok && k == "group" { // of a depthwise Conv: as many as channels
				n.Attrs[k] = b.small(groups)
			}
		}
		if n.Op.Is("", "ConstantOfShape") && !n.Attrs.Has("value") { // float32, unless told
			n.Attrs["value"] = tensor.New(tensor.Float64, 1)
		}
		for _, body := range n.Bodies {
			for _, v := range body.Inputs {
				v.Type = widen(v.Type)
			}
		}
	})
	if err := ops.InferGraph(t, g); err != nil {
		return nil, err
	}
	return g, nil
}

type binder struct {
	with   map[string]graph.Dim
	shrink map[int64]int64
}

func (b *binder) dim(d graph.Dim) (int64, error) {
	n, ok := d.Subst(b.with).Const()
	if !ok {
		return 0, fmt.Errorf("length %s is not determined by the region's inputs", d)
	}
	if d.IsConst() {
		n = b.small(n)
	}
	return n, nil
}

func (b *binder) small(n int64) int64 {
	if m, ok := b.shrink[n]; ok {
		return m
	}
	return n
}

func (b *binder) typ(t graph.Type) (graph.Type, error) {
	out := graph.Type{DType: t.DType, Shape: []graph.Dim{}}
	if t.DType.IsFloat() {
		out.DType = tensor.Float64
	}
	if !t.Ranked() {
		return out, fmt.Errorf("an input has no known rank")
	}
	for _, d := range t.Shape {
		n, err := b.dim(d)
		if err != nil {
			return out, err
		}
		if n < 0 {
			return out, fmt.Errorf("an input of type %s has length %d at this size", t, n)
		}
		out.Shape = append(out.Shape, graph.D(n))
	}
	return out, nil
}

// constant shrinks small integer vectors (shapes) by value and float tensors
// by axis, and widens floats.
func (b *binder) constant(t *tensor.Tensor) *tensor.Tensor {
	if !t.DType.IsFloat() && !t.DType.IsInt() && t.DType != tensor.Bool {
		return t
	}
	if t.DType.IsInt() {
		if t.Len() > 16 || len(b.shrink) == 0 {
			return t
		}
		c := t.Clone()
		for i := range t.Len() {
			c.SetIntAt(i, b.small(t.IntAt(i)))
		}
		return c
	}
	shape := make([]int, t.Rank())
	for i, n := range t.Shape {
		shape[i] = int(b.small(int64(n)))
	}
	d := t.DType
	if d.IsFloat() {
		d = tensor.Float64
	}
	if d == t.DType && sameShape(shape, t.Shape) {
		return t
	}
	c := tensor.New(d, shape...)
	idx := make([]int, len(shape))
	for i := range c.Len() {
		src := 0
		for a, n := range t.Shape {
			src = src*n + idx[a]
		}
		c.SetAt(i, t.At(src))
		for a := len(idx) - 1; a >= 0; a-- {
			if idx[a]++; idx[a] < shape[a] {
				break
			}
			idx[a] = 0
		}
	}
	return c
}

// repeats reports whether t is what c, the first elements of it along each
// axis, shows: that along the axes that were cut all elements are equal. Two
// constants that differ further back must not pass for one.
func repeats(t, c *tensor.Tensor) bool {
	idx := make([]int, len(t.Shape))
	for i := range t.Len() {
		at := 0
		for a, n := range c.Shape {
			k := idx[a]
			if n < t.Shape[a] {
				k = 0
			}
			at = at*n + k
		}
		if t.At(i) != c.At(at) {
			return false
		}
		for a := len(idx) - 1; a >= 0; a-- {
			if idx[a]++; idx[a] < t.Shape[a] {
				break
			}
			idx[a] = 0
		}
	}
	return true
}

func widen(t graph.Type) graph.Type {
	if t.DType.IsFloat() {
		t.DType = tensor.Float64
	}
	if t.Elem != nil {
		e := widen(*t.Elem)
		t.Elem = &e
	}
	return t
}

// widenAttr turns attributes that name or hold float types into float64 ones.
func widenAttr(n *graph.Node, name string, a any) any {
	switch a := a.(type) {
	case *tensor.Tensor:
		if a.DType.IsFloat() {
			return (&binder{}).constant(a)
		}
	case int64:
		if (name == "to" || name == "dtype") && tensor.DType(a).IsFloat() && (n.Op.Name == "Cast" || name == "dtype") {
			return int64(tensor.Float64)
		}
	}
	return a
}
