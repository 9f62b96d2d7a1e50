package recur

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// constantDecay is one decay per head that no data enters, read off a mask of
// its powers: M[i,j] = scale * gamma^(i-j) for i >= j, else 0.
type constantDecay struct {
	dtype tensor.DType
	logs  *tensor.Tensor // of gamma, per head
	gamma *tensor.Tensor // when its elements are the decays to the bit
	scale []float64      // per head
	tol   float64        // how far rounding may have moved the mask from its powers
}

// noDecay is the one of linear attention, whose mask only cuts.
func noDecay(d tensor.DType, heads int, scale float64) *constantDecay {
	return &constantDecay{dtype: d, logs: tensor.New(d, heads), scale: slices.Repeat([]float64{scale}, heads)}
}

// String lists the decays, of many the first and the last.
func (k *constantDecay) String() string {
	var s []string
	for h := range k.logs.Len() {
		s = append(s, fmt.Sprintf("%.4g", math.Exp(k.logs.At(h))))
	}
	if len(s) > 4 {
		return s[0] + " ... " + s[len(s)-1]
	}
	return strings.Join(s, ", ")
}

// operands are dt, which is 1, and A of an ssm.SSD over a = B, L, H.
func (k *constantDecay) operands(b *graph.Builder, like *graph.Value, a []graph.Dim) (dt, log *graph.Value, in []certify.Input) {
	one := tensor.New(like.Type.DType, 1, 1, 1)
	one.SetAt(0, 1)
	dt = b.Op("Expand", nil, b.Const(one), layout.Shape(b, a, like))
	if k.gamma != nil { // the logarithm is not folded before the check
		return dt, b.Op("Log", nil, b.Const(k.gamma)), nil
	}
	return dt, b.Const(k.logs), nil
}

// scaled multiplies C [B,L,G,N] by the scale, repeating groups where that differs from head to head.
func (k *constantDecay) scaled(b *graph.Builder, c *graph.Value, heads graph.Dim) *graph.Value {
	s := k.scale[0]
	if !slices.ContainsFunc(k.scale, func(x float64) bool { return x != s }) {
		if s == 1 {
			return c
		}
		f := tensor.New(c.Type.DType, 1)
		f.SetAt(0, s)
		return b.Op("Mul", nil, c, b.Const(f))
	}
	f := tensor.New(c.Type.DType, len(k.scale), 1)
	for h, x := range k.scale {
		f.SetAt(h, x)
	}
	if g, _ := c.Type.Shape[2].Const(); heads != c.Type.Shape[2] {
		if g == 0 {
			b.Err = fmt.Errorf("the scores of %s heads are scaled each by another number, and the number of groups is not known", heads)
			return c
		}
		idx := make([]int64, len(k.scale))
		for h := range idx {
			idx[h] = int64(h) / (int64(len(idx)) / g)
		}
		if c = b.Op("Gather", graph.Attrs{"axis": int64(2)}, c, b.Ints(idx...)); b.Err != nil {
			return c
		}
	}
	return b.Op("Mul", nil, c, b.Const(f))
}

// decay reads the decay off the mask. like has the model's type and the symbols of its
// lengths, of which length is one.
func (m *maskedAttention) decay(like *graph.Value, length graph.Dim, heads int) (*constantDecay, error) {
	d := like.Type.DType
	if m.mask == nil {
		return noDecay(d, heads, m.scale), nil
	}
	t, err := certify.Static(m.c.Ctx, m.c.Table, m.mask, like, length, 3)
	if err != nil {
		return nil, fmt.Errorf("the mask %q cannot be evaluated: %w", m.mask.Name, err)
	}
	var first error
	for _, pair := range squares(t) {
		k, err := m.fit(t, pair[0], pair[1], heads, d)
		if err == nil {
			for h := range k.scale {
				k.scale[h] *= m.scale
			}
			m.doubt = first
			if m.mask.Const != nil && d != tensor.Float64 { // powers that were rounded one by one
				k.tol, k.gamma = 1e-6, nil
			}
			return k, nil
		}
		if first == nil {
			first = err
		}
	}
	if first == nil {
		first = fmt.Errorf("the factor %q %s of the scores is no mask [H,L,L]", m.mask.Name, m.mask.Type)
	}
	return nil, first
}

