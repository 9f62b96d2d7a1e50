package cuda

import (
	"encoding/binary"
	"math"

	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// params builds the struct that a kernel takes, field by field in the order of its declaration. Fields are of 8 bytes, or
// pairs of 4, so there is no padding to think of.
type params struct {
	b    []byte
	mems []fixup
	maps []func() error // descriptors to be made then
}

// fixup is a pointer to be filled in when addresses are known.
type fixup struct {
	at  int
	m   *Mem
	add int // bytes
}

func (p *params) i64(vs ...int) *params {
	for _, v := range vs {
		p.b = binary.LittleEndian.AppendUint64(p.b, uint64(int64(v)))
	}
	return p
}

func (p *params) i32(vs ...int) *params {
	for _, v := range vs {
		p.b = binary.LittleEndian.AppendUint32(p.b, uint32(int32(v)))
	}
	return p
}

func (p *params) f32(vs ...float32) *params {
	for _, v := range vs {
		p.b = binary.LittleEndian.AppendUint32(p.b, math.Float32bits(v))
	}
	return p
}

func (p *params) f64(v float64) *params {
	p.b = binary.LittleEndian.AppendUint64(p.b, math.Float64bits(v))
	return p
}

// ptr is the address of m, null without one.
func (p *params) ptr(m *Mem) *params { return p.ptrAt(m, 0) }

func (p *params) ptrAt(m *Mem, add int) *params {
	if m != nil {
		p.mems = append(p.mems, fixup{len(p.b), m, add})
	}
	return p.i64(0)
}

// tensor is struct Tensor: address and type.
func (p *params) tensor(m *Mem) *params {
	if m == nil {
		return p.i64(0, 0)
	}
	return p.ptr(m).i64(int(m.DType))
}

// seq is struct Seq, of a [B,L,...] operand.
func (p *params) seq(m *Mem) *params {
	if m == nil {
		return p.i64(0, 0, 0, 0)
	}
	return p.tensor(m).i64(m.Strides[0], m.Strides[1])
}

// boxes is a descriptor for bulk copies of m, a dense 16-bit [batch, length, outer, inner], in boxes of 64 positions and 64
// columns.
func (p *params) boxes(d *driver.Device, m *Mem, batch, length, outer, inner int) *params {
	at := len(p.b)
	p.b = append(p.b, make([]byte, 128)...)
	p.maps = append(p.maps, func() error {
		row := uint64(2 * inner)
		return d.TensorMap(p.b[at:at+128], m.DType == tensor.Float16, m.addr(), [4]uint64{uint64(inner), uint64(outer), uint64(length), uint64(batch)},
			[3]uint64{row, row * uint64(outer), row * uint64(outer*length)}, [4]uint32{64, 1, 64, 1})
	})
	return p
}

// place fills in the addresses.
func (p *params) place() error {
	for _, f := range p.mems {
		binary.LittleEndian.PutUint64(p.b[f.at:], uint64(f.m.addr())+uint64(f.add))
	}
	for _, f := range p.maps {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// launch is one kernel on its grid.
type launch struct {
	f                       *driver.Function
	blocks, threads, shared int
	p                       *params
}
