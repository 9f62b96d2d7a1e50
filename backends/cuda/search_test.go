package cuda

import (
	"testing"

	"github.com/ssdc-go/ssdc/backends/cuda/driver"
)

// TestPickFastest: medians count, and another than the first algorithm is taken only where it is faster by more than chance.
func TestPickFastest(t *testing.T) {
	for _, c := range []struct {
		times [][]float32
		want  int
	}{
		{nil, 0},
		{[][]float32{{}}, 0},
		{[][]float32{{3, 3, 3}}, 0},
		{[][]float32{{3, 3, 3}, {2.98, 2.98, 2.98}}, 0},
		{[][]float32{{3, 3, 3}, {2.9, 2.9, 2.9}, {2.8, 9, 2.8}, {2.85, 2.85, 2.85}}, 2},
		{[][]float32{{3, 1, 3}, {2.9, 2.9, 9}}, 1},
	} {
		if got := pickFastest(c.times); got != c.want {
			t.Errorf("%v: algorithm %d, want %d", c.times, got, c.want)
		}
	}
}

// TestSearch: on a device with cuBLASLt a large product is timed, found again by its form, and right with whatever was chosen.
func TestSearch(t *testing.T) {
	needDevice(t)
	dev, err := openDevice(settings{blas: true})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.close()
	small := driver.Product{M: 64, N: 64, K: 64, A: 256, B: 512}
	if got := dev.fastest(small, 0, 0); got != 0 || len(dev.choices) != 0 {
		t.Errorf("a small product was searched: algorithm %d, %d forms", got, len(dev.choices))
	}
	if dev.blas == nil {
		t.Skip("cuBLASLt is not there")
	}
	const m, n, k = 8192, 4096, 4096
	a, err := dev.Alloc(2 * m * k)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Free(a)
	b, err := dev.Alloc(2 * n * k)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Free(b)
	c, err := dev.Alloc(2 * m * n)
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Free(c)
	q := driver.Product{M: m, N: n, K: k, Type: driver.BLASBF16, OutType: driver.BLASBF16, TransB: true, LdA: k, LdB: k, LdC: n, Batch: 1, A: a, B: b, C: c, Alpha: 1}
	choice := dev.fastest(q, 2*m*k, 2*n*k)
	if choice < 0 || choice >= driver.Choices || len(dev.choices) != 1 {
		t.Errorf("algorithm %d, %d forms", choice, len(dev.choices))
	}
	times, err := dev.timeChoices(q, 2*m*k, 2*n*k)
	if err != nil || len(times) == 0 || len(times[0]) != searchTurns*searchRuns/2 {
		t.Errorf("times %v: %v", times, err)
	}
	if again := dev.fastest(q, 2*m*k, 2*n*k); again != choice || len(dev.choices) != 1 {
		t.Errorf("algorithm %d, then %d", choice, again)
	}
}
