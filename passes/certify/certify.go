// Package certify checks rewrites by translation validation: before a pass
// replaces a region of a graph, the region and its replacement are evaluated
// side by side in float64 on seeded random inputs, with small symbolic lengths
// at several odd sizes. A region of a graph is straight-line code of smooth
// functions, masks that depend on shapes alone, and comparisons, so agreement to
// rounding error on random inputs is, for practical purposes, a proof of
// equality; and a mismatch is always a reason to leave the graph alone.
package certify

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Input is a value where a region begins, and how to draw it.
type Input struct {
	Value *graph.Value
	Kind  Kind
}

// Kind says which random numbers exercise an input.
type Kind int

// Kinds of inputs.
const (
	Any         Kind = iota // standard normal
	LogDecay                // mostly negative; small in some trials, so that states survive many chunks
	Positive                // (0, 1]
	NonPositive             // a LogDecay that is shown never to be above 0
	Seen                    // Boolean, true somewhere in each row: keys that a query sees
	Hidden                  // Boolean, false somewhere in each row
)

// Claim is a statement: computed from In, the values Old equal the values New.
type Claim struct {
	In  []Input
	Old []*graph.Value
	New []*graph.Value
	// Sizes are the bindings to try, which Along sets; symbols not bound get a
	// default.
	Sizes  []graph.Bindings
	length graph.Dim // the length that Along bound
	// Shrink maps axis lengths to smaller ones, to keep the check cheap where
	// an axis is a plain batch axis (heads, channels). When the shrunk region
	// does not evaluate, the full size is used.
	Shrink map[int64]int64
	// Multiple is what the lengths in Sizes are multiples of, when it matters.
	Multiple int64
	// Tol bounds ||old-new|| / ||old||; 0 means 1e-9.
	Tol float64
}

// Check evaluates the claim. A nil error is the certificate; otherwise the
// error says what differed. Results are kept in cache by the region's text, so
// that equal layers cost one check.
func Check(ctx context.Context, t *ops.Table, cache map[string]any, c *Claim) error {
	r, err := extract(c)
	if err != nil {
		return err
	}
	key := ""
	if cache != nil {
		h := sha256.New()
		_ = graph.Print(h, r.g) // a hash does not fail
		for _, v := range r.g.Constants() {
			fmt.Fprint(h, v.Known)
		}
		fmt.Fprint(h, c.Sizes, c.length, c.Shrink, c.Multiple, c.Tol, r.kinds)
		key = "certify:" + string(h.Sum(nil))
		if e, ok := cache[key]; ok {
			err, _ := e.(error)
			return err
		}
	}
	err = r.check(ctx, t, c)
	if cache != nil {
		cache[key] = err
	}
	return err
}

func (r *region) check(ctx context.Context, t *ops.Table, c *Claim) error {
	far := r.reach()
	if err := r.trials(ctx, t, c, far); err != nil || len(far.far) == 0 || c.length.IsConst() {
		return err
	}
	r, far, err := r.near(c, far)
	if err != nil {
		return err
	}
	return r.trials(ctx, t, c, far)
}

