// Package canon brings graphs to a normal form before anything is recognised
// in them: constants folded, no-ops gone, broadcasts made implicit, one
// spelling for what exporters spell in several ways, equal nodes merged.
//
// Every simplification is exact in the graph's own arithmetic, except where
// its comment says which rounding it changes.
package canon

import (
	"fmt"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/memory"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/ssm"
	"github.com/ssdc-go/ssdc/passes"
)

// Pass is the canonicalisation.
var Pass = &passes.Pass{
	Name: "canon",
	Doc:  "fold constants, remove no-ops, make broadcasts implicit, merge equal nodes",
	Run:  Run,
}

// Cleanup is the same pass for a second place in the pipeline.
var Cleanup = &passes.Pass{
	Name: "cleanup",
	Doc:  "canon again, after the rewrites",
	Run:  Run,
}

// rewriteFn tries to replace output 0 of n. It returns nil when it does not apply.
type rewriteFn func(r *rewriter, n *graph.Node) *graph.Value

// Run simplifies to a fixed point.
func Run(c *passes.Context, g *graph.Graph) error {
	for range 20 { // each round is one sweep; real models need three or four
		r := &rewriter{c: c, root: g}
		if err := r.graph(g); err != nil {
			return err
		}
		merged := merge(c, g)
		if err := passes.Tidy(g); err != nil {
			return err
		}
		if !r.changed && !merged {
			return nil
		}
	}
	return nil
}

type rewriter struct {
	c       *passes.Context
	root    *graph.Graph
	g       *graph.Graph // the graph or body at hand
	changed bool
}

func (r *rewriter) graph(g *graph.Graph) error {
	nodes := append([]*graph.Node{}, g.Nodes...)
	for _, n := range nodes {
		for _, b := range n.Bodies {
			if err := r.graph(b.Graph); err != nil {
				return err
			}
			if err := b.Sort(); err != nil { // n is inferred again, body in order
				return err
			}
		}
		r.g = g
		if unused(n) {
			continue
		}
		if r.fold(n) {
			r.changed = true
			continue
		}
		if err := ops.InferNode(r.c.Table, n); err != nil { // inputs may say more than before
			return err
		}
		if n.Op.Domain != "" || len(n.Out) == 0 || n.Out[0] == nil {
			continue
		}
		for _, f := range rules[n.Op.Name] {
			v := f(r, n)
			if v == nil || v == n.Out[0] {
				continue
			}
			if !sameType(v.Type, n.Out[0].Type) {
				return fmt.Errorf("%s: simplified from %s to %s", n, n.Out[0].Type, v.Type)
			}
			if n.Out[0].IsOutput() && (v.Def == nil || v.IsOutput()) {
				continue // an output keeps a node, and a name, of its own
			}
			r.replace(n.Out[0], v)
			break
		}
	}
	return nil
}

// sameType allows a replacement to know more than the original did.
func sameType(a, b graph.Type) bool {
	if a.DType != b.DType || (b.Ranked() && a.Ranked() && a.Rank() != b.Rank()) {
		return false
	}
	return true
}

func (r *rewriter) replace(old, new *graph.Value) {
	name := old.Name
	if old.IsOutput() { // graph outputs keep their names
		old.Name, new.Name = new.Name, name
	}
	old.ReplaceWith(new)
	r.changed = true
}

func unused(n *graph.Node) bool {
	for _, v := range n.Out {
		if v != nil && !v.Unused() {
			return false
		}
	}
	return true
}

// MaxFold is the largest constant that folding may create out of smaller ones.
const MaxFold = 1 << 20

// widened is the key of the bytes that constants took when they were dequantised.
const widened = "canon.widened"

