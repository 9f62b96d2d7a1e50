package cpu

import (
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
)

// TestArenaIsTight: a run needs little more memory than the values that some step
// needs at the same time, in layers of mamba2-130m's shape.
func TestArenaIsTight(t *testing.T) {
	table := opTable(t)
	shape := mamba130
	shape.layers, shape.vocab = 3, 512
	g, pairs := shape.build(t, table)
	e := open(t, table, g, backends.Target{Threads: 2, States: pairs})
	r := rand.New(rand.NewPCG(1, 1))
	for _, length := range []int{1, 512, 2048} {
		s, err := e.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		must(t, s, feed("ids", tokens(r, shape.vocab, 1, length)), nil)
		p := s.(*session).programs[0]
		most := p.mostLive()
		if m := s.(backends.MemoryTeller).Memory(); m.Values != int64(most) || m.Arena != int64(p.arenaSize) || m.Weights == 0 || m.State == 0 || m.InOut == 0 {
			t.Errorf("%d tokens: %+v", length, m)
		}
		t.Logf("%d tokens: arena of %d KiB, at most %d KiB in use at a time (%.2f times)", length, p.arenaSize>>10, most>>10, float64(p.arenaSize)/float64(most))
		if float64(p.arenaSize) > 1.3*float64(most)+float64(len(p.arena)*backends.ArenaAlign) {
			t.Errorf("%d tokens: an arena of %d bytes, at most %d in use at a time", length, p.arenaSize, most)
		}
	}
}
