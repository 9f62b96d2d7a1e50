package conv2d

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
)

// random makes a shape whose windows fit, with odd sizes.
func randomShape(r *rand.Rand, depthwise bool) Shape {
	for {
		s := Shape{Batch: 1 + r.IntN(2), Groups: 1 + r.IntN(3), Cin: 1 + r.IntN(9), Cout: 1 + r.IntN(40)}
		if depthwise {
			s.Cin, s.Cout = 1, 1+r.IntN(2)
		}
		ok := true
		for a := range 2 {
			s.In[a], s.Kernel[a] = 1+r.IntN(20), 1+r.IntN(4)
			s.Stride[a], s.Dilation[a], s.Pad[a] = 1+r.IntN(3), 1+r.IntN(2), r.IntN(3)
			room := s.In[a] + s.Pad[a] + r.IntN(3) - (s.Kernel[a]-1)*s.Dilation[a] - 1
			ok = ok && room >= 0 && s.Pad[a] < s.Kernel[a]*s.Dilation[a]
			s.Out[a] = max(room, 0)/s.Stride[a] + 1
		}
		if ok {
			return s
		}
	}
}

func numbers(r *rand.Rand, n int) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = float32(r.NormFloat64())
	}
	return v
}

// each calls f for every tap of every output pixel that lies inside the image.
func (s *Shape) each(oy, ox int, f func(tap, pixel int)) {
	for ky := range s.Kernel[0] {
		for kx := range s.Kernel[1] {
			y, x := oy*s.Stride[0]+ky*s.Dilation[0]-s.Pad[0], ox*s.Stride[1]+kx*s.Dilation[1]-s.Pad[1]
			if y >= 0 && y < s.In[0] && x >= 0 && x < s.In[1] {
				f(ky*s.Kernel[1]+kx, y*s.In[1]+x)
			}
		}
	}
}

func eachISA(t *testing.T, f func(t *testing.T)) {
	was := isa.Current()
	t.Cleanup(func() { _ = isa.Force(was) })
	for _, name := range []string{"amx", "avx512", "avx2", "portable"} {
		if isa.ForceName(name) != nil {
			continue
		}
		t.Run(name, f)
	}
}

func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	for i := range got {
		if !(math.Abs(float64(got[i])-want[i]) <= tol*(1+math.Abs(want[i]))) {
			t.Fatalf("%s: element %d is %v, want %v", what, i, got[i], want[i])
		}
	}
}

// TestConv compares convolutions, depthwise ones too, with the definition.
func TestConv(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(1, 2))
		for trial := range 120 {
			depthwise := trial%3 == 0
			s := randomShape(r, depthwise)
			in, out, taps := s.In[0]*s.In[1], s.Out[0]*s.Out[1], s.Kernel[0]*s.Kernel[1]
			maps := s.Groups * s.Cout
			x, w := numbers(r, s.Batch*s.Groups*s.Cin*in), numbers(r, maps*s.K())
			bias, residual := numbers(r, maps), numbers(r, s.Batch*maps*out)
			a := Args{X: x, W: w, Y: make([]float32, s.Batch*maps*out), Bias: bias, Residual: residual, Act: func(v []float32) {
				for i := range v {
					v[i] = max(v[i], -1)
				}
			}}
			if trial%2 == 0 { // the same activation in its other form
				a.Act, a.Clamp, a.Lo, a.Hi = nil, true, -1, float32(math.Inf(1))
			}
			if trial%4 == 0 {
				a.Residual = nil
				clear(residual)
			}
			want := make([]float64, len(a.Y))
			for i := range want {
				b, m, o := i/(maps*out), i/out%maps, i%out
				sum := float64(bias[m]) + float64(residual[i])
				for c := range s.Cin {
					s.each(o/s.Out[1], o%s.Out[1], func(tap, pixel int) {
						sum += float64(w[(m*s.Cin+c)*taps+tap]) * float64(x[((b*s.Groups+m/s.Cout)*s.Cin+c)*in+pixel])
					})
				}
				want[i] = max(sum, -1)
			}
			if depthwise {
				d, err := NewDepthwise(s, p.Workers())
				if err != nil {
					t.Fatal(err)
				}
				d.Run(p, a)
			} else {
				c, err := New(s, p.Workers(), NewWorkspace(p.Workers()))
				if err != nil {
					t.Fatal(err)
				}
				a.W = make([]float32, PackedSize(maps, s.K()))
				Pack(a.W, w, maps, s.K())
				c.Run(p, a)
			}
			near(t, fmt.Sprintf("trial %d, %+v", trial, s), a.Y, want, 2e-5)
		}
	})
}

