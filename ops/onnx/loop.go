package onnx

import (
	"fmt"
	"math"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/memory"
	"github.com/ssdc-go/ssdc/ops"
)

func inferLoop(c *ops.Infer) error {
	body, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return err
	}
	if err := want(c, 0, indexTypes); err != nil {
		return err
	}
	if err := want(c, 1, boolType); err != nil {
		return err
	}
	n := c.Node
	carry := max(len(n.In)-2, 0)
	scans := len(body.Outputs) - 1 - carry
	if len(body.Inputs) != 2+carry || scans < 0 || len(n.Out) > carry+scans {
		return c.Errorf("body has %d inputs and %d outputs; %d carried values and %d outputs of the loop do not fit", len(body.Inputs), len(body.Outputs), carry, len(n.Out))
	}
	allowed := outerSymbols(n, body)
	body.Inputs[0].Type, body.Inputs[0].Known = graph.T(tensor.Int64), nil
	body.Inputs[1].Type, body.Inputs[1].Known = graph.T(tensor.Bool), graph.Ds(1) // an iteration runs only while it holds
	vals := make([]*carried, carry)
	for i := range vals {
		vals[i] = &carried{in: body.Inputs[2+i], out: body.Outputs[1+i], init: n.In[2+i], typ: c.Type(2 + i)}
	}
	if err := inferCarried(c, bi, vals, allowed); err != nil {
		return err
	}
	trips, known := tripCount(c, body)
	for i, v := range vals {
		outCarried(c, i, v, allowed, trips, known)
	}
	for i := carry; i < len(n.Out); i++ {
		t := outerType(body.Outputs[1+i].Type, allowed, func(axis int) graph.Dim { return freshDim(c, i, axis+1) })
		if t.Ranked() {
			lead := trips
			if !known {
				lead = freshDim(c, i, 0)
			}
			t.Shape = slices.Insert(cloneDims(t.Shape), 0, lead)
		}
		setOut(c, i, t)
	}
	return nil
}

// tripCount is the number of iterations of a loop that the condition cannot end early.
func tripCount(c *ops.Infer, body *graph.Graph) (graph.Dim, bool) {
	m, ok := c.Known(0)
	if !ok || len(m) != 1 {
		return graph.Dim{}, false
	}
	if c.Has(1) {
		k, ok := c.Known(1)
		if !ok || len(k) != 1 || !k[0].IsConst() {
			return graph.Dim{}, false
		}
		if k[0].Is(0) {
			return graph.D(0), true
		}
		// Without the input, the condition that the body computes is ignored.
		if k, ok := ops.KnownOf(body.Outputs[0]); !ok || len(k) != 1 || !k[0].Is(1) {
			return graph.Dim{}, false
		}
	}
	return m[0].Max(graph.D(0)), true
}

func evalLoop(c *ops.Call) ([]*tensor.Tensor, error) {
	body, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return nil, err
	}
	trips, cond := int64(math.MaxInt64), true
	if m := c.Arg(0); m != nil {
		trips = m.IntAt(0)
	}
	if k := c.Arg(1); k != nil {
		cond = k.IntAt(0) != 0
	}
	vals := slices.Clone(c.In[min(2, len(c.In)):])
	carry := len(vals)
	scanned := make([][]*tensor.Tensor, len(body.Outputs)-1-carry)
	kept := int64(0) // bytes in them
	var grown growth
	for i := int64(0); i < trips && cond; i++ {
		if err := c.Ctx.Err(); err != nil {
			return nil, err
		}
		args := append([]*tensor.Tensor{tensor.Scalar(i), tensor.Scalar(true)}, vals...)
		out, err := c.Body(bi, args...)
		if err != nil {
			return nil, fmt.Errorf("iteration %d: %w", i, err)
		}
		if c.Arg(1) != nil {
			cond = out[0].IntAt(0) != 0
		}
		copy(vals, out[1:])
		step := int64(0)
		for j := range scanned {
			scanned[j] = append(scanned[j], out[1+carry+j])
			step += held(out[1+carry+j])
		}
		kept += step
		if err := enough(kept, step, trips, i, c.Arg(1) != nil); err != nil {
			return nil, err
		}
		if cond && i+1 < trips {
			if err := grown.enough(vals, kept, i); err != nil {
				return nil, err
			}
		}
	}
	b := bindings(c)
	for j, list := range scanned {
		t, err := collect(list, body.Outputs[1+carry+j].Type, 0, b)
		if err != nil {
			return nil, fmt.Errorf("scan output %d: %w", j, err)
		}
		vals = append(vals, t)
	}
	return vals, nil
}

