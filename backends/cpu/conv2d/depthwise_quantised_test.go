package conv2d

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/igemm"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// TestQuantDepthwise: bytes are exact: they are the definition's to the bit, at
// every level, for strides, dilations and windows of one quad per row and more.
func TestQuantDepthwise(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(11, 12))
		for trial := range 200 {
			s := randomShape(r, true)
			s.Groups = 1 + r.IntN(40)
			if trial%2 == 0 { // the usual window
				s.Kernel, s.Dilation = [2]int{3, 3}, [2]int{1, 1}
				for a := range 2 {
					s.Stride[a], s.Pad[a], s.In[a] = 1+r.IntN(2), r.IntN(2), 3+r.IntN(70)
					s.Out[a] = (s.In[a]+2*s.Pad[a]-3)/s.Stride[a] + 1
				}
			}
			signed := trial%4 > 1
			in, out, taps, maps := s.In[0]*s.In[1], s.Out[0]*s.Out[1], s.Kernel[0]*s.Kernel[1], s.Groups*s.Cout
			bytes := func(n int) []uint8 {
				b := make([]uint8, n)
				for i := range b {
					b[i] = uint8(r.Uint32())
				}
				return b
			}
			a := QuantArgs{X: bytes(s.Batch * s.Groups * in), W: bytes(maps * taps), Y: make([]uint8, s.Batch*maps*out),
				Add: make([]int32, maps), Scale: make([]float32, maps), Zero: uint8(r.Uint32()), Signed: signed, Out: igemm.Uint8(int32(r.IntN(256)))}
			number := func(v uint8) int32 {
				if signed {
					return int32(int8(v))
				}
				return int32(v)
			}
			if signed {
				a.Out = igemm.Int8(int32(r.IntN(256)) - 128)
			}
			for m := range maps {
				a.Add[m], a.Scale[m] = int32(r.IntN(20000)-10000), 0.01*r.Float32()
			}
			d, err := NewQuantDepthwise(s, p.Workers())
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // planes are used again
				clear(a.Y)
				d.Run(p, a)
			}
			for i, got := range a.Y {
				b, m, o := i/(maps*out), i/out%maps, i%out
				sum := a.Add[m]
				s.each(o/s.Out[1], o%s.Out[1], func(tap, pixel int) {
					sum += int32(int8(a.W[m*taps+tap])) * (number(a.X[(b*s.Groups+m/s.Cout)*in+pixel]) - number(a.Zero))
				})
				want := int32(math.RoundToEven(float64(min(max(float32(sum)*a.Scale[m], float32(a.Out.Lo-a.Out.Zero)), float32(a.Out.Hi-a.Out.Zero))))) + a.Out.Zero
				if got != uint8(want) {
					t.Fatalf("trial %d, %s: element %d is %d, want %d", trial, fmt.Sprintf("%+v", s), i, got, uint8(want))
				}
			}
		}
	})
}

// BenchmarkQuantDepthwise reports GOP/s on layers of MobileNet v2.
func BenchmarkQuantDepthwise(b *testing.B) {
	p := pool.New(0)
	defer p.Close()
	for _, c := range []struct{ maps, side, stride int }{{32, 112, 1}, {96, 112, 2}, {144, 56, 1}, {384, 14, 1}, {960, 7, 1}} {
		b.Run(fmt.Sprintf("%d on %d by %d", c.maps, c.side, c.stride), func(b *testing.B) {
			out := (c.side-1)/c.stride + 1
			s := Shape{Batch: 1, Groups: c.maps, Cin: 1, Cout: 1, In: [2]int{c.side, c.side}, Out: [2]int{out, out}, Kernel: [2]int{3, 3},
				Stride: [2]int{c.stride, c.stride}, Dilation: [2]int{1, 1}, Pad: [2]int{1, 1}}
			d, err := NewQuantDepthwise(s, p.Workers())
			if err != nil {
				b.Fatal(err)
			}
			a := QuantArgs{X: make([]uint8, c.maps*c.side*c.side), W: make([]uint8, c.maps*9), Y: make([]uint8, c.maps*out*out),
				Add: make([]int32, c.maps), Scale: make([]float32, c.maps), Out: igemm.Uint8(0)}
			for b.Loop() {
				d.Run(p, a)
			}
			b.ReportMetric(18*float64(len(a.Y))*float64(b.N)/b.Elapsed().Seconds()/1e9, "GOP/s")
		})
	}
}
