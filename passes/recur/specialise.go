package recur

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// A LinearScan whose update is an outer product and whose states are only
// contracted need not exist: the fused operators keep one state in registers.
// What the factors vary along gives them their roles.

// special is a LinearScan being specialised.
type special struct {
	b       *graph.Builder
	n       *graph.Node
	s       space
	live    *liveness
	grouped bool // look for B and C below their repetition over heads

	reads     []readout
	over      int    // the contracted axis: N
	x, bs     []view // factors of the update that do not, and do, vary along N
	a         []view // factors of the decay
	ungrouped bool   // B or C was found below its repetition
}

// fused is what a LinearScan has become.
type fused struct {
	op       string
	old, new []*graph.Value
	groups   bool // B or C was taken below what looks like their repetition over heads
}

// specialise proposes the fused operator that does what LinearScan n and its
// contractions do. The proposal still wants a certificate.
func specialise(b *graph.Builder, n *graph.Node, live *liveness, grouped bool) (*fused, error) {
	u := n.In[1]
	p := &special{b: b, n: n, live: live, s: space(u.Type.Shape), grouped: grouped}
	if n.Attrs.Int("complex", 0) != 0 {
		return nil, fmt.Errorf("the states are complex")
	}
	if u.Type.Rank() != 4 && u.Type.Rank() != 5 {
		return nil, fmt.Errorf("the state has %d axes beside batch; expected [H,P,N] or [D,N]", u.Type.Rank()-2)
	}
	var err error
	if p.reads, err = (reader{p.s, b, live}).of(p.s.all(n.Out[0])); err != nil {
		return nil, err
	}
	if len(p.reads) == 0 {
		return nil, fmt.Errorf("no step reads the state")
	}
	p.over = p.reads[0].over
	for _, r := range p.reads[1:] {
		if r.over != p.over {
			return nil, fmt.Errorf("%q and %q sum over different axes of the state", p.reads[0].out.Name, r.out.Name)
		}
	}
	for _, f := range p.s.factors(b, p.s.all(u)) {
		if f.long(p.over) {
			p.bs = append(p.bs, f)
		} else {
			p.x = append(p.x, f)
		}
	}
	p.a = p.s.factors(b, p.s.all(n.In[0]))
	if b.Err != nil {
		return nil, b.Err
	}
	return p.choose()
}

// choose tries the operators, the more specific one first.
func (p *special) choose() (*fused, error) {
	var why []error
	if len(p.s) == 4 {
		d := 5 - p.over
		if f, err := p.selective(d); err == nil {
			return f, nil
		} else {
			why = append(why, err)
		}
		for _, hp := range [][2]int{{-1, d}, {d, -1}} {
			f, err := p.ssd(hp[0], hp[1])
			if err == nil {
				return f, nil
			}
			why = append(why, err)
		}
		return nil, deepest(why)
	}
	var rest []int
	for a := 2; a < 5; a++ {
		if a != p.over {
			rest = append(rest, a)
		}
	}
	for _, hp := range [][2]int{{rest[0], rest[1]}, {rest[1], rest[0]}} {
		f, err := p.ssd(hp[0], hp[1])
		if err == nil {
			return f, nil
		}
		why = append(why, err)
	}
	for _, hp := range [][2]int{{rest[0], rest[1]}, {rest[1], rest[0]}} {
		if f, err := p.gatedAttention(hp[0], hp[1]); err == nil {
			return f, nil
		} else {
			why = append(why, err)
		}
	}
	return nil, deepest(why)
}

// roleErr is a reason with how far the roles fitted.
type roleErr struct {
	depth int
	error
}

func deepest(errs []error) error {
	best := errs[0]
	for _, e := range errs[1:] {
		var x, y roleErr
		if errors.As(e, &x) && (!errors.As(best, &y) || x.depth > y.depth) {
			best = e
		}
	}
	return best
}

func role(depth int, format string, a ...any) error { return roleErr{depth, fmt.Errorf(format, a...)} }

// label names a factor in messages.
func label(w view) string { return fmt.Sprintf("%q %s", w.v.Name, w.v.Type) }

