package conv2d

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// blocked moves x[channels, pixels] to blocks, or back.
func blocked(x []float32, channels, pixels int, back bool) []float32 {
	y := make([]float32, len(x))
	for i := range x {
		image, c, p := i/(channels*pixels), i/pixels%channels, i%pixels
		j := image*channels*pixels + (c/Block*pixels+p)*Block + c%Block
		if back {
			y[i] = x[j]
		} else {
			y[j] = x[i]
		}
	}
	return y
}

// reference is a convolution by its definition.
func reference(s *Shape, a *Args) []float64 {
	in, out, taps, maps := s.In[0]*s.In[1], s.Out[0]*s.Out[1], s.Kernel[0]*s.Kernel[1], s.Groups*s.Cout
	want := make([]float64, s.Batch*maps*out)
	for i := range want {
		b, m, o := i/(maps*out), i/out%maps, i%out
		sum := 0.0
		if a.Bias != nil {
			sum = float64(a.Bias[m])
		}
		if a.Residual != nil {
			sum += float64(a.Residual[i])
		}
		for c := range s.Cin {
			s.each(o/s.Out[1], o%s.Out[1], func(tap, pixel int) {
				sum += float64(a.W[(m*s.Cin+c)*taps+tap]) * float64(a.X[((b*s.Groups+m/s.Cout)*s.Cin+c)*in+pixel])
			})
		}
		want[i] = max(sum, -1)
	}
	return want
}

// TestBlocks compares convolutions of images in blocks, on either side, with the
// definition, and what two workers compute with what one does.
func TestBlocks(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(7, 8))
		for trial := range 160 {
			s, in, out := randomShape(r, false), trial&1 == 0, trial&2 == 0
			s.Groups = 1
			if in || trial%8 > 5 {
				s.Cin = Block * (1 + r.IntN(3))
			}
			if out {
				s.Cout = Block * (1 + r.IntN(5))
			} else {
				s.Cout = 1 + r.IntN(70)
			}
			if trial%5 == 0 { // a product, whose rows follow one another
				s.Kernel, s.Stride, s.Pad, s.Out = [2]int{1, 1}, [2]int{1, 1}, [2]int{}, s.In
			}
			pixels, outs := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
			a := Args{X: numbers(r, s.Batch*s.Cin*pixels), W: numbers(r, s.Cout*s.K()), Bias: numbers(r, s.Cout), Residual: numbers(r, s.Batch*s.Cout*outs)}
			if trial%4 == 3 {
				a.Residual = nil
			}
			if trial%8 == 5 {
				a.Bias = nil
			}
			want := reference(&s, &a)
			if trial%3 == 0 {
				a.Act = func(v []float32) {
					for i := range v {
						v[i] = max(v[i], -1)
					}
				}
			} else {
				a.Clamp, a.Lo, a.Hi = true, -1, float32(math.Inf(1))
			}
			packed := make([]float32, PackedBlocksSize(s.Cout, s.K()))
			PackBlocks(packed, a.W, s.Cout, s.Cin, s.Kernel[0]*s.Kernel[1])
			back := make([]float32, len(a.W))
			UnpackBlocks(back, packed, s.Cout, s.Cin, s.Kernel[0]*s.Kernel[1])
			if !slices.Equal(back, a.W) {
				t.Fatalf("trial %d: unpacking does not undo packing", trial)
			}
			a.W = packed
			if in {
				a.X = blocked(a.X, s.Cin, pixels, false)
			}
			if out && a.Residual != nil {
				a.Residual = blocked(a.Residual, s.Cout, outs, false)
			}
			var results [2][]float32
			for workers := 1; workers <= 2; workers++ {
				p := pool.New(workers)
				c, err := NewBlocks(s, in, out, workers, NewWorkspace(workers))
				if err != nil {
					t.Fatal(err)
				}
				a.Y = make([]float32, s.Batch*s.Cout*outs)
				c.Run(p, a)
				c.Run(p, a)
				p.Close()
				results[workers-1] = a.Y
			}
			if !slices.Equal(results[0], results[1]) {
				t.Fatalf("trial %d, %+v: two workers compute something else than one", trial, s)
			}
			got := results[0]
			if out {
				got = blocked(got, s.Cout, outs, true)
			}
			near(t, fmt.Sprintf("trial %d, %v to %v, %+v", trial, in, out, s), got, want, 3e-5)
		}
	})
}

