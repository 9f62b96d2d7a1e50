package onnx

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// listed returns entry i of an integer-list attribute that may be absent.
func listed(a graph.Attrs, name string, i int) int64 {
	if l := a.Ints(name); i < len(l) {
		return l[i]
	}
	return 0
}

// scanCounts returns the numbers of states, scan inputs and scan outputs. lead
// is the number of inputs before the states.
func scanCounts(n *graph.Node, body *graph.Graph, lead int) (states, inputs, outputs int, err error) {
	inputs = int(min(max(n.Attrs.Int("num_scan_inputs", 0), 0), 1<<30))
	states = len(n.In) - lead - inputs
	outputs = len(body.Outputs) - states
	if states < 0 || inputs < 1 || outputs < 0 || len(body.Inputs) != states+inputs || len(n.Out) > len(body.Outputs) {
		err = fmt.Errorf("num_scan_inputs %d, %d inputs and %d outputs do not fit a body with %d inputs and %d outputs", n.Attrs.Int("num_scan_inputs", 0), len(n.In), len(n.Out), len(body.Inputs), len(body.Outputs))
	}
	return states, inputs, outputs, err
}

func inferScan(c *ops.Infer) error {
	body, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return err
	}
	n := c.Node
	states, inputs, _, err := scanCounts(n, body, 0)
	if err != nil {
		return err
	}
	allowed := outerSymbols(n, body)
	var steps graph.Dim
	haveSteps := false
	for i := range inputs {
		t, v := c.Type(states+i), body.Inputs[states+i]
		v.Type, v.Known = unranked(t.DType), nil
		if !t.Ranked() {
			continue
		}
		axis, ok := axisOf(listed(n.Attrs, "scan_input_axes", i), t.Rank(), t.Rank())
		if !ok {
			return c.Errorf("scan input %d: axis %d is outside %s", i, listed(n.Attrs, "scan_input_axes", i), t)
		}
		if !haveSteps {
			steps, haveSteps = t.Shape[axis], true
		} else if steps, ok = agree(steps, t.Shape[axis]); !ok {
			return c.Errorf("scan input %d is %s, others have length %v", i, t, steps)
		}
		v.Type = graph.T(t.DType, slices.Delete(cloneDims(t.Shape), axis, axis+1)...)
	}
	vals := make([]*carried, states)
	for i := range vals {
		vals[i] = &carried{in: body.Inputs[i], out: body.Outputs[i], init: n.In[i], typ: c.Type(i)}
	}
	if err := inferCarried(c, bi, vals, allowed); err != nil {
		return err
	}
	for i := range n.Out {
		if i < states {
			outCarried(c, i, vals[i], allowed, steps, haveSteps)
			continue
		}
		t := outerType(body.Outputs[i].Type, allowed, func(axis int) graph.Dim { return freshDim(c, i, axis+1) })
		if t.Ranked() {
			axis, ok := axisOf(listed(n.Attrs, "scan_output_axes", i-states), t.Rank()+1, t.Rank()+1)
			if !ok {
				return c.Errorf("scan output %d: axis %d is outside rank %d", i-states, listed(n.Attrs, "scan_output_axes", i-states), t.Rank()+1)
			}
			lead := steps
			if !haveSteps {
				lead = freshDim(c, i, 0)
			}
			t.Shape = slices.Insert(cloneDims(t.Shape), axis, lead)
		}
		setOut(c, i, t)
	}
	return nil
}

func evalScan(c *ops.Call) ([]*tensor.Tensor, error) {
	body, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return nil, err
	}
	a := c.Node.Attrs
	states, inputs, outputs, err := scanCounts(c.Node, body, 0)
	if err != nil {
		return nil, err
	}
	slicesIn := make([][]*tensor.Tensor, inputs)
	for i := range slicesIn {
		x := c.In[states+i]
		axis, ok := axisOf(listed(a, "scan_input_axes", i), x.Rank(), x.Rank())
		if !ok {
			return nil, fmt.Errorf("scan input %d: axis %d is outside %s", i, listed(a, "scan_input_axes", i), x.TypeString())
		}
		if slicesIn[i], err = unstack(x, axis); err != nil {
			return nil, err
		}
		if len(slicesIn[i]) != len(slicesIn[0]) {
			return nil, fmt.Errorf("scan input %d has length %d, scan input 0 has %d", i, len(slicesIn[i]), len(slicesIn[0]))
		}
		if listed(a, "scan_input_directions", i) != 0 {
			slices.Reverse(slicesIn[i])
		}
	}
	vals, scanned, err := runScan(c, bi, slices.Clone(c.In[:states]), slicesIn, outputs)
	if err != nil {
		return nil, err
	}
	b := bindings(c)
	for j, list := range scanned {
		if listed(a, "scan_output_directions", j) != 0 {
			slices.Reverse(list)
		}
		t, err := collect(list, body.Outputs[states+j].Type, listed(a, "scan_output_axes", j), b)
		if err != nil {
			return nil, fmt.Errorf("scan output %d: %w", j, err)
		}
		vals = append(vals, t)
	}
	return vals, nil
}

