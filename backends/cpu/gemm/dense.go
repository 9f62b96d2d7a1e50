package gemm

import "github.com/ssdc-go/ssdc/backends/cpu/pool"

// denseJob is a Run in progress.
type denseJob struct {
	product
	split   split
	kernels *kernels
	scratch []scratch
}

// Do computes one tile of C.
func (j *denseJob) Do(worker, i int) {
	j.product.tile(j.kernels, &j.scratch[worker], j.split, i)
}

// Run computes C as Args says, shared among the workers of p (nil: the caller
// alone). It allocates nothing. Sizes that do not fit together panic with the
// error of Check.
func Run(p *pool.Pool, a *Args, ws *Workspace) {
	if err := a.Check(); err != nil {
		panic(err)
	}
	if a.M == 0 || a.N == 0 {
		return
	}
	ws.shared(p, ws.workersOf(p, a.M*a.N*a.K), a)
	j := &ws.dense
	j.product = product{
		m: a.M, n: a.N, k: a.K,
		a: a.A, aRow: a.Lda, aCol: 1,
		b: a.B, packed: true,
		c: a.C, ldc: a.Ldc,
		bias: a.Bias, residual: a.Residual, ldr: a.Ldr,
		act: a.Act, alpha: a.Alpha,
	}
	if j.alpha == 0 {
		j.alpha = 1
	}
	j.kernels, j.scratch = currentKernels(), ws.scratch
	if a.Format != F32 {
		j.runQuant(p, a, ws)
	} else {
		workers := ws.workersOf(p, a.M*a.N*a.K)
		j.split = j.divide(j.kernels.rows, workers, 1)
		ws.run(p, workers, j.split.tiles(), j)
	}
	j.product = product{} // keep no caller's memory alive
}

// workersOf is how many workers a step of that many multiply-adds deserves.
func (ws *Workspace) workersOf(p *pool.Pool, work int) int {
	if p == nil || work < serialWork {
		return 1
	}
	if p.Workers() > len(ws.scratch) {
		panic("gemm: the workspace is for fewer workers than the pool has")
	}
	return p.Workers()
}

func (ws *Workspace) run(p *pool.Pool, workers, n int, t pool.Task) {
	if workers > 1 {
		p.Run(n, t)
		return
	}
	for i := range n {
		t.Do(0, i)
	}
}
