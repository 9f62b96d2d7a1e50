// Package pool runs the parallel steps of the CPU backend on a fixed set of
// workers.
//
// A step is a Task of n independent items. Every worker has a run of them that
// it claims from front to back; one that is done takes what the others have
// left, so a worker that the operating system holds up does not hold up the
// rest, and since items write disjoint outputs the result does not depend on
// who ran what. A step that is repeated, such as that of a decode loop, so
// finds its state in the cache of the processor that wrote it: a line that
// another one has changed costs several times a read of the third-level cache.
//
// The calling goroutine is worker 0; the helpers spin
// for a moment after each step and then park, so that the hundreds of short
// steps of a decode loop pay no wake-ups while an idle process uses no
// processor. A Run allocates nothing.
package pool

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Task is a step of independent items. Do runs item i on the given worker;
// no two items run on one worker at the same time, so scratch memory may be
// indexed by worker.
type Task interface{ Do(worker, i int) }

const (
	// spinFor is how long a helper polls for the next step before it parks, and
	// a caller for the last helper: longer than the serial gaps between the
	// steps of a model, short against a scheduler tick.
	spinFor = 100 * time.Microsecond
	// yieldFor is how long it goes on polling after that, giving its processor away
	// each time to whoever wants it: longer than the gap between two requests in a
	// row. A thread that is woken may find itself on the processor of the one that
	// woke it, for milliseconds, until the system spreads them again.
	yieldFor = time.Millisecond
	// spinBatch polls happen between looks at the clock.
	spinBatch = 32
	// The state of the pool is one word: the number of the newest step, whether
	// helpers may join it, and how many are inside.
	stepUnit = 1 << 32
	open     = 1 << 31
	inside   = open - 1
)

// Pool is a fixed set of workers. One Run uses it at a time; others queue.
type Pool struct {
	mu      sync.Mutex // held by the Run in progress
	helpers []*helper  // workers 1..
	lanes   []lane     // by worker
	exited  sync.WaitGroup
	caller  atomic.Uintptr // identity of worker 0's goroutine, 0 when idle

	// Processors hand cache lines to one another in about 100 ns each, so what a
	// helper needs for a step is together. task and parts are written before the
	// state opens and are stable until nobody is inside.
	_      [64]byte
	state  atomic.Uint64
	task   Task
	parts  int // lanes that have items
	failed atomic.Pointer[TaskPanic]
	_      [64]byte

	closed  atomic.Bool
	waiting atomic.Bool   // the caller sleeps on done
	done    chan struct{} // the last helper out of a closed step
}

// lane is the run of items of one worker, on a cache line of its own.
type lane struct {
	next int64 // unclaimed from here; atomic while a step is in progress
	end  int64
	_    [48]byte
}

type helper struct {
	worker int
	self   atomic.Uintptr
	parked atomic.Bool
	wake   chan struct{}
}

// TaskPanic is what Run panics with when an item did.
type TaskPanic struct {
	Value        any
	Worker, Item int
	Stack        []byte // of the worker that ran the item
}

func (p *TaskPanic) Error() string {
	return fmt.Sprintf("pool: item %d panicked on worker %d: %v\n\n%s", p.Item, p.Worker, p.Value, p.Stack)
}

// Unwrap gives the panic value when it is an error.
func (p *TaskPanic) Unwrap() error {
	err, _ := p.Value.(error)
	return err
}

// New makes a pool of the given number of workers, the caller of Run included.
// Less than one means one per processor that Go may use.
func New(workers int) *Pool {
	if workers < 1 {
		workers = runtime.GOMAXPROCS(0)
	}
	p := &Pool{done: make(chan struct{}, 1), lanes: make([]lane, workers)}
	for w := 1; w < workers; w++ {
		h := &helper{worker: w, wake: make(chan struct{}, 1)}
		p.helpers = append(p.helpers, h)
	}
	p.exited.Add(len(p.helpers))
	for _, h := range p.helpers {
		go p.serve(h)
	}
	return p
}

// Workers is the number of workers, the caller of Run included.
func (p *Pool) Workers() int { return len(p.helpers) + 1 }

// Close ends the helpers and waits for them. A Run after Close does all its
// items on the caller. Close must not be called from inside a Task.
func (p *Pool) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed.Swap(true) {
		return
	}
	for _, h := range p.helpers {
		h.signal()
	}
	p.exited.Wait()
}

// Run executes t.Do(worker, i) for every i in [0, n) and returns when all are
// done. Called from inside a Task of the same pool it runs the items inline, on
// the worker that called. When an item panics, items not yet claimed are
// dropped and Run panics with a *TaskPanic.
func (p *Pool) Run(n int, t Task) {
	if n <= 0 {
		return
	}
	self := goroutine()
	if !p.mu.TryLock() {
		if w := p.workerOf(self); w >= 0 {
			for i := range n {
				t.Do(w, i)
			}
			return
		}
		p.mu.Lock()
	}
	if f := p.runLocked(n, t, self); f != nil {
		panic(f)
	}
}

