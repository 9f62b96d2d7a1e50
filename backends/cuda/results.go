package cuda

import (
	"fmt"
	"slices"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// finish takes over the new states and copies the results down.
func (s *session) finish(p *program) error {
	bad := []byte{0, 0, 0, 0}
	if p.bad != nil {
		if err := s.stream.ToHost(bad, p.bad.addr()); err != nil {
			return err
		}
	}
	for i, m := range p.out {
		name := s.e.outputNames[i]
		v := s.e.plan.Graph.Outputs[i]
		if m == nil {
			s.result[name] = s.heapResult(p, i)
			continue
		}
		if s.keep && s.e.nextOf[i] >= 0 && s.wanted[i] == nil {
			delete(s.result, name)
			continue
		}
		t := s.wanted[i]
		if t == nil {
			t = s.output(i, v.Type.DType, m.Shape)
		}
		if err := s.stream.ToHost(t.Data, m.addr()); err != nil {
			return err
		}
		s.result[name] = t
	}
	if err := s.stream.Sync(); err != nil {
		return err
	}
	for i, v := range bad {
		if v != 0 && i < 4 {
			return fmt.Errorf("an index of Gather is out of range")
		}
	}
	for j := range s.states {
		if m := p.next[j]; m != nil {
			s.states[j].shape = m.Shape
		}
	}
	return nil
}

// output is a tensor of the session for result i which this run does not read.
func (s *session) output(i int, d tensor.DType, shape []int) *tensor.Tensor {
	t := s.mine[i]
	if t != nil && t.DType == d && slices.Equal(t.Shape, shape) {
		reads := false
		for _, g := range s.given {
			reads = reads || g != nil && len(g.Data) > 0 && len(t.Data) > 0 && &g.Data[0] == &t.Data[0]
		}
		if !reads {
			return t
		}
	}
	t = tensor.New(d, shape...)
	s.mine[i] = t
	return t
}

func (s *session) heapResult(p *program, i int) *tensor.Tensor {
	v := s.e.plan.Graph.Outputs[i]
	t := p.heap[v]
	if v.Const != nil {
		t = v.Const
	}
	if w := s.wanted[i]; w != nil && w.DType == t.DType && slices.Equal(w.Shape, t.Shape) && len(w.Data) == len(t.Data) {
		copy(w.Data, t.Data)
		copy(w.Strings, t.Strings)
		w.Elems = t.Elems
		return w
	}
	return t.Clone()
}
