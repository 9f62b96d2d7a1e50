package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// castKernels convert between the dtypes that models meet at run time.
func castKernels() []*Kernel {
	return []*Kernel{{
		Op: onnxOp("Cast", 6), Name: "loop", Rows: lastAxisRows, Over: map[int][]int{0: {0}},
		Accepts: func(n *graph.Node, _ backends.Target) error {
			from, to := n.In[0].Type.DType, n.Out[0].Type.DType
			if casts[[2]tensor.DType{from, to}] == nil && from != to || !n.In[0].Type.Ranked() || from.Size() == 0 {
				return fmt.Errorf("no conversion from %v to %v", from, to)
			}
			return nil
		},
		Tile: func(b *Bind, n *graph.Node) func(lo, hi int) {
			dst, src := b.Out(0), b.In(0)
			if !src.Dense() {
				return nil
			}
			f, de, se := castOf(dst, src), dst.DType.Size(), src.DType.Size()
			return func(lo, hi int) { f(dst.Raw[lo*de:hi*de], src.Raw[lo*se:hi*se]) }
		},
		Lower: func(b *Bind, n *graph.Node) (Step, error) {
			dst, src := b.Out(0), b.In(0)
			f, de, se := castOf(dst, src), dst.DType.Size(), src.DType.Size()
			if src.Dense() {
				return b.Split(dst.Len(), lightGrain, func(lo, hi int) { f(dst.Raw[lo*de:hi*de], src.Raw[lo*se:hi*se]) }), nil
			}
			w := src.Cols
			return b.Split(src.Rows, max(1, lightGrain/w), func(lo, hi int) {
				for r := lo; r < hi; r++ {
					f(dst.Raw[r*w*de:(r+1)*w*de], src.Raw[r*src.Stride*se:][:w*se])
				}
			}), nil
		},
	}}
}

// castOf is the conversion between the dtypes of two values.
func castOf(dst, src *Mem) func(dst, src []byte) {
	if src.DType == dst.DType {
		return func(dst, src []byte) { copy(dst, src) }
	}
	return casts[[2]tensor.DType{src.DType, dst.DType}]
}

var casts = map[[2]tensor.DType]func(dst, src []byte){
	{tensor.Float32, tensor.Float64}: convert(func(x float32) float64 { return float64(x) }),
	{tensor.Float64, tensor.Float32}: convert(func(x float64) float32 { return float32(x) }),
	{tensor.Float32, tensor.Int64}:   convert(func(x float32) int64 { return int64(x) }),
	{tensor.Float32, tensor.Bool}:    convert(func(x float32) bool { return x != 0 }),
	{tensor.Int64, tensor.Float32}:   convert(func(x int64) float32 { return float32(x) }),
	{tensor.Int64, tensor.Int32}:     convert(func(x int64) int32 { return int32(x) }),
	{tensor.Int64, tensor.Bool}:      convert(func(x int64) bool { return x != 0 }),
	{tensor.Int32, tensor.Int64}:     convert(func(x int32) int64 { return int64(x) }),
	{tensor.Int32, tensor.Bool}:      convert(func(x int32) bool { return x != 0 }),
	{tensor.Bool, tensor.Float32}:    convert(boolTo[float32]),
	{tensor.Bool, tensor.Int64}:      convert(boolTo[int64]),
	{tensor.Bool, tensor.Int32}:      convert(boolTo[int32]),
	{tensor.Int32, tensor.Float32}: func(dst, src []byte) {
		igemm.Floats(slice[float32](dst), slice[int32](src))
	},
	{tensor.BFloat16, tensor.Float32}: func(dst, src []byte) {
		vec.BF16ToF32(slice[float32](dst), slice[uint16](src))
	},
	{tensor.Float32, tensor.BFloat16}: func(dst, src []byte) {
		vec.F32ToBF16(slice[uint16](dst), slice[float32](src))
	},
	{tensor.Float16, tensor.Float32}: func(dst, src []byte) {
		vec.F16ToF32(slice[float32](dst), slice[uint16](src))
	},
	{tensor.Float32, tensor.Float16}: func(dst, src []byte) {
		vec.F32ToF16(slice[uint16](dst), slice[float32](src))
	},
}

func boolTo[T float32 | int64 | int32](x bool) T {
	if x {
		return 1
	}
	return 0
}

func convert[S, D tensor.Element](f func(S) D) func(dst, src []byte) {
	return func(dst, src []byte) {
		o, v := slice[D](dst), slice[S](src)
		for i := range o {
			o[i] = f(v[i])
		}
	}
}

// slice views bytes as elements.
func slice[T tensor.Element](b []byte) []T { return View[T](&Mem{Raw: b}) }
