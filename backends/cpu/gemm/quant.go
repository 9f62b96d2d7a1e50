package gemm

import (
	"unsafe"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/pool"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
)

// Products with a B that is not float32. The rows of A are converted first, a
// slab at a time, and then multiplied like others: pairs of bfloat16 stand where
// floats would (half as many), and groups of int8 have kernels of their own.

// slabBytes bounds the converted rows of A that are in memory at a time.
const slabBytes = 4 << 20

// convertRows rows of A are converted by one item.
const convertRows = 16

// quantKernel computes a block of m rows by one panel as kernel does, over whole
// groups of k. a holds groups of groupABytes, rows lda bytes apart; s the scale of
// each column of an int8 panel, and b what follows it, or a panel in int4.
type quantKernel func(groups int, a []byte, lda int, b []byte, s, c []float32, ldc int, d []float32, ldd int, alpha float32)

// quantKernels is the set of one instruction set.
type quantKernels struct {
	rows       int
	int8, int4 [maxQuantRows + 1]quantKernel // by rows
	// As kernels.wide, for panels lda bytes apart; may be nil.
	wideInt8, wideInt4 quantKernel
	quantize           func(dst []byte, src []float32, zero int32)
}

const maxQuantRows = 7

func (ks *quantKernels) of(f Format) *[maxQuantRows + 1]quantKernel {
	if f == Int4 {
		return &ks.int4
	}
	return &ks.int8
}

func (ks *quantKernels) wide(f Format) quantKernel {
	if f == Int4 {
		return ks.wideInt4
	}
	return ks.wideInt8
}

// rowBytes is the size of a converted row of A.
func (f Format) rowBytes(k int) int {
	if f == BF16 {
		return ceilDiv(k, group) * group * 2
	}
	return ceilDiv(k, group) * groupABytes
}

// Reserve makes ready for products in a format: Run with it allocates nothing
// afterwards, for rows of k values at most.
func (ws *Workspace) Reserve(f Format, k int) {
	if f == F32 {
		return
	}
	if f == BF16 && isa.Tiles() {
		pairs := f.rowBytes(k) / 4
		for i := range ws.scratch {
			if s := &ws.scratch[i]; len(s.tilesA) < amxHeld(pairs)*pairs {
				s.tilesA = make([]float32, amxHeld(pairs)*pairs)
			}
		}
		return
	}
	if need := max(slabBytes, f.rowBytes(k)) / 8; len(ws.slab) < need {
		ws.slab = make([]uint64, need) // for its alignment
	}
}

// convertJob turns rows of A into a slab.
type convertJob struct {
	a        []float32
	lda, k   int
	slab     []byte
	rowBytes int
	rows     int
	perItem  int
	format   Format
	quantize func(dst []byte, src []float32, zero int32)
	scratch  []scratch
}

// Do converts one run of rows.
func (j *convertJob) Do(worker, item int) {
	for r := item * j.perItem; r < min((item+1)*j.perItem, j.rows); r++ {
		row, dst := j.a[min(r*j.lda, len(j.a)):][:j.k], j.slab[r*j.rowBytes:][:j.rowBytes]
		if j.format == BF16 {
			halves := view[uint16](dst)
			vec.F32ToBF16(halves[:j.k], row)
			clear(halves[j.k:])
			continue
		}
		zero := int32(int8Zero)
		if j.format == Int4 {
			zero = int4Zero
		}
		whole := j.k / group
		j.quantize(dst[:whole*groupABytes], row[:whole*group], zero)
		if rest := row[whole*group:]; len(rest) > 0 {
			last := j.scratch[worker].rim[:group]
			clear(last[copy(last, rest):])
			j.quantize(dst[whole*groupABytes:], last, zero)
		}
	}
}