// size is the length of an axis, 1 for a missing one.
func (p *special) size(a int) graph.Dim {
	if a < 0 {
		return graph.D(1)
	}
	return p.s[a]
}

// product multiplies views in the given order of axes; 1 of length 1 when
// there are none. full repeats it to the whole length of every axis.
func (p *special) product(ws []view, order []int, full bool) *graph.Value {
	b := p.b
	var v *graph.Value
	for _, w := range ws {
		x := p.s.project(b, w, order...)
		if x == nil {
			return nil
		}
		if v == nil {
			v = x
		} else {
			v = b.Op("Mul", nil, v, x)
		}
	}
	if v == nil {
		v = p.ones(len(order), 1)
	}
	if full && b.Err == nil {
		v = p.expand(v, order)
	}
	return v
}

func (p *special) ones(rank int, x float64) *graph.Value {
	shape := make([]int, rank)
	for i := range shape {
		shape[i] = 1
	}
	t := tensor.New(p.n.In[1].Type.DType, shape...)
	t.SetAt(0, x)
	return p.b.Const(t)
}

func (p *special) expand(v *graph.Value, order []int) *graph.Value {
	if p.b.Err != nil {
		return v
	}
	dims := make([]graph.Dim, len(order))
	for i, a := range order {
		dims[i] = p.size(a)
	}
	if slices.Equal(v.Type.Shape, dims) {
		return v
	}
	return p.b.Op("Expand", nil, v, layout.Shape(p.b, dims, p.n.In[1]))
}

// state brings a state of the scan to another order of axes, or back.
func (p *special) state(v *graph.Value, order []int) *graph.Value {
	if v == nil {
		return nil
	}
	w := view{v: v}
	for a := range p.s {
		if a == 1 {
			continue
		}
		if p.s[a].Is(1) {
			w.axes = append(w.axes, nil)
		} else {
			w.axes = append(w.axes, []int{a})
		}
	}
	return p.s.project(p.b, w, order...)
}

func (p *special) stateBack(v *graph.Value, order []int) *graph.Value {
	var axes [][]int
	var shape []graph.Dim
	for a := range p.s {
		if a == 1 {
			continue
		}
		shape = append(shape, p.s[a])
		if p.s[a].Is(1) {
			axes = append(axes, nil)
		} else {
			axes = append(axes, []int{a})
		}
	}
	return p.s.place(p.b, v, order, axes, shape)
}

// finish pairs the contractions and the final state with those of the new
// operator, one for each contraction.
func (p *special) finish(op string, yOrder, sOrder []int, make func(r readout) (y, hT *graph.Value)) (*fused, error) {
	f := &fused{op: op}
	defer func() { f.groups = p.ungrouped }()
	for i, r := range p.reads {
		y, hT := make(r)
		if p.b.Err != nil {
			return nil, p.b.Err
		}
		if y == nil {
			return nil, role(3, "the factors of %q do not fit", r.out.Name)
		}
		v := p.s.place(p.b, y, yOrder, r.axes, r.out.Type.Shape)
		if v == nil || p.b.Err != nil {
			return nil, role(3, "the axes of %q %s do not fit", r.out.Name, r.out.Type)
		}
		f.old, f.new = append(f.old, r.out), append(f.new, v)
		if i == 0 {
			if t := p.n.Output(1); t != nil && p.live.uses(t) {
				v := p.stateBack(hT, sOrder)
				if v == nil || p.b.Err != nil {
					return nil, role(3, "the final state does not fit")
				}
				f.old, f.new = append(f.old, t), append(f.new, v)
			}
		}
	}
	return f, nil
}

// split parts the factors of a contraction into those along N and the rest.
func (p *special) split(r readout) (cs, post []view) {
	for _, f := range r.factors {
		if f.long(p.over) {
			cs = append(cs, f)
		} else {
			post = append(post, f)
		}
	}
	return cs, post
}

