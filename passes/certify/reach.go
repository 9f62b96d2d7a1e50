package certify

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// Random numbers of order 1 and short sequences do not reach every branch of a
// region: a mask may cut attention off 64 tokens back, a Clip may act only
// beyond 100. The constants of comparisons tell how far the check must go.

// MaxReach is the longest sequence that is checked for the sake of a constant.
// Constants beyond it are brought near: see near.go.
const MaxReach = 1024

// reach is how far the numbers in a region's comparisons lie.
type reach struct {
	length  int64          // of positions
	far     map[int64]bool // positions beyond MaxReach
	table   int64          // length of a constant that is cut to the sequence's length
	value   float64        // of elements
	clipped bool           // elements are compared or clipped at all
	blind   string         // what is done to positions out of reach
}

// reach looks at what the old side computes, bodies included.
func (r *region) reach() reach {
	out := reach{far: map[int64]bool{}}
	seen := map[*graph.Node]bool{}
	var node func(n *graph.Node)
	var stack []*graph.Value
	data := r.ofData()
	node = func(n *graph.Node) {
		out.see(n)
		stack = append(stack, n.In...)
		for _, b := range n.Bodies {
			for _, m := range b.Nodes {
				node(m)
			}
		}
	}
	stack = append(stack, r.g.Outputs[:len(r.g.Outputs)/2]...)
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if v == nil || v.Def == nil || seen[v.Def] {
			continue
		}
		seen[v.Def] = true
		node(v.Def)
		if v.Def.Graph == r.g { // bodies are taken over operator by operator
			out.steps(v.Def, data)
		}
	}
	return out
}

func (r *reach) see(n *graph.Node) {
	if n.Op.Domain != "" {
		return
	}
	switch n.Op.Name {
	case "Trilu":
		if len(n.In) > 1 {
			r.constants(n.In[1], 4, false)
		}
		return
	case "Slice", "Gather":
		if n.In[0].Const != nil && n.In[0].Known == nil && symbolic(n.In[1:]) {
			r.table = max(r.table, tableLength(n.In[0].Const))
		}
		if n.Op.Name == "Slice" && len(n.In) > 3 && alongSymbol(n) {
			r.constants(n.In[1], 1, false)
			r.constants(n.In[2], 1, false)
		}
		return
	case "HardSigmoid", "HardSwish", "ThresholdedRelu":
		r.clipped = true
		r.value = math.Max(r.value, float64(n.Attrs.Float("alpha", 1)))
		return
	case "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "Equal", "Min", "Max", "Mod", "Clip":
	case "Div": // of positions: steps in it are as far apart as the divisor
		if n.In[0].Type.DType.IsFloat() {
			return
		}
	default:
		return
	}
	elements := n.In[0].Type.DType.IsFloat()
	r.clipped = r.clipped || elements
	for _, v := range n.In {
		r.constants(v, 8, elements)
	}
	for _, name := range []string{"min", "max"} { // Clip before version 11
		r.number(math.Abs(float64(n.Attrs.Float(name, 0))), elements)
	}
}

// alongSymbol: a Slice cuts an axis of symbolic length.
func alongSymbol(n *graph.Node) bool {
	axes, ok := ops.KnownOf(n.In[3])
	if !ok || !n.In[0].Type.Ranked() {
		return false
	}
	for _, d := range axes {
		a, ok := d.Const()
		if a < 0 {
			a += int64(n.In[0].Type.Rank())
		}
		if ok && a >= 0 && a < int64(n.In[0].Type.Rank()) && !n.In[0].Type.Shape[a].IsConst() {
			return true
		}
	}
	return false
}

// constants notes the numbers that v is computed from by a few additions and
// layouts.
func (r *reach) constants(v *graph.Value, depth int, elements bool) {
	switch {
	case v == nil || depth == 0:
	case v.Known != nil:
		for _, d := range v.Known {
			if k, ok := d.Const(); ok {
				r.number(math.Abs(float64(k)), elements)
			}
		}
	case v.Const != nil:
		if t := v.Const; t.DType.IsFloat() || t.DType.IsInt() {
			for i := range t.Len() {
				r.number(math.Abs(t.At(i)), elements)
			}
		}
	case v.Def != nil && v.Def.Op.Domain == "":
		switch n := v.Def; n.Op.Name {
		case "Add", "Sub", "Neg", "Cast":
			for _, u := range n.In {
				r.constants(u, depth-1, elements)
			}
		default:
			if layout.Is(n) {
				r.constants(n.In[0], depth-1, elements)
			}
		}
	}
}

func (r *reach) number(x float64, elements bool) {
	if elements && x < 1e30 { // larger ones stand for infinity
		r.value = math.Max(r.value, x)
	}
	if x < 1<<40 && x == math.Trunc(x) { // positions may be counted in floats
		if x > MaxReach {
			r.far[int64(x)] = true
		} else {
			r.length = max(r.length, int64(x))
		}
	}
}

// further returns the sizes to try: those of the claim and, when the region
// looks further than they go, one more.
func (c *Claim) further(r reach) ([]graph.Bindings, error) {
	sizes := c.Sizes
	if len(sizes) == 0 {
		return []graph.Bindings{{}}, nil
	}
	longest := int64(0)
	for _, b := range sizes {
		n, err := c.length.Eval(b)
		if err != nil {
			return nil, err
		}
		longest = max(longest, n)
	}
	if c.length.IsConst() || r.blind == "" && max(r.length, r.table) <= longest {
		return sizes, nil
	}
	if r.table > MaxReach {
		return nil, fmt.Errorf("a constant of %d rows that is cut to the sequence's length is no triangular mask, and may differ beyond the longest sequence that can be checked, %d", r.table, MaxReach)
	}
	if r.blind != "" {
		return nil, fmt.Errorf("%s", r.blind)
	}
	n := r.length + 3
	if r.table > r.length {
		n = r.table // there are no longer sequences
	}
	if c.Multiple > 1 {
		n = (n + c.Multiple - 1) / c.Multiple * c.Multiple
	}
	return append(sizes[:len(sizes):len(sizes)], bind(c.length, n)), nil
}

// sampling is how inputs are drawn in one evaluation.
type sampling struct {
	decay float64 // scale of log decays and positive inputs
	any   float64 // scale of other inputs
	past  bool    // no log decay above 0: large inputs would overflow
}

// samplings: ordinary numbers, slow decays, strong ones, and numbers beyond
// every limit in the region.
func samplings(r reach) []sampling {
	s := []sampling{{1, 1, false}, {0.01, 1, false}, {6, 1, false}}
	if r.clipped {
		s = append(s, sampling{1, 40, true})
		if r.value > 10 {
			s = append(s, sampling{1, 4 * math.Min(r.value, 1e6), true})
		}
	}
	return s
}
