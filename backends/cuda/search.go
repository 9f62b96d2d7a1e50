package cuda

import (
	"slices"

	"github.com/ssdc-go/ssdc/backends/cuda/driver"
)

// Of cuBLASLt's algorithms for a large product the one that its heuristics put first is not always the fastest: a long prompt runs at the
// power limit, where those lose that take more energy, and by a few percent. So with search=on they are timed, once for every form of
// product.

const (
	searchFrom  = 2e11 // operations of a product that is worth it, about 0.3 ms
	searchTurns = 3
	searchRuns  = 16 // in a turn, one behind the other, so that clocks settle to what the algorithm takes; the second half counts
)

// fastest times cuBLASLt's algorithms for q where a product lies, and returns the number of the one to take: 0, the heuristics' own
// choice, whenever something stands in the way. What q writes to is overwritten, and its left operand too when bytes, its size, is given:
// with the numbers of the right one, for memory without numbers takes less power. right is the size of that.
func (d *device) fastest(q driver.Product, bytes, right int) int {
	if 2*float64(q.M)*float64(q.N)*float64(q.K)*float64(max(q.Batch, 1)) < searchFrom {
		return 0
	}
	key := q
	for _, p := range []*driver.Ptr{&key.A, &key.B, &key.C, &key.C0, &key.Vector} {
		*p %= 256 // the heuristics look at alignment
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	choice, ok := d.choices[key]
	if !ok {
		times, err := d.timeChoices(q, bytes, right)
		if err == nil {
			choice = pickFastest(times)
		}
		d.choices[key] = choice
	}
	return choice
}

// pickFastest takes the algorithm with the least median, the first one unless another is faster by more than chance.
func pickFastest(times [][]float32) int {
	best, least := 0, float32(0)
	for i, t := range times {
		if len(t) == 0 {
			continue
		}
		t = slices.Sorted(slices.Values(t))
		median := t[len(t)/2]
		if i == 0 {
			least = 0.99 * median
		} else if median < least {
			best, least = i, median
		}
	}
	return best
}

// timeChoices gives device times in milliseconds, by algorithm.
func (d *device) timeChoices(q driver.Product, bytes, right int) ([][]float32, error) {
	s, err := d.NewStream()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	defer s.Sync()
	workspace, err := d.Alloc(workspaceBytes)
	if err != nil {
		return nil, err
	}
	defer func() { s.Sync(); d.Free(workspace) }()
	for at := 0; at < bytes && right > 0; at += right {
		if err := s.Copy(q.A+driver.Ptr(at), q.B, min(right, bytes-at)); err != nil {
			return nil, err
		}
	}
	var plans []*driver.MatmulPlan
	defer func() {
		for _, p := range plans {
			p.Close()
		}
	}()
	for i := range driver.Choices {
		p, err := d.blas.Plan(q, workspaceBytes, i)
		if err != nil {
			break
		}
		plans = append(plans, p)
	}
	var marks []*driver.Event
	defer func() {
		for _, e := range marks {
			e.Close()
		}
	}()
	mark := func() error {
		e, err := d.NewEvent()
		if err != nil {
			return err
		}
		marks = append(marks, e)
		return s.Mark(e)
	}
	for range searchTurns {
		for _, p := range plans {
			for i := range searchRuns + 1 {
				if err := mark(); err != nil {
					return nil, err
				}
				if i == searchRuns {
					break
				}
				if err := p.Run(s, workspace, workspaceBytes); err != nil {
					return nil, err
				}
			}
		}
	}
	times := make([][]float32, len(plans))
	for turn := range searchTurns {
		for j := range plans {
			first := (turn*len(plans) + j) * (searchRuns + 1)
			for i := first + searchRuns/2; i < first+searchRuns; i++ {
				t, err := marks[i+1].Since(marks[i])
				if err != nil {
					return nil, err
				}
				times[j] = append(times[j], t)
			}
		}
	}
	return times, nil
}
