package onnx

import (
	"math"
	"math/rand/v2"

	"github.com/ssdc-go/ssdc/graph"
)

// draws are the random numbers of one node. ONNX names no generator; with a
// seed they are those of its reference implementation, NumPy's RandomState, so
// that a seeded model gives what onnx.reference gives for it.
type draws struct {
	*rand.Rand
	spare    float64
	hasSpare bool
}

// generator is seeded by the attribute seed, or by chance.
func generator(a graph.Attrs) *draws {
	switch s := a["seed"].(type) {
	case float32:
		return &draws{Rand: rand.New(newMersenne(uint32(int64(s))))}
	case int64:
		return &draws{Rand: rand.New(newMersenne(uint32(s)))}
	}
	return &draws{Rand: rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))}
}

// Normal is a standard normal number by Marsaglia's polar method, which makes two at a time.
func (d *draws) Normal() float64 {
	if d.hasSpare {
		d.hasSpare = false
		return d.spare
	}
	for {
		x, y := 2*d.Float64()-1, 2*d.Float64()-1
		if r := x*x + y*y; r < 1 && r != 0 {
			f := math.Sqrt(-2 * math.Log(r) / r)
			d.spare, d.hasSpare = f*x, true
			return f * y
		}
	}
}

// Bernoulli is 1 with probability p, by inversion from the likelier side; p = 0 draws no number.
func (d *draws) Bernoulli(p float64) float64 {
	switch {
	case p == 0:
		return 0
	case p <= 0.5:
		return b2f(d.Float64() > 1-p)
	}
	return 1 - b2f(d.Float64() > p)
}

// mersenne is MT19937 (Matsumoto and Nishimura, 1998), seeded by one number.
type mersenne struct {
	key [624]uint32
	pos int
}

func newMersenne(seed uint32) *mersenne {
	m := &mersenne{pos: 624}
	for i := range m.key {
		m.key[i] = seed
		seed = 1812433253*(seed^seed>>30) + uint32(i) + 1
	}
	return m
}

func (m *mersenne) next() uint32 {
	if m.pos == len(m.key) {
		for i := range m.key {
			y := m.key[i]&0x80000000 | m.key[(i+1)%624]&0x7fffffff
			m.key[i] = m.key[(i+397)%624] ^ y>>1 ^ y&1*0x9908b0df
		}
		m.pos = 0
	}
	y := m.key[m.pos]
	m.pos++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// Uint64 has in its low 53 bits, of which rand.Rand makes a Float64, the
// fraction that NumPy makes of two numbers: 27 bits of the first, 26 of the second.
func (m *mersenne) Uint64() uint64 {
	a, b := uint64(m.next()), uint64(m.next())
	return a<<59 | b&63<<53 | a>>5<<26 | b>>6
}
