package onnx

import (
	"math"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/memory"
)

// TestGrowth: values that a loop carries are refused while the next ones still
// fit, when they keep growing, and only then. The rest of the memory is taken by
// what the loop has kept.
func TestGrowth(t *testing.T) {
	const unit = 1 << 20
	most, _ := memory.Limit()
	of := func(units ...int) []*tensor.Tensor {
		var out []*tensor.Tensor
		for _, n := range units {
			out = append(out, tensor.New(tensor.Uint8, n*unit))
		}
		return out
	}
	for _, c := range []struct {
		name  string
		free  int64 // units besides what is kept
		sizes []int // carried after each iteration
		fails int   // the iteration that is refused, from 0; -1: none
	}{
		{"doubling", 50, []int{1, 2, 4, 8, 16}, 4}, // 2*(16+32) and headers
		{"doubling, in time", 97, []int{1, 2, 4, 8, 16}, -1},
		{"growing by one", 19, []int{1, 2, 3, 4, 5}, 4}, // 2*(5+6.25)
		{"constant", 1, []int{8, 8, 8, 8, 8}, -1},
		{"made by the first iteration", 1, []int{1, 16, 16, 16, 16}, -1},
		{"up and down", 1, []int{1, 16, 1, 16, 1}, -1},
	} {
		var g growth
		failed := -1
		for i, n := range c.sizes {
			err := g.enough(of(n), most-c.free*unit, int64(i))
			if err == nil {
				continue
			}
			failed = i
			if !strings.Contains(err.Error(), "of a Loop whose carried values grow") || !strings.Contains(err.Error(), "give the loop fewer iterations") {
				t.Errorf("%s: %v", c.name, err)
			}
			break
		}
		if failed != c.fails {
			t.Errorf("%s: refused after iteration %d, expected %d", c.name, failed, c.fails)
		}
	}
}

// TestHeld: what counts are words and members of containers too, and what describes a single number.
func TestHeld(t *testing.T) {
	long := tensor.FromStrings([]string{strings.Repeat("x", 1<<20)})
	seq := tensor.New(tensor.Sequence)
	seq.Elems = []*tensor.Tensor{long, tensor.New(tensor.Float32, 1<<18)}
	for _, c := range []struct {
		t    *tensor.Tensor
		want int64
	}{{nil, 0}, {tensor.Scalar(int64(1)), 300}, {long, 1 << 20}, {seq, 2 << 20}} {
		if got := held(c.t); math.Abs(float64(got-c.want)) > 2000 {
			t.Errorf("%v: %d bytes, expected about %d", c.t, got, c.want)
		}
	}
	// Single numbers: the headers of so many are more than the machine has.
	most, _ := memory.Limit()
	step := held(tensor.Scalar(int64(1)))
	if err := enough(most/2+step, step, math.MaxInt64, most/2/step, true); err == nil || !strings.Contains(err.Error(), "scan outputs of a Loop") {
		t.Errorf("got %v", err)
	}
}
