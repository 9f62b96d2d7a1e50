package cuda

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Normalisations, softmax, reductions: kernels/norm.cu.

// maxNorm is the longest row that a block keeps in shared memory.
const maxNorm = 48<<10/4 - 32

const normLane = 12 // eights of a row that a lane of norm_warps takes

func rowKernels() []*Kernel {
	onlyFirst := func(n *graph.Node, t backends.Target) error {
		for i, v := range n.Out {
			if i > 0 && v != nil && !v.Unused() {
				return fmt.Errorf("output %d, the statistics, is used", i)
			}
		}
		if a := n.Attrs.Int("axis", -1); a != -1 && a != int64(n.In[0].Type.Rank()-1) {
			return fmt.Errorf("axis %d is not the last", a)
		}
		for i, v := range n.Out {
			if i == 0 && !isReal(v.Type.DType) {
				return fmt.Errorf("output is %s", v.Type)
			}
		}
		for i := range n.In {
			if err := realInput(n, i); err != nil {
				return err
			}
		}
		return nil
	}
	all := []*Kernel{
		{Op: onnxOp("LayerNormalization", 17), Name: "rows", Accepts: onlyFirst, Lower: lowerNorm},
		{Op: onnxOp("RMSNormalization", 23), Name: "rows", Accepts: onlyFirst, Lower: lowerNorm},
		{Op: ssmOp("GatedRMSNorm"), Name: "rows", Accepts: reals(), Lower: lowerNorm},
		{Op: onnxOp("Softmax", 13), Name: "rows", Accepts: reals(), Lower: lowerSoftmax},
		{Op: onnxOp("LogSoftmax", 13), Name: "rows", Accepts: reals(), Lower: lowerSoftmax},
	}
	for name, kind := range reductions {
		all = append(all, &Kernel{Op: onnxOp(name, 1), Name: "reduce", Accepts: reals(0), Lower: func(b *Bind, n *graph.Node) error { return lowerReduce(b, n, kind) }})
	}
	return all
}

// reductions numbers them as kernels/norm.cu does.
var reductions = map[string]int{
	"ReduceSum": 0, "ReduceMean": 1, "ReduceMax": 2, "ReduceMin": 3, "ReduceProd": 4, "ReduceSumSquare": 5, "ReduceL2": 6, "ReduceL1": 7,
	"ReduceLogSum": 8, "ReduceLogSumExp": 9,
}

func lowerNorm(b *Bind, n *graph.Node) error {
	x, err := b.In(0)
	if err != nil {
		return err
	}
	rows, width, ldx, ok := x.matrix()
	if !ok {
		if x, err = b.dense(x); err != nil {
			return err
		}
		if rows, width, ldx, ok = x.matrix(); !ok {
			return ErrFallback
		}
	}
	var z, weight, bias *Mem
	ldz, cols, mean, after := 0, width, 0, 0
	if n.Op.Domain != "" {
		if z, err = b.In(1); err != nil {
			return err
		}
		zr, zc, ld, ok := z.matrix()
		if !ok {
			if z, err = b.dense(z); err != nil {
				return err
			}
			if zr, zc, ld, ok = z.matrix(); !ok {
				return ErrFallback
			}
		}
		if zr != rows || zc != width {
			return fmt.Errorf("x is %v and z %v", x.Shape, z.Shape)
		}
		ldz = ld
		if weight, err = b.Dense(2); err != nil {
			return err
		}
		if g := int(n.Attrs.Int("group_size", 0)); g != 0 {
			cols = g
		}
		if n.Attrs.Int("norm_before_gate", 0) != 0 {
			after = 1
		}
	} else {
		if weight, err = b.Dense(1); err != nil {
			return err
		}
		if bias, err = b.Dense(2); err != nil {
			return err
		}
		if n.Op.Name == "LayerNormalization" {
			mean = 1
		}
	}
	if cols <= 0 || width%cols != 0 {
		return fmt.Errorf("group_size %d does not divide %d channels", cols, width)
	}
	if weight != nil && weight.Len() != width || bias != nil && bias.Len() != width || cols > maxNorm {
		return ErrFallback
	}
	if z != nil && after == 0 && b.gateBefore(n.In[0], z, rows, ldz) {
		z, ldz = nil, 0
	}
	if z == nil && mean == 0 && bias == nil && cols == width {
		wide := weight
		if in := map[bool]int{true: 1, false: 2}[n.Op.Domain == ""]; weight != nil && b.b.contents(n.In[in]) != nil {
			if wide, err = b.As(in, tensor.Float32); err != nil {
				return err
			}
		}
		b.b.norms[n] = &normed{n, x, wide, n.Attrs.Float("epsilon", 1e-5)}
	}
	fours := 0
	if cols%4 == 0 && ldx%4 == 0 && ldz%4 == 0 {
		fours = 1
		for _, m := range []*Mem{x, z, weight, bias, b.Out(0)} {
			if m != nil && !m.aligned(4*m.DType.Size()) {
				fours = 0
			}
		}
	}
	p := (&params{}).tensor(x).tensor(z).tensor(weight).tensor(bias).tensor(b.Out(0)).i64(rows, cols, ldx, ldz, width, mean, after).f32(n.Attrs.Float("epsilon", 1e-5)).i32(fours)
	many := rows*(width/cols) > 4*b.dev().Info.Multiprocessors
	if name, half := half16[x.DType]; half && fours == 1 && many && mean == 0 && after == 0 && bias == nil && eights(x, z, b.Out(0), cols, ldx, ldz) {
		if z == nil && cols == width && cols <= normLane*8*32 {
			return b.Launch("norm", "norm_warps_"+name, ceilDiv(rows, 4), 128, 0, p)
		}
		return b.Launch("norm", "norm_eights_"+name, rows*(width/cols), alignUp(ceilDiv(cols/8, 4), 32), 128, p)
	}
	threads := rowThreads(cols)
	if fours == 1 { // two quadruples a thread when there are few rows, four when the rows fill the device
		per := 2
		if many {
			per = 4
		}
		threads = min(alignUp(ceilDiv(cols/4, per), 32), 512)
	}
	return b.Launch("norm", "norm_rows", rows*(width/cols), threads, (32+cols)*4, p)
}

