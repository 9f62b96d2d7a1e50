package selscan

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// LinArgs are the operands of RunLinear: h_t = a_t*h_{t-1} + u_t over rows of C
// channels.
type LinArgs struct {
	B, L, C int
	Complex bool      // a row holds C/2 complex numbers as (re, im) pairs
	A, U    Seq       // rows [C]
	H0      []float32 // [B,C], nil: zeros
	Y       Seq       // rows [C], every h_t, written; may be A or U itself
	HT      []float32 // [B,C], nil: not wanted; may be the same slice as H0
}

// Check reports the first operand that does not fit the shapes.
func (a *LinArgs) Check() error {
	if a.B < 0 || a.L < 0 || a.C < 0 {
		return fmt.Errorf("selscan: negative dimension in B=%d L=%d C=%d", a.B, a.L, a.C)
	}
	if a.Complex && a.C%2 != 0 {
		return fmt.Errorf("selscan: C=%d is odd: complex numbers are pairs", a.C)
	}
	if err := a.A.check("a", a.B, a.L, a.C); err != nil {
		return err
	}
	if err := a.U.check("u", a.B, a.L, a.C); err != nil {
		return err
	}
	if err := a.Y.check("y", a.B, a.L, a.C); err != nil {
		return err
	}
	if err := checkLen("initial state", a.H0, a.B*a.C, "[B,C]"); err != nil {
		return err
	}
	return checkLen("final state", a.HT, a.B*a.C, "[B,C]")
}

// LinWorkspace is the scratch memory of RunLinear, whatever the shape; one call
// at a time may use it.
type LinWorkspace struct {
	h    [][linWidth]float32
	call linCall
}

// NewLinWorkspace makes a workspace for pools of at most the given workers.
func NewLinWorkspace(workers int) *LinWorkspace {
	return &LinWorkspace{h: make([][linWidth]float32, max(workers, 1))}
}

// linWidth is the channels of a task, and of the assembly.
const linWidth = 64

type linCall struct {
	*LinArgs
	ws     *LinWorkspace
	isa    isa.ISA
	blocks int
}

// RunLinear computes the linear scan a. It allocates nothing when ws is given.
func RunLinear(p *pool.Pool, a *LinArgs, ws *LinWorkspace) error {
	if err := a.Check(); err != nil {
		return err
	}
	workers := 1
	if p != nil {
		workers = p.Workers()
	}
	if ws == nil {
		ws = NewLinWorkspace(workers)
	}
	if len(ws.h) < workers {
		return fmt.Errorf("selscan: linear workspace is for %d workers: the pool has %d", len(ws.h), workers)
	}
	if a.L == 0 && a.HT != nil {
		if a.H0 != nil {
			copy(a.HT, a.H0)
		} else {
			clear(a.HT)
		}
	}
	if a.B == 0 || a.C == 0 || a.L == 0 {
		return nil
	}
	ws.call = linCall{LinArgs: a, ws: ws, isa: isa.Current(), blocks: (a.C + linWidth - 1) / linWidth}
	c := &ws.call
	n := a.B * c.blocks
	if p == nil || n == 1 {
		for i := range n {
			c.Do(0, i)
		}
	} else {
		p.Run(n, c)
	}
	ws.call = linCall{}
	return nil
}

// Do runs one channel block of one batch row.
func (c *linCall) Do(worker, i int) {
	b, d := i/c.blocks, i%c.blocks*linWidth
	w := min(linWidth, c.C-d)
	h := c.ws.h[worker][:]
	clear(h)
	if c.H0 != nil {
		copy(h[:w], c.H0[b*c.C+d:])
	}
	if c.Complex {
		complexSteps(h, c.A.Data[b*c.A.StrideB+d:], c.U.Data[b*c.U.StrideB+d:], c.Y.Data[b*c.Y.StrideB+d:], w, c.L, c.A.StrideL, c.U.StrideL, c.Y.StrideL)
		if c.HT != nil {
			copy(c.HT[b*c.C+d:b*c.C+d+w], h)
		}
		return
	}
	k := linArgs{
		h: &h[0], t: c.L,
		a: &c.A.Data[b*c.A.StrideB+d], lda: c.A.StrideL,
		u: &c.U.Data[b*c.U.StrideB+d], ldu: c.U.StrideL,
		y: &c.Y.Data[b*c.Y.StrideB+d], ldy: c.Y.StrideL, w: w,
	}
	c.run(&k)
	if c.HT != nil {
		copy(c.HT[b*c.C+d:b*c.C+d+w], h)
	}
}
