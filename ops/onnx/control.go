package onnx

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// controlRows: If, Loop, Scan, SequenceMap. Their bodies may use values of the
// graphs around them.
func controlRows() []*ops.Op {
	since := []int{1, 11, 13, 16, 19, 21, 23, 24, 25}
	row := tensor.From([]float32{1, 2, 3}, 3)
	cond := ops.Op{
		Doc: "The outputs of then_branch or else_branch, as cond says.",
		In:  params("cond"), Out: params("outputs..."),
		Attrs: []ops.Attr{attr("then_branch", nil), attr("else_branch", nil)},
		Infer: inferIf, Eval: evalIf,
		Models: []ops.Model{
			{Name: "then", Text: ifModel, In: []*tensor.Tensor{tensor.Scalar(true), row}, Want: one(tensor.From([]float32{-1, -2, -3}, 3))},
			{Name: "else", Text: ifModel, In: []*tensor.Tensor{tensor.Scalar(false), row}, Want: one(tensor.From([]float32{1, 4, 9}, 3))},
		},
	}
	loop := ops.Op{
		Doc: "Runs body at most M times while the condition holds. body: (iteration, condition, carried...) -> (condition, carried..., scanned...).",
		In:  params("M?", "cond?", "v_initial..."), Out: params("v_final_and_scan_outputs..."),
		Attrs: []ops.Attr{attr("body", nil)},
		Infer: inferLoop, Eval: evalLoop,
		Models: []ops.Model{{Name: "powers", Text: loopModel, In: []*tensor.Tensor{tensor.Scalar(int64(3)), row},
			Want: []*tensor.Tensor{tensor.From([]float32{8, 16, 24}, 3), tensor.From([]float32{2, 4, 6, 4, 8, 12, 8, 16, 24}, 3, 3)}}},
	}
	scan := ops.Op{
		Doc: "Runs body along an axis of the scan inputs. body: (states..., slices...) -> (states..., slices of the scan outputs...).",
		In:  params("initial_state_and_scan_inputs..."), Out: params("final_state_and_scan_outputs..."),
		Attrs: []ops.Attr{attr("body", nil), attr("num_scan_inputs", nil), attrOpt("scan_input_axes"), attrOpt("scan_input_directions"), attrOpt("scan_output_axes"), attrOpt("scan_output_directions")},
		Infer: inferScan, Eval: evalScan,
		Models: []ops.Model{{Name: "sums", Text: scanModel, In: []*tensor.Tensor{tensor.Scalar(float32(10)), row},
			Want: []*tensor.Tensor{tensor.Scalar(float32(16)), tensor.From([]float32{11, 13, 16}, 3)}}},
	}
	scan8 := ops.Op{
		Doc: "Scan with a leading batch axis: states are [B, ...], scan inputs [B, L, ...], sequence_lens [B].",
		In:  params("sequence_lens?", "initial_state_and_scan_inputs..."), Out: params("final_state_and_scan_outputs..."),
		Attrs: []ops.Attr{attr("body", nil), attr("num_scan_inputs", nil), attrOpt("directions")},
		Infer: inferScan8, Eval: evalScan8,
		Models: []ops.Model{{Name: "sums", Text: scan8Model, In: []*tensor.Tensor{tensor.From([]float32{10}, 1), row.Reshaped(1, 3)},
			Want: []*tensor.Tensor{tensor.From([]float32{16}, 1), tensor.From([]float32{11, 13, 16}, 1, 3)}}},
	}
	each := ops.Op{
		Doc: "body applied to every member of the first sequence, with the members of further sequences beside it and tensors as they are.",
		In:  params("input_sequence", "additional_inputs..."), Out: params("out_sequence..."),
		Attrs: []ops.Attr{attr("body", nil)},
		Infer: inferSequenceMap, Eval: evalSequenceMap,
		Models: []ops.Model{{Name: "negated", Text: mapModel, In: []*tensor.Tensor{row}, Want: one(tensor.From([]float32{-1, -2, -3, -1, -2, -3}, 6))}},
	}
	rows := versions("If", since, cond)
	rows = append(rows, versions("Loop", since, loop)...)
	rows = append(rows, versions("Scan", []int{8}, scan8)...)
	rows = append(rows, versions("Scan", append([]int{9}, since[1:]...), scan)...)
	return append(rows, versions("SequenceMap", []int{17}, each)...)
}