// scaled multiplies y by the factors of a contraction that do not vary along N.
func (p *special) scaled(y *graph.Value, post []view, order []int) *graph.Value {
	if len(post) == 0 || p.b.Err != nil {
		return y
	}
	k := p.product(post, order, false)
	if k == nil {
		return nil
	}
	return p.b.Op("Mul", nil, y, k)
}

// ssd proposes ssm.SSD with heads along axis h and channels along axis q;
// either may be -1.
func (p *special) ssd(h, q int) (*fused, error) {
	n, b := p.over, p.b
	for _, f := range p.a {
		if !f.within(0, 1, h) {
			if f.long(n) {
				return nil, role(1, "the decay %s varies along the contracted axis, %s; an SSD has one decay per head", label(f), p.size(n))
			}
			return nil, role(1, "the decay %s varies along the channels; expected one per head", label(f))
		}
	}
	for _, f := range p.bs {
		if !f.within(0, 1, h, n) {
			return nil, role(2, "factor %s of the update varies along channels and N; expected an outer product of x, along the channels, and B, along N", label(f))
		}
	}
	for _, r := range p.reads {
		cs, _ := p.split(r)
		for _, f := range cs {
			if !f.within(0, 1, h, n) {
				return nil, role(2, "factor %s of the contraction varies along channels and N; expected C, shared by the channels of a head", label(f))
			}
		}
	}
	log, dt, x, err := p.logDecay(h)
	if err != nil {
		return nil, err
	}
	seq := []int{0, 1, h, q}
	xv := p.product(x, seq, true)
	bv := p.group(p.bs, h)
	var h0 *graph.Value
	if len(p.n.In) > 2 {
		h0 = p.state(p.n.In[2], []int{0, h, q, n})
	}
	if b.Err != nil || xv == nil || bv == nil || log == nil {
		return nil, role(2, "the factors of the update do not fit")
	}
	return p.finish("ssm.SSD", seq, []int{0, h, q, n}, func(r readout) (y, hT *graph.Value) {
		cs, post := p.split(r)
		cv := p.group(cs, h)
		if b.Err != nil || cv == nil {
			return nil, nil
		}
		bg := bv
		if g, k := bg.Type.Shape[2], cv.Type.Shape[2]; g != k { // both per head
			bg, cv = p.perHead(bg, h), p.perHead(cv, h)
		}
		m := b.Node("ssm", "SSD", nil, 2, xv, dt, log, bg, cv, nil, nil, nil, h0)
		if m == nil || b.Err != nil {
			return nil, nil
		}
		return p.scaled(m.Out[0], post, seq), m.Out[1]
	})
}

// perHead repeats the groups of [B,L,G,N] to heads.
func (p *special) perHead(v *graph.Value, h int) *graph.Value {
	b, s := p.b, v.Type.Shape
	H := p.size(h)
	k, ok := H.DivExact(s[2])
	if !ok || b.Err != nil || k.Is(1) {
		return v
	}
	w := b.Op("Unsqueeze", nil, v, b.Ints(3))
	if b.Err != nil {
		return nil
	}
	w = b.Op("Expand", nil, w, layout.Shape(b, []graph.Dim{s[0], s[1], s[2], k, s[3]}, p.n.In[1]))
	return layout.Reshape(b, w, []graph.Dim{s[0], s[1], H, s[3]})
}

// group multiplies factors to [B,L,G,N]: B or C.
func (p *special) group(ws []view, h int) *graph.Value {
	b := p.b
	if len(ws) == 0 {
		return p.expand(p.ones(4, 1), []int{0, 1, -1, p.over})
	}
	if len(ws) == 1 && p.grouped && h >= 0 && ws[0].long(h) {
		if v := p.belowHeads(ws[0].v, p.s[h]); v != nil {
			p.ungrouped = true
			return v
		}
	}
	v := p.product(ws, []int{0, 1, h, p.over}, false)
	if v == nil || b.Err != nil {
		return nil
	}
	if v.Type.Shape[2].Is(1) {
		return p.expand(v, []int{0, 1, -1, p.over})
	}
	return p.expand(v, []int{0, 1, h, p.over})
}

