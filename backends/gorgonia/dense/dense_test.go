package dense_test

import (
	"slices"
	"strings"
	"testing"

	gt "gorgonia.org/tensor"

	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Every shared element type goes there and back, on the same memory.
func TestRoundTrip(t *testing.T) {
	for _, d := range []tensor.DType{
		tensor.Float32, tensor.Float64, tensor.Int8, tensor.Int16, tensor.Int32, tensor.Int64, tensor.Uint8,
		tensor.Uint16, tensor.Uint32, tensor.Uint64, tensor.Bool, tensor.Complex64, tensor.Complex128,
	} {
		for _, shape := range [][]int{{2, 3}, {1}, {1, 1}, {4}, {}} {
			x := tensor.New(d, shape...)
			for i := range x.Data {
				x.Data[i] = byte(i % 2)
			}
			g, err := dense.To(x)
			if err != nil {
				t.Fatalf("%s: %v", x.TypeString(), err)
			}
			y, err := dense.From(g)
			if err != nil {
				t.Fatalf("%s: %v", x.TypeString(), err)
			}
			if y.DType != x.DType || !slices.Equal(y.Shape, x.Shape) || !slices.Equal(y.Data, x.Data) {
				t.Errorf("%s came back as %s", x.TypeString(), y.TypeString())
			}
			if len(shape) > 0 && &y.Data[0] != &x.Data[0] {
				t.Errorf("%s was copied", x.TypeString())
			}
		}
	}
}

// Slices and lazy transpositions are other orders of the same memory.
func TestViews(t *testing.T) {
	x := gt.New(gt.WithShape(2, 3), gt.WithBacking([]float32{0, 1, 2, 3, 4, 5}))
	column, err := x.Slice(nil, gt.S(1, 3))
	if err != nil {
		t.Fatal(err)
	}
	check := func(v gt.Tensor, shape []int, want ...float64) {
		t.Helper()
		got, err := dense.From(v)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.Shape, shape) || !slices.Equal(got.AsFloats(), want) {
			t.Errorf("got %s %v, want %v %v", got.TypeString(), got.AsFloats(), shape, want)
		}
	}
	check(column, []int{2, 2}, 1, 2, 4, 5)
	if err := x.T(); err != nil {
		t.Fatal(err)
	}
	check(x, []int{3, 2}, 0, 3, 1, 4, 2, 5)
	// AsFortran takes row-major values and stores them by columns.
	check(gt.New(gt.WithShape(2, 2), gt.AsFortran([]float32{0, 1, 2, 3})), []int{2, 2}, 0, 1, 2, 3)
	check(gt.New(gt.WithShape(2), gt.WithBacking([]int{7, 8})), []int{2}, 7, 8)
	check(gt.New(gt.FromScalar(float64(3))), []int{}, 3)
}

func TestErrors(t *testing.T) {
	for want, f := range map[string]func() error{
		"no bfloat16":      func() error { _, err := dense.To(tensor.New(tensor.BFloat16, 2)); return err },
		"without elements": func() error { _, err := dense.To(tensor.New(tensor.Float32, 0, 2)); return err },
		"no tensors of string": func() error {
			_, err := dense.From(gt.New(gt.WithShape(1), gt.WithBacking([]string{"a"})))
			return err
		},
		"not dense": func() error {
			_, err := dense.From(gt.CSRFromCoord(gt.Shape{2, 2}, []int{0, 1}, []int{0, 1}, []float64{1, 2}))
			return err
		},
	} {
		if err := f(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one about %q", err, want)
		}
	}
}