// runLocked is Run's step proper. The clean-up is deferred because a task may
// end the calling goroutine with runtime.Goexit.
func (p *Pool) runLocked(n int, t Task, self uintptr) (failed *TaskPanic) {
	shared := n > 1 && len(p.helpers) > 0
	defer func() {
		if shared {
			p.state.Add(^uint64(open - 1)) // subtract open: nobody else may join
			p.await()
		}
		p.task = nil
		p.caller.Store(0)
		if failed = p.failed.Load(); failed != nil {
			p.failed.Store(nil)
		}
		p.mu.Unlock()
	}()
	p.caller.Store(self)
	p.task, p.parts = t, min(n, len(p.lanes))
	for w := range p.parts {
		p.lanes[w].next, p.lanes[w].end = int64(w*n/p.parts), int64((w+1)*n/p.parts)
	}
	if shared {
		p.state.Add(stepUnit + open)
		for _, h := range p.helpers[:min(n-1, len(p.helpers))] {
			if h.parked.Load() {
				h.signal()
			}
		}
	}
	p.work(0)
	return nil
}

// workerOf finds the worker that a goroutine is, or -1. It can only match a
// goroutine that is inside a step, since those values are set by the goroutine
// itself.
func (p *Pool) workerOf(g uintptr) int {
	if p.caller.Load() == g {
		return 0
	}
	for _, h := range p.helpers {
		if h.self.Load() == g {
			return h.worker
		}
	}
	return -1
}

// work claims and runs items until none is left, those of its own lane first.
func (p *Pool) work(worker int) {
	item := -1
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover()
		if v == nil {
			v = "runtime.Goexit called by a task"
		}
		f, nested := v.(*TaskPanic)
		if !nested {
			f = &TaskPanic{Value: v, Worker: worker, Item: item, Stack: debug.Stack()}
		}
		p.failed.CompareAndSwap(nil, f)
		for w := range p.parts {
			atomic.StoreInt64(&p.lanes[w].next, p.lanes[w].end)
		}
	}()
	t := p.task
	for turn, at := 0, worker; turn < p.parts; turn++ {
		if at >= p.parts {
			at = 0
		}
		l := &p.lanes[at]
		for atomic.LoadInt64(&l.next) < l.end {
			i := atomic.AddInt64(&l.next, 1) - 1
			if i >= l.end {
				break
			}
			item = int(i)
			t.Do(worker, item)
		}
		at++
	}
	returned = true
}

// await returns when the closed step has no helper inside.
func (p *Pool) await() {
	left := func() bool { return p.state.Load()&inside == 0 }
	if p.spin(left) {
		return
	}
	p.waiting.Store(true)
	if left() && p.waiting.CompareAndSwap(true, false) {
		return
	}
	<-p.done
}

// join enters the step in progress, if one is open, and returns the number of the
// newest step that the helper has seen.
func (p *Pool) join() (step uint64, joined bool) {
	for {
		s := p.state.Load()
		if s&open == 0 {
			return s / stepUnit, false
		}
		if p.state.CompareAndSwap(s, s+1) {
			return s / stepUnit, true
		}
	}
}

// leave undoes join; the last one out wakes a sleeping caller.
func (p *Pool) leave() {
	if p.state.Add(^uint64(0))&(open|inside) == 0 && p.waiting.CompareAndSwap(true, false) {
		p.done <- struct{}{}
	}
}

// serve is the life of a helper.
func (p *Pool) serve(h *helper) {
	ended := false
	defer func() {
		h.self.Store(0)
		if ended {
			p.exited.Done()
			return
		}
		go p.serve(h) // a task ended this goroutine with runtime.Goexit
	}()
	h.self.Store(goroutine())
	for !p.closed.Load() {
		seen, joined := p.join()
		if joined {
			p.workAndLeave(h.worker)
		}
		p.idle(h, seen)
	}
	ended = true
}

func (p *Pool) workAndLeave(worker int) {
	defer p.leave()
	p.work(worker)
}

// idle waits until a step newer than seen exists or the pool closes.
func (p *Pool) idle(h *helper, seen uint64) {
	news := func() bool { return p.state.Load()/stepUnit != seen || p.closed.Load() }
	if p.spin(news) {
		return
	}
	h.parked.Store(true)
	for !news() {
		<-h.wake
	}
	h.parked.Store(false)
}

// signal wakes a parked helper; a second signal is as good as one.
func (h *helper) signal() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// spin polls for a while and reports whether the condition came true. With
// fewer processors than workers polling would only keep a worker from its
// processor, so it gives up at once.
func (p *Pool) spin(ready func() bool) bool {
	if ready() {
		return true
	}
	if runtime.GOMAXPROCS(0) <= len(p.helpers) {
		return false
	}
	for start := time.Now(); time.Since(start) < spinFor; {
		for range spinBatch {
			if ready() {
				return true
			}
			pause()
		}
	}
	for start := time.Now(); time.Since(start) < yieldFor; yield() {
		if ready() {
			return true
		}
	}
	return false
}
