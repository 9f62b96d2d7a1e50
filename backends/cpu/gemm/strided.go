package gemm

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// StridedArgs describes a batch of products of two activations,
//
//	C[b,M,N] = act(Alpha * A[b,M,K] @ B[b,K,N] + Bias) + Residual[b,M,N]
//
// A and B have any non-negative strides, so a transposed operand is one with
// its strides exchanged; rows of C and Residual are contiguous. Batch lists the
// batch dimensions and ABatch, BBatch, CBatch the strides over them, 0 where an
// operand is broadcast; nil Batch means a single product.
type StridedArgs struct {
	M, N, K int

	Batch                  []int
	ABatch, BBatch, CBatch []int

	A          []float32
	ARow, ACol int
	B          []float32
	BRow, BCol int
	C          []float32
	Ldc        int

	Bias     []float32 // N, or nil
	Residual []float32 // nil, or strides:
	RBatch   []int
	Ldr      int
	Act      Activation
	Alpha    float32 // 0 means 1
}

// batches is the number of products.
func (a *StridedArgs) batches() int {
	n := 1
	for _, d := range a.Batch {
		n *= d
	}
	return n
}

// Check says what is wrong with the sizes, if anything. RunStrided panics with
// that error.
func (a *StridedArgs) Check() error {
	if a.M < 0 || a.N < 0 || a.K < 0 {
		return fmt.Errorf("gemm: negative size in C[%d,%d] = A[%d,%d] @ B[%d,%d]", a.M, a.N, a.M, a.K, a.K, a.N)
	}
	if a.Act >= activations {
		return fmt.Errorf("gemm: unknown activation %d", a.Act)
	}
	for _, d := range a.Batch {
		if d < 0 {
			return fmt.Errorf("gemm: negative batch size in %v", a.Batch)
		}
	}
	if a.M == 0 || a.N == 0 || a.batches() == 0 {
		return nil
	}
	if a.K > 0 {
		if err := a.reach("A", len(a.A), a.ABatch, a.M, a.K, a.ARow, a.ACol); err != nil {
			return err
		}
		if err := a.reach("B", len(a.B), a.BBatch, a.K, a.N, a.BRow, a.BCol); err != nil {
			return err
		}
	}
	if err := a.reach("C", len(a.C), a.CBatch, a.M, a.N, a.Ldc, 1); err != nil {
		return err
	}
	if a.Residual != nil {
		if err := a.reach("Residual", len(a.Residual), a.RBatch, a.M, a.N, a.Ldr, 1); err != nil {
			return err
		}
	}
	if err := checkInPlace(a.C, a.Residual, a.Act); err != nil {
		return err
	}
	return checkBias(a.Bias, a.N)
}

// reach checks that the last element of an operand exists.
func (a *StridedArgs) reach(name string, have int, batch []int, rows, cols, rowStride, colStride int) error {
	if len(batch) != len(a.Batch) {
		return fmt.Errorf("gemm: %s has %d batch strides: expected %d, one for each of %v", name, len(batch), len(a.Batch), a.Batch)
	}
	last := (rows-1)*rowStride + (cols-1)*colStride
	if rowStride < 0 || colStride < 0 {
		return fmt.Errorf("gemm: negative strides (%d, %d) of %s", rowStride, colStride, name)
	}
	for i, s := range batch {
		if s < 0 {
			return fmt.Errorf("gemm: negative batch stride %d of %s", s, name)
		}
		last += (a.Batch[i] - 1) * s
	}
	if last >= have {
		return fmt.Errorf("gemm: %s[%d,%d] with strides %v (%d, %d) has %d elements: expected %d", name, rows, cols, batch, rowStride, colStride, have, last+1)
	}
	return nil
}

// stridedJob is a RunStrided in progress. A unit is one tile of one product; a
// task is a run of units, several when they are small.
type stridedJob struct {
	args    StridedArgs
	product product // without the batch offsets
	split   split
	units   int
	perTask int
	kernels *kernels
	scratch []scratch
}

// Do computes one task.
func (j *stridedJob) Do(worker, i int) {
	tiles := j.split.tiles()
	s := &j.scratch[worker]
	p := &s.product
	for u := i * j.perTask; u < min((i+1)*j.perTask, j.units); u++ {
		*p = j.product
		var a, b, c, r int
		for d, rest := len(j.args.Batch)-1, u/tiles; d >= 0; d-- {
			x := rest % j.args.Batch[d]
			rest /= j.args.Batch[d]
			c += x * j.args.CBatch[d]
			if p.k > 0 {
				a += x * j.args.ABatch[d]
				b += x * j.args.BBatch[d]
			}
			if p.residual != nil {
				r += x * j.args.RBatch[d]
			}
		}
		p.a, p.b, p.c = p.a[a:], p.b[b:], p.c[c:]
		if p.residual != nil {
			p.residual = p.residual[r:]
		}
		p.tile(j.kernels, s, j.split, u%tiles)
	}
	*p = product{}
}

// RunStrided computes a batch of products as StridedArgs says, shared among the
// workers of p (nil: the caller alone). It allocates nothing and packs B into
// scratch as it goes. Sizes that do not fit together panic with the error of
// Check.
func RunStrided(p *pool.Pool, a *StridedArgs, ws *Workspace) {
	if err := a.Check(); err != nil {
		panic(err)
	}
	batches := a.batches()
	if a.M == 0 || a.N == 0 || batches == 0 {
		return
	}
	j := &ws.strided
	j.args = *a
	j.product = product{
		m: a.M, n: a.N, k: a.K,
		a: a.A, aRow: a.ARow, aCol: a.ACol,
		b: a.B, bRow: a.BRow, bCol: a.BCol,
		c: a.C, ldc: a.Ldc,
		bias: a.Bias, residual: a.Residual, ldr: a.Ldr,
		act: a.Act, alpha: a.Alpha,
	}
	if j.product.alpha == 0 {
		j.product.alpha = 1
	}
	j.kernels, j.scratch = currentKernels(), ws.scratch
	work := a.M * a.N * max(a.K, 1)
	workers := ws.workersOf(p, work*batches)
	j.split = j.product.divide(j.kernels.rows, workers, batches)
	j.units = j.split.tiles() * batches
	perUnit := max(work/j.split.tiles(), 1)
	j.perTask = max(min(ceilDiv(serialWork, perUnit), ceilDiv(j.units, workers)), 1)
	ws.run(p, workers, ceilDiv(j.units, j.perTask), j)
	j.args, j.product = StridedArgs{}, product{}
}
