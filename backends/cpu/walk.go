package cpu

import "fmt"

// maxAxes is the most axes that a walk has after merging.
const maxAxes = 8

// walk visits a dense output together with operands that are broadcast or laid
// out differently: axes that run together in all of them are merged, and the
// last one left is the inner loop.
type walk struct {
	shape  []int   // outer axes
	stride [][]int // per operand, per outer axis, in elements
	outer  int     // product of shape
	inner  int
	step   []int // per operand: stride of the inner loop
}

// broadcastWalk walks out with operands that broadcast to it.
func broadcastWalk(out []int, in ...*Mem) (walk, error) {
	strides := make([][]int, len(in))
	for i, m := range in {
		own := m.strides()
		lead := len(out) - len(m.Shape)
		if lead < 0 {
			return walk{}, fmt.Errorf("cannot broadcast %v to %v", m.Shape, out)
		}
		strides[i] = make([]int, len(out))
		for a, n := range m.Shape {
			switch {
			case n == out[lead+a]:
				strides[i][lead+a] = own[a]
				if n == 1 {
					strides[i][lead+a] = 0
				}
			case n != 1:
				return walk{}, fmt.Errorf("cannot broadcast %v to %v: lengths %d and %d on axis %d", m.Shape, out, n, out[lead+a], lead+a)
			}
		}
	}
	return newWalk(out, strides)
}

// strides of every axis in elements.
func (m *Mem) strides() []int {
	s := make([]int, len(m.Shape))
	n := 1
	for a := len(s) - 1; a >= 0; a-- {
		s[a] = n
		if n >= m.Cols && !m.Dense() {
			s[a] = n / max(m.Cols, 1) * m.Stride
		}
		n *= m.Shape[a]
	}
	return s
}

// newWalk walks a dense array of the given shape; strides are those of the operands.
func newWalk(shape []int, strides [][]int) (walk, error) {
	w := walk{outer: 1, inner: 1, step: make([]int, len(strides)), stride: make([][]int, len(strides))}
	var axes []int                    // merged lengths, innermost first
	st := make([][]int, len(strides)) // their strides, per operand
	for a := len(shape) - 1; a >= 0; a-- {
		if shape[a] == 1 {
			continue
		}
		if k := len(axes) - 1; k >= 0 {
			joins := true
			for i := range strides {
				joins = joins && strides[i][a] == st[i][k]*axes[k]
			}
			if joins {
				axes[k] *= shape[a]
				continue
			}
		}
		axes = append(axes, shape[a])
		for i := range strides {
			st[i] = append(st[i], strides[i][a])
		}
	}
	if len(axes) > 0 {
		w.inner = axes[0]
		for i := range strides {
			w.step[i] = st[i][0]
		}
	}
	for k := len(axes) - 1; k >= 1; k-- {
		w.shape = append(w.shape, axes[k])
		w.outer *= axes[k]
		for i := range strides {
			w.stride[i] = append(w.stride[i], st[i][k])
		}
	}
	if len(w.shape) > maxAxes {
		return w, ErrFallback
	}
	return w, nil
}

// cursor is a position in the outer axes.
type cursor struct {
	at  [maxAxes]int
	off [3]int // per operand, in elements
}

// seek moves to outer position i.
func (w *walk) seek(c *cursor, i int) {
	*c = cursor{}
	for a := len(w.shape) - 1; a >= 0; a-- {
		c.at[a] = i % w.shape[a]
		i /= w.shape[a]
		for o := range w.stride {
			c.off[o] += c.at[a] * w.stride[o][a]
		}
	}
}

// next moves on by one.
func (w *walk) next(c *cursor) {
	for a := len(w.shape) - 1; a >= 0; a-- {
		c.at[a]++
		for o := range w.stride {
			c.off[o] += w.stride[o][a]
		}
		if c.at[a] < w.shape[a] {
			return
		}
		c.at[a] = 0
		for o := range w.stride {
			c.off[o] -= w.shape[a] * w.stride[o][a]
		}
	}
}

// each makes a step that calls f for every run of the inner loop: dst is the
// position in the dense output, off those in the operands, n the length. Runs
// are shared among workers, about grain elements at a time.
func (w walk) each(b *Bind, grain int, f func(dst int, off [3]int, n int)) Step {
	if w.outer*w.inner == 0 {
		return func() error { return nil }
	}
	if w.outer == 1 {
		return b.Split(w.inner, grain, func(lo, hi int) {
			var off [3]int
			for o := range w.step {
				off[o] = lo * w.step[o]
			}
			f(lo, off, hi-lo)
		})
	}
	return b.Split(w.outer, max(1, grain/w.inner), func(lo, hi int) {
		var c cursor
		w.seek(&c, lo)
		for i := lo; i < hi; i++ {
			f(i*w.inner, c.off, w.inner)
			w.next(&c)
		}
	})
}
