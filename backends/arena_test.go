package backends

import (
	"math/rand/v2"
	"testing"
)

func TestPlanArena(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		slots := make([]Slot, rng.IntN(60))
		peak := map[int]int{}
		for i := range slots {
			f := rng.IntN(40)
			slots[i] = Slot{Size: rng.IntN(5000), First: f, Last: f + rng.IntN(10)}
			for s := f; s <= slots[i].Last; s++ {
				peak[s] += alignUp(slots[i].Size)
			}
		}
		off, size := PlanArena(slots)
		most := 0
		for _, p := range peak {
			most = max(most, p)
		}
		if size > 3*most {
			t.Errorf("arena of %d bytes for a peak of %d", size, most)
		}
		for i, a := range slots {
			if off[i]%ArenaAlign != 0 || off[i]+a.Size > size {
				t.Fatalf("slot %d of %d bytes at %d in an arena of %d", i, a.Size, off[i], size)
			}
			for j, b := range slots[:i] {
				overlapTime := a.First <= b.Last && b.First <= a.Last
				if overlapTime && off[i] < off[j]+b.Size && off[j] < off[i]+a.Size {
					t.Fatalf("slots %+v at %d and %+v at %d overlap", a, off[i], b, off[j])
				}
			}
		}
	}
}

func TestPlanArenaReuses(t *testing.T) {
	// A chain of equal temporaries needs two of them.
	var slots []Slot
	for i := range 10 {
		slots = append(slots, Slot{Size: 1000, First: i, Last: i + 1})
	}
	if _, size := PlanArena(slots); size != 2*alignUp(1000) {
		t.Errorf("arena of %d bytes, want %d", size, 2*alignUp(1000))
	}
}
