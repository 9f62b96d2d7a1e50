package isa

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, i := range []ISA{Portable, AVX2, AVX512} {
		got, err := Parse(strings.ToUpper(i.String()))
		if err != nil || got != i {
			t.Errorf("Parse(%v) = %v, %v", i, got, err)
		}
	}
	if _, err := Parse("neon"); err == nil || !strings.Contains(err.Error(), "expected portable, avx2, avx512") {
		t.Errorf("Parse(neon): %v", err)
	}
}

func TestForce(t *testing.T) {
	was := Current()
	defer Force(was)
	for i := Portable; i <= AVX512; i++ {
		err := Force(i)
		if (err == nil) != (i <= Best()) {
			t.Errorf("Force(%v) with best %v: %v", i, Best(), err)
		}
		if err == nil && Current() != i {
			t.Errorf("after Force(%v) Current is %v", i, Current())
		}
	}
	for _, bad := range []ISA{-1, AVX512 + 1} {
		if Force(bad) == nil {
			t.Errorf("Force(%d) accepted", bad)
		}
	}
}
