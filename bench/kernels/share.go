package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/peak"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/bench/internal/cases"
)

// A share is how much of what the registers can do a product reaches. The two take
// turns of a few milliseconds on the same threads of one process, and the number is
// the median over the rounds of the ratio in each: a clock that changes, a neighbour
// on the other half of a core or a processor taken away slow both alike.
type share struct {
	Case     string  `json:"case"`
	Threads  int     `json:"threads"`
	Share    float64 `json:"share"`
	Quartile float64 `json:"quartile"` // a quarter of the rounds are below
	Upper    float64 `json:"upper"`    // and a quarter above
	Rate     float64 `json:"rate"`     // operations per second, median
	Peak     float64 `json:"peak"`
	Rounds   int     `json:"rounds"`
}

// turn is how long the loop on registers runs before and behind a product.
const turn = 2 * time.Millisecond

// measureShare takes about that many seconds.
func measureShare(f gemm.Format, m, n, k, threads int, seconds float64) share {
	against := f.String()
	if f == gemm.Int4 {
		against = "int8"
	}
	l := newLoop(peak.References()[against], threads)
	defer l.pool.Close()
	c := cases.New(threads).Matmul(f, m, n, k)
	work := 2 * float64(m) * float64(n) * float64(k)
	clock := func(f func()) float64 {
		start := time.Now()
		f()
		return time.Since(start).Seconds()
	}
	c.Run()
	repeat := 1 + int(turn.Seconds()/clock(c.Run))
	runtime.GC() // not while the clock runs
	var shares, rates, peaks []float64
	before := l.rate()
	for start := time.Now(); len(shares) < 5 || time.Since(start).Seconds() < seconds; {
		c.Run() // the loop leaves nothing in the caches, but others may
		rate := work * float64(repeat) / clock(func() {
			for range repeat {
				c.Run()
			}
		})
		after := l.rate()
		shares, rates, peaks = append(shares, 2*rate/(before+after)), append(rates, rate), append(peaks, after)
		before = after
	}
	for _, x := range [][]float64{shares, rates, peaks} {
		slices.Sort(x)
	}
	at := func(x []float64, part int) float64 { return x[len(x)*part/4] }
	return share{c.Name, threads, at(shares, 2), at(shares, 1), at(shares, 3), at(rates, 2), at(peaks, 2), len(shares)}
}

// loop runs a reference on every worker of a pool at once.
type loop struct {
	ref     peak.Reference
	pool    *pool.Pool
	threads int
	turns   int
	begun   atomic.Int32
}

func newLoop(ref peak.Reference, threads int) *loop {
	l := &loop{ref: ref, pool: pool.New(threads), threads: threads}
	for l.turns = 1 << 10; ; l.turns *= 2 {
		took := time.Hour // the least of several: a wake-up is not the loop
		for range 5 {
			start := time.Now()
			l.rate()
			took = min(took, time.Since(start))
		}
		if took > turn/2 {
			l.turns = int(float64(l.turns) * turn.Seconds() / took.Seconds())
			return l
		}
	}
}

// Do starts when all workers have.
func (l *loop) Do(_, _ int) {
	l.begun.Add(1)
	for int(l.begun.Load()) < l.threads {
		runtime.Gosched()
	}
	l.ref.Turns(l.turns)
}

// rate is operations per second of all workers together.
func (l *loop) rate() float64 {
	l.begun.Store(0)
	start := time.Now()
	l.pool.Run(l.threads, l)
	return l.ref.Work * float64(l.turns*l.threads) / time.Since(start).Seconds()
}

// shares measures the products whose name contains a part, and prints a table or JSON.
func shares(threads int, seconds float64, part string, asJSON bool) {
	if !asJSON {
		fmt.Printf("%-32s %8s %10s %10s %8s %8s  %s\n", "", "threads", "GFLOP/s", "peak", "share", "rounds", "half of the rounds")
	}
	for _, s := range matmuls {
		for _, f := range formats {
			name := fmt.Sprintf("matmul %s %dx%dx%d", f, s[0], s[1], s[2])
			if !strings.Contains(name, part) {
				continue
			}
			r := measureShare(f, s[0], s[1], s[2], threads, seconds)
			if !asJSON {
				fmt.Printf("%-32s %8d %10.1f %10.1f %7.1f%% %8d  %.1f%% to %.1f%%\n", r.Case, threads, r.Rate/1e9, r.Peak/1e9, 100*r.Share, r.Rounds, 100*r.Quartile, 100*r.Upper)
				continue
			}
			if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
				fail(err)
			}
		}
	}
}
