// Package recur recovers state-space recurrences from whatever operators spell
// them, and rewrites them into the fused scans of package ssm.
//
// Each door (a file of this package) finds candidates in one form: the chunked
// matrix form, one decode step, an unrolled trace, a Loop or Scan. A door only
// proposes: it names where a region begins (its roots, with the role each would
// play) and where it ends. Package certify then decides, by evaluating the
// region and the proposed scan side by side. So the doors can be generous in
// what they look at without ever being wrong, and drift in an exporter's
// spelling matters only where it hides the roots.
//
// Recurrences that are, or can be rolled into, a loop over time take one road
// (see rolled): the form is an ONNX Scan or Loop node. Package lift moves what
// does not depend on the carried states out of the body, with a time axis, and
// splits the update of each state into decay*state + update; the result is
// ssm.LinearScan between plain sequence operators. Where the state is an outer
// product that is only contracted, the LinearScan is then specialised to
// ssm.SSD or ssm.SelectiveScan.
package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// Pass runs all doors.
var Pass = &passes.Pass{
	Name:  "recur",
	Doc:   "recover recurrences: chunked form, decode step, unrolled trace, Loop and Scan become ssm.SSD or ssm.SelectiveScan",
	After: []passes.Order{{Pass: "named", Why: "what the model calls by name need not be recovered"}, {Pass: "canon", Why: "doors look through one spelling of broadcasts, masks and shapes"}},
	Run:   Run,
}

// Run tries the doors, most explicit first.
func Run(c *passes.Context, g *graph.Graph) error {
	for _, door := range []func(*passes.Context, *graph.Graph) error{loops, unrolled, chunked, masked, sums, parallel, steps, linear} { // one file each
		if err := door(c, g); err != nil {
			return err
		}
		if err := passes.Tidy(g); err != nil {
			return err
		}
	}
	return nil
}

// static tells values that depend only on constants and shapes: masks, zeros,
// parameters. Results are kept in seen.
type static map[*graph.Value]bool

func (s static) is(v *graph.Value) bool {
	if v.Const != nil {
		return true
	}
	if _, known := ops.KnownOf(v); known { // a shape, or the length of a sequence
		return true
	}
	if r, ok := s[v]; ok {
		return r
	}
	if v.Def == nil || len(v.Def.Bodies) > 0 {
		s[v] = false
		return false
	}
	s[v] = false // cuts cycles, which a sorted graph does not have anyway
	if v.Def.Op.Is("", "Shape") || v.Def.Op.Is("", "Size") {
		s[v] = true
		return true
	}
	for _, u := range v.Def.In {
		if u != nil && !s.is(u) {
			return false
		}
	}
	s[v] = true
	return true
}

// isFloat guards doors against integer recurrences.
func isFloat(v *graph.Value) bool {
	return v.Type.DType == tensor.Float32 || v.Type.DType == tensor.Float64 || v.Type.DType == tensor.Float16 || v.Type.DType == tensor.BFloat16
}
