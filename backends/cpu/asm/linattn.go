package main

import (
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels of package linattn: a step of 32 columns of the state, its rows
// walked a few at a time so that the sums do not wait for each other.
func linattnKernels() {
	ConstraintExpr("amd64,!purego")
	both(linattnRead)
	both(linattnWrite)
	ssdTouch()
}

// stateRows emits one(i) for rows i = 0, 1, ... of the state in turn: unroll at
// a time, then the rest. at and i advance over the row and its number.
func stateRows(s *simd, name string, unroll int, state, ld, dk reg.GPVirtual, row func(u int, at, i reg.Register)) {
	at, i, left := GP64(), GP64(), GP64()
	MOVQ(state, at)
	XORQ(i, i)
	MOVQ(dk, left)
	Label(name + "Rows")
	CMPQ(left, operand.U8(uint8(unroll)))
	JB(ref(name + "Rest"))
	for u := range unroll {
		row(u, at, i)
		ADDQ(ld, at)
		INCQ(i)
	}
	SUBQ(operand.U8(uint8(unroll)), left)
	JMP(ref(name + "Rows"))
	Label(name + "Rest")
	TESTQ(left, left)
	JE(ref(name + "Sum"))
	row(0, at, i)
	ADDQ(ld, at)
	INCQ(i)
	DECQ(left)
	JMP(ref(name + "Rest"))
	Label(name + "Sum")
}

// zeroed makes unroll sums of 32 columns.
func zeroed(s *simd, unroll int) [][]reg.VecVirtual {
	acc := make([][]reg.VecVirtual, unroll)
	for u := range acc {
		for range panelCols / s.lanes() {
			z := s.reg()
			VXORPS(z, z, z)
			acc[u] = append(acc[u], z)
		}
	}
	return acc
}

// folded adds the sums pairwise into the first.
func folded(acc [][]reg.VecVirtual) []reg.VecVirtual {
	for n := len(acc) / 2; n > 0; n /= 2 {
		for u := range n {
			for j := range acc[u] {
				VADDPS(acc[u+n][j], acc[u][j], acc[u][j])
			}
		}
	}
	return acc[0]
}

func (s *simd) unroll() int {
	if s.wide {
		return 4
	}
	return 2
}

func scalarAt(p, i reg.Register) operand.Mem { return operand.Mem{Base: p, Index: i, Scale: 4} }

func vectorAt(s *simd, p reg.Register, j int) operand.Mem {
	return operand.Mem{Base: p, Disp: j * s.bytes()}
}

// linattnRead is out = alpha * sum, or alpha * (v - sum), for the sum over d of
// a[d] S[d], times decay.
func linattnRead(s *simd) {
	const (
		fState = iota
		fLd
		fDK
		fA
		fV
		fAlpha
		fDecay
		fOut
	)
	arg := function(s, "read")
	state, ld, dk, a := arg.load(fState), arg.bytes(fLd), arg.load(fDK), arg.load(fA)
	acc := zeroed(s, s.unroll())
	stateRows(s, "read", s.unroll(), state, ld, dk, func(u int, at, i reg.Register) {
		x := s.reg()
		VBROADCASTSS(scalarAt(a, i), x)
		for j := range acc[u] {
			VFMADD231PS(vectorAt(s, at, j), x, acc[u][j])
		}
	})
	sum := folded(acc)
	v, out := arg.load(fV), arg.load(fOut)
	alpha := s.reg()
	VBROADCASTSS(arg.mem(fDecay), alpha)
	for j := range sum {
		VMULPS(alpha, sum[j], sum[j])
	}
	VBROADCASTSS(arg.mem(fAlpha), alpha)
	TESTQ(v, v)
	JE(ref("readStore"))
	for j := range sum {
		x := s.reg()
		VMOVUPS(vectorAt(s, v, j), x)
		VSUBPS(sum[j], x, sum[j])
	}
	Label("readStore")
	for j := range sum {
		VMULPS(alpha, sum[j], sum[j])
		VMOVUPS(sum[j], vectorAt(s, out, j))
	}
	done()
}

// linattnWrite is S[d] = g[d] S[d] + k[d] w and out = scale * sum_d q[d] S[d],
// with one g for all d unless perKey is set.
func linattnWrite(s *simd) {
	const (
		fState = iota
		fLd
		fDK
		fG
		fPerKey
		fK
		fQ
		fW
		fScale
		fOut
	)
	arg := function(s, "write")
	state, ld, dk := arg.load(fState), arg.bytes(fLd), arg.load(fDK)
	g, k, q, pw := arg.load(fG), arg.load(fK), arg.load(fQ), arg.load(fW)
	var w []reg.VecVirtual
	for j := range panelCols / s.lanes() {
		r := s.reg()
		VMOVUPS(vectorAt(s, pw, j), r)
		w = append(w, r)
	}
	acc := zeroed(s, s.unroll())
	one := s.reg()
	row := func(gated, perKey bool) func(u int, at, i reg.Register) {
		return func(u int, at, i reg.Register) {
			kd, qd, gd := s.reg(), s.reg(), one
			VBROADCASTSS(scalarAt(k, i), kd)
			VBROADCASTSS(scalarAt(q, i), qd)
			if perKey {
				gd = s.reg()
				VBROADCASTSS(scalarAt(g, i), gd)
			}
			for j := range w {
				x := s.reg()
				if gated {
					VMULPS(vectorAt(s, at, j), gd, x)
				} else {
					VMOVUPS(vectorAt(s, at, j), x)
				}
				VFMADD231PS(w[j], kd, x)
				VMOVUPS(x, vectorAt(s, at, j))
				VFMADD231PS(x, qd, acc[u][j])
			}
		}
	}
	TESTQ(g, g)
	JE(ref("ungated"))
	CMPQ(arg.mem(fPerKey), operand.U8(0))
	JE(ref("perHead"))
	stateRows(s, "perKey", s.unroll(), state, ld, dk, row(true, true))
	JMP(ref("fold"))
	Label("perHead")
	VBROADCASTSS(operand.Mem{Base: g}, one)
	stateRows(s, "gated", s.unroll(), state, ld, dk, row(true, false))
	JMP(ref("fold"))
	Label("ungated")
	stateRows(s, "plain", s.unroll(), state, ld, dk, row(false, false))
	Label("fold")
	sum := folded(acc)
	scale, out := s.reg(), arg.load(fOut)
	VBROADCASTSS(arg.mem(fScale), scale)
	for j := range sum {
		VMULPS(scale, sum[j], sum[j])
		VMOVUPS(sum[j], vectorAt(s, out, j))
	}
	done()
}
