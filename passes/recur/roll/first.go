package roll

import (
	"fmt"
	"hash/maphash"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// odd deals with a lane whose first step is not like the others. Where the
// state starts at zero, decay*0 + update was folded to the update: the missing
// operand is put back as zeros. Otherwise what the first step has is taken for
// a state that comes from outside, as it is when steps read before they write.
func (r *roller) odd(l *lane, steps []int, why error) error {
	if len(steps) != 1 || steps[0] != 0 {
		return why
	}
	if done, err := r.complete(l); done {
		r.zeroed = true
		return err
	}
	if r.ref+1 >= r.n || l.vals[r.ref+1] == nil {
		return why
	}
	if err := r.almost(l); err != nil {
		return err
	}
	st := r.carry(l, l.vals[0], nil) // zeros where it is nil
	st.why, l.outer = why, true
	next := append(append([]*graph.Value{}, l.vals[1:]...), nil)
	st.next = &lane{vals: next}
	r.todo = append(r.todo, st)
	return nil
}

// almost finds the one step that does not read what the step before left, as
// the others do.
func (r *roller) almost(l *lane) error {
	if r.n < 4 {
		return nil
	}
	for _, s := range r.order {
		at, odd := 0, 0
		for t := 1; t < r.n && odd < 2; t++ {
			if l.vals[t] != nil && s.vals[t-1] != l.vals[t] {
				at, odd = t, odd+1
			}
		}
		if s != l && odd == 1 && s.vals[at-1] != nil {
			r.seen = true
			return mismatchAt(at, fmt.Sprintf("%q is read where %q, which the step before left, was expected", l.vals[at].Name, s.vals[at-1].Name))
		}
	}
	return nil
}

// complete gives the first step the operands it lacks.
func (r *roller) complete(l *lane) (done bool, err error) {
	n := l.vals[r.ref].Def
	if n == nil || n.Op.Domain != "" {
		return false, nil
	}
	operands := make([][]*graph.Value, len(n.In))
	zero := make([]bool, len(n.In))
	for i := range n.In {
		if n.In[i] == nil {
			continue
		}
		operands[i] = make([]*graph.Value, r.n)
		for t := 1; t < r.n; t++ {
			if w := l.vals[t]; w != nil {
				operands[i][t] = w.Def.In[r.align(n, w.Def, i)]
			}
		}
	}
	switch {
	case n.Op.Name == "Add" && !l.zero:
		for i := range 2 { // update and state, with nothing in between
			if r.carries(operands[i]) && !r.carries(operands[1-i]) {
				operands[1-i][0], zero[i] = l.vals[0], true
				return true, r.emit(l, operands, zero)
			}
		}
		for d := 2 * depth; d > 0; d-- { // deeper ones may differ by other states that start at zero
			alike := r.alike
			if d <= depth { // or be spelled in another way
				alike = r.alikeProducts
			}
			k := (d-1)%depth + 1
			a, b := alike(l.vals[0], operands[0][r.ref], k), alike(l.vals[0], operands[1][r.ref], k)
			if a == b {
				continue
			}
			i := 0
			if b {
				i = 1
			}
			operands[i][0], zero[1-i] = l.vals[0], true
			return true, r.emit(l, operands, zero)
		}
	case n.Op.Name == "Sub" && !l.zero && r.carries(operands[1]): // x - 0
		operands[0][0], zero[1] = l.vals[0], true
		return true, r.emit(l, operands, zero)
	case l.zero && len(n.In) == 2 && (n.Op.Name == "Mul" || n.Op.Name == "MatMul" || n.Op.Name == "Einsum"):
		for i := range 2 {
			if r.carries(operands[i]) && n.Op.Name == "Mul" || !given(n.In[i]) && given(n.In[1-i]) {
				zero[i] = true
				return true, r.emit(l, operands, zero)
			}
		}
	case l.zero:
		switch n.Op.Name {
		case "Cast", "Identity", "Neg", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Expand", "ReduceSum":
			zero[0] = true
			return true, r.emit(l, operands, zero)
		}
	}
	return false, nil
}

// given: v is an element of a sequence or a constant, under some layout.
func given(v *graph.Value) bool {
	for range 8 {
		if _, ok := readOf(v); ok || v.Const != nil {
			return true
		}
		if v.Def == nil || computes(v.Def) {
			return false
		}
		v = v.Def.In[0]
	}
	return false
}

// carries: the lane is what the step before left, or a layout of it.
func (r *roller) carries(vals []*graph.Value) bool {
	for range 8 {
		v := vals[r.ref]
		for _, s := range r.before[v] {
			if covers(s.vals[:r.n-1], vals[1:]) {
				return true
			}
		}
		if v.Def == nil || len(v.Def.In) == 0 {
			return false
		}
		switch v.Def.Op.Name {
		case "Cast", "Identity", "Neg", "Reshape", "Unsqueeze", "Squeeze", "Transpose", "Expand":
		default:
			return false
		}
		in := make([]*graph.Value, r.n)
		for t, w := range vals {
			if w == nil {
				continue
			}
			if w.Def == nil || w.Def.Op != v.Def.Op {
				return false
			}
			in[t] = w.Def.In[0]
		}
		vals = in
	}
	return false
}

// align says which operand of m corresponds to operand i of n: operands of a
// commutative operator come in any order.
func (r *roller) align(n, m *graph.Node, i int) int {
	if len(n.In) != 2 || i > 1 || !n.Op.Is("", "Add") && !n.Op.Is("", "Mul") || n == m {
		return i
	}
	score := func(a, b *graph.Value) int {
		if a == b || r.alike(a, b, depth) {
			return 1
		}
		return 0
	}
	crossed, straight := score(n.In[0], m.In[1])+score(n.In[1], m.In[0]), score(n.In[0], m.In[0])+score(n.In[1], m.In[1])
	for d := depth; d > 0 && crossed == straight && straight < 2; d-- { // by less, or in another spelling
		near := func(a, b *graph.Value) int {
			k := 0
			if r.alike(a, b, d) {
				k++
			}
			if r.loose.of(a, d) == r.loose.of(b, d) {
				k++
			}
			return k
		}
		crossed, straight = near(n.In[0], m.In[1])+near(n.In[1], m.In[0]), near(n.In[0], m.In[0])+near(n.In[1], m.In[1])
		if crossed == straight {
			crossed, straight = 0, 0
		}
	}
	if crossed > straight {
		return 1 - i
	}
	return i
}

func (r *roller) alike(a, b *graph.Value, d int) bool {
	return a != nil && b != nil && r.shapes.of(a, d) == r.shapes.of(b, d)
}

func (r *roller) alikeProducts(a, b *graph.Value, d int) bool {
	return a != nil && b != nil && (contracts(a) || contracts(b)) && r.loose.of(a, d) == r.loose.of(b, d)
}

// contracts: v is a product that a MatMul or Einsum spells.
func contracts(v *graph.Value) bool {
	for v.Def != nil && (v.Def.Op.Is("", "Squeeze") || v.Def.Op.Is("", "Unsqueeze")) {
		v = v.Def.In[0]
	}
	return v.Def != nil && isProductOp(v.Def) && !v.Def.Op.Is("", "Mul")
}

// templates are hashes of the few operators above a value, with the elements
// that are read left out: equal for the same value of different steps.
type templates struct {
	seed  maphash.Seed
	memo  [depth + 1]map[*graph.Value]uint64
	loose bool // products are the same however they are spelled
}

const depth = 3

func newTemplates(loose bool) templates {
	t := templates{seed: maphash.MakeSeed(), loose: loose}
	for i := range t.memo {
		t.memo[i] = map[*graph.Value]uint64{}
	}
	return t
}

func (t *templates) of(v *graph.Value, d int) uint64 {
	if h, ok := t.memo[d][v]; ok {
		return h
	}
	var h maphash.Hash
	h.SetSeed(t.seed)
	put := func(x uint64) {
		for range 8 {
			_ = h.WriteByte(byte(x)) // a hash does not fail
			x >>= 8
		}
	}
	if r, ok := readOf(v); ok {
		_, _ = h.WriteString("read")
		put(maphash.Comparable(t.seed, r.src))
		put(uint64(r.axis))
	} else if v.Const != nil {
		_, _ = h.WriteString("const")
		_ = h.WriteByte(byte(v.Const.DType))
		if v.Const.Len() <= 8 && v.Const.DType != tensor.String && !v.Const.DType.IsContainer() {
			_, _ = h.Write(v.Const.Data)
		} else {
			put(uint64(v.Const.Len()))
		}
	} else if v.Def == nil || len(v.Def.Bodies) > 0 {
		put(maphash.Comparable(t.seed, v))
	} else if t.loose && isProductOp(v.Def) {
		_, _ = h.WriteString("product")
		if d > 0 {
			sum := uint64(0)
			t.factors(v, func(u *graph.Value) { sum += t.of(u, d-1) | 1 })
			put(sum)
		}
	} else {
		_, _ = h.WriteString(v.Def.Op.Name)
		if d > 0 {
			sum := uint64(0) // operands in any order
			for _, u := range v.Def.In {
				if u != nil {
					sum += t.of(u, d-1) | 1
				}
			}
			put(sum)
		}
	}
	x := h.Sum64()
	t.memo[d][v] = x
	return x
}

// factors calls f for what v is a product of.
func (t *templates) factors(v *graph.Value, f func(*graph.Value)) {
	if !isProductOp(v.Def) {
		f(v)
		return
	}
	if r, ok := readOf(v); ok && r.src != nil {
		f(v)
		return
	}
	for i, u := range v.Def.In {
		if u != nil && (i == 0 || u.Type.DType.IsFloat()) {
			t.factors(u, f)
		}
	}
}
