package memory

import (
	"testing"
	"unsafe"
)

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

func TestLarge(t *testing.T) {
	for _, n := range []int{0, 1, 100, 1 << 20, 4 << 20, 4<<20 + 12345} {
		b := Large(n)
		if len(b) != n || cap(b) != n {
			t.Errorf("Large(%d) has %d bytes, room for %d", n, len(b), cap(b))
		}
		if n > 0 && uintptr(unsafe.Pointer(&b[0]))%64 != 0 {
			t.Errorf("Large(%d) starts at %p", n, &b[0])
		}
		for i := range b {
			if b[i] != 0 {
				t.Fatalf("Large(%d): byte %d is %d", n, i, b[i])
			}
			b[i] = 1
		}
	}
}
