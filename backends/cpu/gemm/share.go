package gemm

import "github.com/ssdc-go/ssdc/backends/cpu/pool"

// A product of few rows takes the time of reading B, and where B stays in the third
// level of cache, how fast that is depends on who read it before. A processor whose
// third level holds what the second ones throw out keeps a line there while several
// cores are known to have it; a line of one core's own moves up when that core reads
// it and is written back when it makes room. Every worker reads its own part of B, so
// that all lines are of the second kind, and a quarter of the speed is lost (an Intel
// Xeon reads 10 to 60 MB with 59 GB/s on two cores, and with 78 once both have had
// all of it). So every few calls two workers read the same piece of B at the same
// time. It is small enough to be in their second level when the product comes to it,
// and what comes from memory rather than from a cache loses nothing that was seen.
const (
	shareEvery = 4 // calls
	shareParts = 16
	shareBytes = 512 << 10 // at most
	shareLine  = 64
)

// shareJob reads a piece of B: items 2i and 2i+1 are a pair that reads the same.
type shareJob struct {
	b     []byte
	pairs int
	seen  []int // by item, so that the reads have a purpose
}

// shared lets pairs of workers read the next piece of B.
func (ws *Workspace) shared(p *pool.Pool, workers int, a *Args) {
	if a.M > skinnyM || workers < 2 {
		return
	}
	b := a.Q
	if a.Format == F32 {
		b = view[byte](a.B)
	}
	a.calls++
	from, to := sharePiece(a.calls, len(b))
	if from == to {
		return
	}
	j := &ws.share
	j.b, j.pairs = b[from:to], workers/2
	p.Run(2*j.pairs, j)
	j.b = nil
}

// sharePiece is the part of n bytes that is due in a call; most have none.
func sharePiece(call uint, n int) (from, to int) {
	size := min(n/shareParts, shareBytes) &^ (shareLine - 1)
	if size == 0 || call%shareEvery != 0 {
		return 0, 0
	}
	from = int(call/shareEvery%uint(ceilDiv(n, size))) * size
	return from, min(from+size, n)
}

// Do reads a byte of every line.
func (j *shareJob) Do(_, i int) {
	pair, sum := i/2, 0
	for b := j.b[len(j.b)*pair/j.pairs : len(j.b)*(pair+1)/j.pairs]; len(b) >= 4*shareLine; b = b[4*shareLine:] {
		sum += int(b[0]) + int(b[shareLine]) + int(b[2*shareLine]) + int(b[3*shareLine])
	}
	j.seen[i] = sum
}
