package fuse

import (
	"math"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
)

// Image recognises convolutions of images and what follows them.
var Image = &passes.Pass{
	Name:  "fuse-conv2d",
	Doc:   "Conv, batch normalisation, residual and activation become one FusedConv",
	After: []passes.Order{{Pass: "fuse-conv", Why: "a convolution that carries a state is no image's"}},
	Run: func(c *passes.Context, g *graph.Graph) error {
		for _, n := range append([]*graph.Node{}, g.Nodes...) {
			if n.Op.Is("", "Conv") && !n.Out[0].Unused() {
				image(c, g, n)
			}
		}
		return nil
	},
}

const ruleImage = "FusedConv"

// image fuses what follows one convolution: as much of normalisation, residual
// and activation as there is, in that order.
func image(c *passes.Context, g *graph.Graph, n *graph.Node) {
	x, w, bias := n.In[0], n.In[1], n.Input(2)
	if r := x.Type.Rank(); r != 3 && r != 4 || w.Const == nil || w.Type.DType != tensor.Float32 || w.Type.Rank() != r || bias != nil && bias.Const == nil {
		return
	}
	b := c.Builder(g, n.From)
	cl := &certify.Claim{In: []certify.Input{{Value: x}, {Value: w}}}
	if bias != nil {
		cl.In = append(cl.In, certify.Input{Value: bias})
	}
	y, attrs := n.Out[0], n.Attrs.Clone()
	found := false
	if u := only(y); u != nil && u.Op.Is("", "BatchNormalization") && u.In[0] == y {
		if v := foldNorm(b, cl, u, &w, &bias); v != nil {
			y, found = v, true
		}
	}
	var residual *graph.Value
	if u := only(y); u != nil && u.Op.Is("", "Add") {
		for _, p := range pair(u) {
			if p[0] == y && p[1] != y && p[1].Const == nil && p[1].Type.Equal(y.Type) && u.Out[0].Type.Equal(y.Type) {
				residual, y, found = p[1], u.Out[0], true
				cl.In = append(cl.In, certify.Input{Value: residual})
				break
			}
		}
	}
	if u := only(y); u != nil && u.Op.Domain == "" && u.In[0] == y {
		if name, params, ok := activation(u); ok {
			attrs["activation"] = name
			if params != nil {
				attrs["activation_params"] = params
			}
			y, found = u.Out[0], true
		}
	}
	if !found {
		return
	}
	cl.Old = []*graph.Value{y}
	cl.Shrink = shrinkImage(n)
	m := b.Node("com.microsoft", "FusedConv", attrs, 1, x, w, bias, residual)
	if b.Err != nil {
		c.Miss(ruleImage, y, 2, 3, "%v", b.Err)
		return
	}
	finish(c, b, ruleImage, cl, m.Out[0])
}

// foldNorm moves the scale and shift of a normalisation with constant
// statistics into weight and bias. It returns the normalised value, or nil.
func foldNorm(b *graph.Builder, cl *certify.Claim, u *graph.Node, w, bias **graph.Value) *graph.Value {
	for i, v := range u.In[1:] {
		if v == nil || v.Const == nil || v.Type.DType != tensor.Float32 {
			return nil
		}
		kind := certify.Any
		if i == 3 {
			kind = certify.Positive // the variance
		}
		cl.In = append(cl.In, certify.Input{Value: v, Kind: kind})
	}
	for _, v := range u.Out[1:] {
		if v != nil {
			return nil
		}
	}
	if u.Attrs.Int("training_mode", 0) != 0 || u.Attrs.Int("spatial", 1) != 1 {
		return nil
	}
	gain, shift, mean, variance := u.In[1], u.In[2], u.In[3], u.In[4]
	eps := b.Const(tensor.Scalar(u.Attrs.Float("epsilon", 1e-5)))
	scale := b.Op("Div", nil, gain, b.Op("Sqrt", nil, b.Op("Add", nil, variance, eps)))
	axes := []int64{}
	for a := 1; a < (*w).Type.Rank(); a++ {
		axes = append(axes, int64(a))
	}
	*w = b.Op("Mul", nil, *w, b.Op("Unsqueeze", nil, scale, b.Ints(axes...)))
	if *bias != nil {
		mean = b.Op("Sub", nil, mean, *bias)
	}
	*bias = b.Op("Sub", nil, shift, b.Op("Mul", nil, mean, scale))
	return u.Out[0]
}

// activation reads an activation with constant parameters as FusedConv has them.
func activation(u *graph.Node) (name string, params []float32, ok bool) {
	switch u.Op.Name {
	case "Relu", "Sigmoid", "Tanh", "HardSwish":
		return u.Op.Name, nil, true
	case "Swish":
		return "Swish", nil, u.Attrs.Float("alpha", 1) == 1
	case "LeakyRelu":
		return "LeakyRelu", []float32{u.Attrs.Float("alpha", 0.01)}, true
	case "HardSigmoid":
		return "HardSigmoid", []float32{u.Attrs.Float("alpha", 0.2), u.Attrs.Float("beta", 0.5)}, true
	case "Clip":
		bounds := []float32{-math.MaxFloat32, math.MaxFloat32}
		for i := range bounds {
			if u.Input(1+i) == nil {
				continue
			}
			v, ok := scalar(u.In[1+i])
			if !ok {
				return "", nil, false
			}
			bounds[i] = float32(v)
		}
		return "Clip", bounds, len(u.In) > 1 && bounds[0] <= bounds[1]
	}
	return "", nil, false
}

// shrinkImage makes channels few and images small, so that they still fit: an
// input of the length that gives an output of a few pixels.
func shrinkImage(n *graph.Node) map[int64]int64 {
	x, w, y := n.In[0].Type.Shape, n.In[1].Type.Shape, n.Out[0].Type.Shape
	sh := certify.NewShrinker()
	r := len(x) - 2
	at := func(name string, i int, def int64) int64 {
		if v := n.Attrs.Ints(name); i < len(v) {
			return v[i]
		}
		return def
	}
	for i := range r {
		k, ok := w[2+i].Const()
		in, ok2 := x[2+i].Const()
		out, ok3 := y[2+i].Const()
		if !ok || !ok2 || !ok3 {
			continue
		}
		few := int64(5 + i)
		if few >= out {
			continue
		}
		stride := at("strides", i, 1)
		// What the windows of a few pixels span, as those of all of them do.
		small := in - (out-few)*stride
		if small < k-at("pads", i, 0)-at("pads", r+i, 0) || small < 1 {
			continue
		}
		sh.To(y[2+i], few)
		sh.To(x[2+i], small)
	}
	if n.Attrs.Int("group", 1) == 1 {
		sh.To(w[1], 3)
		sh.To(w[0], 4)
	}
	return sh.Map
}
