package vec_test

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

func Example() {
	x := []float32{-1, 0, 1, 2}
	y := make([]float32, 4)
	vec.SiLU(y, x)
	fmt.Printf("%.4f\n", y)
	fmt.Println(vec.Sum(x), vec.MaxOf(x))
	// Output:
	// [-0.2689 0.0000 0.7311 1.7616]
	// 2 2
}