// belowHeads finds [B,L,G,N] below its repetition over the heads.
func (p *special) belowHeads(v *graph.Value, heads graph.Dim) *graph.Value {
	chain := layout.Chain(v)
	B, L, N := p.s[0], p.s[1], p.s[p.over]
	for i := len(chain) - 1; i >= 0; i-- {
		s := chain[i].Type.Shape
		if len(s) < 2 || s[0] != B || !L.Is(1) && (len(s) < 3 || s[1] != L) {
			continue
		}
		g, ok := layout.Numel(chain[i]).DivExact(layout.Product(B, L, N))
		if !ok {
			continue
		}
		last := s[len(s)-1]
		if last.Is(1) && len(s) > 2 {
			last = s[len(s)-2]
		}
		if _, whole := last.DivExact(N); !whole {
			continue
		}
		if _, ok := heads.DivExact(g); ok && g != heads {
			return layout.Reshape(p.b, chain[i], []graph.Dim{B, L, g, N})
		}
	}
	return nil
}

// logDecay writes the decay per head as A and dt with a = exp(A*dt), where dt
// is also a factor of the update, or as its logarithm [B,L,H]. It returns the
// factors of x that are left.
func (p *special) logDecay(h int) (log, dt *graph.Value, x []view, err error) {
	b := p.b
	if len(p.a) == 1 {
		if e := p.a[0].v.Def; e != nil && e.Op.Is("", "Exp") {
			var times, params []view
			for _, f := range p.s.factors(b, view{e.In[0], p.a[0].axes}) {
				if f.within(h) && static(map[*graph.Value]bool{}).is(f.v) {
					params = append(params, f)
				} else {
					times = append(times, f)
				}
			}
			if rest, ok := without(p.x, times); ok && len(times) > 0 {
				dt = p.product(times, []int{0, 1, h}, true)
				a := p.product(params, []int{h}, true)
				if dt != nil && a != nil && b.Err == nil {
					return a, dt, rest, nil
				}
			}
		}
	}
	for _, f := range p.a {
		l, err := p.log(f)
		if err != nil {
			return nil, nil, nil, err
		}
		v := p.s.project(b, l, 0, 1, h)
		if v == nil {
			return nil, nil, nil, role(2, "the decay %s does not fit", label(f))
		}
		if log == nil {
			log = v
		} else {
			log = b.Op("Add", nil, log, v)
		}
	}
	return p.expand(log, []int{0, 1, h}), nil, p.x, b.Err
}

