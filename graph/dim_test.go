package graph

import "testing"

func TestDimCanonical(t *testing.T) {
	T, b, q := Sym("T"), Sym("b"), D(64)
	pad := q.Sub(T.Mod(q)).Mod(q) // Hugging Face: (Q - T%Q) % Q
	chunks := T.Add(pad).FloorDiv(q)
	if chunks != T.CeilDiv(q) || chunks.String() != "floor((T+63)/64)" {
		t.Errorf("chunks = %v, ceil = %v", chunks, T.CeilDiv(q))
	}
	if got := T.Add(pad); got != chunks.Mul(q) {
		t.Errorf("T+pad = %v, want %v", got, chunks.Mul(q))
	}
	if got := b.Mul(chunks).Mul(D(24)).FloorDiv(b.Mul(D(8))); got != chunks.Mul(D(3)) {
		t.Errorf("division by a monomial: %v", got)
	}
	if got := T.Min(chunks.Mul(q)); got != T {
		t.Errorf("min(T, 64*ceil(T/64)) = %v, want T", got)
	}
	if got := T.Add(D(3)).Max(T); got != T.Add(D(3)) {
		t.Errorf("max(T+3,T) = %v", got)
	}
	if got := T.Sub(D(1)).Max(D(0)).String(); got != "T-1" {
		t.Errorf("max(0,T-1) printed %s; T is at least 1", got)
	}
	if got := Sym("?n").Sub(D(1)).Max(D(0)).String(); got != "max(0,?n-1)" {
		t.Errorf("max(0,?n-1) printed %s; ?n may be 0", got)
	}
	if got := D(1).Min(chunks); !got.Is(1) {
		t.Errorf("min(1, ceil(T/64)) = %v, want 1", got)
	}
	if got := T.FloorDiv(D(4)).FloorDiv(D(16)); got != T.FloorDiv(q) {
		t.Errorf("nested floor: %v", got)
	}
	if q, ok := b.Mul(T).Add(b).DivExact(T.Add(D(1))); !ok || q != b {
		t.Errorf("(bT+b)/(T+1) = %v %v", q, ok)
	}
}

func TestDimEval(t *testing.T) {
	d, err := ParseDim("3*floor((T+63)/64)*b - (T % 7) + max(b, 2)")
	if err != nil {
		t.Fatal(err)
	}
	for T := int64(0); T < 200; T++ {
		got, err := d.Eval(Bindings{"T": T, "b": 5})
		if want := 3*((T+63)/64)*5 - T%7 + 5; err != nil || got != want {
			t.Fatalf("T=%d: %d, %v; want %d", T, got, err, want)
		}
	}
	if _, err := d.Eval(Bindings{"T": 1}); err == nil {
		t.Error("missing symbol: no error")
	}
	if _, err := Sym("x").Mul(Sym("x")).Eval(Bindings{"x": 1 << 40}); err == nil {
		t.Error("overflow: no error")
	}
	if got := d.Subst(map[string]Dim{"T": D(64), "b": D(2)}); !got.Is(3*2 - 1 + 2) {
		t.Errorf("subst: %v", got)
	}
}

// FuzzDim checks that printing and parsing are inverse and that simplification keeps the value.
func FuzzDim(f *testing.F) {
	for _, s := range []string{"T", "4*C+1", "ceil(T/64)", "max(a,b)-min(a,3)", "(Q - L%Q)%Q", "floor((a*b+7)/(a))", "-L//16", "a//b*b"} {
		f.Add(s, int64(5), int64(3))
	}
	f.Fuzz(func(t *testing.T, s string, x, y int64) {
		if len(s) > 60 {
			return
		}
		d, err := ParseDim(s)
		if err != nil {
			return
		}
		e, err := ParseDim(d.String())
		if err != nil || e != d {
			t.Fatalf("%q printed %q, parsed back %q, %v", s, d, e, err)
		}
		bind, sub := Bindings{}, map[string]Dim{}
		for i, n := range d.Symbols() {
			bind[n] = []int64{x, y}[i%2]&31 + 1
			sub[n] = D(bind[n])
		}
		v, err := d.Eval(bind)
		if w := d.Subst(sub); err == nil && !w.Is(v) {
			t.Fatalf("%v at %v: eval %d, subst %v", d, bind, v, w)
		}
	})
}