// TestPooling compares maxima and means with the definition.
func TestPooling(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	r := rand.New(rand.NewPCG(3, 4))
	for trial := range 100 {
		s := randomShape(r, true)
		s.Cout = 1
		empty := false
		for o := range s.Out[0] * s.Out[1] {
			n := 0
			s.each(o/s.Out[1], o%s.Out[1], func(_, _ int) { n++ })
			empty = empty || n == 0
		}
		if empty {
			continue
		}
		in, out := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
		x, y := numbers(r, s.Batch*s.Groups*in), make([]float32, s.Batch*s.Groups*out)
		most, mean := make([]float64, len(y)), make([]float64, len(y))
		for i := range y {
			n, sum, top := 0, 0.0, math.Inf(-1)
			s.each(i%out/s.Out[1], i%s.Out[1], func(_, pixel int) {
				v := float64(x[i/out*in+pixel])
				n, sum, top = n+1, sum+v, max(top, v)
			})
			most[i], mean[i] = top, sum/float64(n)
		}
		c, err := NewMaxPool(s, p.Workers())
		if err != nil {
			t.Fatal(err)
		}
		c.Run(p, y, x)
		near(t, fmt.Sprintf("maximum %d, %+v", trial, s), y, most, 0)
		if c, err = NewMeanPool(s, p.Workers(), false, [2]int{}); err != nil {
			t.Fatal(err)
		}
		c.Run(p, y, x)
		near(t, fmt.Sprintf("mean %d, %+v", trial, s), y, mean, 1e-5)
	}
}

// TestBytePooling compares maxima of bytes of both kinds with the definition.
func TestBytePooling(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	eachISA(t, func(t *testing.T) {
		r := rand.New(rand.NewPCG(13, 14))
		for trial := range 150 {
			s := randomShape(r, true)
			s.Cout = 1
			if trial%5 == 0 {
				s.In, s.Kernel, s.Stride, s.Dilation, s.Pad, s.Out = [2]int{9, 170}, [2]int{3, 3}, [2]int{2, 2}, [2]int{1, 1}, [2]int{1, 1}, [2]int{5, 85}
			}
			in, out := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
			x, y := make([]uint8, s.Batch*s.Groups*in), make([]uint8, s.Batch*s.Groups*out)
			for i := range x {
				x[i] = uint8(r.IntN(256))
			}
			signed := trial%2 == 0
			c, err := NewByteMaxPool(s, p.Workers(), signed)
			if err != nil {
				t.Fatal(err)
			}
			c.Run(p, y, x)
			for i, got := range y {
				top, any := -1000, false
				s.each(i%out/s.Out[1], i%s.Out[1], func(_, pixel int) {
					v := int(x[i/out*in+pixel])
					if signed {
						v = int(int8(v))
					}
					top, any = max(top, v), true
				})
				if any && got != uint8(top) {
					t.Fatalf("trial %d, signed %v, %+v: element %d is %d, want %d", trial, signed, s, i, got, uint8(top))
				}
			}
		}
	})
}

