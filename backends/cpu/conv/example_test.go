package conv_test

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends/cpu/conv"
)

// Two channels, three taps: the mean of the last three inputs and a copy of the
// one before the last, first over a whole sequence and then one token more.
func Example() {
	const third = float32(1) / 3
	w := make([]float32, 3*2)
	conv.Pack(w, []float32{third, third, third, 0, 1, 0}, 2, 3)
	s := conv.Shape{C: 2, K: 3, LdX: 2, LdY: 2, LdS: 2}
	x := []float32{3, 1, 6, 2, 9, 3, 12, 4}
	y := make([]float32, len(x))
	conv.Causal(y, x, nil, w, nil, s, 0, 4, 0, 2)
	fmt.Println(y)

	state := make([]float32, 2*2) // ONNX layout, [C, K-1]
	conv.WriteState(state, x, nil, s, 2, 4, 0, 2)
	next := make([]float32, 2)
	conv.Step(next, []float32{15, 5}, state, state, w, nil, 2, 3, 2, false, 0, 2)
	fmt.Println(next, state)
	// Output:
	// [1 0 3 1 6 2 9 3]
	// [12 4] [12 15 4 5]
}
