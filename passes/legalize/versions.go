package legalize

import (
	"fmt"
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// versions gives every operator of ai.onnx the version in force at the opset.
// Where versions only allow more types, the node is taken over as it is, and
// type inference says whether it may be; where they differ in form or meaning,
// a conversion rewrites it; an operator that the opset does not have yet is
// decomposed.
func (l *legalizer) versions() error {
	return l.rewrite(func(n *graph.Node) (bool, error) {
		if n.Op.Domain != "" || unused(n) {
			return false, nil
		}
		return l.version(n)
	})
}

func unused(n *graph.Node) bool {
	for _, v := range n.Out {
		if v != nil && !v.Unused() {
			return false
		}
	}
	return len(n.Out) > 0
}

func (l *legalizer) version(n *graph.Node) (bool, error) {
	want := l.c.Table.Resolve("", n.Op.Name, l.opset)
	if want != nil && want.ID == n.Op {
		return false, nil
	}
	if n.Op.Name == "RMSNormalization" {
		return true, l.decomposeRMSNorm(n)
	}
	if f := conversions[n.Op.Name]; f != nil {
		c := &conversion{l: l, n: n, b: l.builder(n), from: n.Op.Since, since: -1}
		if want != nil {
			c.since = want.ID.Since
		}
		out, err := f(c)
		if err == nil {
			err = c.b.Err
		}
		if err != nil || out != nil {
			return true, l.replace(n, out, err)
		}
	}
	row, err := l.c.Table.Of(n)
	if err != nil {
		return false, err
	}
	if want != nil {
		if err = l.takeOver(n, row, want); err == nil {
			return true, nil
		}
	}
	if row.Decompose != nil {
		return true, l.decompose(n, row)
	}
	if want == nil && n.Op.Since > l.opset {
		return false, fmt.Errorf("%s: opset %d does not have it; use opset %d or newer", n, l.opset, n.Op.Since)
	}
	if err == nil {
		err = fmt.Errorf("it was removed from ONNX")
	}
	return false, fmt.Errorf("%s: no equal at opset %d: %w", n, l.opset, err)
}

// takeOver relabels a node with another version of its operator, if that means
// the same and gives the same types. Attributes at their default that the
// other version does not know are dropped.
func (l *legalizer) takeOver(n *graph.Node, row, want *ops.Op) error {
	if bound := sameFrom[n.Op.Name]; min(n.Op.Since, want.ID.Since) < bound {
		return fmt.Errorf("the meaning changed at opset %d", bound)
	}
	var drop []string
	for _, name := range n.Attrs.Names() {
		if want.Attrs == nil || attrOf(want, name) != nil {
			continue
		}
		a := attrOf(row, name)
		if a == nil || a.Default == nil || fmt.Sprint(a.Default) != fmt.Sprint(n.Attrs[name]) {
			return fmt.Errorf("attribute %q = %v is unknown there", name, n.Attrs[name])
		}
		drop = append(drop, name)
	}
	if k := len(want.In); k > 0 && len(n.In) > k && !want.In[k-1].Variadic {
		return fmt.Errorf("it takes %d inputs there, has %d", k, len(n.In))
	}
	old, types := n.Op, outTypes(n)
	n.Op = want.ID
	err := ops.InferNode(l.c.Table, n)
	for i, v := range n.Out {
		if err == nil && v != nil && v.Type.DType != types[i].DType {
			err = fmt.Errorf("%q becomes %s, was %s", v.Name, v.Type, types[i])
		}
	}
	if err != nil {
		n.Op = old
		for i, v := range n.Out {
			if v != nil {
				v.Type = types[i]
			}
		}
		return err
	}
	for _, name := range drop {
		delete(n.Attrs, name)
	}
	return nil
}

func attrOf(r *ops.Op, name string) *ops.Attr {
	for i := range r.Attrs {
		if r.Attrs[i].Name == name {
			return &r.Attrs[i]
		}
	}
	return nil
}

func outTypes(n *graph.Node) []graph.Type {
	t := make([]graph.Type, len(n.Out))
	for i, v := range n.Out {
		if v != nil {
			t[i] = v.Type
		}
	}
	return t
}

// sameFrom bounds versions that mean the same, where older ones mean something
// else and have no conversion.
var sameFrom = map[string]int{
	"Scan":               9,  // 8 runs over a batch axis of its own
	"BatchNormalization": 9,  // 7 had spatial
	"GroupNormalization": 21, // 18's scale has one element per group
}

// decomposeRMSNorm writes the norm as ONNX Runtime's optimiser looks for it.
func (l *legalizer) decomposeRMSNorm(n *graph.Node) error {
	x, scale := n.In[0], n.In[1]
	axis := n.Attrs.Int("axis", -1)
	rank := int64(x.Type.Rank())
	if !x.Type.Ranked() || axis != -1 && axis != rank-1 || x.Type.DType != scale.Type.DType || x.Type.DType.Size() < 4 {
		row, err := l.c.Table.Of(n)
		if err != nil {
			return err
		}
		return l.decompose(n, row)
	}
	b := l.builder(n)
	number := func(v float64) *graph.Value {
		t := tensor.New(x.Type.DType)
		t.SetAt(0, v)
		return b.Const(t)
	}
	mean := b.Op("ReduceMean", graph.Attrs{"keepdims": int64(1)}, b.Op("Pow", nil, x, number(2)), b.Ints(-1))
	root := b.Op("Sqrt", nil, b.Op("Add", nil, mean, number(float64(n.Attrs.Float("epsilon", 1e-5)))))
	y := b.Op("Mul", nil, b.Op("Div", nil, x, root), scale)
	return l.replace(n, []*graph.Value{y}, b.Err)
}

// conversion is one node to rewrite for another version of its operator.
type conversion struct {
	l     *legalizer
	n     *graph.Node
	b     *graph.Builder
	from  int // version of the node
	since int // version wanted, -1 when the operator is gone
}

// conversions rewrite operators whose versions differ in form or meaning. They
// return nil, nil when the node may be taken over as it is. Opsets below
// MinOpset need not be reached.
var conversions = map[string]func(*conversion) ([]*graph.Value, error){
	"Softmax": coerced, "LogSoftmax": coerced, "Hardmax": coerced,
	"Squeeze": axesInput, "Unsqueeze": axesInput,
	"ReduceL1": axesInput, "ReduceL2": axesInput, "ReduceLogSum": axesInput, "ReduceLogSumExp": axesInput, "ReduceMax": axesInput,
	"ReduceMean": axesInput, "ReduceMin": axesInput, "ReduceProd": axesInput, "ReduceSum": axesInput, "ReduceSumSquare": axesInput,
	"Clip": clip, "Dropout": dropout, "Pad": pad, "Slice": slice, "Split": split, "TopK": topK,
	"Upsample": upsample, "Resize": resize, "Scatter": scatter, "RoiAlign": roiAlign, "GridSample": gridSample, "DFT": dft,
	"BatchNormalization": batchNorm, "GroupNormalization": groupNorm,
}

// make writes the same operator in its newest form; versions then takes it to
// the wanted one.
func (c *conversion) make(a graph.Attrs, in ...*graph.Value) ([]*graph.Value, error) {
	return c.named(c.n.Op.Name, a, in...)
}

func (c *conversion) named(op string, a graph.Attrs, in ...*graph.Value) ([]*graph.Value, error) {
	if m := c.b.Node("", op, a, len(c.n.Out), in...); m != nil {
		return m.Out, nil
	}
	return nil, c.b.Err
}

// without copies the attributes but some.
func (c *conversion) without(names ...string) graph.Attrs {
	a := c.n.Attrs.Clone()
	for _, k := range names {
		delete(a, k)
	}
	return a
}

// ints is an attribute as a constant, nil when it is absent.
func (c *conversion) ints(name string) *graph.Value {
	if v := c.n.Attrs.Ints(name); v != nil {
		return c.b.Ints(v...)
	}
	return nil
}

// coerced: before opset 13 the axes from axis on were taken together.
func coerced(c *conversion) ([]*graph.Value, error) {
	if c.from >= 13 {
		return nil, nil
	}
	x := c.n.In[0]
	axis, rank := c.n.Attrs.Int("axis", 1), int64(x.Type.Rank())
	if !x.Type.Ranked() {
		return nil, fmt.Errorf("the rank of its input is unknown")
	}
	if axis < 0 {
		axis += rank
	}
	if axis == rank-1 {
		return c.make(graph.Attrs{"axis": int64(-1)}, x)
	}
	flat := c.b.Op("Flatten", graph.Attrs{"axis": axis}, x)
	y := c.b.Op(c.n.Op.Name, graph.Attrs{"axis": int64(-1)}, flat)
	return []*graph.Value{c.b.Op("Reshape", nil, y, c.b.Op("Shape", nil, x))}, nil
}

func axesInput(c *conversion) ([]*graph.Value, error) {
	if !c.n.Attrs.Has("axes") {
		return nil, nil
	}
	return c.make(c.without("axes"), c.n.In[0], c.ints("axes"))
}

func clip(c *conversion) ([]*graph.Value, error) {
	if c.from >= 11 {
		return nil, nil
	}
	limit := func(name string, def float32) *graph.Value {
		if !c.n.Attrs.Has(name) {
			return nil
		}
		t := tensor.New(c.n.In[0].Type.DType)
		t.SetAt(0, float64(c.n.Attrs.Float(name, def)))
		return c.b.Const(t)
	}
	return c.make(nil, c.n.In[0], limit("min", -math.MaxFloat32), limit("max", math.MaxFloat32))
}

// dropout drops nothing outside of training.
func dropout(c *conversion) ([]*graph.Value, error) {
	if c.from >= 12 {
		return nil, nil
	}
	if c.n.Output(1) != nil && !c.n.Out[1].Unused() {
		return nil, fmt.Errorf("its mask is used, which later versions give in another type")
	}
	return append([]*graph.Value{c.b.Op("Identity", nil, c.n.In[0])}, make([]*graph.Value, len(c.n.Out)-1)...), nil
}

func pad(c *conversion) ([]*graph.Value, error) {
	if c.from >= 11 {
		return nil, nil
	}
	value := tensor.New(c.n.In[0].Type.DType)
	value.SetAt(0, float64(c.n.Attrs.Float("value", 0)))
	return c.make(c.without("pads", "value"), c.n.In[0], c.ints("pads"), c.b.Const(value))
}

func slice(c *conversion) ([]*graph.Value, error) {
	if c.from >= 10 {
		return nil, nil
	}
	return c.make(nil, c.n.In[0], c.ints("starts"), c.ints("ends"), c.ints("axes"))
}

func split(c *conversion) ([]*graph.Value, error) {
	if c.from >= 18 || c.from >= 13 && c.n.Input(1) != nil {
		return nil, nil
	}
	sizes := c.n.Input(1)
	if sizes == nil {
		sizes = c.ints("split")
	}
	a := c.without("split")
	if sizes == nil {
		a["num_outputs"] = int64(len(c.n.Out))
	}
	return c.make(a, c.n.In[0], sizes)
}

func topK(c *conversion) ([]*graph.Value, error) {
	if c.from >= 10 {
		return nil, nil
	}
	return c.make(c.without("k"), c.n.In[0], c.b.Ints(c.n.Attrs.Int("k", 0)))
}

// upsample and Resize-10 put the samples at i*scale, rounded down.
func upsample(c *conversion) ([]*graph.Value, error) {
	scales := c.n.Input(1)
	if scales == nil {
		s := c.n.Attrs.Floats("scales")
		scales = c.b.Const(tensor.From(s, len(s)))
	}
	a := graph.Attrs{"mode": c.n.Attrs.Str("mode", "nearest"), "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
	return c.named("Resize", a, c.n.In[0], nil, scales)
}

func resize(c *conversion) ([]*graph.Value, error) {
	if c.from >= 11 {
		return nil, nil
	}
	return upsample(c)
}

func scatter(c *conversion) ([]*graph.Value, error) {
	return c.named("ScatterElements", c.n.Attrs.Clone(), c.n.In...)
}

// roiAlign: opset 16 changed the default of where samples lie.
func roiAlign(c *conversion) ([]*graph.Value, error) {
	if c.from >= 16 {
		return nil, nil
	}
	a := c.n.Attrs.Clone()
	a["coordinate_transformation_mode"] = "output_half_pixel"
	return c.make(a, c.n.In...)
}

// gridSample: opset 20 renamed the modes.
func gridSample(c *conversion) ([]*graph.Value, error) {
	names := map[string]string{"bilinear": "linear", "bicubic": "cubic", "nearest": "nearest"}
	if c.since < 20 {
		names = map[string]string{"linear": "bilinear", "cubic": "bicubic", "nearest": "nearest"}
	}
	mode := c.n.Attrs.Str("mode", "linear")
	if c.from < 20 {
		mode = c.n.Attrs.Str("mode", "bilinear")
	}
	if (c.from < 20) == (c.since < 20) {
		return nil, nil
	}
	c.n.Attrs["mode"] = names[mode]
	return nil, nil
}

// dft: opset 20 made the axis an input; its default moved from 1 to -2.
func dft(c *conversion) ([]*graph.Value, error) {
	switch {
	case c.from < 20 && c.since >= 20:
		axis := c.b.Const(tensor.Scalar(c.n.Attrs.Int("axis", 1)))
		return c.make(c.without("axis"), c.n.In[0], c.n.Input(1), axis)
	case c.from >= 20 && c.since < 20:
		axis := int64(-2)
		if v := c.n.Input(2); v != nil {
			if v.Const == nil {
				return nil, fmt.Errorf("its axis is computed, which opsets before 20 do not allow")
			}
			axis = v.Const.IntAt(0)
		}
		if axis < 0 {
			axis += int64(c.n.In[0].Type.Rank())
		}
		if c.n.Input(2) != nil {
			c.n.SetIn(2, nil)
			c.n.TrimIn()
		}
		c.n.Attrs["axis"] = axis
	}
	return nil, nil
}

// batchNorm: only what inference computes means the same in all versions.
func batchNorm(c *conversion) ([]*graph.Value, error) {
	if c.from >= 14 {
		return nil, nil
	}
	for _, v := range c.n.Out[1:] {
		if v != nil && !v.Unused() {
			return nil, fmt.Errorf("its statistics are used, which is training")
		}
	}
	if c.n.Attrs.Int("spatial", 1) != 1 {
		return nil, fmt.Errorf("attribute spatial=0 is gone from ONNX")
	}
	c.n.Out = c.n.Out[:1]
	return c.make(c.without("spatial"), c.n.In...)
}

// groupNorm: opset 21 has scale and bias per channel instead of per group.
func groupNorm(c *conversion) ([]*graph.Value, error) {
	if c.from >= 21 || c.since < 21 {
		return nil, nil
	}
	x := c.n.In[0].Type
	groups := c.n.Attrs.Int("num_groups", 0)
	channels, ok := int64(0), false
	if x.Rank() > 1 {
		channels, ok = x.Shape[1].Const()
	}
	if !ok || groups < 1 || channels%groups != 0 {
		return nil, fmt.Errorf("its input is %s; expected a known number of channels, a multiple of %d groups", x, groups)
	}
	per := func(v *graph.Value) *graph.Value {
		col := c.b.Op("Reshape", nil, v, c.b.Ints(groups, 1))
		return c.b.Op("Reshape", nil, c.b.Op("Expand", nil, col, c.b.Ints(groups, channels/groups)), c.b.Ints(channels))
	}
	return c.make(c.n.Attrs.Clone(), c.n.In[0], per(c.n.In[1]), per(c.n.In[2]))
}
