package attention

import (
	"math"

	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

var negInf = float32(math.Inf(-1))

// job is a Run in progress, in one of its stages.
type job struct {
	Args
	shape   Shape
	ws      *Workspace
	kernels *[gemm.MaxRows + 1]gemm.Micro
	height  int
	prepare bool // the stage: copying into panels and looking through the mask
	packs   int  // tasks of it that copy; the others read the mask
	maskH   int  // how many heads have masks of their own
}

// packKeys keys are copied by one task.
const packKeys = 4 * keyBlock

// serialWork multiply-adds are not worth waking a second worker for.
const serialWork = 1 << 15

// Run computes a on the workers of p.
func Run(p *pool.Pool, a *Args, ws *Workspace) error {
	if err := a.Check(); err != nil {
		return err
	}
	s := a.Shape()
	if a.B*a.S*a.DV == 0 {
		return nil
	}
	j := &ws.job
	*j = job{Args: *a, shape: s, ws: ws}
	j.height, j.kernels = gemm.MicroKernels()
	defer func() { *j = job{} }()
	run := func(n int) {
		if a.B*a.HQ*a.S*a.T*(a.D+a.DV) < serialWork {
			for i := range n {
				j.Do(0, i)
			}
			return
		}
		p.Run(n, j)
	}
	if s.direct() {
		run(a.B * a.HKV)
		return nil
	}
	j.prepare, j.packs = true, a.B*a.HKV*ceilDiv(a.T, packKeys)
	j.maskH = 1
	scans := 0
	if a.Mask.given() {
		if a.Mask.StrideH > 0 {
			j.maskH = a.HQ
		}
		scans = a.B * j.maskH * s.queryBlocks()
	}
	run(j.packs + scans)
	j.prepare = false
	run(a.B * a.HQ * s.queryBlocks())
	return nil
}

// Do implements pool.Task.
func (j *job) Do(worker, i int) {
	switch m := &j.ws.scratch[worker]; {
	case j.prepare && i < j.packs:
		j.pack(i)
	case j.prepare:
		j.look(i - j.packs)
	case j.shape.direct():
		j.few(m, i/j.HKV, i%j.HKV)
	default:
		blocks := j.shape.queryBlocks()
		// The last blocks of a causal mask are the longest: they come first.
		j.block(m, i/blocks/j.HQ, i/blocks%j.HQ, blocks-1-i%blocks)
	}
}

// keys and values of one head, in panels: [T/32][D][32] and [DV/32][T][32].
func (j *job) panels(b, h int) (k, v []float32) {
	ks, vs := j.shape.keySize(), j.shape.valueSize()
	at := (b*j.HKV + h) * (ks + vs)
	return j.ws.Packed[at:][:ks], j.ws.Packed[at+ks:][:vs]
}

func (j *job) pack(i int) {
	parts := ceilDiv(j.T, packKeys)
	b, h, from := i/parts/j.HKV, i/parts%j.HKV, i%parts*packKeys
	to := min(from+packKeys, j.T)
	k, v := j.panels(b, h)
	for t := from; t < to; t += panel {
		dst, n := k[t*j.D:][:panel*j.D], min(panel, to-t)
		if n < panel {
			clear(dst)
		}
		if j.D > 0 {
			vec.Transpose2D(dst, panel, j.K.at(b, h, t), j.K.StrideS, n, j.D)
		}
	}
	for c := 0; c < j.DV; c += panel {
		dst := v[c*j.T:]
		n := min(panel, j.DV-c)
		for t := from; t < to; t++ {
			row := dst[t*panel:][:panel]
			copy(row, j.V.at(b, h, t)[c:c+n])
			clear(row[n:])
		}
	}
}

// block computes one block of queries of one head.
func (j *job) block(m *scratch, b, h, qb int) {
	first := qb * j.shape.rows()
	rows := min(j.shape.rows(), j.S-first)
	width := roundUp(j.DV, panel)
	kp, vp := j.panels(b, h/(j.HQ/j.HKV))
	clear(m.acc[:rows*width])
	clear(m.sum[:rows])
	vec.Fill(m.top[:rows], negInf)
	q := j.Q.at(b, h, first)
	// What the block's queries see lies between what the first and the last see.
	lo, _ := j.sees(b, first)
	_, hi := j.sees(b, first+rows-1)
	for kb := lo / keyBlock; kb*keyBlock < hi; kb++ {
		flag := j.flag(b, h, qb, kb)
		if flag == hidden {
			continue
		}
		k0 := kb * keyBlock
		n := min(keyBlock, hi-k0)
		for c := 0; c < n; c += panel {
			for r := 0; r < rows; r += j.height {
				k := min(j.height, rows-r)
				j.kernels[k](j.D, q[r*j.Q.StrideS:], j.Q.StrideS, kp[(k0+c)*j.D:], m.scores[r*keyBlock+c:], keyBlock, nil, 0, j.Scale)
			}
		}
		for r := range rows {
			j.soften(m, b, h, first+r, r, k0, n, width, flag != plain)
		}
		for c := 0; c < width; c += panel {
			for r := 0; r < rows; r += j.height {
				k := min(j.height, rows-r)
				out := m.acc[r*width+c:]
				j.kernels[k](n, m.scores[r*keyBlock:], keyBlock, vp[c*j.T+k0*panel:], out, width, out, width, 1)
			}
		}
	}
	for r := range rows {
		j.finish(m, b, h, first+r, r, width)
	}
}

// soften turns the scores of keys [k0,k0+n) for query s, in row r, into
// exponentials relative to the largest score so far, and scales what was summed
// up to now to match.
func (j *job) soften(m *scratch, b, h, s, r, k0, n, width int, masked bool) {
	x := m.scores[r*keyBlock:][:n]
	if j.Softcap > 0 {
		vec.DivS(x, x, j.Softcap)
		vec.Tanh(x, x)
		vec.MulS(x, x, j.Softcap)
	}
	lo, hi := j.sees(b, s)
	lo, hi = min(max(lo-k0, 0), n), min(max(hi-k0, 0), n)
	if lo >= hi {
		clear(x)
		return
	}
	if masked {
		j.mask(x, b, h, s, k0, lo, hi)
	}
	seen := x[lo:hi]
	top := max(m.top[r], vec.MaxOf(seen))
	if top == negInf {
		clear(x)
		return
	}
	if old := m.top[r]; top != old {
		if old != negInf {
			f := float32(math.Exp(float64(old - top)))
			m.sum[r] *= float64(f)
			vec.Scale(m.acc[r*width:][:j.DV], f)
		}
		m.top[r] = top
	}
	m.sum[r] += float64(vec.ExpSum(seen, seen, top))
	clear(x[:lo])
	clear(x[hi:])
}

// finish writes the mean of the values; zeros where nothing was seen.
func (j *job) finish(m *scratch, b, h, s, r, width int) {
	out, f := j.O.at(b, h, s)[:j.DV], float32(0)
	if m.top[r] != negInf {
		f = float32(1 / m.sum[r])
	}
	vec.MulS(out, m.acc[r*width:][:j.DV], f)
}
