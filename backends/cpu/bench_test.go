package cpu

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sort"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc/backends"
)

// mamba130 has the sizes of state-spaces/mamba2-130m.
var mamba130 = mamba2{layers: 24, vocab: 50288, dim: 768, heads: 24, headDim: 64, groups: 1, state: 128, taps: 4}

// BenchmarkModel runs a model of mamba2-130m's sizes with random weights:
// decode (L=1, 553 MB read per step) and prompts.
func BenchmarkModel(b *testing.B) {
	table := opTable(b)
	g, pairs := mamba130.build(b, table)
	for _, threads := range []int{1, 2} {
		e := open(b, table, g, backends.Target{Threads: threads, States: pairs})
		for _, l := range []int{1, 128, 512} {
			b.Run(fmt.Sprintf("threads=%d/L=%d", threads, l), func(b *testing.B) {
				s := newSession(b, e)
				in := feed("ids", tokens(rand.New(rand.NewPCG(1, 1)), mamba130.vocab, 1, l))
				must(b, s, in, nil)
				b.ResetTimer()
				b.ReportAllocs()
				best := time.Hour // the mean says more about the other programs on the machine
				for range b.N {
					start := time.Now()
					if _, err := s.Run(context.Background(), in, nil); err != nil {
						b.Fatal(err)
					}
					best = min(best, time.Since(start))
				}
				b.ReportMetric(float64(l)/best.Seconds(), "best-tokens/s")
				b.StopTimer()
				took := map[string]time.Duration{}
				s.Trace(func(st backends.StepTime) {
					name := st.Kernel
					if st.Node != nil {
						name = st.Node.Op.String() + " " + st.Kernel
					}
					took[name] += st.Took
				})
				must(b, s, in, nil)
				var names []string
				for n := range took {
					names = append(names, n)
				}
				sort.Slice(names, func(i, j int) bool { return took[names[i]] > took[names[j]] })
				for _, n := range names[:min(6, len(names))] {
					b.Logf("%10v  %s", took[n].Round(time.Microsecond), n)
				}
			})
		}
	}
}
