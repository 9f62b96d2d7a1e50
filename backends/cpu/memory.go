package cpu

import "github.com/ssdc-go/ssdc/backends"

// Memory implements backends.MemoryTeller.
func (s *session) Memory() backends.Memory {
	m := backends.Memory{Arena: int64(len(s.arena))}
	for _, w := range s.e.plan.Weights {
		m.Weights += int64(w.Bytes())
	}
	for i := range s.states {
		m.State += int64(len(s.states[i].cur))
	}
	var last *program
	for _, p := range s.programs {
		m.Values = max(m.Values, int64(p.mostLive()))
		if last == nil || p.used > last.used {
			last = p
		}
	}
	if last == nil {
		return m
	}
	for i, in := range last.in {
		if in != nil && s.e.stateOf[i] < 0 {
			m.InOut += int64(in.span())
		}
	}
	for i, out := range last.out {
		if out != nil && s.e.nextOf[i] < 0 {
			m.InOut += int64(out.span())
		}
	}
	return m
}

// mostLive is how many bytes of the arena are in use at the same time, at most.
func (p *program) mostLive() int {
	most := 0
	for _, at := range p.arena {
		live := 0
		for _, other := range p.arena {
			if other.first <= at.first && at.first <= other.last {
				live += other.size
			}
		}
		most = max(most, live)
	}
	return most
}
