package cuda

import (
	"fmt"
	"unsafe"

	"github.com/ssdc-go/ssdc/backends"
	panels "github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Matrices in fewer bits. They are stored as the CPU's backend stores them, in the panels of package gemm and under the same names
// of layouts, so that an artifact means the same numbers on both. On the device they become blocks in the order in which the
// products read them (kernels/quantised.cuh), once for all sessions. So do matrices that a model itself keeps in 4 bits: MatMulNBits
// and DequantizeLinear by blocks.

// matrix is such a right operand of a product, [k,n], or the table [n,k] of a Gather.
type matrix struct {
	n, k       int
	value      *graph.Value // constant: stored in panels, or digits
	format     panels.Format
	transposed bool    // the constant is [n,k]
	digits     *digits // of the model itself; nil: panels
}

// digits is DequantizeLinear of 4 bits by blocks along k.
type digits struct {
	scale, zero *graph.Value // zero may be nil
	group       int
}

// productMatrix is the right operand of a product and whether it is [n,k].
func productMatrix(n *graph.Node) (v *graph.Value, transposed, ok bool) {
	switch {
	case n.Op.Is("", "MatMul"), n.Op.Domain == "ssm" && n.Op.Name == "Linear":
		return n.Input(1), false, n.Input(1) != nil
	case n.Op.Is("", "Gemm"):
		return n.Input(1), n.Attrs.Int("transB", 0) != 0, n.Input(1) != nil
	}
	return nil, false, false
}

// packed is the matrix of n that is stored in panels, nil when none is; k is the kernel of n.
func packed(k *Kernel, n *graph.Node, t backends.Target) *matrix {
	f, _ := panels.ParseFormat(t.Weights) // Compile and Open checked it
	if k == nil || f == panels.F32 {
		return nil
	}
	v, transposed, ok := productMatrix(n)
	if k.Name == tiedName {
		v, transposed, ok = n.In[0], true, true
	}
	if !ok || v.Const == nil || len(v.Const.Shape) != 2 || !isReal(v.Const.DType) || v.Const.Len() == 0 {
		return nil
	}
	m := &matrix{k: v.Const.Shape[0], n: v.Const.Shape[1], value: v, format: f, transposed: transposed}
	if transposed {
		m.k, m.n = m.n, m.k
	}
	return m
}

// layout is the name of the stored form, as in backends/cpu/packing.go.
func (m *matrix) layout() string {
	if m.transposed {
		return "panel32." + m.format.String() + ".transposed"
	}
	return "panel32." + m.format.String()
}

func (m *matrix) weight() *backends.Weight {
	c := m.value.Const
	return &backends.Weight{Name: m.value.Name, Layout: m.layout(), DType: tensor.Uint8, Shape: []int{m.format.Size(m.k, m.n)}, Load: func() (*tensor.Tensor, error) {
		if len(c.Data) != c.DType.Bytes(c.Len()) {
			return nil, fmt.Errorf("the plan holds only packed forms of it")
		}
		return m.pack(c)
	}}
}

func (m *matrix) pack(c *tensor.Tensor) (*tensor.Tensor, error) {
	src := c
	if c.DType != tensor.Float32 {
		src = tensor.New(tensor.Float32, c.Shape...)
		to := tensor.Of[float32](src)
		for i := range to {
			to[i] = float32(c.At(i))
		}
	}
	dst := tensor.New(tensor.Uint8, m.format.Size(m.k, m.n))
	return dst, m.format.Pack(dst.Data, tensor.Of[float32](src), m.k, m.n, c.Shape[1], m.transposed)
}

// unpack gives the constant of the graph in row-major order.
func (m *matrix) unpack(stored *tensor.Tensor) (*tensor.Tensor, error) {
	if stored.DType != tensor.Uint8 || len(stored.Data) != m.format.Size(m.k, m.n) {
		return nil, fmt.Errorf("constant %q in layout %s is %s, expected %d bytes", m.value.Name, m.layout(), stored.TypeString(), m.format.Size(m.k, m.n))
	}
	dst := tensor.New(m.value.Const.DType, m.value.Const.Shape...)
	column := make([]float32, m.k)
	for j := range m.n {
		m.format.Column(column, stored.Data, m.k, j)
		for i, v := range column {
			if m.transposed {
				dst.SetAt(j*m.k+i, float64(v))
			} else {
				dst.SetAt(i*m.n+j, float64(v))
			}
		}
	}
	return dst, nil
}

// Unpack gives the row-major form of a stored weight, for compiling an artifact again.
func (b *Backend) Unpack(p *backends.Plan, name, layout string, stored *tensor.Tensor) (*tensor.Tensor, error) {
	if layout == "" {
		return stored, nil
	}
	for _, n := range p.Graph.Nodes {
		k, _ := b.kernels.choose(n, p.Target)
		if m := packed(k, n, p.Target); m != nil && m.value.Name == name && m.layout() == layout {
			return m.unpack(stored)
		}
	}
	return nil, fmt.Errorf("weight %q: no kernel knows how to unpack layout %q", name, layout)
}

// inDigits finds the matrix of a product that the model keeps in 4 bits, nil when there is none.
func inDigits(n *graph.Node) *matrix {
	v, transposed, ok := productMatrix(n)
	for ok && v.Def != nil { // [n,k], or [k,n] seen as such, or the k that are left when blocks were filled up
		d := v.Def
		switch {
		case d.Op.Is("", "Transpose") && v.Type.Rank() == 2:
			if p := d.Attrs.Ints("perm"); len(p) == 2 && p[0] == 0 {
				return nil
			}
			transposed = !transposed
		case d.Op.Is("", "Slice") && fromStart(d, transposed):
		case d.Op.Is("", "DequantizeLinear"):
			return dequantised(d, n, transposed)
		default:
			return nil
		}
		v = d.In[0]
	}
	return nil
}

// fromStart reports whether a Slice keeps the beginning of k alone.
func fromStart(n *graph.Node, transposed bool) bool {
	k := int64(0)
	if transposed {
		k = 1
	}
	one := func(i int) (int64, bool) {
		v := n.Input(i)
		if v == nil || v.Const == nil || v.Const.Len() != 1 {
			return 0, false
		}
		return v.Const.IntAt(0), true
	}
	start, ok1 := one(1)
	axis, ok2 := one(3)
	if axis < 0 {
		axis += 2
	}
	return ok1 && ok2 && start == 0 && axis == k && n.Input(4) == nil
}

func dequantised(d, n *graph.Node, transposed bool) *matrix {
	q, scale, zero, size := d.In[0], d.In[1], d.Input(2), int(d.Attrs.Int("block_size", 0))
	axis, along := d.Attrs.Int("axis", 1), 0
	if transposed {
		along = 1
	}
	if axis < 0 {
		axis += 2
	}
	known := q.Const != nil && scale.Const != nil && (zero == nil || zero.Const != nil)
	if !known || int(axis) != along || size < 32 || size%32 != 0 || len(q.Const.Shape) != 2 || len(scale.Const.Shape) != 2 || q.Const.Len() == 0 ||
		q.Const.DType != tensor.Uint4 && q.Const.DType != tensor.Int4 || !isReal(scale.Const.DType) {
		return nil
	}
	v, _, _ := productMatrix(n)
	shape, ok := v.Type.Static()
	if !ok || len(shape) != 2 {
		return nil
	}
	m := &matrix{k: shape[0], n: shape[1], value: q, format: panels.Int4, transposed: transposed, digits: &digits{scale, zero, size}}
	if _, t, _ := productMatrix(n); t {
		m.k, m.n = m.n, m.k
	}
	if have := q.Const.Shape[along]; have < m.k || q.Const.Shape[1-along] != m.n || scale.Const.Shape[along] != ceilDiv(have, size) || scale.Const.Shape[1-along] != m.n {
		return nil
	}
	return m
}

// blocks is a matrix on the device.
type blocks struct {
	data, scale           *Mem // scale: of bytes, by column
	bits, size, scaleType int
	zeros                 int
	n, k                  int
	dense                 *Mem // instead: [n,k] in bfloat16
}

func (p *params) blocks(q *blocks) *params {
	if q == nil {
		return p.i64(0, 0, 0, 0, 0, 0)
	}
	return p.ptr(q.data).ptr(q.scale).i64(q.bits, q.size, q.scaleType, q.zeros)
}

// tiles and slices count the blocks of a matrix.
func (q *blocks) tiles() int  { return ceilDiv(q.n, 16) }
func (q *blocks) slices() int { return ceilDiv(q.k, 64) }

// lanes is the grid of kernels with a thread for every lane of half a block.
func (q *blocks) lanes() int { return ceilDiv(q.tiles()*q.slices()*64, 256) }

func constMem(p driver.Ptr, size, off int) *Mem {
	m := denseMem(tensor.Uint8, []int{size})
	m.root, m.off = &root{kind: inConst, size: size, base: p}, off
	return m
}

// panelKey names a matrix in panels by the memory that holds it: tables and matrices that are one weight of an artifact are one here.
type panelKey struct {
	at   *byte
	n, k int
}

// matrixOf puts a matrix on the device.
func (e *executable) matrixOf(m *matrix) (*blocks, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("the model was closed")
	}
	q, err := e.blocksOf(m)
	if err != nil {
		return nil, fmt.Errorf("weight %q: %w", m.value.Name, e.dev.explain(err))
	}
	return q, nil
}

