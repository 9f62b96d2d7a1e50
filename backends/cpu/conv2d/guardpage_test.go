//go:build linux

package conv2d

import (
	"testing"

	"github.com/ssdc-go/ssdc/internal/guardpage"
)

// TestEverySecond: all lengths, with both operands against an inaccessible page.
func TestEverySecond(t *testing.T) {
	from, to := guardpage.New(t), guardpage.New(t)
	eachISA(t, func(t *testing.T) {
		for n := 1; n < 100; n++ {
			src, dst := from.Floats(2*n-1), to.Floats(n)
			for i := range src {
				src[i] = float32(i)
			}
			everySecond(dst, src)
			for i, v := range dst {
				if v != float32(2*i) {
					t.Fatalf("%d elements: element %d is %v", n, i, v)
				}
			}
		}
	})
}
