//go:build cu

// Example runs one scan on memory that gorgonia.org/cu holds and compares it with the recurrence.
package main

import (
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/ssdc-go/ssdc/backends/cuda/gorgoniacu"
)

const batch, length, heads, dim, state = 2, 100, 4, 64, 128

func main() {
	d, err := cu.GetDevice(0)
	check(err)
	ctx, err := d.MakeContext(cu.SchedAuto)
	check(err)
	defer ctx.Destroy()
	k, err := gorgoniacu.Load(d)
	check(err)

	x, dt, a := random(batch*length*heads*dim, -1, 1), random(batch*length*heads, 0.01, 0.1), random(heads, -8, -1)
	b, c := random(batch*length*state, -1, 1), random(batch*length*state, -1, 1)
	y := make([]float32, len(x))
	at := up(y)
	check(k.SSD(gorgoniacu.Scan{
		X: up(x), Dt: up(dt), A: up(a), B: up(b), C: up(c), Y: at,
		Batch: batch, Length: length, Heads: heads, HeadDim: dim, Groups: 1, State: state,
	}, cu.NoStream))
	check(cu.Synchronize())
	check(cu.MemcpyDtoH(unsafe.Pointer(&y[0]), at, int64(4*len(y))))

	var diff, norm float64
	for i := range batch {
		for h := range heads {
			for p := range dim {
				var s [state]float64
				for t := range length {
					step := float64(dt[(i*length+t)*heads+h])
					decay, in := math.Exp(step*float64(a[h])), step*float64(x[((i*length+t)*heads+h)*dim+p])
					want := 0.0
					for n := range state {
						s[n] = decay*s[n] + in*float64(b[(i*length+t)*state+n])
						want += s[n] * float64(c[(i*length+t)*state+n])
					}
					e := float64(y[((i*length+t)*heads+h)*dim+p]) - want
					diff, norm = diff+e*e, norm+want*want
				}
			}
		}
	}
	fmt.Printf("scan on gorgonia.org/cu: distance to the recurrence %.1e\n", math.Sqrt(diff/norm))
	if !(math.Sqrt(diff/norm) < 1e-5) {
		log.Fatal("that is too much")
	}
}

func random(n int, low, high float32) []float32 {
	v := make([]float32, n)
	for i := range v {
		v[i] = low + (high-low)*rand.Float32()
	}
	return v
}

func up(v []float32) cu.DevicePtr {
	p, err := cu.MemAlloc(int64(4 * len(v)))
	check(err)
	check(cu.MemcpyHtoD(p, unsafe.Pointer(&v[0]), int64(4*len(v))))
	return p
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
