package pool

import (
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

type taskFunc func(worker, i int)

func (f taskFunc) Do(worker, i int) { f(worker, i) }

func TestEveryItemOnce(t *testing.T) {
	for _, workers := range []int{1, 2, 3, 16} {
		p := New(workers)
		if p.Workers() != workers {
			t.Fatalf("Workers() = %d, want %d", p.Workers(), workers)
		}
		for _, n := range []int{0, 1, 2, 3, 17, 1000} {
			for range 20 {
				counts := make([]int, n) // plain: the race detector checks hand-over
				p.Run(n, taskFunc(func(w, i int) {
					if w < 0 || w >= workers {
						t.Errorf("worker %d of %d", w, workers)
					}
					counts[i]++
				}))
				for i, c := range counts {
					if c != 1 {
						t.Fatalf("workers %d n %d: item %d ran %d times", workers, n, i, c)
					}
				}
			}
		}
		p.Close()
	}
}

func TestFewerProcessorsThanWorkers(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := New(8)
	defer p.Close()
	var sum atomic.Int64
	for range 200 {
		p.Run(50, taskFunc(func(_, i int) { sum.Add(int64(i)) }))
	}
	if got := sum.Load(); got != 200*1225 {
		t.Errorf("sum %d", got)
	}
}

func TestWorkerIsExclusive(t *testing.T) {
	p := New(4)
	defer p.Close()
	var busy [4]atomic.Bool
	p.Run(400, taskFunc(func(w, i int) {
		if busy[w].Swap(true) {
			t.Errorf("two items at once on worker %d", w)
		}
		if i%7 == 0 {
			time.Sleep(10 * time.Microsecond)
		}
		busy[w].Store(false)
	}))
}

func TestNestedRunsInline(t *testing.T) {
	p := New(3)
	defer p.Close()
	counts := make([]int, 60)
	p.Run(6, taskFunc(func(w, i int) {
		p.Run(10, taskFunc(func(w2, j int) {
			if w2 != w {
				t.Errorf("nested item on worker %d, outer on %d", w2, w)
			}
			counts[i*10+j]++
		}))
	}))
	for i, c := range counts {
		if c != 1 {
			t.Fatalf("item %d ran %d times", i, c)
		}
	}
}

func TestConcurrentCallersQueue(t *testing.T) {
	p := New(2)
	defer p.Close()
	var owner atomic.Int64 // the caller whose items are in progress
	var wg sync.WaitGroup
	for c := int64(1); c <= 8; c++ {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range 50 {
				var left atomic.Int64
				left.Store(4)
				p.Run(4, taskFunc(func(_, _ int) {
					if was := owner.Swap(c); was != 0 && was != c {
						t.Errorf("items of callers %d and %d overlap", was, c)
					}
					runtime.Gosched()
					if left.Add(-1) == 0 {
						owner.Store(0)
					}
				}))
			}
		}()
	}
	wg.Wait()
}

func TestPanicReachesCaller(t *testing.T) {
	p := New(3)
	defer p.Close()
	cause := errors.New("boom")
	for range 50 {
		func() {
			defer func() {
				f, ok := recover().(*TaskPanic)
				if !ok || f.Item != 5 || !errors.Is(f, cause) {
					t.Errorf("recovered %v", f)
				}
			}()
			p.Run(20, taskFunc(func(_, i int) {
				if i == 5 {
					panic(cause)
				}
			}))
			t.Error("Run returned")
		}()
	}
	ran := 0
	p.Run(1, taskFunc(func(_, _ int) { ran++ }))
	if ran != 1 {
		t.Error("the pool is unusable after a panic")
	}
}

func TestGoexitOnCaller(t *testing.T) {
	p := New(2)
	defer p.Close()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.Run(8, taskFunc(func(w, _ int) {
			if w == 0 {
				runtime.Goexit()
			}
			time.Sleep(100 * time.Microsecond)
		}))
	}()
	<-ended
	var n atomic.Int64
	p.Run(100, taskFunc(func(_, _ int) { n.Add(1) }))
	if n.Load() != 100 {
		t.Errorf("%d items after Goexit", n.Load())
	}
}

func TestGoexitOnHelper(t *testing.T) {
	p := New(2)
	defer p.Close()
	for range 20 {
		func() {
			defer func() { recover() }()
			p.Run(64, taskFunc(func(w, _ int) {
				if w == 1 {
					runtime.Goexit()
				}
				time.Sleep(20 * time.Microsecond)
			}))
		}()
	}
	var n atomic.Int64
	p.Run(100, taskFunc(func(_, _ int) { n.Add(1) }))
	if n.Load() != 100 {
		t.Errorf("%d items after Goexit", n.Load())
	}
}

func TestParkedHelpersWake(t *testing.T) {
	p := New(2)
	defer p.Close()
	helped := false
	for try := 0; try < 50 && !helped; try++ {
		time.Sleep(2 * time.Millisecond) // past the spin
		var byHelper atomic.Int64
		p.Run(20, taskFunc(func(w, _ int) {
			time.Sleep(time.Millisecond)
			byHelper.Add(int64(w))
		}))
		helped = byHelper.Load() > 0
	}
	if !helped {
		t.Error("a parked helper never joined")
	}
}

func TestCloseTwiceAndRunAfter(t *testing.T) {
	p := New(4)
	p.Close()
	p.Close()
	ran := 0
	p.Run(5, taskFunc(func(w, _ int) {
		if w != 0 {
			t.Errorf("worker %d after Close", w)
		}
		ran++
	}))
	if ran != 5 {
		t.Errorf("%d items after Close", ran)
	}
}

type nothing struct{ sink [16][64]byte }

func (n *nothing) Do(worker, i int) { n.sink[worker][0]++ }

func TestRunAllocatesNothing(t *testing.T) {
	p := New(2)
	defer p.Close()
	task := new(nothing)
	if a := testing.AllocsPerRun(200, func() { p.Run(8, task) }); a != 0 {
		t.Errorf("%v allocations per Run", a)
	}
}

func BenchmarkRun(b *testing.B) {
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			p := New(workers)
			defer p.Close()
			task := new(nothing)
			for b.Loop() {
				p.Run(8, task)
			}
		})
	}
}
