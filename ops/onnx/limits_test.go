package onnx

import (
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// TestConvolveTooLarge: a result beyond memory is refused before its windows are
// listed, which would take as long as computing it.
func TestConvolveTooLarge(t *testing.T) {
	defer func() {
		if err, ok := recover().(error); !ok || !strings.Contains(err.Error(), "more than the memory") {
			t.Errorf("got %v", err)
		}
	}()
	pads := graph.Attrs{"pads": []int64{1 << 21, 1 << 21, 1 << 21, 1 << 21}}
	_, _, err := convolve(pads, []int{1, 1, 2, 2}, []int{1, 1, 3, 3}, make([]float64, 4), make([]float64, 9))
	t.Errorf("got %v", err)
}

// TestHiddenSizeContradicts: the weights have another size than the attribute says.
func TestHiddenSizeContradicts(t *testing.T) {
	g, err := graph.ParseString(`graph g (float[2,1,3] x, float[1,8,3] w, float[1,8,2] r) => (float[2,1,1,2] y) {
  float[2,1,1,2] y = LSTM-14 <hidden_size: int = 5> (x, w, r)
}`)
	if err != nil {
		t.Fatal(err)
	}
	if err := ops.InferGraph(table(t), g); err == nil || !strings.Contains(err.Error(), "hidden_size") {
		t.Errorf("got %v", err)
	}
}