func (e *executable) blocksOf(m *matrix) (*blocks, error) {
	if m.digits != nil {
		return e.digitBlocks(m)
	}
	stored, err := e.stored(m)
	if err != nil {
		return nil, err
	}
	q := &blocks{n: m.n, k: m.k, bits: 8, size: 1024}
	size, scale := 0, 0
	name := "quant_form_" + m.format.String()
	switch m.format {
	case panels.Int8:
		scale = q.tiles() * q.slices() * q.size
		size = scale + q.tiles()*16*4
	case panels.Int4:
		q.bits, q.size, q.scaleType = 4, 512+64, int(tensor.BFloat16)
		size = q.tiles() * q.slices() * q.size
	default:
		size = 2 * m.n * m.k
	}
	key := panelKey{unsafe.SliceData(stored.Data), m.n, m.k}
	p, ok := e.resident[key]
	if !ok {
		grid := q.lanes()
		if m.format == panels.BF16 {
			grid = ceilDiv(m.n*m.k, 256)
		}
		if p, err = e.form(name, grid, size, []*tensor.Tensor{stored}, func(raw []*Mem, out *Mem) *params {
			return (&params{}).ptr(raw[0]).ptr(out).ptrAt(out, scale).i64(m.n, m.k)
		}); err != nil {
			return nil, err
		}
		e.keep(key, p)
	}
	q.data = constMem(p, size, 0)
	switch m.format {
	case panels.Int8:
		q.scale = constMem(p, size, scale)
	case panels.BF16:
		q.dense = denseMem(tensor.BFloat16, []int{m.n, m.k})
		q.dense.root = q.data.root
	}
	return q, nil
}

