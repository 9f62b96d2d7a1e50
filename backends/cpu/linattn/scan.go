package linattn

import (
	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

const (
	// block steps share the exponentials of their decays.
	block = 32
	// ahead is how many steps before their use operands are fetched.
	ahead = 40
	// fewSteps do not pay for moving the state into panels.
	fewSteps = 4
	// fewHeads are too few to keep the workers busy: their panels are then tasks
	// of their own.
	fewHeads = 8
)

// job is a Run in progress. A task is panels panels of one head.
type job struct {
	Args
	isa     isa.ISA
	scratch []scratch
	panels  int
	cuts    int // tasks per head
}

// Run computes a on the workers of p.
func Run(p *pool.Pool, a *Args, ws *Workspace) error {
	if err := a.Check(); err != nil {
		return err
	}
	if a.B*a.DV == 0 {
		return nil
	}
	j := &ws.job
	*j = job{Args: *a, isa: isa.Current(), scratch: ws.scratch, panels: ceilDiv(a.DV, cols), cuts: 1}
	if a.B*a.HKV < fewHeads {
		j.cuts, j.panels = j.panels, 1
	}
	p.Run(a.B*a.HKV*j.cuts, j)
	*j = job{}
	return nil
}

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// head is one task: the columns [c0,c1) of one head's state.
type head struct {
	*job
	m      *scratch
	b, h   int
	c0, c1 int
}

// Do implements pool.Task.
func (j *job) Do(worker, i int) {
	bh, cut := i/j.cuts, i%j.cuts
	x := head{job: j, m: &j.scratch[worker], b: bh / j.HKV, h: bh % j.HKV, c0: cut * j.panels * cols, c1: min(j.DV, (cut+1)*j.panels*cols)}
	size := j.DK * j.DV
	to := j.ST[bh*size : (bh+1)*size]
	var from []float32
	if j.S0 != nil {
		from = j.S0[bh*size : (bh+1)*size]
	}
	if j.T < fewSteps && (x.c1-x.c0)%cols == 0 && size > 0 {
		if from == nil || &from[0] != &to[0] {
			for d := range j.DK {
				move(to[d*j.DV+x.c0:d*j.DV+x.c1], from, d*j.DV+x.c0)
			}
		}
		x.scan(func(p int) (*float32, int) { return &to[x.c0+p*cols], j.DV })
		return
	}
	// Panels of [DK,32] side by side stay in the first level of cache.
	panel := func(p int) []float32 { return x.m.state[p*j.DK*cols : (p+1)*j.DK*cols] }
	for p := range ceilDiv(x.c1-x.c0, cols) {
		c := x.c0 + p*cols
		n := min(cols, x.c1-c)
		for d := range j.DK {
			r := panel(p)[d*cols : (d+1)*cols]
			clear(r[n:])
			move(r[:n], from, d*j.DV+c)
		}
	}
	if j.DK > 0 {
		x.scan(func(p int) (*float32, int) { return &panel(p)[0], cols })
	}
	for p := range ceilDiv(x.c1-x.c0, cols) {
		c := x.c0 + p*cols
		n := min(cols, x.c1-c)
		for d := range j.DK {
			copy(to[d*j.DV+c:d*j.DV+c+n], panel(p)[d*cols:])
		}
	}
}

// move copies what stands at from[at:], zeros when from is nil.
func move(to, from []float32, at int) {
	if from == nil {
		clear(to)
		return
	}
	copy(to, from[at:])
}

// scan takes all steps, panel by panel within a block of steps. state gives a
// panel and the distance of its rows.
func (x *head) scan(state func(p int) (*float32, int)) {
	for t := 0; t < x.T; t += block {
		n := min(block, x.T-t)
		x.decays(t, n)
		for p := range ceilDiv(x.c1-x.c0, cols) {
			s, ld := state(p)
			for i := range n {
				if p == 0 {
					x.fetchAhead(t + i + ahead)
				}
				x.step(t, i, x.c0+p*cols, s, ld)
			}
		}
	}
}

// fetchAhead prefetches the operands of step t: its rows lie on pages of their
// own, too far from those before for the hardware to guess.
func (x *head) fetchAhead(t int) {
	if t >= x.T {
		return
	}
	group := x.HQ / x.HKV
	fetch(x.K.at(x.b, t)[x.h*x.DK:], x.DK)
	fetch(x.Q.at(x.b, t)[x.h*group*x.DK:], group*x.DK)
	fetch(x.V.at(x.b, t)[x.h*x.DV+x.c0:], x.c1-x.c0)
	fetch(x.O.at(x.b, t)[x.h*group*x.DV+x.c0:], x.c1-x.c0)
	if x.PerKey && x.Decay.Data != nil {
		fetch(x.Decay.at(x.b, t)[x.h*x.DK:], x.DK)
	}
}

// decays fills grow with exp(g) of the block's steps: a number each, or a row of
// DK, of which a delta rule also wants the product with k, in gk.
func (x *head) decays(t, n int) {
	if x.Decay.Data == nil {
		return
	}
	dk := x.DK
	if !x.PerKey {
		for i := range n {
			x.m.grow[i] = x.Decay.at(x.b, t+i)[x.h]
		}
		vec.Exp(x.m.grow[:n], x.m.grow[:n])
		return
	}
	for i := range n {
		grow := x.m.grow[i*dk : (i+1)*dk]
		vec.Exp(grow, x.Decay.at(x.b, t+i)[x.h*dk:])
		if x.Beta.Data != nil {
			vec.Mul(x.m.gk[i*dk:(i+1)*dk], grow, x.K.at(x.b, t+i)[x.h*dk:])
		}
	}
}

// step is step t+i of a block from t, on the 32 columns from c of the state.
func (x *head) step(t, i, c int, state *float32, ld int) {
	dk, m, at := x.DK, x.m, t+i
	full := c+cols <= x.c1
	key := &x.K.at(x.b, at)[x.h*dk]
	value := x.V.at(x.b, at)[x.h*x.DV+c:]
	v := &m.v[0]
	if full {
		v = &value[:cols][0]
	} else {
		copy(m.v[:x.c1-c], value)
	}
	m.wr = writeArgs{state: state, ld: ld, dk: dk, k: key, scale: x.Scale, w: v, out: &m.o[0]}
	read, decay := key, float32(1)
	switch {
	case x.Decay.Data == nil:
	case x.PerKey:
		m.wr.g, m.wr.perKey = &m.grow[i*dk], 1
		read = &m.gk[i*dk]
	default:
		m.wr.g, decay = &m.grow[i], m.grow[i]
	}
	if x.Beta.Data != nil {
		beta := x.Beta.at(x.b, at)
		b := beta[0]
		if !x.BetaShared {
			b = beta[x.h]
		}
		m.rd = readArgs{state: state, ld: ld, dk: dk, a: read, v: v, alpha: b, decay: decay, out: &m.w[0]}
		x.read(&m.rd)
		m.wr.w = &m.w[0]
	}
	group := x.HQ / x.HKV
	q := x.Q.at(x.b, at)[x.h*group*dk:]
	o := x.O.at(x.b, at)[x.h*group*x.DV+c:]
	for g := range group {
		out := &m.o[0]
		if full {
			out = &o[g*x.DV : g*x.DV+cols][0]
		}
		if g == 0 {
			m.wr.q, m.wr.out = &q[0], out
			x.write(&m.wr)
		} else {
			m.rd = readArgs{state: state, ld: ld, dk: dk, a: &q[g*dk], alpha: x.Scale, decay: 1, out: out}
			x.read(&m.rd)
		}
		if !full {
			copy(o[g*x.DV:g*x.DV+x.c1-c], m.o[:])
		}
	}
}