// runScan runs the body once per slice and returns the final states and the
// slices of each scan output.
func runScan(c *ops.Call, body int, states []*tensor.Tensor, in [][]*tensor.Tensor, outputs int) ([]*tensor.Tensor, [][]*tensor.Tensor, error) {
	scanned := make([][]*tensor.Tensor, outputs)
	for t := range in[0] {
		if err := c.Ctx.Err(); err != nil {
			return nil, nil, err
		}
		args := slices.Clone(states)
		for _, list := range in {
			args = append(args, list[t])
		}
		out, err := c.Body(body, args...)
		if err != nil {
			return nil, nil, fmt.Errorf("step %d: %w", t, err)
		}
		copy(states, out)
		for j := range scanned {
			scanned[j] = append(scanned[j], out[len(states)+j])
		}
	}
	return states, scanned, nil
}

// unstack cuts x into its slices along an axis.
func unstack(x *tensor.Tensor, axis int) ([]*tensor.Tensor, error) {
	ones := make([]int64, x.Shape[axis])
	for i := range ones {
		ones[i] = 1
	}
	parts, err := onBytes(func(c *ops.Call) ([]*tensor.Tensor, error) { return cut(c.In[0], axis, ones) })(&ops.Call{In: []*tensor.Tensor{x}})
	if err != nil {
		return nil, err
	}
	shape := slices.Delete(slices.Clone(x.Shape), axis, axis+1)
	for i, p := range parts {
		parts[i] = p.Reshaped(shape...)
	}
	return parts, nil
}

func inferScan8(c *ops.Infer) error {
	body, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return err
	}
	n := c.Node
	states, inputs, _, err := scanCounts(n, body, 1)
	if err != nil {
		return err
	}
	if err := want(c, 0, indexTypes); err != nil {
		return err
	}
	allowed := outerSymbols(n, body)
	batch, steps := freshDim(c, 0, 0), freshDim(c, 0, 1)
	for i := range states + inputs {
		t, v, strip := c.Type(1+i), body.Inputs[i], 1
		if i >= states {
			strip = 2
		}
		v.Type, v.Known = unranked(t.DType), nil
		if !t.Ranked() {
			continue
		}
		if t.Rank() < strip {
			return c.Errorf("input %d is %s, want rank %d or more", 1+i, t, strip)
		}
		if batch = t.Shape[0]; strip == 2 {
			steps = t.Shape[1]
		}
		v.Type = graph.T(t.DType, cloneDims(t.Shape[strip:])...)
	}
	vals := make([]*carried, states)
	for i := range vals {
		vals[i] = &carried{in: body.Inputs[i], out: body.Outputs[i], typ: body.Inputs[i].Type}
	}
	if err := inferCarried(c, bi, vals, allowed); err != nil {
		return err
	}
	for i := range n.Out {
		t, lead := body.Outputs[i].Type, []graph.Dim{batch, steps}
		if i < states {
			t, lead = vals[i].typ, lead[:1]
		}
		t = outerType(t, allowed, func(axis int) graph.Dim { return freshDim(c, i, axis+len(lead)) })
		if t.Ranked() {
			t.Shape = slices.Concat(lead, t.Shape)
		}
		setOut(c, i, t)
	}
	return nil
}

func evalScan8(c *ops.Call) ([]*tensor.Tensor, error) {
	body, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return nil, err
	}
	states, inputs, outputs, err := scanCounts(c.Node, body, 1)
	if err != nil {
		return nil, err
	}
	rows := make([][]*tensor.Tensor, states+inputs) // per argument, its batch entries
	for i := range rows {
		if c.In[1+i].Rank() < 1 {
			return nil, fmt.Errorf("input %d is a scalar", 1+i)
		}
		if rows[i], err = unstack(c.In[1+i], 0); err != nil {
			return nil, err
		}
	}
	result := make([][]*tensor.Tensor, states+outputs)
	for b := range rows[len(rows)-1] {
		args := make([]*tensor.Tensor, states)
		for i := range args {
			args[i] = rows[i][b]
		}
		in, full := make([][]*tensor.Tensor, inputs), 0
		for i := range in {
			if in[i], err = unstack(rows[states+i][b], 0); err != nil {
				return nil, err
			}
			full = len(in[i])
			if c.In[0] != nil {
				in[i] = in[i][:min(max(c.In[0].IntAt(b), 0), int64(full))]
			}
			if listed(c.Node.Attrs, "directions", i) != 0 {
				slices.Reverse(in[i])
			}
		}
		vals, scanned, err := runScan(c, bi, args, in, outputs)
		if err != nil {
			return nil, fmt.Errorf("batch entry %d: %w", b, err)
		}
		for j, list := range scanned {
			t, err := collect(list, body.Outputs[states+j].Type, 0, bindings(c))
			if err != nil {
				return nil, err
			}
			vals = append(vals, padRows0(t, full))
		}
		for j, t := range vals {
			result[j] = append(result[j], t)
		}
	}
	out := make([]*tensor.Tensor, len(result))
	for j, list := range result {
		if out[j], err = stack(list, 0); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// padRows0 appends zero rows until t has n.
func padRows0(t *tensor.Tensor, n int) *tensor.Tensor {
	if t.Shape[0] == n {
		return t
	}
	out := tensor.New(t.DType, append([]int{n}, t.Shape[1:]...)...)
	copyRun(out, 0, t, 0, t.Len())
	return out
}