// trials runs all sizes.
func (r *region) trials(ctx context.Context, t *ops.Table, c *Claim, far reach) error {
	sizes, err := c.further(far)
	if err != nil {
		return err
	}
	for trial, size := range sizes {
		err := r.trial(ctx, t, c, size, c.Shrink, far, trial)
		if _, shape := err.(*shapeError); shape && len(c.Shrink) > 0 {
			err = r.trial(ctx, t, c, size, nil, far, trial)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shapeError marks a failure to evaluate, as opposed to a difference.
type shapeError struct{ err error }

func (e *shapeError) Error() string { return e.err.Error() }
func (e *shapeError) Unwrap() error { return e.err }

// CannotEvaluate reports whether Check failed because a side could not be
// evaluated at one of the sizes, rather than because the sides differ.
func CannotEvaluate(err error) bool { _, ok := err.(*shapeError); return ok }

// Mismatch says where a replacement computes something else.
type Mismatch struct {
	Value string  // the old output
	At    string  // the inputs' types
	Trial int     // index of the sizes
	Rel   float64 // relative error, infinite when Why says more
	Tol   float64
	Why   string
}

func (m *Mismatch) Error() string {
	if m.Why != "" {
		return fmt.Sprintf("%q is not what the replacement computes from %s: %s", m.Value, m.At, m.Why)
	}
	return fmt.Sprintf("%q is not what the replacement computes from %s: relative error %.2g, at most %.0e allowed", m.Value, m.At, m.Rel, m.Tol)
}

// Closer returns the error of the claim that came closer to being true: of
// several assignments of roles, its reason is the one worth reading.
func Closer(a, b error) error {
	var x, y *Mismatch
	ok, ok2 := errors.As(a, &x), errors.As(b, &y)
	switch {
	case a == nil || !ok && ok2:
		return b
	case b == nil || !ok2:
		return a
	case y.Trial > x.Trial, y.Trial == x.Trial && y.Rel < x.Rel:
		return b
	}
	return a
}

// trial runs one size several times, each with other numbers.
func (r *region) trial(ctx context.Context, t *ops.Table, c *Claim, size graph.Bindings, shrink map[int64]int64, far reach, n int) (err error) {
	defer func() { // a broken model may declare lengths that no memory holds
		if v := recover(); v != nil {
			large, ok := v.(*tensor.TooLarge)
			if !ok {
				panic(v)
			}
			err = &shapeError{large}
		}
	}()
	g, err := r.concrete(t, size, shrink)
	if err != nil {
		return &shapeError{err}
	}
	tol := c.Tol
	if tol == 0 {
		tol = 1e-9
	}
	for k, s := range samplings(far) {
		rng := rand.New(rand.NewPCG(uint64(n)+1, uint64(k)))
		s.past = s.past || longest(g) > longScan
		in := make([]*tensor.Tensor, len(g.Inputs))
		for i, v := range g.Inputs {
			in[i] = draw(rng, v.Type, r.kinds[i], s)
		}
		out, err := ops.Run(ctx, t, g, in)
		if err != nil {
			return &shapeError{fmt.Errorf("cannot evaluate the region: %w", err)}
		}
		half := len(out) / 2
		for i := range half {
			if rel, why := compare(out[i], out[half+i]); !(rel <= tol) {
				return &Mismatch{Value: c.Old[i].Name, At: describe(g), Trial: n, Rel: rel, Tol: tol, Why: why}
			}
		}
	}
	return nil
}

// longScan is the length from which a state that grows by a quarter per step
// may leave float64's range: decays are then 1 at most.
const longScan = 128

func longest(g *graph.Graph) int64 {
	n := int64(0)
	for _, v := range g.Inputs {
		for _, d := range v.Type.Shape {
			k, _ := d.Const()
			n = max(n, k)
		}
	}
	return n
}

func describe(g *graph.Graph) string {
	var s []string
	for _, v := range g.Inputs {
		s = append(s, v.Type.String())
	}
	return strings.Join(s, " ")
}

func draw(rng *rand.Rand, t graph.Type, k Kind, s sampling) *tensor.Tensor {
	shape, _ := t.Static()
	x := tensor.New(t.DType, shape...)
	for i := range x.Len() {
		switch {
		case t.DType.IsInt():
			x.SetIntAt(i, rng.Int64N(3))
		case t.DType == tensor.Bool:
			x.SetIntAt(i, rng.Int64N(2))
		case k == LogDecay || k == NonPositive:
			top := 0.25
			if s.past || k == NonPositive {
				top = 0
			}
			x.SetAt(i, s.decay*(top-1.25*rng.Float64()))
		case k == Positive:
			x.SetAt(i, s.decay*(1-rng.Float64()))
		default:
			x.SetAt(i, s.any*rng.NormFloat64())
		}
	}
	if k == Seen || k == Hidden {
		row := shape[max(len(shape)-1, 0):]
		n := 1
		if len(row) > 0 {
			n = int(row[0])
		}
		for i := 0; n > 0 && i < x.Len(); i += n {
			x.SetIntAt(i+rng.IntN(n), map[Kind]int64{Seen: 1}[k])
		}
	}
	return x
}

// compare returns ||a-b|| / ||a||, infinite with a reason where it has no meaning.
func compare(a, b *tensor.Tensor) (rel float64, why string) {
	if a.Len() != b.Len() || !sameShape(a.Shape, b.Shape) {
		return math.Inf(1), fmt.Sprintf("the graph gives %s, the replacement %s", a.TypeString(), b.TypeString())
	}
	var diff, norm float64
	for i := range a.Len() {
		x, y := a.At(i), b.At(i)
		if math.IsNaN(x) || math.IsInf(x, 0) || math.IsNaN(y) || math.IsInf(y, 0) {
			return math.Inf(1), fmt.Sprintf("element %d is not finite: %g in the graph, %g in the replacement", i, x, y)
		}
		diff += (x - y) * (x - y)
		norm += x * x
	}
	if norm == 0 && diff == 0 {
		return 0, ""
	}
	return math.Sqrt(diff / norm), ""
}

func sameShape(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
