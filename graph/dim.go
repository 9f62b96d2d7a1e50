package graph

import (
	"fmt"
	"math/bits"
	"sort"
	"strings"
	"sync"
)

// Dim is an axis length: a constant or a symbolic integer expression in
// canonical form, so that equal expressions compare equal with ==.
//
// An expression is a polynomial with integer coefficients over atoms; an atom
// is a symbol, floor(a/b), max(a,b) or min(a,b). Symbols stand for
// positive integers (see AtLeast). ceil(a/b) and a mod b are written with floor:
// ceil(T/64) is floor((T+63)/64), T mod 64 is T-64*floor(T/64).
type Dim struct {
	c int64 // the value when e is nil
	e *expr // interned; nil for constants
}

type expr struct {
	terms []term // sorted by key, no zero coefficients, constant term (no atoms) last
	text  string
}

type term struct {
	coef  int64
	atoms []*atom // sorted by key; repeated for powers
	key   string
}

type atom struct {
	op   byte // 's' symbol, '/' floor division, 'M' max, 'm' min
	a, b Dim
	key  string // also the printed form
}

var interned struct {
	sync.Mutex
	exprs map[string]*expr
}

// D is a constant dimension.
func D(n int64) Dim { return Dim{c: n} }

// Ds turns constants into dimensions.
func Ds(n ...int64) []Dim {
	out := make([]Dim, len(n))
	for i, v := range n {
		out[i] = D(v)
	}
	return out
}

// Sym is the symbol of the given name. Characters that the text form cannot
// carry in a symbol are replaced by '_'.
func Sym(name string) Dim {
	b := []byte(name)
	for i, ch := range b {
		if !symbolByte(ch) {
			b[i] = '_'
		}
	}
	if len(b) == 0 {
		b = []byte("_")
	}
	if b[0] >= '0' && b[0] <= '9' || b[0] == '.' {
		b = append([]byte("_"), b...)
	}
	s := string(b)
	if s == "floor" || s == "ceil" || s == "max" || s == "min" || s == "mod" {
		s += "_"
	}
	return fromAtom(&atom{op: 's', key: s})
}