// eights says whether norm_eights serves: one 16-bit type, and every row begins on 16 bytes.
func eights(x, z, y *Mem, cols, ldx, ldz int) bool {
	if cols%8 != 0 || ldx%8 != 0 || ldz%8 != 0 || cols > 8*4*256 {
		return false
	}
	for _, m := range []*Mem{x, z, y} {
		if m != nil && (m.DType != x.DType || !m.aligned(16)) {
			return false
		}
	}
	return true
}

// rowThreads is the block for rows of n elements.
func rowThreads(n int) int {
	t := 32
	for t < 256 && t*4 < n {
		t *= 2
	}
	return t
}

func lowerSoftmax(b *Bind, n *graph.Node) error {
	x, err := b.In(0)
	if err != nil {
		return err
	}
	axis, ok := axisOf(n.Attrs.Int("axis", -1), len(x.Shape))
	if !ok {
		return ErrFallback
	}
	out, log := b.Out(0), 0
	if n.Op.Name == "LogSoftmax" {
		log = 1
	}
	y := out
	if axis != len(x.Shape)-1 { // the axis goes last and comes back
		x = lastAxis(x, axis)
		y = b.Scratch(out.DType, x.Shape...)
	}
	if x, err = b.dense(x); err != nil {
		return err
	}
	cols := x.Shape[len(x.Shape)-1]
	p := (&params{}).tensor(x).tensor(y).i64(cols, log)
	if err := b.Launch("norm", "softmax_rows", x.Len()/cols, rowThreads(cols), 128, p); err != nil {
		return err
	}
	if y == out {
		return nil
	}
	return b.copy(lastAxis(out, axis), y)
}

// lastAxis is m with an axis moved to the end.
func lastAxis(m *Mem, axis int) *Mem {
	var shape, strides []int
	for a := range m.Shape {
		if a != axis {
			shape, strides = append(shape, m.Shape[a]), append(strides, m.Strides[a])
		}
	}
	return m.view(append(shape, m.Shape[axis]), append(strides, m.Strides[axis]), 0)
}

func lowerReduce(b *Bind, n *graph.Node, kind int) error {
	x, err := b.In(0)
	if err != nil {
		return err
	}
	axes := n.Attrs.Ints("axes")
	if len(n.In) > 1 && n.In[1] != nil {
		list, ok := b.Ints(1)
		if !ok {
			return ErrFallback
		}
		axes = list
	}
	r := len(x.Shape)
	gone := make([]bool, r)
	if len(axes) == 0 {
		if n.Attrs.Int("noop_with_empty_axes", 0) != 0 {
			return ErrFallback
		}
		for a := range gone {
			gone[a] = true
		}
	}
	for _, a := range axes {
		i, ok := axisOf(a, r)
		if !ok {
			return ErrFallback
		}
		gone[i] = true
	}
	// One run of reduced axes with others around it needs no copy when x is dense; else the reduced ones go last.
	first, last := r, -1
	for a, g := range gone {
		if g {
			first, last = min(first, a), a
		}
	}
	contiguous := x.Dense()
	for a := first; a <= last; a++ {
		contiguous = contiguous && gone[a]
	}
	out := b.Out(0)
	outer, length, inner := 1, 1, 1
	if contiguous {
		outer, length, inner = product(x.Shape[:first]), product(x.Shape[first:last+1]), product(x.Shape[last+1:])
	} else {
		var shape, strides, tail, tailStrides []int
		for a := range r {
			if gone[a] {
				tail, tailStrides = append(tail, x.Shape[a]), append(tailStrides, x.Strides[a])
			} else {
				shape, strides = append(shape, x.Shape[a]), append(strides, x.Strides[a])
			}
		}
		outer, length = product(shape), product(tail)
		if x, err = b.dense(x.view(append(shape, tail...), append(strides, tailStrides...), 0)); err != nil {
			return err
		}
	}
	if length == 0 {
		return ErrFallback
	}
	p := (&params{}).tensor(x).tensor(out).i64(outer, length, inner, kind)
	if inner == 1 {
		return b.Launch("norm", "reduce_rows", outer, rowThreads(length), 128, p)
	}
	return b.Launch("norm", "reduce_columns", ceilDiv(outer*inner, 256), 256, 0, p)
}
