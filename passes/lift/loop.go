// Package lift takes computation out of the body of a loop over time. What a
// body computes without its carried states is the same computation on whole
// sequences: every operator gets one more axis, time, and reads of a sequence
// at the iteration index become the sequence itself.
//
// A Loop is an ONNX Loop or Scan in one form; a Lifter gives, for each value of
// its body, the sequence of what it is in all steps (a Seq), built in the graph
// around the loop. Carried states are the caller's business: the Lifter asks
// for their sequences.
package lift

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Loop is an ONNX Loop or Scan that runs a known number of steps.
type Loop struct {
	Node   *graph.Node
	Body   *graph.Graph
	Length graph.Dim    // the number of steps
	Index  *graph.Value // of a Loop: the iteration number, else nil
	Cond   *graph.Value // of a Loop: the condition in the body, which holds
	States []*State
	Reads  []*Read
	Writes []*Write
}

// State is a value carried from step to step: In at the start of a step, Out
// at its end, Init before the first, Final (nil when unused) after the last.
type State struct{ In, Out, Init, Final *graph.Value }

// Read is a scan input: In is the slice of V at the step's time.
type Read struct {
	In, V   *graph.Value
	Axis    int
	Reverse bool
}

// Write is a scan output: Out is the slice of V (nil when unused) at the step's time.
type Write struct {
	Out, V  *graph.Value
	Axis    int
	Reverse bool
}

// Open brings a Loop or Scan into one form, or says what keeps it from running
// a known number of steps.
func Open(n *graph.Node) (*Loop, error) {
	l := &Loop{Node: n, Body: n.Body("body")}
	if l.Body == nil {
		return nil, fmt.Errorf("%s has no body", n)
	}
	if n.Op.Is("", "Loop") {
		return l, l.openLoop()
	}
	if n.Op.Since < 9 {
		return nil, fmt.Errorf("a Scan of opset 8, which has a batch axis of its own; export with opset 9 or later")
	}
	return l, l.openScan()
}

func (l *Loop) openLoop() error {
	n, body := l.Node, l.Body
	if v := n.Input(1); v != nil && !isTrue(v) {
		return fmt.Errorf("the loop condition %q is not constant true", v.Name)
	}
	l.Index, l.Cond = body.Inputs[0], body.Inputs[1]
	cond := body.Outputs[0]
	for cond.Def != nil && cond.Def.Op.Is("", "Identity") {
		cond = cond.Def.In[0]
	}
	if n.Input(1) != nil && cond != l.Cond && !isTrue(cond) {
		return fmt.Errorf("the loop may stop early: its condition %q is computed in the body; a scan runs over the whole sequence", cond.Name)
	}
	if n.Input(0) == nil {
		return fmt.Errorf("the loop has no trip count")
	}
	k, ok := ops.KnownOf(n.In[0])
	if !ok || len(k) != 1 {
		return fmt.Errorf("the trip count %q is not a length of a sequence", n.In[0].Name)
	}
	l.Length = k[0]
	carried := max(len(n.In)-2, 0) // a loop that carries nothing may leave its condition out
	for i := range carried {
		l.States = append(l.States, &State{body.Inputs[2+i], body.Outputs[1+i], n.In[2+i], n.Output(i)})
	}
	for i := 1 + carried; i < len(body.Outputs); i++ {
		l.Writes = append(l.Writes, &Write{Out: body.Outputs[i], V: n.Output(i - 1)})
	}
	return nil
}

func (l *Loop) openScan() error {
	n, body := l.Node, l.Body
	reads := int(n.Attrs.Int("num_scan_inputs", 0))
	states := len(n.In) - reads
	if reads < 1 || states < 0 {
		return fmt.Errorf("num_scan_inputs is %d of %d inputs", reads, len(n.In))
	}
	for i := range states {
		l.States = append(l.States, &State{body.Inputs[i], body.Outputs[i], n.In[i], n.Output(i)})
	}
	for i := range reads {
		v := n.In[states+i]
		axis := int(at(n.Attrs.Ints("scan_input_axes"), i))
		if !v.Type.Ranked() {
			return fmt.Errorf("scan input %q has no known rank", v.Name)
		}
		if axis < 0 {
			axis += v.Type.Rank()
		}
		if i == 0 {
			l.Length = v.Type.Shape[axis]
		}
		l.Reads = append(l.Reads, &Read{body.Inputs[states+i], v, axis, at(n.Attrs.Ints("scan_input_directions"), i) != 0})
	}
	for i := states; i < len(body.Outputs); i++ {
		axis := int(at(n.Attrs.Ints("scan_output_axes"), i-states))
		if axis < 0 {
			axis += body.Outputs[i].Type.Rank() + 1
		}
		l.Writes = append(l.Writes, &Write{body.Outputs[i], n.Output(i), axis, at(n.Attrs.Ints("scan_output_directions"), i-states) != 0})
	}
	return nil
}

func at(list []int64, i int) int64 {
	if i < len(list) {
		return list[i]
	}
	return 0
}

func isTrue(v *graph.Value) bool {
	k, ok := ops.KnownOf(v)
	return ok && len(k) == 1 && k[0].Is(1)
}

// Taken returns the branch of an If whose condition is known, else nil.
func Taken(n *graph.Node) *graph.Graph {
	if !n.Op.Is("", "If") {
		return nil
	}
	k, ok := ops.KnownOf(n.In[0])
	if !ok || len(k) != 1 || !k[0].IsConst() {
		return nil
	}
	if k[0].Is(0) {
		return n.Body("else_branch")
	}
	return n.Body("then_branch")
}

// Source is the value that v stands for when its node is an If that is decided,
// or an Identity: the same value under another name.
func Source(v *graph.Value) *graph.Value {
	for v.Def != nil {
		if v.Def.Op.Is("", "Identity") {
			v = v.Def.In[0]
			continue
		}
		b := Taken(v.Def)
		if b == nil {
			return v
		}
		for i, o := range v.Def.Out {
			if o == v {
				v = b.Outputs[i]
				break
			}
		}
	}
	return v
}
