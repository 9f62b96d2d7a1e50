package backends

import "sort"

// ArenaAlign is the alignment of arena slots: a cache line, and the widest vector.
const ArenaAlign = 64

// Slot is a piece of memory that is in use from step First to step Last, both
// included.
type Slot struct {
	Size        int
	First, Last int
}

// PlanArena gives every slot an offset so that slots in use at the same time
// do not overlap, and returns the size of the arena. Slots are placed in the
// order of their first use, each into the smallest gap that holds it.
func PlanArena(slots []Slot) (offsets []int, size int) {
	offsets = make([]int, len(slots))
	starts := make([]int, 0, len(slots))
	for i := range slots {
		if slots[i].Size > 0 {
			starts = append(starts, i)
		}
	}
	ends := append([]int{}, starts...)
	// Among slots that start together the large ones choose first.
	sort.SliceStable(starts, func(a, b int) bool {
		x, y := slots[starts[a]], slots[starts[b]]
		return x.First < y.First || x.First == y.First && x.Size > y.Size
	})
	sort.SliceStable(ends, func(a, b int) bool { return slots[ends[a]].Last < slots[ends[b]].Last })
	var free gaps
	for _, i := range starts {
		for len(ends) > 0 && slots[ends[0]].Last < slots[i].First {
			free.put(offsets[ends[0]], alignUp(slots[ends[0]].Size))
			ends = ends[1:]
		}
		need := alignUp(slots[i].Size)
		off, ok := free.take(need)
		if !ok {
			off, size = free.grow(size, need)
		}
		offsets[i] = off
	}
	return offsets, size
}

func alignUp(n int) int { return (n + ArenaAlign - 1) &^ (ArenaAlign - 1) }

// gaps lists the free ranges by offset, never two that touch.
type gaps []gap

type gap struct{ off, size int }

// take removes need bytes from the smallest gap that has them.
func (g *gaps) take(need int) (off int, ok bool) {
	best := -1
	for i, x := range *g {
		if x.size >= need && (best < 0 || x.size < (*g)[best].size) {
			best = i
		}
	}
	if best < 0 {
		return 0, false
	}
	x := &(*g)[best]
	off = x.off
	x.off, x.size = x.off+need, x.size-need
	if x.size == 0 {
		*g = append((*g)[:best], (*g)[best+1:]...)
	}
	return off, true
}

// grow extends the arena, using a gap at its end.
func (g *gaps) grow(size, need int) (off, newSize int) {
	if n := len(*g); n > 0 && (*g)[n-1].off+(*g)[n-1].size == size {
		off = (*g)[n-1].off
		*g = (*g)[:n-1]
		return off, off + need
	}
	return size, size + need
}

// put returns a range and merges it with its neighbours.
func (g *gaps) put(off, size int) {
	l := *g
	i := sort.Search(len(l), func(i int) bool { return l[i].off > off })
	switch {
	case i > 0 && l[i-1].off+l[i-1].size == off && i < len(l) && off+size == l[i].off:
		l[i-1].size += size + l[i].size
		l = append(l[:i], l[i+1:]...)
	case i > 0 && l[i-1].off+l[i-1].size == off:
		l[i-1].size += size
	case i < len(l) && off+size == l[i].off:
		l[i].off, l[i].size = off, size+l[i].size
	default:
		l = append(l, gap{})
		copy(l[i+1:], l[i:])
		l[i] = gap{off, size}
	}
	*g = l
}
