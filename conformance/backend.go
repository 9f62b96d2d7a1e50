package conformance

import (
	"context"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// On runs cases on a backend: compile, open, one session, one run. t defines
// the operators.
func On(ctx context.Context, t *ops.Table, b backends.Backend) Runner {
	return func(g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error) {
		if err := Believe(t, g, in); err != nil {
			return nil, err
		}
		p, err := b.Compile(g, backends.Target{Name: b.Name()})
		if err != nil {
			return nil, err
		}
		exe, err := b.Open(p, nil)
		if err != nil {
			return nil, err
		}
		defer exe.Close()
		s, err := exe.NewSession()
		if err != nil {
			return nil, err
		}
		args := map[string]*tensor.Tensor{}
		for i, v := range p.Graph.Inputs {
			if in[i] != nil {
				args[v.Name] = in[i]
			}
		}
		out, err := s.Run(ctx, args, nil)
		if err != nil {
			return nil, err
		}
		res := make([]*tensor.Tensor, len(p.Graph.Outputs))
		for i, v := range p.Graph.Outputs {
			res[i] = out[v.Name].Clone() // the session is about to go
		}
		return res, nil
	}
}

// Believe takes the data's shape where a case declares another one for its
// input, as some of ONNX's own cases do (CastLike declares "like" [3,4] and
// feeds [1]): the recorded result was computed from the data.
func Believe(t *ops.Table, g *graph.Graph, in []*tensor.Tensor) error {
	changed := false
	for i, v := range g.Inputs {
		if in[i] == nil || in[i].DType.IsContainer() {
			continue
		}
		if want, ok := v.Type.Static(); ok && !slices.Equal(want, in[i].Shape) {
			v.Type.Shape, changed = graph.TypeOf(in[i]).Shape, true
		}
	}
	if !changed {
		return nil
	}
	return ops.InferGraph(t, g)
}