// TestTransposed checks that the transposed convolution is the gradient: the
// inner product of conv(x) with y is that of x with transposed(y).
func TestTransposed(t *testing.T) {
	p := pool.New(2)
	defer p.Close()
	r := rand.New(rand.NewPCG(5, 6))
	for trial := range 60 {
		s := randomShape(r, false)
		in, out := s.In[0]*s.In[1], s.Out[0]*s.Out[1]
		x, w, y := numbers(r, s.Batch*s.Groups*s.Cin*in), numbers(r, s.Groups*s.Cout*s.K()), numbers(r, s.Batch*s.Groups*s.Cout*out)
		c, err := New(s, p.Workers(), NewWorkspace(p.Workers()))
		if err != nil {
			t.Fatal(err)
		}
		packed, cx := make([]float32, PackedSize(s.Groups*s.Cout, s.K())), make([]float32, len(y))
		Pack(packed, w, s.Groups*s.Cout, s.K())
		c.Run(p, Args{X: x, W: packed, Y: cx})
		back := s
		back.In, back.Out, back.Cin, back.Cout = s.Out, s.In, s.Cout, s.Cin
		g, err := NewTransposed(back, gemm.NewWorkspace(p.Workers()))
		if err != nil {
			t.Fatal(err)
		}
		gy := make([]float32, len(x))
		g.Run(p, Args{X: y, W: w, Y: gy})
		var left, right, size float64
		for i := range y {
			left += float64(cx[i]) * float64(y[i])
			size += math.Abs(float64(cx[i]) * float64(y[i]))
		}
		for i := range x {
			right += float64(x[i]) * float64(gy[i])
		}
		if math.Abs(left-right) > 1e-5*size {
			t.Fatalf("trial %d, %+v: <conv x, y> = %v, <x, transposed y> = %v", trial, s, left, right)
		}
	}
}

// TestAllocatesNothing: a run is part of a session's run.
func TestAllocatesNothing(t *testing.T) {
	p := pool.New(1)
	defer p.Close()
	s := Shape{Batch: 1, Groups: 1, Cin: 3, Cout: 8, In: [2]int{9, 9}, Out: [2]int{5, 5}, Kernel: [2]int{3, 3}, Stride: [2]int{2, 2}, Dilation: [2]int{1, 1}, Pad: [2]int{1, 1}}
	c, err := New(s, 1, NewWorkspace(1))
	if err != nil {
		t.Fatal(err)
	}
	a := Args{X: make([]float32, 243), W: make([]float32, PackedSize(8, 27)), Y: make([]float32, 200)}
	if n := testing.AllocsPerRun(10, func() { c.Run(p, a) }); n != 0 {
		t.Errorf("a run allocates %v times", n)
	}
}

// BenchmarkConv reports GFLOP/s on layers of ResNet-50 and a depthwise one.
func BenchmarkConv(b *testing.B) {
	p := pool.New(0)
	defer p.Close()
	for _, c := range []struct {
		name                       string
		cin, cout, side, k, stride int
	}{{"stem 7x7", 3, 64, 224, 7, 2}, {"3x3 64 on 56", 64, 64, 56, 3, 1}, {"1x1 64-256 on 56", 64, 256, 56, 1, 1}, {"3x3 128 on 28", 128, 128, 28, 3, 1},
		{"3x3 256 on 14", 256, 256, 14, 3, 1}, {"1x1 1024-256 on 14", 1024, 256, 14, 1, 1}, {"1x1 96-576 on 14", 96, 576, 14, 1, 1}, {"3x3 512 on 7", 512, 512, 7, 3, 1}, {"1x1 512-2048 on 7", 512, 2048, 7, 1, 1}} {
		b.Run(c.name, func(b *testing.B) {
			out := (c.side-1)/c.stride + 1
			s := Shape{Batch: 1, Groups: 1, Cin: c.cin, Cout: c.cout, In: [2]int{c.side, c.side}, Out: [2]int{out, out}, Kernel: [2]int{c.k, c.k},
				Stride: [2]int{c.stride, c.stride}, Dilation: [2]int{1, 1}, Pad: [2]int{c.k / 2, c.k / 2}}
			conv, err := New(s, p.Workers(), NewWorkspace(p.Workers()))
			if err != nil {
				b.Fatal(err)
			}
			a := Args{X: make([]float32, c.cin*c.side*c.side), W: make([]float32, PackedSize(c.cout, s.K())), Y: make([]float32, c.cout*out*out)}
			for b.Loop() {
				conv.Run(p, a)
			}
			b.ReportMetric(2*float64(s.K()*c.cout*out*out)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}