// bodyOf finds the body of an attribute and its index.
func bodyOf(n *graph.Node, attr string) (*graph.Graph, int, error) {
	for i, b := range n.Bodies {
		if b.Attr == attr && b.Graph != nil {
			return b.Graph, i, nil
		}
	}
	return nil, 0, fmt.Errorf("attribute %q, a graph, is missing", attr)
}

func inferIf(c *ops.Infer) error {
	then, ti, err := bodyOf(c.Node, "then_branch")
	if err != nil {
		return err
	}
	other, oi, err := bodyOf(c.Node, "else_branch")
	if err != nil {
		return err
	}
	if err := want(c, 0, boolType); err != nil {
		return err
	}
	nOut := len(c.Node.Out)
	if len(then.Outputs) < nOut || len(other.Outputs) < nOut {
		return c.Errorf("%d outputs, but then_branch has %d and else_branch %d", nOut, len(then.Outputs), len(other.Outputs))
	}
	forget(then)
	forget(other)
	errThen, errElse := c.Body(ti), c.Body(oi)
	taken, decided := then, false
	if k, ok := c.Known(0); ok && len(k) == 1 && k[0].IsConst() {
		// Exporters leave branches that cannot run on the shapes at hand (a
		// Squeeze of an axis that is not 1): only the taken one must be right.
		if decided = true; k[0].Is(0) {
			taken, errThen = other, errElse
		}
		errElse = nil
	}
	if errThen != nil {
		return errThen
	}
	if errElse != nil {
		return errElse
	}
	for i := range nOut {
		a, b := taken.Outputs[i], other.Outputs[i]
		known, _ := ops.KnownOf(a)
		t := a.Type
		if !decided {
			if t, err = joinTypes(c, a.Type, b.Type, func(axis int) graph.Dim { return freshDim(c, i, axis) }); err != nil {
				return c.Errorf("output %d: %w", i, err)
			}
			if k, ok := ops.KnownOf(b); !ok || !slices.Equal(known, k) {
				known = nil
			}
		}
		c.OutKnown(i, t, known)
	}
	return nil
}

func evalIf(c *ops.Call) ([]*tensor.Tensor, error) {
	if c.In[0].Len() != 1 {
		return nil, fmt.Errorf("cond is %s, want one element", c.In[0].TypeString())
	}
	branch := "else_branch"
	if c.In[0].IntAt(0) != 0 {
		branch = "then_branch"
	}
	_, i, err := bodyOf(c.Node, branch)
	if err != nil {
		return nil, err
	}
	return c.Body(i)
}

func inferSequenceMap(c *ops.Infer) error {
	body, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return err
	}
	if _, err := wantSequence(c, 0); err != nil {
		return err
	}
	if len(body.Inputs) != len(c.Node.In) || len(body.Outputs) < len(c.Node.Out) {
		return c.Errorf("body has %d inputs and %d outputs, the node %d and %d", len(body.Inputs), len(body.Outputs), len(c.Node.In), len(c.Node.Out))
	}
	allowed := outerSymbols(c.Node, body)
	for i, v := range body.Inputs {
		t := c.Type(i)
		if t.DType == tensor.Sequence && t.Elem != nil {
			t = *t.Elem
			t.Shape = slices.Clone(t.Shape)
			for a, d := range t.Shape {
				if d == anyLength {
					t.Shape[a] = axisSymbol(v, a)
				}
			}
		}
		v.Type, v.Known = t, nil
	}
	forget(body)
	if err := c.Body(bi); err != nil {
		return err
	}
	delete(allowed, "?any")
	for i := range c.Node.Out {
		c.OutKnown(i, sequenceOf(outerType(body.Outputs[i].Type, allowed, anyAxis)), lengthPlus(c, 0, 0))
	}
	return nil
}

func evalSequenceMap(c *ops.Call) ([]*tensor.Tensor, error) {
	_, bi, err := bodyOf(c.Node, "body")
	if err != nil {
		return nil, err
	}
	n := len(c.In[0].Elems)
	out := make([]*tensor.Tensor, max(len(c.Node.Out), 1))
	for j := range out {
		out[j] = tensor.Seq()
	}
	for i := range n {
		args := slices.Clone(c.In)
		for j, t := range args {
			if t == nil || t.DType != tensor.Sequence {
				continue
			}
			if len(t.Elems) != n {
				return nil, fmt.Errorf("input %d has %d members, input 0 has %d", j, len(t.Elems), n)
			}
			args[j] = t.Elems[i]
		}
		res, err := c.Body(bi, args...)
		if err != nil {
			return nil, err
		}
		for j := range out {
			out[j].Elems = append(out[j].Elems, res[j])
		}
	}
	return out, nil
}