// digitBlocks puts digits of the model in blocks.
func (e *executable) digitBlocks(m *matrix) (*blocks, error) {
	var raw []*tensor.Tensor
	for _, v := range []*graph.Value{m.value, m.digits.scale, m.digits.zero} {
		if v == nil {
			continue
		}
		t, err := e.host(v, v.Const)
		if err != nil {
			return nil, err
		}
		raw = append(raw, t)
	}
	scales := raw[1]
	flip, none := 0, 0
	if m.value.Const.DType == tensor.Int4 {
		flip, none = 8, 8
	}
	if len(raw) == 3 && allMiddle(raw[2].Data, raw[2].Len(), flip) {
		raw, none = raw[:2], 8
	}
	q := &blocks{n: m.n, k: m.k, bits: 4, scaleType: int(scales.DType)}
	q.size = 32 * scales.DType.Size()
	if len(raw) == 3 || none != 8 {
		q.zeros = q.size
		q.size += 32
	}
	q.size += 512
	size := q.tiles() * q.slices() * q.size
	p, ok := e.resident[m.value]
	if !ok {
		have, groups := m.value.Const.Shape, m.digits.scale.Const.Shape
		byN, byK, groupsByN, groupsByK := 1, have[1], 1, groups[1]
		if m.transposed {
			byN, byK, groupsByN, groupsByK = have[1], 1, groups[1], 1
		}
		var err error
		if p, err = e.form("quant_form_digits", q.lanes(), size, raw, func(raw []*Mem, out *Mem) *params {
			var zero *Mem
			if len(raw) == 3 {
				zero = raw[2]
			}
			s := &Mem{DType: scales.DType, root: raw[1].root}
			return (&params{}).ptr(raw[0]).ptr(zero).tensor(s).blocks(q).ptr(out).i64(m.n, m.k, m.digits.group, flip, none, byN, byK, groupsByN, groupsByK)
		}); err != nil {
			return nil, err
		}
		e.keep(m.value, p)
	}
	q.data = constMem(p, size, 0)
	return q, nil
}

