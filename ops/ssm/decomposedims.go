package ssm

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
)

// decomposeDims computes shape arithmetic with ONNX's integer operators, on
// int64 vectors of one element each.
func decomposeDims(g *graph.Builder, n *graph.Node) ([]*graph.Value, error) {
	d := &dimWriter{b: write{g}, n: n, made: map[string]*graph.Value{}}
	var parts []*graph.Value
	var numbers []int64 // not yet written
	flush := func() {
		if len(numbers) > 0 {
			parts = append(parts, g.Ints(numbers...))
			numbers = nil
		}
	}
	for _, s := range n.Attrs.Strings("dims") {
		e, err := graph.ParseDim(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		if k, ok := e.Const(); ok {
			numbers = append(numbers, k)
			continue
		}
		v, err := d.dim(e)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n, err)
		}
		flush()
		parts = append(parts, v)
	}
	flush()
	if len(parts) == 0 {
		parts = append(parts, g.Ints())
	}
	return []*graph.Value{d.b.concat(0, parts...)}, nil
}

type dimWriter struct {
	b    write
	n    *graph.Node
	made map[string]*graph.Value
}

func (d *dimWriter) dim(e graph.Dim) (*graph.Value, error) {
	if v := d.made[e.String()]; v != nil {
		return v, nil
	}
	var sum *graph.Value
	for _, t := range e.Terms() {
		var p *graph.Value
		if t.Coef != 1 || len(t.Factors) == 0 {
			p = d.b.Ints(t.Coef)
		}
		for _, f := range t.Factors {
			v, err := d.factor(f)
			if err != nil {
				return nil, err
			}
			if p == nil {
				p = v
			} else {
				p = d.b.mul(p, v)
			}
		}
		if sum == nil {
			sum = p
		} else {
			sum = d.b.add(sum, p)
		}
	}
	if sum == nil {
		sum = d.b.Ints(0)
	}
	d.made[e.String()] = sum
	return sum, nil
}

func (d *dimWriter) factor(f graph.Factor) (*graph.Value, error) {
	if f.Op == 's' {
		var i, a int
		if _, err := fmt.Sscanf(strings.TrimPrefix(f.Sym, "x"), "%d.%d", &i, &a); err != nil || i >= len(d.n.In) || d.n.In[i] == nil {
			return nil, fmt.Errorf("%q is not an axis of an input", f.Sym)
		}
		return d.b.axis(d.n.In[i], int64(a)), nil
	}
	x, err := d.dim(f.A)
	if err != nil {
		return nil, err
	}
	y, err := d.dim(f.B)
	if err != nil {
		return nil, err
	}
	switch f.Op {
	case 'M':
		return d.b.Op("Max", nil, x, y), nil
	case 'm':
		return d.b.Op("Min", nil, x, y), nil
	}
	if f.A.AtLeast(graph.D(0)) {
		return d.b.Op("Div", nil, x, y), nil
	}
	// ONNX's Div goes towards zero, its Mod is Python's.
	return d.b.Op("Div", nil, d.b.Op("Sub", nil, x, d.b.Op("Mod", nil, x, y)), y), nil
}
