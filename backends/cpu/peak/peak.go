// Package peak measures what this machine can do: multiply-adds per second on
// registers, by kind, and bytes per second read from memory. The bench command
// compares the steps of a model with it.
package peak

import (
	"sync"
	"time"
)

// Machine is what a number of threads reach together.
type Machine struct {
	Threads int
	// F32, BF16 and Int8 are operations per second, a multiply-add being two.
	F32, BF16, Int8 float64
	// Read is bytes per second from memory.
	Read float64
}

// loops are the fastest instructions of the level in use: turns(n) runs n turns of
// ops operations.
type loops struct {
	f32, bf16, int8 loop
	read            func(b []byte)
}

type loop struct {
	turns func(n int)
	ops   float64 // per turn
}

// readBytes is the memory that all threads read together: more than most caches hold.
const readBytes = 512 << 20

// piece is what loops.read takes at a time.
const piece = 4 * 96 << 10

// Measure takes about a third of a second.
func Measure(threads int) Machine {
	l := current()
	m := Machine{Threads: threads}
	m.F32, m.BF16, m.Int8 = l.f32.rate(threads), l.bf16.rate(threads), l.int8.rate(threads)

	part := readBytes / threads / piece * piece
	memory := make([]byte, part*threads)
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1 // a page of its own, not the common zero page
	}
	for range 3 {
		start := time.Now()
		together(threads, func(i int) { l.read(memory[i*part:][:part]) })
		m.Read = max(m.Read, float64(len(memory))/time.Since(start).Seconds())
	}
	return m
}

// A Reference is a loop whose speed is the machine's alone, to compare kernels
// with. Work is the operations of a turn, or for "read" the bytes.
type Reference struct {
	Turns func(n int)
	Work  float64
}

// References are those of one thread: "f32", "bf16" and "int8" on registers, "read".
func References() map[string]Reference {
	l := current()
	memory := make([]byte, 128*piece) // 48 MiB: from memory, or the last cache
	for i := 0; i < len(memory); i += 4096 {
		memory[i] = 1
	}
	at := 0
	read := func(n int) {
		for range n {
			l.read(memory[at:][:piece])
			at = (at + piece) % len(memory)
		}
	}
	return map[string]Reference{"f32": {l.f32.turns, l.f32.ops}, "bf16": {l.bf16.turns, l.bf16.ops}, "int8": {l.int8.turns, l.int8.ops}, "read": {read, piece}}
}

// rate is the best of several short runs on all threads.
func (l loop) rate(threads int) float64 {
	if l.turns == nil {
		return 0
	}
	const short = 5 * time.Millisecond
	n := 1 << 10
	for start := time.Now(); ; start = time.Now() {
		l.turns(n)
		if time.Since(start) > short {
			break
		}
		n *= 2
	}
	best := 0.0
	for range 5 {
		start := time.Now()
		together(threads, func(int) { l.turns(n) })
		best = max(best, l.ops*float64(n*threads)/time.Since(start).Seconds())
	}
	return best
}

// together runs f on a number of goroutines and returns when all are done.
func together(threads int, f func(i int)) {
	var wg sync.WaitGroup
	for i := range threads {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// portable are the loops of plain Go.
func portable() loops {
	return loops{
		f32:  loop{func(n int) { keep(multiplyAdd(n)) }, 16},
		bf16: loop{func(n int) { keep(multiplyAdd(n)) }, 16},
		int8: loop{func(n int) { keep(multiplyAdd(n)) }, 16},
		read: func(b []byte) {
			s := byte(0)
			for i := 0; i < len(b); i += 64 {
				s += b[i]
			}
			keep(float32(s))
		},
	}
}

// keep uses a result, so that the compiler does not leave the loop out.
//
//go:noinline
func keep(float32) {}

func multiplyAdd(n int) float32 {
	var a, b, c, d, e, f, g, h float32
	x, y := float32(n&1), float32(0.5)
	for range n {
		a, b, c, d = a*x+y, b*x+y, c*x+y, d*x+y
		e, f, g, h = e*x+y, f*x+y, g*x+y, h*x+y
	}
	return a + b + c + d + e + f + g + h
}
