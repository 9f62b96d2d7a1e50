package cuda

import (
	"context"
	"fmt"
)

// Parts measures, after a run, the device time in milliseconds of the steps of every kernel: each kind is recorded as a graph of its
// own and replayed n times, so that no wait of the host counts. What the replays write is a run's memory and states: Reset follows.
func (s *session) Parts(n int) (map[string]float32, error) {
	if len(s.programs) == 0 {
		return nil, fmt.Errorf("nothing has run yet")
	}
	p := s.programs[len(s.programs)-1]
	if p.onHost {
		return nil, fmt.Errorf("the program has steps on the host")
	}
	kinds := map[string][]step{"": p.steps}
	for _, st := range p.steps {
		name := st.kernel
		if st.node != nil {
			name = st.node.Op.Name + " " + name
		}
		kinds[name] = append(kinds[name], st)
	}
	begin, err := s.dev.NewEvent()
	if err != nil {
		return nil, err
	}
	defer begin.Close()
	end, err := s.dev.NewEvent()
	if err != nil {
		return nil, err
	}
	defer end.Close()
	times := map[string]float32{}
	for name, steps := range kinds {
		part := &program{steps: steps}
		g, err := s.stream.Record(func() error { return s.submit(context.Background(), part) })
		if err != nil {
			return nil, err
		}
		for i := range n + 1 {
			if i == 1 {
				err = s.stream.Mark(begin)
			}
			if err == nil {
				err = s.stream.Replay(g)
			}
		}
		if err == nil {
			err = s.stream.Mark(end)
		}
		if err == nil {
			times[name], err = end.Since(begin)
			times[name] /= float32(n)
		}
		g.Close()
		if err != nil {
			return nil, err
		}
	}
	s.Reset()
	return times, nil
}
