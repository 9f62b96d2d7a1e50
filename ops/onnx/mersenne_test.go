package onnx

import (
	"math"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
)

// TestSeeded: numpy.random.RandomState(5), and the 700th number of RandomState(0).
func TestSeeded(t *testing.T) {
	seeded := func(s int64) *draws { return generator(graph.Attrs{"seed": s}) }
	draw := func(n int, f func() float64) (v []float64) {
		for range n {
			v = append(v, f())
		}
		return v
	}
	if got := draw(3, seeded(5).Float64); !slices.Equal(got, []float64{0.22199317108973948, 0.8707323061773764, 0.20671915533942642}) {
		t.Errorf("uniform: %v", got)
	}
	if got := draw(700, seeded(0).Float64)[699]; got != 0.8427768626848423 {
		t.Errorf("the 700th: %v", got)
	}
	for i, want := range []float64{0.44122748688504143, -0.33087015189408764, 2.43077118700778} {
		if got := draw(i+1, seeded(5).Normal)[i]; math.Abs(got-want) > 1e-15 {
			t.Errorf("normal %d: %v, want %v", i, got, want)
		}
	}
	g := seeded(5)
	var got []float64
	for _, p := range []float64{.1, .9, .2, .7, .5, .45, .6, 0, 1} {
		got = append(got, g.Bernoulli(p))
	}
	if !slices.Equal(got, []float64{0, 1, 0, 0, 0, 1, 0, 0, 1}) {
		t.Errorf("bernoulli: %v", got)
	}
	if a, b := generator(graph.Attrs{"seed": float32(7)}).Float64(), seeded(7).Float64(); a != b {
		t.Errorf("the seed as a float gives %v, as an integer %v", a, b)
	}
}
