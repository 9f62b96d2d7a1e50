package cuda

import (
	"fmt"
	"io"
	"runtime"
	"slices"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// state is one recurrent state, on the device.
type state struct {
	shape []int // nil: zeros, of a shape that the next run decides
	cur   driver.Ptr
	size  int // bytes at cur
}

// reserve makes room for the state before and after a run; it keeps the contents. moved says that the address changed.
func (st *state) reserve(s *session, before int, next *Mem) (moved bool, err error) {
	need := max(before, 1)
	if next != nil {
		need = max(need, next.Bytes())
	}
	if st.size >= need {
		return false, nil
	}
	if next != nil && next.Bytes() > before { // it grows from run to run
		need += need / 2
	}
	p, err := s.dev.Alloc(need)
	if err != nil {
		return false, fmt.Errorf("%d bytes of state: %w", need, err)
	}
	if st.cur != 0 {
		if err := s.stream.Copy(p, st.cur, st.size); err != nil {
			return false, err
		}
		if err := s.stream.Sync(); err != nil {
			return false, err
		}
		s.dev.Free(st.cur)
	}
	st.cur, st.size = p, need
	return true, nil
}

// stateInput is the graph input of state pair j.
func (s *session) stateInput(j int) *graph.Value {
	return s.e.plan.Graph.Inputs[slices.Index(s.e.stateOf, j)]
}

// download copies a state down.
func (s *session) download(j int) (*tensor.Tensor, error) {
	defer runtime.KeepAlive(s) // what it holds is freed when nobody does
	st := &s.states[j]
	t := tensor.New(s.stateInput(j).Type.DType, st.shape...)
	if err := s.stream.ToHost(t.Data, st.cur); err != nil {
		return nil, s.e.dev.explain(err)
	}
	return t, s.e.dev.explain(s.stream.Sync())
}

// setState makes t the state of pair j.
func (s *session) setState(j int, t *tensor.Tensor) error {
	defer runtime.KeepAlive(s) // what it holds is freed when nobody does
	st := &s.states[j]
	moved, err := st.reserve(s, len(t.Data), nil)
	if err == nil {
		err = s.stream.ToDevice(st.cur, t.Data)
	}
	if err == nil {
		err = s.stream.Sync()
	}
	if err != nil {
		return s.e.dev.explain(err)
	}
	if moved {
		for _, p := range s.programs {
			p.placed = 0
		}
	}
	st.shape = append([]int{}, t.Shape...)
	return nil
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
	defer runtime.KeepAlive(s) // what it holds is freed when nobody does
	if s.broken {
		return nil, errBroken
	}
	c, err := s.e.newSession()
	if err != nil {
		return nil, err
	}
	for j := range s.states {
		st := &s.states[j]
		if st.shape == nil {
			continue
		}
		n := s.stateInput(j).Type.DType.Bytes(product(st.shape))
		to := &c.states[j]
		if _, err := to.reserve(c, n, nil); err != nil {
			return nil, s.e.dev.explain(err)
		}
		if err := c.stream.Copy(to.cur, st.cur, n); err != nil {
			return nil, s.e.dev.explain(err)
		}
		to.shape = append([]int{}, st.shape...)
	}
	return c, s.e.dev.explain(c.stream.Sync())
}

// Save implements backends.Session.
func (s *session) Save(w io.Writer) error {
	if s.broken {
		return errBroken
	}
	var list []backends.StateEntry
	for j, pair := range s.e.plan.States {
		en := backends.StateEntry{Name: pair.In}
		if s.states[j].shape != nil {
			t, err := s.download(j)
			if err != nil {
				return err
			}
			en.Tensor = t
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
		types = append(types, s.stateInput(j).Type)
	}
	list, err := backends.RestoreStates(r, names, types)
	if err != nil {
		return err
	}
	for j, en := range list {
		s.states[j].shape = nil
		if en.Tensor != nil {
			if err := s.setState(j, en.Tensor); err != nil {
				return err
			}
		}
	}
	s.broken = false
	return nil
}
