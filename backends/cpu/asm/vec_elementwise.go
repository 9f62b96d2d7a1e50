package main

import (
	"strings"

	"github.com/mmcloughlin/avo/attr"
	. "github.com/mmcloughlin/avo/build"
	"github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// params splits an assembly parameter list into its pointers and its scalars.
func (v vecShape) params() (pointers, scalars []string) {
	before, after, _ := strings.Cut(v.Asm, "n int")
	for _, p := range strings.Split(strings.NewReplacer("*float32", "", "*uint16", "").Replace(before), ",") {
		if p = strings.TrimSpace(p); p != "" {
			pointers = append(pointers, p)
		}
	}
	for _, p := range strings.Split(strings.TrimSuffix(after, "float32"), ",") {
		if p = strings.TrimSpace(p); p != "" {
			scalars = append(scalars, p)
		}
	}
	return pointers, scalars
}

// start opens the function and gives the file its build constraint.
func (s *simd) start(k vecKernel) {
	ret := ""
	if k.Ret != "" {
		ret = " " + k.Ret
	}
	TEXT(k.Name+s.suffix(), attr.NOSPLIT, "func("+k.Asm+")"+ret)
	Pragma("noescape")
}

// scalar broadcasts a float32 parameter.
func (s *simd) scalar(name string) reg.VecVirtual {
	r := s.reg()
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	VBROADCASTSS(p.Addr, r)
	return r
}

// elementwise emits NAMEAVX512 and NAMEAVX2: dst[i] = body(inputs[i], scalars).
// The inputs are the pointers after the first, then dst itself if inout. The
// main loop takes unroll vectors at a time, the rest is done one by one, the
// last under a mask; all run the same body, so a result does not depend on
// where its element stands.
func elementwise(k vecKernel, unroll int, inout bool, body func(s *simd, in, scalar []reg.VecVirtual) reg.VecVirtual) {
	both(func(s *simd) {
		s.start(k)
		pointers, scalars := k.params()
		var base []reg.Register
		for _, p := range pointers {
			base = append(base, Load(Param(p), GP64()))
		}
		inputs := base[1:]
		if inout {
			inputs = append(inputs[:len(inputs):len(inputs)], base[0])
		}
		n := Load(Param("n"), GP64()).(reg.GPVirtual)
		var sc []reg.VecVirtual
		for _, p := range scalars {
			sc = append(sc, s.scalar(p))
		}
		vector := func(j int, mask *tailMask) {
			var in []reg.VecVirtual
			for _, b := range inputs {
				in = append(in, s.load(operand.Mem{Base: b, Disp: j * s.bytes()}, mask))
			}
			s.store(body(s, in, sc), operand.Mem{Base: base[0], Disp: j * s.bytes()}, mask)
		}
		s.learn(20, func() { vector(0, nil) })
		advance := func(vectors int) {
			for _, b := range base {
				ADDQ(operand.U32(uint32(vectors*s.bytes())), b)
			}
			SUBQ(operand.U32(uint32(vectors*s.lanes())), n)
		}
		if unroll > 1 {
			Label("many")
			CMPQ(n, operand.U32(uint32(unroll*s.lanes())))
			JB(operand.LabelRef("one"))
			for j := range unroll {
				vector(j, nil)
			}
			advance(unroll)
			JMP(operand.LabelRef("many"))
		}
		Label("one")
		CMPQ(n, operand.U32(uint32(s.lanes())))
		JB(operand.LabelRef("rest"))
		vector(0, nil)
		advance(1)
		JMP(operand.LabelRef("one"))
		Label("rest")
		TESTQ(n, n)
		JE(operand.LabelRef("done"))
		m := s.tail(n)
		vector(0, &m)
		Label("done")
		VZEROUPPER()
		RET()
	})
}