// squares lists the pairs of axes that may be the position of the query and of
// the key: the last two, or others of an equal length.
func squares(t *tensor.Tensor) (pairs [][2]int) {
	for i := t.Rank() - 2; i >= 0; i-- {
		for j := t.Rank() - 1; j > i; j-- {
			if t.Shape[i] == t.Shape[j] && t.Shape[i] > 1 {
				pairs = append(pairs, [2]int{i, j}, [2]int{j, i})
			}
		}
	}
	return pairs
}

// fit reads powers of a decay per head along the axes row and col.
func (m *maskedAttention) fit(t *tensor.Tensor, row, col, heads int, d tensor.DType) (*constantDecay, error) {
	stride := make([]int, t.Rank())
	for i, n := t.Rank()-1, 1; i >= 0; i-- {
		stride[i] = n
		n *= t.Shape[i]
	}
	rest := []int{0} // offsets of the matrices
	perHead := []int{}
	for i, n := range t.Shape {
		if i == row || i == col || n == 1 {
			continue
		}
		if n == heads { // a batch, or the chunks, may be as many
			perHead = append(perHead, i)
		}
		var more []int
		for _, o := range rest {
			for k := range n {
				more = append(more, o+k*stride[i])
			}
		}
		rest = more
	}
	logs, scales, gammas := make([]float64, len(rest)), make([]float64, len(rest)), make([]float64, len(rest))
	for i, o := range rest {
		at := func(i, j int) float64 { return t.At(o + i*stride[row] + j*stride[col]) }
		log, err := m.powers(t.Shape[row], at)
		if err != nil {
			return nil, err
		}
		logs[i], scales[i], gammas[i] = log, at(0, 0), at(1, 0)/at(0, 0)
	}
	for _, axis := range append(perHead, -1) {
		first := make([]int, heads) // the matrix of each head
		for i := len(rest) - 1; i >= 0; i-- {
			if axis >= 0 {
				first[rest[i]/stride[axis]%heads] = i
			}
		}
		same := true
		for i, o := range rest {
			k := first[0]
			if axis >= 0 {
				k = first[o/stride[axis]%heads]
			}
			same = same && logs[i] == logs[k] && scales[i] == scales[k]
		}
		if !same {
			continue
		}
		k := &constantDecay{dtype: d, logs: tensor.New(d, heads), gamma: tensor.New(d, heads), scale: make([]float64, heads)}
		exact := true
		for h, i := range first {
			k.logs.SetAt(h, logs[i])
			k.gamma.SetAt(h, gammas[i])
			k.scale[h] = scales[i]
			exact = exact && k.gamma.At(h) == gammas[i]
		}
		if !exact {
			k.gamma = nil
		}
		return k, nil
	}
	return nil, fmt.Errorf("the mask %q %s is neither one for all nor one per head", m.mask.Name, m.mask.Type)
}

// powers is the logarithm of the decay in a matrix scale*gamma^(i-j).
func (m *maskedAttention) powers(rows int, at func(i, j int) float64) (float64, error) {
	name, s := m.mask.Name, at(0, 0)
	switch {
	case at(0, 1) != 0 && !m.cut:
		return 0, fmt.Errorf("the mask %q lets tokens see later ones: its entry above the diagonal is %g, a scan's is 0", name, at(0, 1))
	case !(s > 0):
		return 0, fmt.Errorf("the diagonal of the mask %q is %g, a scan's is 1", name, s)
	case !(at(1, 0) > 0):
		return 0, fmt.Errorf("the mask %q is %g below its diagonal, a scan's is a decay above 0", name, at(1, 0))
	}
	far := 1 // the farthest entry has the most digits of gamma
	for far+1 < rows && at(far+1, 0) > s*1e-30 {
		far++
	}
	log := math.Log(at(far, 0)/s) / float64(far)
	if s != 1 { // a factor of all entries
		for i := range far + 1 {
			if e := at(i, 0) / (s * math.Exp(float64(i)*log)); math.Abs(e-1) > 1e-3 {
				return 0, fmt.Errorf("the diagonal of the mask %q is %g, a scan's is 1", name, s)
			}
		}
	}
	return log, nil
}
