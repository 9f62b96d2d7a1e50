package recur

import (
	"slices"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/layout"
)

// What a model carries from call to call enters as an input and leaves as an
// output. Arithmetic finds the states of steps that are decayed; names, past_h
// and present_h, those that nothing else shows, so that a remark can say what
// keeps their step from being one of a scan.

// carried is what may be a state from outside, and the input it is a part of.
type carried struct{ state, root *graph.Value }

// carriedIn lists what may be a state from outside: inputs of the model, and
// parts and layouts of them, that arithmetic is done on.
func carriedIn(g *graph.Graph) []carried {
	var out, work []carried
	for _, v := range g.Inputs {
		work = append(work, carried{v, v})
	}
	for len(work) > 0 {
		in := work[0]
		v := in.state
		work = work[1:]
		if !isFloat(v) || !v.Type.Ranked() {
			continue
		}
		arithmetic := false
		for _, u := range v.Uses {
			n := u.Node
			if n.Graph != g || len(n.Out) == 0 {
				continue
			}
			switch {
			case isOp(n, "Mul", "Add", "Sub", "Where", "Einsum", "Div"):
				arithmetic = true
			case u.Index == 0 && (layout.Is(n) && n.Op.Name != "Pad" || isOp(n, "Gather", "Slice", "Split", "Cast")):
				for _, part := range n.Out {
					work = append(work, carried{part, in.root})
				}
			}
		}
		if arithmetic && v.Type.Rank() >= 2 {
			out = append(out, in)
		}
	}
	return out
}

// returning pairs inputs with the outputs of the same type that names tell to be
// what they are after the step.
func returning(g *graph.Graph) map[*graph.Value]*graph.Value {
	out := map[*graph.Value]*graph.Value{}
	for _, in := range g.Inputs {
		if !isFloat(in) || !in.Type.Ranked() || in.Type.Rank() < 2 {
			continue
		}
		for _, v := range g.Outputs {
			if v != in && v.Type.DType == in.Type.DType && slices.Equal(v.Type.Shape, in.Type.Shape) && sameState(in.Name, v.Name) {
				out[in] = v
			}
		}
	}
	return out
}

// alike pairs inputs with the only output of their type, where no other input is
// of it: a state by its shape, if what is done to it agrees.
func alike(g *graph.Graph) map[*graph.Value]*graph.Value {
	out := map[*graph.Value]*graph.Value{}
	if len(g.Inputs) < 2 || len(g.Outputs) < 2 {
		return out
	}
	for _, in := range g.Inputs {
		if !isFloat(in) || !in.Type.Ranked() || in.Type.Rank() < 3 {
			continue
		}
		same := func(vs []*graph.Value) (all []*graph.Value) {
			for _, v := range vs {
				if v.Type.DType == in.Type.DType && slices.Equal(v.Type.Shape, in.Type.Shape) {
					all = append(all, v)
				}
			}
			return all
		}
		if back := same(g.Outputs); len(back) == 1 && back[0] != in && len(same(g.Inputs)) == 1 {
			out[in] = back[0]
		}
	}
	return out
}

var (
	pastWords    = []string{"past", "prev", "previous", "old", "last", "initial", "init"}
	presentWords = []string{"present", "new", "next", "updated", "current", "final"}
	// in and out tell nothing about what is no state: x_in, x_out.
	placeWords = []string{"in", "out", "input", "output"}
	carryWords = []string{"state", "h", "ssm", "carry", "memory", "rnn"}
)

// sameState reports whether names say that output out is input in, one step on:
// they are the same but for words like past and present.
func sameState(in, out string) bool {
	words := func(s string, drop []string) (rest []string, dropped bool) {
		rest = strings.FieldsFunc(strings.ToLower(s), func(r rune) bool { return r == '_' || r == '.' || r == '-' || r == '/' || r == ':' })
		n := len(rest)
		rest = slices.DeleteFunc(rest, func(w string) bool { return slices.Contains(drop, w) })
		return rest, len(rest) < n
	}
	a, past := words(in, pastWords)
	b, present := words(out, presentWords)
	if (past || present) && slices.Equal(a, b) {
		return true
	}
	a, _ = words(in, slices.Concat(pastWords, placeWords))
	b, _ = words(out, slices.Concat(presentWords, placeWords))
	if slices.Equal(a, b) && slices.ContainsFunc(a, func(w string) bool { return slices.Contains(carryWords, w) }) {
		return true
	}
	h, first := strings.CutSuffix(in, "0")
	k, last := strings.CutSuffix(out, "n")
	return first && last && h == k && h != ""
}

// explain says what keeps the update of s.state, which comes back as s.next,
// from being affine; nil where nothing is computed of it: caches, in which
// tokens are moved and written, are no recurrence, and operators that carry a
// state by themselves are none to recover. Where no name tells, what is read and
// made by operators of each entry alone is taken for a state: layers of a model
// have products between input and output.
func (s *step) explain(named bool) error {
	s.begin()
	if !s.depends(s.next) {
		return nil
	}
	if computed, each := s.computed(); !computed || !named && !(each && s.read()) {
		return nil
	}
	_, err := s.try(false)
	return err
}

// computed reports whether arithmetic is done on the state on its way to the
// next one, all of it by plain operators, and whether by such of each entry alone.
func (s *step) computed() (computed, each bool) {
	seen := map[*graph.Node]bool{}
	arithmetic, plain := false, true
	each = true
	var visit func(v *graph.Value)
	visit = func(v *graph.Value) {
		if v == nil || v == s.state || v.Def == nil || seen[v.Def] || !s.depends(v) {
			return
		}
		n := v.Def
		seen[n] = true
		plain = plain && n.Op.Domain == "" && len(n.Bodies) == 0 && !isOp(n, "LSTM", "GRU", "RNN", "LinearAttention", "CausalConvWithState", "Attention", "CumSum")
		moves := layout.Is(n) || strings.Contains(n.Op.Name, "Scatter") ||
			isOp(n, "Slice", "Gather", "GatherND", "GatherElements", "Split", "Concat", "Cast", "Identity", "Expand", "Tile", "Where", "QuantizeLinear", "DequantizeLinear")
		arithmetic = arithmetic || !moves
		each = each && (moves || isOp(n, "Add", "Sub", "Mul", "Div", "Sum", "Neg", "Pow", "Sqrt", "Abs", "Sign", "Exp", "Log", "Sigmoid", "Tanh", "Relu", "Clip", "Max", "Min", "Round", "Floor", "Softplus", "Sin", "Cos"))
		for _, u := range n.In {
			visit(u)
		}
	}
	visit(s.next)
	return arithmetic && plain, each
}
