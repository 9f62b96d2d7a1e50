package certify

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// A window of 4096 tokens shows only in sequences that are too long to evaluate.
// But what a region does with positions it does by adding and comparing, so a
// constant beyond reach can be brought near: with 4096 replaced by 70 wherever it
// occurs, in its order among the other constants, a window sets in at 70 tokens
// and is found out, and a difference in which 4096 cancels cancels still.

// nearest is where the first far constant goes, when no size is longer.
const nearest = 64

// near copies the region with its far constants brought near.
func (r *region) near(c *Claim, far reach) (*region, reach, error) {
	base := int64(nearest)
	for _, b := range c.Sizes {
		n, err := c.length.Eval(b)
		if err != nil {
			return nil, far, err
		}
		base = max(base, n+2)
	}
	base = max(base, far.length+2)
	to := map[int64]int64{}
	for i, k := range slices.Sorted(maps.Keys(far.far)) {
		to[k] = base + 3*int64(i)
	}
	g, copies := r.g.Clone()
	for old, v := range copies {
		switch {
		case v.Const == nil:
		case old.Known != nil:
			v.Known = slices.Clone(old.Known)
			for i, d := range v.Known {
				if k, ok := d.Const(); ok {
					v.Known[i] = graph.D(brought(k, to))
				} else if k := mentions(d, to); k != 0 {
					return nil, far, fmt.Errorf("a comparison with %d may set in beyond the longest sequence that can be checked, %d", k, MaxReach)
				}
			}
		case v.Const.Len() <= 16 && (v.Const.DType.IsInt() || v.Const.DType.IsFloat()):
			v.Const = bring(v.Const, to)
		}
	}
	out := &region{g: g, kinds: r.kinds}
	return out, out.reach(), nil
}

func brought(k int64, to map[int64]int64) int64 {
	switch n, ok := to[max(k, -k)]; {
	case !ok:
		return k
	case k < 0:
		return -n
	default:
		return n
	}
}

// mentions returns a far constant that a length is computed with, 0 without one.
func mentions(d graph.Dim, to map[int64]int64) int64 {
	for _, s := range strings.FieldsFunc(d.String(), func(c rune) bool { return !unicode.IsDigit(c) }) {
		if k, err := strconv.ParseInt(s, 10, 64); err == nil {
			if _, ok := to[k]; ok {
				return k
			}
		}
	}
	return 0
}

func bring(t *tensor.Tensor, to map[int64]int64) *tensor.Tensor {
	c := t.Clone()
	for i := range t.Len() {
		if x := t.At(i); x == math.Trunc(x) && math.Abs(x) < 1<<40 {
			if n := brought(int64(x), to); n != int64(x) {
				c.SetAt(i, float64(n))
			}
		}
	}
	return c
}

// symbolic: one of the values depends on the lengths.
func symbolic(vs []*graph.Value) bool {
	for _, v := range vs {
		if v == nil {
			continue
		}
		if v.Const == nil {
			return true
		}
		for _, d := range v.Known {
			if !d.IsConst() {
				return true
			}
		}
	}
	return false
}

// tableLength is how long a constant is, 0 for a mask whose entries depend on
// the sign of i-j alone: of that, any corner tells the rest.
func tableLength(t *tensor.Tensor) int64 {
	longest := 0
	for _, n := range t.Shape {
		longest = max(longest, n)
	}
	rank := t.Rank()
	if rank < 2 || t.Len() == 0 {
		return int64(longest)
	}
	rows, cols := t.Shape[rank-2], t.Shape[rank-1]
	if rows < 3 || cols < 3 || rows*cols != t.Len() {
		return int64(longest)
	}
	below, on, above := t.At(cols), t.At(0), t.At(1)
	for i := range rows {
		for j := range cols {
			want := on
			if j < i {
				want = below
			} else if j > i {
				want = above
			}
			if t.At(i*cols+j) != want {
				return int64(longest)
			}
		}
	}
	return 0
}
