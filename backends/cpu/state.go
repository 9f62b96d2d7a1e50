package cpu

import (
	"fmt"
	"io"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// state is one recurrent state.
type state struct {
	shape     []int // nil: zeros, of a shape that the next run decides
	cur, next []byte
}

// stateTensor is the kept state of pair j, which is graph input number input.
func (s *session) stateTensor(input, j int) *tensor.Tensor {
	st := &s.states[j]
	d := s.e.plan.Graph.Inputs[input].Type.DType
	return &tensor.Tensor{DType: d, Shape: st.shape, Data: st.cur[:d.Bytes(product(st.shape))]}
}

// Reset implements backends.Session.
func (s *session) Reset() {
	for j := range s.states {
		s.states[j].shape = nil
	}
	s.broken = false
}

// Clone implements backends.Session.
func (s *session) Clone() (backends.Session, error) {
	if s.broken {
		return nil, fmt.Errorf("an earlier run failed half-way and left the session's state undefined: Reset or Restore it first")
	}
	c := s.e.newSession()
	for j := range s.states {
		if s.states[j].shape != nil {
			t := s.stateTensor(s.stateInput(j), j)
			c.setState(j, t)
		}
	}
	return c, nil
}

func (s *session) setState(j int, t *tensor.Tensor) {
	st := &s.states[j]
	st.shape = append([]int{}, t.Shape...)
	st.cur = sized(st.cur, len(t.Data))
	copy(st.cur, t.Data)
}

// stateInput is the input of state pair j.
func (s *session) stateInput(j int) int { return slices.Index(s.e.stateOf, j) }

// Save implements backends.Session.
func (s *session) Save(w io.Writer) error {
	if s.broken {
		return fmt.Errorf("an earlier run failed half-way and left the session's state undefined: Reset or Restore it first")
	}
	var list []backends.StateEntry
	for j, pair := range s.e.plan.States {
		en := backends.StateEntry{Name: pair.In}
		if s.states[j].shape != nil {
			en.Tensor = s.stateTensor(s.stateInput(j), j)
		}
		list = append(list, en)
	}
	return backends.SaveStates(w, list)
}

// Restore implements backends.Session.
func (s *session) Restore(r io.Reader) error {
	var names []string
	var types []graph.Type
	for j, pair := range s.e.plan.States {
		names = append(names, pair.In)
		types = append(types, s.e.plan.Graph.Inputs[s.stateInput(j)].Type)
	}
	list, err := backends.RestoreStates(r, names, types)
	if err != nil {
		return err
	}
	for j, en := range list {
		s.states[j].shape = nil
		if en.Tensor != nil {
			s.setState(j, en.Tensor)
		}
	}
	s.broken = false
	return nil
}
