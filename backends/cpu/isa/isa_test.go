package isa

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, i := range []ISA{Portable, AVX2, AVX512, AMX} {
		got, err := Parse(strings.ToUpper(i.String()))
		if err != nil || got != i {
			t.Errorf("Parse(%v) = %v, %v", i, got, err)
		}
	}
	if _, err := Parse("neon"); err == nil || !strings.Contains(err.Error(), "expected portable, avx2, avx512, amx") {
		t.Errorf("Parse(neon): %v", err)
	}
}

func TestForce(t *testing.T) {
	was := Level()
	defer Force(was)
	for i := Portable; i <= AMX; i++ {
		err := Force(i)
		if (err == nil) != (i <= Best()) {
			t.Errorf("Force(%v) with best %v: %v", i, Best(), err)
		}
		if err == nil && (Level() != i || Current() != min(i, AVX512)) {
			t.Errorf("after Force(%v) Level is %v, Current %v", i, Level(), Current())
		}
	}
	for _, bad := range []ISA{-1, AMX + 1} {
		if Force(bad) == nil {
			t.Errorf("Force(%d) accepted", bad)
		}
	}
}
