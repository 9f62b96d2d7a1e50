package graph

import (
	"fmt"
	"math"
	"sort"
)

// Bindings gives symbols their values.
type Bindings map[string]int64

// Eval computes d. It fails when a symbol has no value or the result does not
// fit in an int64.
func (d Dim) Eval(b Bindings) (int64, error) {
	if d.e == nil {
		return d.c, nil
	}
	var sum int64
	for _, t := range d.e.terms {
		v := t.coef
		for _, a := range t.atoms {
			x, err := a.eval(b)
			if err != nil {
				return 0, err
			}
			v = mulSat(v, x)
		}
		sum = addSat(sum, v)
		if v == math.MaxInt64 || v == math.MinInt64 || sum == math.MaxInt64 || sum == math.MinInt64 {
			return 0, fmt.Errorf("dimension %s overflows", d)
		}
	}
	return sum, nil
}

func (a *atom) eval(b Bindings) (int64, error) {
	if a.op == 's' {
		v, ok := b[a.key]
		if !ok {
			return 0, fmt.Errorf("dimension %q has no value", a.key)
		}
		return v, nil
	}
	x, err := a.a.Eval(b)
	if err != nil {
		return 0, err
	}
	y, err := a.b.Eval(b)
	if err != nil {
		return 0, err
	}
	switch a.op {
	case 'M':
		return max(x, y), nil
	case 'm':
		return min(x, y), nil
	}
	if y == 0 {
		return 0, fmt.Errorf("division by zero in %s", a.key)
	}
	return floorDiv(x, y), nil
}

// Subst replaces symbols by dimensions and simplifies again.
func (d Dim) Subst(with map[string]Dim) Dim {
	if d.e == nil || len(with) == 0 {
		return d
	}
	sum := Dim{}
	for _, t := range d.e.terms {
		p := D(t.coef)
		for _, a := range t.atoms {
			p = p.Mul(a.subst(with))
		}
		sum = sum.Add(p)
	}
	return sum
}

func (a *atom) subst(with map[string]Dim) Dim {
	switch a.op {
	case 's':
		if r, ok := with[a.key]; ok {
			return r
		}
		return fromAtom(a)
	case '/':
		return a.a.Subst(with).FloorDiv(a.b.Subst(with))
	case 'M':
		return a.a.Subst(with).Max(a.b.Subst(with))
	}
	return a.a.Subst(with).Min(a.b.Subst(with))
}

// Symbols lists the symbols of d, sorted.
func (d Dim) Symbols() []string {
	set := map[string]bool{}
	d.collect(set)
	out := make([]string, 0, len(set))
	for s := range set {
		out = append(out, s)
	}
	sort.Strings(out)
	return out
}

func (d Dim) collect(set map[string]bool) {
	for _, t := range d.terms() {
		for _, a := range t.atoms {
			if a.op == 's' {
				set[a.key] = true
				continue
			}
			a.a.collect(set)
			a.b.collect(set)
		}
	}
}

// AsSym returns the symbol's name when d is exactly one symbol.
func (d Dim) AsSym() (string, bool) {
	if d.e != nil && len(d.e.terms) == 1 && d.e.terms[0].coef == 1 && len(d.e.terms[0].atoms) == 1 && d.e.terms[0].atoms[0].op == 's' {
		return d.e.terms[0].key, true
	}
	return "", false
}

// Affine splits d into scale*sym + offset with scale > 0, so that the value of
// the symbol can be read off the value of d.
func (d Dim) Affine() (sym string, scale, offset int64, ok bool) {
	syms := d.Symbols()
	if len(syms) != 1 {
		return "", 0, 0, false
	}
	off := d.Subst(map[string]Dim{syms[0]: D(0)})
	k := d.Subst(map[string]Dim{syms[0]: D(1)}).Sub(off)
	offset, okOff := off.Const()
	scale, okScale := k.Const()
	if !okOff || !okScale || scale <= 0 || k.Mul(Sym(syms[0])).Add(off) != d {
		return "", 0, 0, false
	}
	return syms[0], scale, offset, true
}

// Divisors lists the constants that d is divided by anywhere.
func (d Dim) Divisors() []int64 {
	var out []int64
	for _, t := range d.terms() {
		for _, a := range t.atoms {
			if a.op == '/' {
				if n, ok := a.b.Const(); ok {
					out = append(out, n)
				}
			}
			if a.op != 's' {
				out = append(append(out, a.a.Divisors()...), a.b.Divisors()...)
			}
		}
	}
	return out
}