// TestBlockChannels compares depthwise convolutions and maxima of images in blocks
// with the definition.
func TestBlockChannels(t *testing.T) {
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(9, 10))
		for trial := range 120 {
			s := randomShape(r, true)
			s.Groups, s.Cout = Block*(1+r.IntN(3)), 1
			if trial%10 == 0 { // more than one band of rows
				s.Kernel, s.Stride, s.Dilation, s.Pad = [2]int{3, 3}, [2]int{1 + trial/10%2, 1}, [2]int{1, 1}, [2]int{1, 1}
				s.In = [2]int{31, 90}
				s.Out = [2]int{(31-1)/s.Stride[0] + 1, 90}
			}
			pixels, outs := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
			a := Args{X: numbers(r, s.Batch*s.Groups*pixels), W: numbers(r, s.Groups*s.K()), Bias: numbers(r, s.Groups), Residual: numbers(r, s.Batch*s.Groups*outs)}
			if trial%2 == 0 {
				a.Residual = nil
			}
			want := reference(&s, &a)
			if trial%3 == 0 {
				a.Act = func(v []float32) {
					for i := range v {
						v[i] = max(v[i], -1)
					}
				}
			} else {
				a.Clamp, a.Lo, a.Hi = true, -1, float32(math.Inf(1))
			}
			x := a.X
			a.X = blocked(a.X, s.Groups, pixels, false)
			if a.Residual != nil {
				a.Residual = blocked(a.Residual, s.Groups, outs, false)
			}
			a.Y = make([]float32, s.Batch*s.Groups*outs)
			p := pool.New(2)
			c, err := NewBlockDepthwise(s, a.W, 2)
			if err != nil {
				t.Fatal(err)
			}
			c.Run(p, a)
			c.Run(p, a)
			near(t, fmt.Sprintf("trial %d, depthwise, %+v", trial, s), blocked(a.Y, s.Groups, outs, true), want, 2e-5)

			if c, err = NewBlockMaxPool(s, 2); err != nil {
				t.Fatal(err)
			}
			nan := r.IntN(len(x))
			x[nan] = float32(math.NaN())
			c.Run(p, Args{X: blocked(x, s.Groups, pixels, false), Y: a.Y})
			p.Close()
			got := blocked(a.Y, s.Groups, outs, true)
			for i := range got {
				top := float32(math.Inf(-1))
				s.each(i%outs/s.Out[1], i%s.Out[1], func(_, pixel int) { top = max(top, x[i/outs*pixels+pixel]) })
				if got[i] != top && !(got[i] != got[i] && top != top) {
					t.Fatalf("trial %d, maximum, %+v: element %d is %v, want %v", trial, s, i, got[i], top)
				}
			}
		}
	})
}

// TestBlocksAllocateNothing: a run is part of a session's run.
func TestBlocksAllocateNothing(t *testing.T) {
	p := pool.New(1)
	defer p.Close()
	s := Shape{Batch: 1, Groups: 1, Cin: 16, Cout: 16, In: [2]int{9, 9}, Out: [2]int{9, 9}, Kernel: [2]int{3, 3}, Stride: [2]int{1, 1}, Dilation: [2]int{1, 1}, Pad: [2]int{1, 1}}
	a := Args{X: make([]float32, 16*81), W: make([]float32, PackedBlocksSize(16, s.K())), Y: make([]float32, 16*81)}
	for _, in := range []bool{false, true} {
		c, err := NewBlocks(s, in, !in, 1, NewWorkspace(1))
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(10, func() { c.Run(p, a) }); n != 0 {
			t.Errorf("a run allocates %v times", n)
		}
	}
	s.Groups, s.Cin, s.Cout = 16, 1, 1
	d, err := NewBlockDepthwise(s, make([]float32, 16*9), 1)
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(10, func() { d.Run(p, a) }); n != 0 {
		t.Errorf("a depthwise run allocates %v times", n)
	}
}

// TestBlockChecks: what cannot be in blocks is refused.
func TestBlockChecks(t *testing.T) {
	s := Shape{Batch: 1, Groups: 1, Cin: 16, Cout: 20, In: [2]int{4, 4}, Out: [2]int{4, 4}, Kernel: [2]int{1, 1}, Stride: [2]int{1, 1}, Dilation: [2]int{1, 1}}
	if _, err := NewBlocks(s, true, true, 1, NewWorkspace(1)); err == nil {
		t.Error("20 channels are accepted as blocks of 16")
	}
	if _, err := NewBlockMaxPool(s, 1); err == nil {
		t.Error("one group of 16 channels is accepted as channel by channel")
	}
}

// BenchmarkBlocks reports GFLOP/s on layers of ResNet-50, MobileNet and YOLO.
func BenchmarkBlocks(b *testing.B) {
	p := pool.New(0)
	defer p.Close()
	for _, c := range []struct{ cin, cout, side, k, stride int }{
		{3, 64, 224, 7, 2}, {64, 64, 56, 3, 1}, {64, 256, 56, 1, 1}, {256, 64, 56, 1, 1}, {128, 128, 28, 3, 1}, {256, 256, 14, 3, 1}, {1024, 256, 14, 1, 1}, {256, 512, 28, 1, 2},
		{96, 576, 14, 1, 1}, {16, 96, 112, 1, 1}, {512, 512, 7, 3, 1}, {512, 2048, 7, 1, 1}, {2048, 512, 7, 1, 1}, {32, 64, 320, 3, 2}, {128, 128, 40, 3, 1},
	} {
		for _, out := range []bool{true, false} {
			in := c.cin%Block == 0 && out
			name := fmt.Sprintf("%dx%d %d-%d on %d", c.k, c.k, c.cin, c.cout, c.side)
			if !out {
				name += " plain"
			}
			b.Run(name, func(b *testing.B) {
				o := (c.side-1)/c.stride + 1
				s := Shape{Batch: 1, Groups: 1, Cin: c.cin, Cout: c.cout, In: [2]int{c.side, c.side}, Out: [2]int{o, o}, Kernel: [2]int{c.k, c.k},
					Stride: [2]int{c.stride, c.stride}, Dilation: [2]int{1, 1}, Pad: [2]int{c.k / 2, c.k / 2}}
				conv, err := NewBlocks(s, in, out, p.Workers(), NewWorkspace(p.Workers()))
				if err != nil {
					b.Fatal(err)
				}
				a := Args{X: make([]float32, c.cin*c.side*c.side), W: make([]float32, PackedBlocksSize(c.cout, s.K())), Y: make([]float32, c.cout*o*o), Clamp: true}
				for b.Loop() {
					conv.Run(p, a)
				}
				b.ReportMetric(2*float64(s.K()*c.cout*o*o)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
