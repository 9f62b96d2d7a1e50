package microsoft_test

import (
	"context"
	"math"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/library"
)

// sharedBuffer has a total length that is known from the mask's shape.
const sharedBuffer = `graph gqa (int64[B,total] mask, float[B,S,16] q, float[B,S,8] k, float[B,S,8] v, float[B,2,P,4] pk, float[B,2,P,4] pv, int32[B] seqlens) => (float[B,S,16] y, float[B,2,N,4] nk, float[B,2,N,4] nv)
{
  int64[1] ms = Shape-15 <start: int = 1, end: int = 2> (mask)
  int64[] t = Squeeze-13 (ms)
  int32[] n = Cast-19 <to: int = 6> (t)
  float[B,S,16] y, float[B,2,N,4] nk, float[B,2,N,4] nv = com.microsoft.GroupQueryAttention-1 <kv_num_heads: int = 2, num_heads: int = 4> (q, k, v, pk, pv, seqlens, n)
}`

// TestSharedBuffer: a cache with room for more tokens keeps its length, and gives
// what one gives that grows (ONNX Runtime's past_present_share_buffer).
func TestSharedBuffer(t *testing.T) {
	tab := &ops.Table{}
	if err := library.Register(tab); err != nil {
		t.Fatal(err)
	}
	fill := func(seed int, shape ...int) *tensor.Tensor {
		x := tensor.New(tensor.Float32, shape...)
		for i := range x.Len() {
			x.SetAt(i, math.Sin(float64(i*7+seed)))
		}
		return x
	}
	run := func(room int) []*tensor.Tensor {
		g, err := graph.ParseString(sharedBuffer)
		if err != nil {
			t.Fatal(err)
		}
		if err := ops.InferGraph(tab, g); err != nil {
			t.Fatal(err)
		}
		past := func(seed int) *tensor.Tensor { // four tokens, and room
			x, src := tensor.New(tensor.Float32, 1, 2, room, 4), fill(seed, 1, 2, 4, 4)
			for i := range src.Len() {
				x.SetAt(i/16*room*4+i%16, src.At(i))
			}
			return x
		}
		out, err := ops.Run(context.Background(), tab, g, []*tensor.Tensor{tensor.New(tensor.Int64, 1, 5), fill(1, 1, 1, 16), fill(2, 1, 1, 8), fill(3, 1, 1, 8),
			past(4), past(5), tensor.From([]int32{4}, 1)})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	grown, shared := run(4), run(12)
	for i, want := range []string{"float[1,1,16]", "float[1,2,5,4]", "float[1,2,5,4]"} {
		if got := grown[i].TypeString(); got != want {
			t.Errorf("output %d is %s, want %s", i, got, want)
		}
	}
	for i, want := range []string{"float[1,1,16]", "float[1,2,12,4]", "float[1,2,12,4]"} {
		if got := shared[i].TypeString(); got != want {
			t.Errorf("in a buffer, output %d is %s, want %s", i, got, want)
		}
	}
	for i := range grown[0].Len() {
		if d := grown[0].At(i) - shared[0].At(i); math.Abs(d) > 1e-6 {
			t.Errorf("element %d: %g in a buffer, %g beside", i, shared[0].At(i), grown[0].At(i))
		}
	}
	for i := range grown[1].Len() {
		if at := i/20*48 + i%20; grown[1].At(i) != shared[1].At(at) {
			t.Errorf("key %d: %g in a buffer, %g beside", i, shared[1].At(at), grown[1].At(i))
		}
	}
}