// enough refuses scan outputs that the machine cannot hold, slices and the whole
// they are stacked to: at once when the trips say how many there will be, else
// when there are so many. A loop without scan outputs whose values do not grow
// may run until it is cancelled; it takes no more memory with time.
func enough(kept, step, trips, i int64, conditional bool) error {
	if i == 0 && !conditional && step > 0 {
		if kept = step * trips; kept/step != trips {
			kept = math.MaxInt64
		}
	}
	if kept > math.MaxInt64/2 {
		kept = math.MaxInt64 / 2
	}
	err := memory.Check(fmt.Sprintf("stacking the scan outputs of a Loop of %d iterations", max(i+1, map[bool]int64{false: trips}[conditional])), 2*kept)
	return shorter(err)
}

// shorter adds to an error what the loop's author can do.
func shorter(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w; give the loop fewer iterations, or a condition that ends it", err)
}

// held is about how much memory a tensor takes: one number takes more for what
// describes it than for itself.
func held(t *tensor.Tensor) int64 {
	if t == nil {
		return 0
	}
	const header = 256
	n := header + int64(len(t.Data)) + 16*int64(len(t.Strings))
	for _, s := range t.Strings {
		n += int64(len(s))
	}
	for _, e := range t.Elems {
		n += held(e)
	}
	return n
}

// growth watches what a loop carries from iteration to iteration.
type growth struct {
	bytes int64 // carried after the last iteration
	times int   // iterations in a row that carried more than the one before
}

// enough refuses values that have grown so far that the machine cannot hold those
// of the next iteration, grown once more, beside these: and all that twice, for
// memory is given back only when as much again is in use.
func (g *growth) enough(vals []*tensor.Tensor, kept, i int64) error {
	now := int64(0)
	for _, v := range vals {
		now += held(v)
	}
	before := g.bytes
	g.bytes = now
	if now <= before || i == 0 {
		g.times = 0
		return nil
	}
	if g.times++; g.times < 2 {
		return nil // what a first iteration makes of empty values need not go on
	}
	more := int64(min(float64(now), float64(now)*float64(now-before)/float64(before)))
	return shorter(memory.Check(fmt.Sprintf("iteration %d of a Loop whose carried values grow with each", i+1), kept+2*(2*now+more)))
}

// collect stacks the slices of a scan output. When there is none, the type of
// a slice gives the other lengths.
func collect(list []*tensor.Tensor, slice graph.Type, axis int64, b graph.Bindings) (*tensor.Tensor, error) {
	if len(list) > 0 {
		return stack(list, axis)
	}
	shape := make([]int, len(slice.Shape))
	for i, d := range slice.Shape {
		if n, err := d.Eval(b); err == nil && n > 0 {
			shape[i] = int(n)
		}
	}
	ax, ok := axisOf(axis, len(shape)+1, len(shape)+1)
	if !ok {
		return nil, fmt.Errorf("axis %d is outside rank %d", axis, len(shape)+1)
	}
	return tensor.New(slice.DType, slices.Insert(shape, ax, 0)...), nil
}

// bindings reads off the values of symbols from the lengths of the arguments.
func bindings(c *ops.Call) graph.Bindings {
	b := graph.Bindings{}
	for i, v := range c.Node.In {
		t := c.Arg(i)
		if v == nil || t == nil || len(t.Shape) != len(v.Type.Shape) {
			continue
		}
		for a, d := range v.Type.Shape {
			if name, ok := d.AsSym(); ok {
				b[name] = int64(t.Shape[a])
			}
		}
	}
	return b
}