// runQuant is Run for the other formats.
func (j *denseJob) runQuant(p *pool.Pool, a *Args, ws *Workspace) {
	ws.Reserve(a.Format, a.K)
	if a.Format == BF16 && isa.Tiles() {
		j.runTiles(p, a, ws)
		return
	}
	slab := view[byte](ws.slab)
	rowBytes := a.Format.rowBytes(a.K)
	most := a.M
	if rowBytes > 0 {
		most = min(a.M, len(slab)/rowBytes)
	}
	qk := currentQuantKernels()
	for r := 0; r < a.M; r += most {
		rows := min(most, a.M-r)
		c := &ws.convert
		*c = convertJob{a: a.A[min(r*a.Lda, len(a.A)):], lda: a.Lda, k: a.K, slab: slab, rowBytes: rowBytes, rows: rows, perItem: convertRows, format: a.Format, quantize: qk.quantize, scratch: ws.scratch}
		ws.run(p, ws.workersOf(p, rows*a.K*8), ceilDiv(rows, c.perItem), c)
		c.a, c.slab = nil, nil

		q := &j.product
		q.m, q.c = rows, a.C[r*a.Ldc:]
		if a.Residual != nil {
			q.residual = a.Residual[r*a.Ldr:]
		}
		workers := ws.workersOf(p, rows*a.N*a.K)
		if a.Format == BF16 {
			words := rowBytes / 4
			q.k, q.a, q.aRow = words, view[float32](slab), words
			q.b = view[float32](a.Q)
			j.kernels = currentBF16Kernels()
			j.split = j.divide(j.kernels.rows, workers, 1)
		} else {
			ws.quant = quantProduct{kernels: qk, byRows: qk.of(a.Format), format: a.Format, a: slab, rowBytes: rowBytes, b: a.Q}
			q.quant = &ws.quant
			j.split = j.divide(qk.rows, workers, 1)
		}
		ws.run(p, workers, j.split.tiles(), j)
	}
	ws.quant = quantProduct{}
}

// quantProduct is what a product of int8 groups has beyond others.
type quantProduct struct {
	kernels  *quantKernels
	byRows   *[maxQuantRows + 1]quantKernel
	format   Format
	a        []byte
	rowBytes int
	b        []byte
}

// quantised computes a tile: few rows walk the panels one by one, and with more
// a group of rows, which stays in the first level of cache, walks them all.
func (t *tile) quantised(r0, rows, p0, np int) {
	ks := t.quant.kernels
	if rows <= skinnyM {
		for q := p0; q < p0+np; q += stripP {
			end := min(q+stripP, p0+np)
			if rows == 1 && end-q == widePanels && end*PanelWidth <= t.n && ks.wide(t.quant.format) != nil {
				t.quantWide(r0, q)
				t.finish(r0, 1, q, end)
				continue
			}
			for panel := q; panel < end; panel++ {
				for i, groups := 0, ceilDiv(rows, ks.rows); groups > 0; groups-- {
					m := ceilDiv(rows-i, groups)
					t.quantBlock(r0+i, m, panel)
					i += m
				}
			}
			t.finish(r0, rows, q, end)
		}
		return
	}
	for i, groups := 0, ceilDiv(rows, ks.rows); groups > 0; groups-- {
		m := ceilDiv(rows-i, groups)
		for panel := p0; panel < p0+np; panel++ {
			t.quantBlock(r0+i, m, panel)
		}
		t.finish(r0+i, m, p0, p0+np)
		i += m
	}
}

func (t *tile) quantBlock(r, m, panel int) {
	q := t.quant
	size := q.format.panelBytes(t.k)
	b := q.b[panel*size:][:size]
	var s []float32
	if q.format == Int8 {
		s, b = view[float32](b[:int8Header]), b[int8Header:]
	}
	j := panel * PanelWidth
	d, ldd := t.addend(true, r, j)
	f, groups, a := q.byRows[m], q.rowBytes/groupABytes, q.a[r*q.rowBytes:]
	if c := t.c[r*t.ldc+j:]; t.n-j >= PanelWidth {
		f(groups, a, q.rowBytes, b, s, c, t.ldc, d, ldd, t.alpha)
	} else {
		d, ldd = t.enterRim(m, t.n-j, d, ldd)
		f(groups, a, q.rowBytes, b, s, t.rim, PanelWidth, d, ldd, t.alpha)
		t.leaveRim(m, t.n-j, c)
	}
}

// quantWide computes one row of widePanels panels.
func (t *tile) quantWide(r, panel int) {
	q := t.quant
	size := q.format.panelBytes(t.k)
	b := q.b[panel*size:]
	var s []float32
	if q.format == Int8 {
		s, b = view[float32](b), b[int8Header:]
	}
	j := panel * PanelWidth
	d, ldd := t.addend(true, r, j)
	q.kernels.wide(q.format)(q.rowBytes/groupABytes, q.a[r*q.rowBytes:], size, b, s, t.c[r*t.ldc+j:], t.ldc, d, ldd, t.alpha)
}

// view gives memory another element type.
func view[T, S any](s []S) []T {
	var t T
	var e S
	if len(s) == 0 {
		return nil
	}
	return unsafe.Slice((*T)(unsafe.Pointer(unsafe.SliceData(s))), len(s)*int(unsafe.Sizeof(e))/int(unsafe.Sizeof(t)))
}
