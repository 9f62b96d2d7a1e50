package norm_test

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cpu/norm"
)

func Example() {
	x := []float32{3, 4, 0, 0} // root of the mean square: 2.5
	y := make([]float32, 4)
	norm.RMSNorm(y, x, []float32{1, 1, 1, 1}, 1, 4, 4, 4, 0)
	fmt.Println(y)
	// Output: [1.2 1.6 0 0]
}
