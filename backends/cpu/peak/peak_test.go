package peak

import (
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
)

func TestMeasure(t *testing.T) {
	defer isa.Force(isa.Level())
	for level := isa.Portable; level <= isa.Best(); level++ {
		if err := isa.Force(level); err != nil {
			t.Fatal(err)
		}
		m := Measure(2)
		t.Logf("%v: f32 %.0f, bf16 %.0f, int8 %.0f GFLOP/s, read %.1f GB/s", level, m.F32/1e9, m.BF16/1e9, m.Int8/1e9, m.Read/1e9)
		if m.F32 < 1e8 || m.BF16 < 1e8 || m.Int8 < 1e8 || m.Read < 1e8 || m.Threads != 2 {
			t.Errorf("%v: %+v is not what a computer does", level, m)
		}
	}
}
