package tensor

import (
	"math"
	"testing"
)

// TestRoom: a product of lengths that wraps is no small
func TestRoom(t *testing.T) {
	for _, shape := range [][]int{{1 << 32, 1 << 32}, {math.MaxInt}, {1<<31 - 1, 1<<31 - 1}, {1 << 62, 2, 1}} {
		for _, d := range []DType{Float64, Int4, String} {
			func() {
				defer func() {
					if _, ok := recover().(*TooLarge); !ok {
						t.Errorf("%v %v: not told to be too large", d, shape)
					}
				}()
				New(d, shape...)
			}()
		}
	}
	New(Float32, 1<<40, 0, 1<<40)
}