// widens allows weights of few bits to become floats: no kernel multiplies by
// them as they are, and dequantising them in every run takes a hundred times
// longer than the product. All of them together may take a quarter of the
// machine's memory; those beyond it stay as they are, and so do all when no
// backend is compiled for.
func (r *rewriter) widens(n *graph.Node, bytes int64) bool {
	if r.c.Target == "" || !n.Op.Is("", "DequantizeLinear") {
		return false
	}
	spent, _ := r.c.Cache[widened].(int64)
	if spent+bytes > memory.Part(4) {
		return false
	}
	r.c.Cache[widened] = spent + bytes
	return true
}

// fold replaces outputs whose contents are known numbers, and evaluates nodes
// whose inputs are all constant.
func (r *rewriter) fold(n *graph.Node) bool {
	op := r.c.Table.Lookup(n.Op)
	if op == nil || op.Traits&ops.Random != 0 || len(n.Bodies) > 0 {
		return false
	}
	if r.foldKnown(n) {
		return true
	}
	var in []*tensor.Tensor
	size := 0
	for _, v := range n.In {
		if v == nil {
			in = append(in, nil)
			continue
		}
		if v.Const == nil {
			return false
		}
		in = append(in, v.Const)
		size += len(v.Const.Data)
	}
	for _, v := range n.Out {
		if v == nil {
			continue
		}
		if v.IsOutput() {
			return false
		}
		shape, ok := v.Type.Static()
		if !ok || v.Type.DType.IsContainer() {
			return false
		}
		if b := v.Type.DType.Bytes((&tensor.Tensor{Shape: shape}).Len()); b > MaxFold && b > size && !r.widens(n, int64(b)) {
			return false
		}
	}
	if op.Eval == nil {
		return false
	}
	out, err := ops.Eval(r.c.Ctx, r.c.Table, n, in)
	if err != nil {
		return false // the run will report it, with the inputs that lead there
	}
	for i, v := range n.Out {
		if v != nil {
			v.ReplaceWith(r.root.AddConst(v.Name, out[i]))
		}
	}
	return true
}

// foldKnown replaces arithmetic on shapes by its result: a constant, or a Dims
// node that reads the lengths off the inputs of the model.
func (r *rewriter) foldKnown(n *graph.Node) bool {
	if len(n.Out) != 1 || n.Out[0] == nil || n.Out[0].Known == nil || n.Out[0].IsOutput() || n.Out[0].Type.DType.IsContainer() {
		return false
	}
	v := n.Out[0]
	shape, ok := v.Type.Static()
	if !ok {
		return false
	}
	t := tensor.New(v.Type.DType, shape...)
	if t.Len() != len(v.Known) {
		return false
	}
	for i, d := range v.Known {
		k, ok := d.Const()
		if !ok {
			return r.g == r.root && r.foldDims(n)
		}
		t.SetIntAt(i, k)
	}
	v.ReplaceWith(r.root.AddConst(v.Name, t))
	return true
}

func (r *rewriter) foldDims(n *graph.Node) bool {
	v := n.Out[0]
	if n.Op.Is(ssm.Domain, "Dims") || n.Op.Is("", "Reshape") && n.In[0].Def != nil && n.In[0].Def.Op.Is(ssm.Domain, "Dims") || v.Type.DType != tensor.Int64 || v.Type.Rank() > 1 {
		return false
	}
	b := r.builder(n)
	d := ssm.ShapeOf(b, v.Known, r.root.Inputs...)
	if v.Type.Rank() == 0 && b.Err == nil {
		d = b.Op("Reshape", nil, d, b.Const(tensor.New(tensor.Int64, 0)))
	}
	if b.Err != nil {
		return false
	}
	v.ReplaceWith(d)
	return true
}

// builder makes nodes where n stands.
func (r *rewriter) builder(n *graph.Node) *graph.Builder { return r.c.Builder(r.g, n.From) }

// done returns v, or nil when the builder failed; half-built nodes are swept.
func done(b *graph.Builder, v *graph.Value) *graph.Value {
	if b.Err != nil {
		return nil
	}
	return v
}