// without removes each of some factors once from a product.
func without(x, some []view) ([]view, bool) {
	rest := slices.Clone(x)
	for _, f := range some {
		i := slices.IndexFunc(rest, func(w view) bool { return w.v == f.v && slices.EqualFunc(w.axes, f.axes, slices.Equal) })
		if i < 0 {
			return nil, false
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return rest, true
}

// zeroDecay stands for exp of it in a logarithm: e^-104 is 0 in float32, and
// sums of a few hundred of it still leave the digits of what follows.
const zeroDecay = -104

// log is the logarithm of a factor of the decay, which must be shown positive.
func (p *special) log(w view) (view, error) {
	b, n := p.b, w.v.Def
	if c := w.v.Const; c != nil && c.DType.IsFloat() {
		least := math.Inf(1)
		for i := range c.Len() {
			least = math.Min(least, c.At(i))
		}
		if least < 0 {
			return w, role(2, "the decay %s is negative in places", label(w))
		}
		v := b.Op("Log", nil, w.v) // not folded here: the certificate computes it in float64
		if least == 0 {
			v = b.Op("Max", nil, v, p.ones(0, zeroDecay))
		}
		return view{v, w.axes}, b.Err
	}
	if n == nil || n.Op.Domain != "" {
		return w, role(2, "the decay %s is not shown to be positive; expected exp or sigmoid of something", label(w))
	}
	switch n.Op.Name {
	case "Exp":
		return view{n.In[0], w.axes}, nil
	case "Sigmoid": // log sigmoid(x) = -softplus(-x)
		return view{b.Op("Neg", nil, b.Op("Softplus", nil, b.Op("Neg", nil, n.In[0]))), w.axes}, b.Err
	case "Sub": // 1 - sigmoid(x) = sigmoid(-x)
		if s := n.In[1].Def; s != nil && s.Op.Is("", "Sigmoid") && isConst(n.In[0], 1) {
			return view{b.Op("Neg", nil, b.Op("Softplus", nil, s.In[0])), w.axes}, b.Err
		}
	case "Cast":
		in, err := p.log(view{n.In[0], w.axes})
		if err != nil || b.Err != nil {
			return w, errors.Join(err, b.Err)
		}
		return view{b.Op("Cast", n.Attrs.Clone(), in.v), w.axes}, b.Err
	case "Where":
		var parts []*graph.Value
		for _, v := range n.In[1:] {
			if v.Const == nil && lift.Zero(v) {
				parts = append(parts, p.ones(0, zeroDecay))
				continue
			}
			l, err := p.log(view{v, aligned(v.Type.Shape, w.axes)})
			if err != nil {
				return w, err
			}
			if l.v.Type.Rank() != v.Type.Rank() {
				return w, role(2, "the decay %s does not fit", label(w))
			}
			parts = append(parts, l.v)
		}
		return view{b.Op("Where", nil, n.In[0], parts[0], parts[1]), w.axes}, b.Err
	}
	if n.Op.Name == "Mul" || layout.Is(n) {
		f := p.s.factors(b, w)
		if len(f) > 1 || len(f) == 1 && f[0].v != w.v {
			var sum *graph.Value
			for _, g := range f {
				l, err := p.log(g)
				if err != nil {
					return w, err
				}
				v := p.s.project(b, l, 0, 1, 2, 3, 4)
				if v == nil {
					return w, role(2, "the decay %s does not fit", label(w))
				}
				if sum == nil {
					sum = v
				} else {
					sum = b.Op("Add", nil, sum, v)
				}
			}
			return p.s.all(sum), b.Err
		}
	}
	return w, role(2, "the decay %s is not shown to be positive; expected exp or sigmoid of something", label(w))
}

func isConst(v *graph.Value, x float64) bool {
	if v = layout.Deepest(v); v.Const == nil || !v.Const.DType.IsFloat() {
		return false
	}
	for i := range v.Const.Len() {
		if v.Const.At(i) != x {
			return false
		}
	}
	return true
}

// selective proposes ssm.SelectiveScan with channels along axis d.
func (p *special) selective(d int) (*fused, error) {
	n, b := p.over, p.b
	const want = "; expected exp(A*dt) with A [D,N] and dt a factor of the update"
	if len(p.a) != 1 {
		return nil, role(1, "the decay is a product of %d factors%s", len(p.a), want)
	}
	var times, params []view
	x := p.x
	if c := p.a[0].v.Const; c != nil && p.a[0].within(d, n) {
		l, err := p.log(p.a[0])
		if err != nil {
			return nil, err
		}
		params = []view{l}
	} else {
		e := p.a[0].v.Def
		if e == nil || !e.Op.Is("", "Exp") {
			return nil, role(1, "the decay %s is no exp%s", label(p.a[0]), want)
		}
		for _, f := range p.s.factors(b, view{e.In[0], p.a[0].axes}) {
			if f.within(d, n) && static(map[*graph.Value]bool{}).is(f.v) {
				params = append(params, f)
			} else if !f.within(0, 1, d) {
				return nil, role(2, "factor %s of the log decay varies with the token and along N%s", label(f), want)
			} else {
				times = append(times, f)
			}
		}
		rest, ok := without(p.x, times)
		if !ok {
			return nil, role(2, "the log decay %q and the update %q share no factor dt%s", e.In[0].Name, p.n.In[1].Name, want)
		}
		x = rest
	}
	for _, f := range p.bs {
		if !f.within(0, 1, n) {
			return nil, role(2, "factor %s of the update varies along channels and N; expected B, shared by the channels", label(f))
		}
	}
	for _, r := range p.reads {
		cs, _ := p.split(r)
		for _, f := range cs {
			if !f.within(0, 1, n) {
				return nil, role(2, "factor %s of the contraction varies along channels and N; expected C, shared by the channels", label(f))
			}
		}
	}
	seq, tok := []int{0, 1, d}, []int{0, 1, n}
	u, dt := p.product(x, seq, true), p.product(times, seq, true)
	a, bv := p.product(params, []int{d, n}, true), p.product(p.bs, tok, true)
	var h0 *graph.Value
	if len(p.n.In) > 2 {
		h0 = p.state(p.n.In[2], []int{0, d, n})
	}
	if b.Err != nil || u == nil || dt == nil || a == nil || bv == nil {
		return nil, role(2, "the factors of the update do not fit")
	}
	return p.finish("ssm.SelectiveScan", seq, []int{0, d, n}, func(r readout) (y, hT *graph.Value) {
		cs, post := p.split(r)
		cv := p.product(cs, tok, true)
		if b.Err != nil || cv == nil {
			return nil, nil
		}
		m := b.Node("ssm", "SelectiveScan", nil, 2, u, dt, a, bv, cv, nil, nil, nil, h0)
		if m == nil || b.Err != nil {
			return nil, nil
		}
		return p.scaled(m.Out[0], post, seq), m.Out[1]
	})
}

// gatedAttention proposes ONNX's LinearAttention with a decay per key: gated
// linear attention, the attention of RWKV without its bonus.
func (p *special) gatedAttention(h, q int) (*fused, error) {
	n, b := p.over, p.b
	H, okH := p.size(h).Const()
	K, okK := p.size(n).Const()
	V, okV := p.size(q).Const()
	if !okH || !okK || !okV {
		return nil, role(1, "the lengths of heads, keys and values are not known")
	}
	for _, f := range slices.Concat(p.a, p.bs) {
		if !f.within(0, 1, h, n) {
			return nil, role(1, "factor %s varies along the channels and along N", label(f))
		}
	}
	key := []int{0, 1, h, n}
	var log *graph.Value
	for _, f := range p.a {
		l, err := p.log(f)
		if err != nil {
			return nil, err
		}
		v := p.s.project(b, l, key...)
		if v == nil || b.Err != nil {
			return nil, role(2, "the decay %s does not fit", label(f))
		}
		if log == nil {
			log = v
		} else {
			log = b.Op("Add", nil, log, v)
		}
	}
	flat := func(v *graph.Value, width int64) *graph.Value {
		if v == nil || b.Err != nil {
			return nil
		}
		return layout.Reshape(b, v, []graph.Dim{p.s[0], p.s[1], graph.D(H * width)})
	}
	val := flat(p.product(p.x, []int{0, 1, h, q}, true), V)
	keys, decay := flat(p.product(p.bs, key, true), K), flat(p.expand(log, key), K)
	var h0 *graph.Value
	if len(p.n.In) > 2 {
		h0 = p.state(p.n.In[2], []int{0, h, n, q})
	}
	if b.Err != nil || val == nil || keys == nil || decay == nil {
		return nil, role(2, "the factors of the update do not fit")
	}
	attrs := graph.Attrs{"q_num_heads": H, "kv_num_heads": H, "scale": float32(1), "update_rule": "gated"}
	out := []int{0, 1, h, q}
	return p.finish("LinearAttention", out, []int{0, h, n, q}, func(r readout) (y, hT *graph.Value) {
		cs, post := p.split(r)
		for _, f := range cs {
			if !f.within(0, 1, h, n) {
				return nil, nil
			}
		}
		query := flat(p.product(cs, key, true), K)
		if query == nil || b.Err != nil {
			return nil, nil
		}
		m := b.Node("", "LinearAttention", attrs, 2, query, keys, val, h0, decay)
		if m == nil || b.Err != nil {
			return nil, nil
		}
		y = layout.Reshape(b, m.Out[0], []graph.Dim{p.s[0], p.s[1], graph.D(H), graph.D(V)})
		return p.scaled(y, post, out), m.Out[1]
	})
}