func symbolByte(c byte) bool {
	return c == '_' || c == '.' || c == '?' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

// IsConst reports whether d is a number.
func (d Dim) IsConst() bool { return d.e == nil }

// Const returns the number and true, or 0 and false for an expression.
func (d Dim) Const() (int64, bool) {
	if d.e != nil {
		return 0, false
	}
	return d.c, true
}

// Is reports whether d is the constant n.
func (d Dim) Is(n int64) bool { return d.e == nil && d.c == n }

// String is the canonical text, which ParseDim reads back.
func (d Dim) String() string {
	if d.e == nil {
		return fmt.Sprint(d.c)
	}
	return d.e.text
}

func (d Dim) terms() []term {
	if d.e != nil {
		return d.e.terms
	}
	if d.c == 0 {
		return nil
	}
	return []term{{coef: d.c}}
}

func fromAtom(a *atom) Dim { return fromTerms([]term{{coef: 1, atoms: []*atom{a}, key: a.key}}) }

// fromTerms sorts, merges and interns.
func fromTerms(ts []term) Dim {
	sort.SliceStable(ts, func(i, j int) bool {
		if (ts[i].key == "") != (ts[j].key == "") {
			return ts[j].key == ""
		}
		return ts[i].key < ts[j].key
	})
	out := ts[:0:0]
	for _, t := range ts {
		if n := len(out); n > 0 && out[n-1].key == t.key {
			out[n-1].coef = addSat(out[n-1].coef, t.coef)
			if out[n-1].coef == 0 {
				out = out[:n-1]
			}
		} else if t.coef != 0 {
			out = append(out, t)
		}
	}
	if len(out) == 0 {
		return Dim{}
	}
	if len(out) == 1 && out[0].key == "" {
		return Dim{c: out[0].coef}
	}
	text := printTerms(out)
	interned.Lock()
	defer interned.Unlock()
	if interned.exprs == nil {
		interned.exprs = map[string]*expr{}
	}
	e := interned.exprs[text]
	if e == nil {
		e = &expr{terms: out, text: text}
		interned.exprs[text] = e
	}
	return Dim{e: e}
}

func printTerms(ts []term) string {
	var b strings.Builder
	for i, t := range ts {
		c := t.coef
		if i > 0 && c > 0 {
			b.WriteByte('+')
		}
		switch {
		case t.key == "":
			fmt.Fprint(&b, c)
		case c == 1:
			b.WriteString(t.key)
		case c == -1:
			b.WriteString("-" + t.key)
		default:
			fmt.Fprintf(&b, "%d*%s", c, t.key)
		}
	}
	return b.String()
}

// addSat and mulSat saturate: a saturated coefficient cannot be a real size,
// and Eval reports it.
func addSat(a, b int64) int64 {
	s := a + b
	if (s > a) != (b > 0) && b != 0 {
		if b > 0 {
			return 1<<63 - 1
		}
		return -1 << 63
	}
	return s
}

func mulSat(a, b int64) int64 {
	neg := (a < 0) != (b < 0)
	hi, lo := bits.Mul64(absU(a), absU(b))
	switch {
	case hi != 0 || lo > 1<<63-1:
		if neg {
			return -1 << 63
		}
		return 1<<63 - 1
	case neg:
		return -int64(lo)
	}
	return int64(lo)
}

func absU(a int64) uint64 {
	if a < 0 {
		return uint64(-a)
	}
	return uint64(a)
}

// Add returns d + o.
func (d Dim) Add(o Dim) Dim {
	if d.e == nil && o.e == nil {
		return Dim{c: addSat(d.c, o.c)}
	}
	return fromTerms(append(append([]term{}, d.terms()...), o.terms()...))
}

// Neg returns -d.
func (d Dim) Neg() Dim { return d.Mul(D(-1)) }

// Sub returns d - o.
func (d Dim) Sub(o Dim) Dim { return d.Add(o.Neg()) }

// Mul returns d * o.
func (d Dim) Mul(o Dim) Dim {
	if d.e == nil && o.e == nil {
		return Dim{c: mulSat(d.c, o.c)}
	}
	var ts []term
	for _, a := range d.terms() {
		for _, b := range o.terms() {
			ts = append(ts, mulTerm(a, b))
		}
	}
	return fromTerms(ts)
}

func mulTerm(a, b term) term {
	atoms := append(append([]*atom{}, a.atoms...), b.atoms...)
	sort.SliceStable(atoms, func(i, j int) bool { return atoms[i].key < atoms[j].key })
	return term{coef: mulSat(a.coef, b.coef), atoms: atoms, key: atomsKey(atoms)}
}

func atomsKey(atoms []*atom) string {
	keys := make([]string, len(atoms))
	for i, a := range atoms {
		keys[i] = a.key
	}
	return strings.Join(keys, "*")
}

// FloorDiv returns floor(d/o). Parts of d that o divides come out of the
// floor, and the numerator's leading coefficient is made positive, so that
// ceil and floor spellings of one length coincide.
func (d Dim) FloorDiv(o Dim) Dim {
	if o.Is(1) || d.Is(0) {
		return d
	}
	if o.Is(0) {
		return Sym("?div0")
	}
	if n, ok := o.Const(); ok {
		if n < 0 {
			return d.Neg().FloorDiv(D(-max(n, -1<<63+1))) // the least int64 has no negative
		}
		if c, ok := d.Const(); ok {
			return D(floorDiv(c, n))
		}
		var whole, rest []term
		for _, t := range d.terms() {
			q := floorDiv(t.coef, n)
			r := t.coef - q*n
			if r != 0 && q < 0 && t.key != "" { // keep small negative remainders negative: -L stays -L
				q, r = q+1, r-n
			}
			if q != 0 {
				whole = append(whole, term{q, t.atoms, t.key})
			}
			if r != 0 {
				rest = append(rest, term{r, t.atoms, t.key})
			}
		}
		w, r := fromTerms(whole), fromTerms(rest)
		if r.IsConst() {
			return w.Add(D(floorDiv(r.c, n)))
		}
		if r.terms()[0].coef < 0 { // floor(-x/n) = -floor((x+n-1)/n)
			return w.Sub(r.Neg().Add(D(n - 1)).FloorDiv(o))
		}
		// floor((floor(x/m)+k)/n) = floor((x+k*m)/(m*n))
		if ts := r.terms(); ts[0].coef == 1 && len(ts[0].atoms) == 1 && ts[0].atoms[0].op == '/' && (len(ts) == 1 || len(ts) == 2 && ts[1].key == "") {
			if m, ok := ts[0].atoms[0].b.Const(); ok && m > 0 {
				num := ts[0].atoms[0].a
				if len(ts) == 2 {
					num = num.Add(D(mulSat(ts[1].coef, m)))
				}
				return w.Add(num.FloorDiv(D(mulSat(m, n))))
			}
		}
		return w.Add(fromAtom(&atom{op: '/', a: r, b: o, key: "floor((" + r.String() + ")/" + o.String() + ")"}))
	}
	if q, ok := d.DivExact(o); ok {
		return q
	}
	return fromAtom(&atom{op: '/', a: d, b: o, key: "floor((" + d.String() + ")/(" + o.String() + "))"})
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// DivExact returns q with q*o == d, when polynomial division shows one.
func (d Dim) DivExact(o Dim) (Dim, bool) {
	if o.Is(0) {
		return Dim{}, false
	}
	q, lead := Dim{}, o.terms()[0]
	for n := 0; n < 64 && !d.Is(0); n++ {
		t, ok := divTerm(d.terms()[0], lead)
		if !ok {
			return Dim{}, false
		}
		m := fromTerms([]term{t})
		q, d = q.Add(m), d.Sub(m.Mul(o))
	}
	return q, d.Is(0)
}

func divTerm(a, b term) (term, bool) {
	if a.coef%b.coef != 0 {
		return term{}, false
	}
	rest := append([]*atom{}, a.atoms...)
	for _, x := range b.atoms {
		i := 0
		for i < len(rest) && rest[i].key != x.key {
			i++
		}
		if i == len(rest) {
			return term{}, false
		}
		rest = append(rest[:i], rest[i+1:]...)
	}
	return term{a.coef / b.coef, rest, atomsKey(rest)}, true
}

// CeilDiv returns ceil(d/o) for o > 0.
func (d Dim) CeilDiv(o Dim) Dim { return d.Neg().FloorDiv(o).Neg() }

// Mod returns d - o*floor(d/o), which has the sign of o (Python's %).
func (d Dim) Mod(o Dim) Dim { return d.Sub(o.Mul(d.FloorDiv(o))) }

// Max returns the larger of d and o, simplified when AtLeast can tell.
func (d Dim) Max(o Dim) Dim {
	switch {
	case d.AtLeast(o):
		return d
	case o.AtLeast(d):
		return o
	}
	return minMax('M', "max", d, o)
}

// Min returns the smaller of d and o, simplified when AtLeast can tell.
func (d Dim) Min(o Dim) Dim {
	switch {
	case d.AtLeast(o):
		return o
	case o.AtLeast(d):
		return d
	}
	return minMax('m', "min", d, o)
}

func minMax(op byte, name string, a, b Dim) Dim {
	if a.String() > b.String() {
		a, b = b, a
	}
	return fromAtom(&atom{op: op, a: a, b: b, key: name + "(" + a.String() + "," + b.String() + ")"})
}

// AtLeast reports whether d >= o for all admissible symbol values: a symbol is
// at least 1, as exporters assume of a dynamic axis, except that a length which
// only running tells (its name starts with '?') may be 0. False means "not
// shown", not "smaller". A run whose lengths break the assumption meets a
// negative or contradictory length when it binds its symbols.
func (d Dim) AtLeast(o Dim) bool {
	if n, ok := o.Const(); ok && n <= 1 { // by far the most frequent question
		if s, bare := d.AsSym(); bare && s[0] != '?' {
			return true
		}
	}
	return nonNegative(d.Sub(o), 8)
}

// nonNegative replaces each division or extremum by a bound on the safe side
// until only symbols are left; then it shifts the symbols to start at 0, where
// non-negative coefficients prove it.
func nonNegative(d Dim, fuel int) bool {
	for _, t := range d.terms() {
		if fuel == 0 || len(t.atoms) != 1 || t.atoms[0].op == 's' {
			continue
		}
		a := t.atoms[0]
		rest := d.Sub(fromTerms([]term{t}))
		with := func(bound Dim) bool { return nonNegative(rest.Add(bound.Mul(D(t.coef))), fuel-1) }
		switch {
		case a.op == '/':
			n, ok := a.b.Const()
			if !ok {
				continue
			}
			if !rest.hasDivisions() { // whole numbers: floor(x/n) >= 1 as soon as x >= n
				if t.coef > 0 && nonNegative(rest.Add(D(t.coef)), 0) && nonNegative(a.a.Sub(D(n)), fuel-1) {
					return true
				}
			}
			if t.coef > 0 && nonNegative(a.a, fuel-1) && with(Dim{}) { // floor(a/n) >= 0 for a >= 0
				return true
			}
			num := a.a // c*floor(a/n) >= c*a/n for c<0, >= c*(a-n+1)/n for c>0
			if t.coef > 0 {
				num = num.Sub(D(n - 1))
			}
			return nonNegative(rest.Mul(D(n)).Add(num.Mul(D(t.coef))), fuel-1)
		case (a.op == 'M') == (t.coef > 0): // one side suffices
			return with(a.a) || with(a.b)
		default:
			return with(a.a) && with(a.b)
		}
	}
	shift := map[string]Dim{}
	for _, s := range d.Symbols() {
		if s[0] != '?' {
			shift[s] = Sym(s).Add(D(1))
		}
	}
	for _, t := range d.Subst(shift).terms() {
		if t.coef < 0 {
			return false
		}
		for _, a := range t.atoms {
			if a.op != 's' && (!nonNegative(a.a, 0) || !nonNegative(a.b, 0)) {
				return false
			}
		}
	}
	return true
}

func (d Dim) hasDivisions() bool {
	for _, t := range d.terms() {
		for _, a := range t.atoms {
			if a.op != 's' {
				return true
			}
		}
	}
	return false
}
