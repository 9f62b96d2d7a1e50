package model

import (
	"context"
	"fmt"
	"maps"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// RunSegments is Run for long inputs: they are cut into pieces of at most `most`
// positions, as even as can be, which run one after the other and carry the state,
// so that memory is that of one piece. Outputs with the positions are joined. It is
// an error if positions of the model depend on each other in other ways; inputs that
// fit in one piece simply run.
func (s *Session) RunSegments(ctx context.Context, in map[string]*tensor.Tensor, most int) (map[string]*tensor.Tensor, error) {
	if most < 1 {
		return nil, fmt.Errorf("segments of %d positions: want at least 1", most)
	}
	cut, err := s.m.cut()
	if err != nil {
		return nil, fmt.Errorf("the model cannot run in segments: %w", err)
	}
	length := -1
	for name, axis := range cut.In {
		t := in[name]
		if t == nil || axis >= t.Rank() || t.DType.Size() == 0 {
			return s.Run(ctx, in) // which says what is wrong
		}
		if n := t.Shape[axis]; length >= 0 && n != length {
			return s.Run(ctx, in)
		}
		length = t.Shape[axis]
	}
	pieces := (length + most - 1) / most
	if pieces > 1 && length/pieces < cut.Least {
		return nil, fmt.Errorf("segments of %d positions: the model needs %d at a time", most, cut.Least)
	}
	if pieces <= 1 {
		return s.Run(ctx, in)
	}
	given, joined := maps.Clone(in), map[string]*tensor.Tensor{}
	var out map[string]*tensor.Tensor
	for i := range pieces {
		from, to := i*length/pieces, (i+1)*length/pieces
		for name, axis := range cut.In {
			given[name] = part(in[name], axis, from, to)
		}
		if i == 1 {
			for _, p := range s.m.Plan.States {
				delete(given, p.In) // from now on it is the session's
			}
		}
		if out, err = s.Run(ctx, given); err != nil {
			return nil, fmt.Errorf("positions %d to %d: %w", from, to-1, err)
		}
		for name, axis := range cut.Out {
			if i == 0 {
				shape := append([]int{}, out[name].Shape...)
				shape[axis] = length
				joined[name] = tensor.New(out[name].DType, shape...)
			}
			join(joined[name], out[name], axis, from)
		}
	}
	out = maps.Clone(out)
	maps.Copy(out, joined)
	return out, nil
}

// part copies positions [from,to) of an axis.
func part(t *tensor.Tensor, axis, from, to int) *tensor.Tensor {
	shape := append([]int{}, t.Shape...)
	shape[axis] = to - from
	p := tensor.New(t.DType, shape...)
	outer, inner := around(t, axis)
	n := (to - from) * inner
	for o := range outer {
		copy(p.Data[o*n:(o+1)*n], t.Data[(o*t.Shape[axis]+from)*inner:])
	}
	return p
}

// join copies p to the positions from `from` on.
func join(t, p *tensor.Tensor, axis, from int) {
	outer, inner := around(t, axis)
	n := p.Shape[axis] * inner
	for o := range outer {
		copy(t.Data[(o*t.Shape[axis]+from)*inner:], p.Data[o*n:(o+1)*n])
	}
}

// around is the number of slices along an axis and the bytes of one position.
func around(t *tensor.Tensor, axis int) (outer, inner int) {
	outer, inner = 1, t.DType.Size()
	for i, d := range t.Shape {
		switch {
		case i < axis:
			outer *= d
		case i > axis:
			inner *= d
		}
	}
	return outer, inner
}