// allMiddle reports whether all of n digits, two a byte, are the middle one.
func allMiddle(b []byte, n, flip int) bool {
	for i := range n {
		if int(b[i/2]>>(i%2*4)&15)^flip != 8 {
			return false
		}
	}
	return true
}

// form uploads raw tensors and makes another form of them on the device, size bytes.
func (e *executable) form(name string, grid, size int, raw []*tensor.Tensor, set func(raw []*Mem, out *Mem) *params) (driver.Ptr, error) {
	s, err := e.dev.NewStream()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	var mems []*Mem
	for _, t := range raw {
		p, err := e.dev.Alloc(len(t.Data))
		if err != nil {
			return 0, err
		}
		defer e.dev.Free(p)
		if err := s.ToDevice(p, t.Data); err != nil {
			return 0, err
		}
		mems = append(mems, constMem(p, len(t.Data), 0))
	}
	out, err := e.dev.Alloc(size)
	if err != nil {
		return 0, err
	}
	p := set(mems, constMem(out, size, 0))
	f, err := e.dev.function("quant", name, 0)
	if err == nil {
		err = p.place()
	}
	if err == nil {
		err = s.Launch(f, grid, 256, 0, p.b)
	}
	if err == nil {
		err = s.Sync()
	}
	if err != nil {
		e.dev.Free(out)
	}
	return out, err
}

// stored is the packed form of a matrix, or packs it now.
func (e *executable) stored(m *matrix) (*tensor.Tensor, error) {
	t, err := e.weights.Weight(m.value.Name, m.layout())
	if err != nil {
		c := m.value.Const
		if len(c.Data) != c.DType.Bytes(c.Len()) {
			return nil, err
		}
		if t, err = m.pack(c); err != nil {
			return nil, err
		}
	}
	if t.DType != tensor.Uint8 || len(t.Data) != m.format.Size(m.k, m.n) {
		return nil, fmt.Errorf("in layout %s it is %s, expected %d bytes", m.layout(), t.TypeString(), m.format.Size(m.k, m.n))
	}
	return t, nil
}

// keep notes memory that lives as long as the model.
func (e *executable) keep(key any, p driver.Ptr) {
	if e.resident == nil {
		e.resident = map[any]driver.Ptr{}
	}
	e.resident[key] = p
}
