package isa

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	for _, i := range []ISA{Portable, AVX2, AVX512, AMX, NEON} {
		got, err := Parse(strings.ToUpper(i.String()))
		if err != nil || got != i {
			t.Errorf("Parse(%v) = %v, %v", i, got, err)
		}
	}
	if _, err := Parse("sse"); err == nil || !strings.Contains(err.Error(), "expected portable, ") {
		t.Errorf("Parse(sse): %v", err)
	}
}

// want is what kernels without tiles use at a level.
func want(i ISA) ISA {
	if i == AMX {
		return AVX512
	}
	return i
}

func TestForce(t *testing.T) {
	was := Level()
	defer Force(was)
	for i := Portable; i <= max(AMX, NEON); i++ {
		err := Force(i)
		if (err == nil) != (i <= Best()) {
			t.Errorf("Force(%v) with best %v: %v", i, Best(), err)
		}
		if err == nil && (Level() != i || Current() != want(i)) {
			t.Errorf("after Force(%v) Level is %v, Current %v", i, Level(), Current())
		}
	}
	for _, bad := range []ISA{-1, max(AMX, NEON) + 1} {
		if Force(bad) == nil {
			t.Errorf("Force(%d) accepted", bad)
		}
	}
}
