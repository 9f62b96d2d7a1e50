package memory

import "testing"

func TestCheck(t *testing.T) {
	for _, c := range []struct {
		bytes int64
		ok    bool
	}{{0, true}, {1 << 20, true}, {1 << 55, false}, {-1, false}} {
		if err := Check("it", c.bytes); (err == nil) != c.ok {
			t.Errorf("%d bytes: %v", c.bytes, err)
		}
	}
}

func TestProduct(t *testing.T) {
	for _, c := range []struct {
		lengths []int
		want    int64
	}{{nil, 4}, {[]int{2, 3}, 24}, {[]int{0, 1 << 62}, 0}, {[]int{1 << 40, 1 << 40}, -1}, {[]int{-1}, -1}} {
		if got := Product(4, c.lengths...); got != c.want {
			t.Errorf("%v: got %d, want %d", c.lengths, got, c.want)
		}
	}
}
