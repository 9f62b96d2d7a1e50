package backends

import (
	"fmt"
	"sort"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// BindShapes matches the given input tensors, which follow g.Inputs, with the
// declared types and returns the values of the symbols. An input may be nil
// only when optional says so.
func BindShapes(g *graph.Graph, in []*tensor.Tensor, optional func(i int) bool) (graph.Bindings, error) {
	return BindShapesOf(g, in, optional, func(int) bool { return false })
}

// BindShapesOf is BindShapes where the contents of some inputs lie elsewhere, on a device: elsewhere says of which
// only type and shape are given.
func BindShapesOf(g *graph.Graph, in []*tensor.Tensor, optional, elsewhere func(i int) bool) (graph.Bindings, error) {
	b := graph.Bindings{}
	from := map[string]string{} // symbol -> the input axis that set it
	for i, v := range g.Inputs {
		t := in[i]
		if t == nil && optional != nil && optional(i) {
			continue
		}
		if t == nil {
			return nil, fmt.Errorf("input %q (%s) is missing", v.Name, v.Type)
		}
		if t.DType != v.Type.DType {
			return nil, fmt.Errorf("input %q: expected %s, got %s", v.Name, v.Type, t.TypeString())
		}
		if t.DType.IsContainer() {
			if err := v.Type.Conforms(t); err != nil {
				return nil, fmt.Errorf("input %q: %w", v.Name, err)
			}
		}
		if t.DType.IsContainer() || !v.Type.Ranked() {
			continue
		}
		if t.Rank() != v.Type.Rank() {
			return nil, fmt.Errorf("input %q: expected %s, got %s", v.Name, v.Type, t.TypeString())
		}
		if n := t.Len(); !elsewhere(i) && (t.DType != tensor.String && len(t.Data) != t.DType.Bytes(n) || t.DType == tensor.String && len(t.Strings) != n) {
			return nil, fmt.Errorf("input %q: the tensor says %s but holds %d bytes", v.Name, t.TypeString(), len(t.Data))
		}
		for a, d := range v.Type.Shape {
			got := int64(t.Shape[a])
			if got < 0 {
				return nil, fmt.Errorf("input %q: negative length in %s", v.Name, t.TypeString())
			}
			if c, ok := d.Const(); ok && c != got {
				return nil, fmt.Errorf("input %q: expected %s, got %s (axis %d must be %d)", v.Name, v.Type, t.TypeString(), a, c)
			}
			s, scale, offset, ok := d.Affine()
			if !ok {
				continue
			}
			if got < offset || (got-offset)%scale != 0 {
				return nil, fmt.Errorf("input %q: expected %s, got %s (axis %d must be %s)", v.Name, v.Type, t.TypeString(), a, form(scale, offset))
			}
			got = (got - offset) / scale
			here := fmt.Sprintf("axis %d of input %q", a, v.Name)
			if old, set := b[s]; set && old != got {
				return nil, fmt.Errorf("input %q: expected %s, got %s: %s is %d here but %d at %s", v.Name, v.Type, t.TypeString(), s, got, old, from[s])
			}
			b[s], from[s] = got, here
		}
	}
	for i, v := range g.Inputs { // expressions, now that the symbols are set
		if in[i] == nil || in[i].DType.IsContainer() {
			continue
		}
		for a, d := range v.Type.Shape {
			if want, err := d.Eval(b); err == nil && want != int64(in[i].Shape[a]) {
				return nil, fmt.Errorf("input %q: expected %s, got %s (axis %d must be %d)", v.Name, v.Type, in[i].TypeString(), a, want)
			}
		}
	}
	return b, nil
}

// form words scale*n + offset.
func form(scale, offset int64) string {
	s := "of any length"
	if scale > 1 {
		s = fmt.Sprintf("a multiple of %d", scale)
	}
	if offset != 0 {
		s += fmt.Sprintf(", plus %d", offset)
	}
	return s
}

// EvalShape gives the numbers of a shape under the bindings; ok is false when a
// length is not known before the model runs.
func EvalShape(t graph.Type, b graph.Bindings) (shape []int, ok bool, err error) {
	if !t.Ranked() {
		return nil, false, nil
	}
	shape = make([]int, len(t.Shape))
	for i, d := range t.Shape {
		n, e := d.Eval(b)
		if e != nil {
			for _, s := range d.Symbols() {
				if _, set := b[s]; !set {
					return nil, false, nil
				}
			}
			return nil, false, e
		}
		if n < 0 {
			return nil, false, fmt.Errorf("length %s of %s is %d for these inputs", d, t, n)
		}
		shape[i] = int(n)
	}
	return shape, true, nil
}

// UnknownName says that a name given for the model's inputs or outputs is none
// of them, with a guess at what was meant.
func UnknownName(kind, got string, have []string) error {
	return fmt.Errorf("the model has no %s %q%s; it has %s", kind, got, meant(got, have), strings.Join(have, ", "))
}

// meant is " (did you mean ...?)" for the nearest name, or empty.
func meant(got string, have []string) string {
	best, dist := "", len(got)/2+1
	sorted := append([]string{}, have...)
	sort.Strings(sorted)
	for _, h := range sorted {
		if d := editDistance(strings.ToLower(got), strings.ToLower(h)); d < dist {
			best, dist = h, d
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// editDistance is Levenshtein's.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diag := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diag, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diag+cost)
		}
	}
	return row[len(b)]
}
