package graph

// Term is one summand of a dimension: Coef times the product of Factors.
type Term struct {
	Coef    int64
	Factors []Factor
}

// Factor is a symbol (Op 's'), or floor(A/B) ('/'), max(A,B) ('M'), min(A,B) ('m').
type Factor struct {
	Op   byte
	Sym  string
	A, B Dim
}

// Terms takes d apart, for those who compute it by other means than Eval. The
// sum of no terms is 0.
func (d Dim) Terms() []Term {
	out := make([]Term, 0, len(d.terms()))
	for _, t := range d.terms() {
		s := Term{Coef: t.coef}
		for _, a := range t.atoms {
			f := Factor{Op: a.op, A: a.a, B: a.b}
			if a.op == 's' {
				f.Sym = a.key
			}
			s.Factors = append(s.Factors, f)
		}
		out = append(out, s)
	}
	return out
}
