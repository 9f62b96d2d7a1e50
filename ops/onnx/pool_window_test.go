package onnx

import (
	"context"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// TestWideWindow: a window that is nearly all padding takes the time of what is inside.
func TestWideWindow(t *testing.T) {
	for _, op := range []string{"MaxPool-12", "AveragePool-19"} {
		g, err := graph.ParseString(`graph p (float[1,1,4] x) => (float[1,1,4] y) {
  float[1,1,4] y = ` + op + ` <kernel_shape: ints = [1099511627776], pads: ints = [549755813888, 549755813887]> (x)
}`)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		y, err := ops.Run(ctx, table(t), g, []*tensor.Tensor{tensor.From([]float32{3, 3, 3, 3}, 1, 1, 4)})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			if y[0].At(i) != 3 {
				t.Errorf("%s: element %d is %v", op, i, y[0].At(i))
			}
		}
	}
}
