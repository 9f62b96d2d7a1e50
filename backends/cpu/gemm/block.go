package gemm

import "github.com/ssdc-go/ssdc/backends/cpu/vec"

// product is one matrix product; the operands may be a window of larger ones.
type product struct {
	m, n, k        int
	a              []float32
	aRow, aCol     int // strides of A
	b              []float32
	packed         bool // b is in the packed layout; otherwise strides:
	bRow, bCol     int
	c              []float32
	ldc            int
	bias, residual []float32
	ldr            int
	act            Activation
	alpha          float32
}

// split is a division of C into tiles of rows x panels.
type split struct{ mTiles, pTiles, rows, panels int }

func (s split) tiles() int { return s.mTiles * s.pTiles }

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// divide chooses the tiles of C when `times` products like this one share the
// workers.
func (p *product) divide(workers, times int) split {
	np := panels(p.n)
	s := split{mTiles: 1, rows: p.m}
	least := 1
	if p.m > skinnyM {
		s.mTiles = ceilDiv(p.m, blockM)
		s.rows = ceilDiv(p.m, s.mTiles)
		least = 4 // each tile packs its block of A again
	}
	all := np * s.mTiles * times
	s.panels = max(ceilDiv(all, tasksPerWorker*workers), min(least, ceilDiv(all, workers)), ceilDiv(serialWork, max(s.rows*p.k*PanelWidth, 1)))
	s.panels = min(s.panels, np)
	if p.m > skinnyM {
		s.panels = min(s.panels, blockP)
	}
	s.pTiles = ceilDiv(np, s.panels)
	s.panels = ceilDiv(np, s.pTiles) // even them out
	return s
}

// tile computes tile i of the split.
func (p *product) tile(ks *kernels, s *scratch, sp split, i int) {
	r0 := i / sp.pTiles * sp.rows
	p0 := i % sp.pTiles * sp.panels
	rows, np := min(sp.rows, p.m-r0), min(sp.panels, panels(p.n)-p0)
	if rows <= 0 || np <= 0 {
		return
	}
	t := tile{product: p, kernels: ks, scratch: s, r0: r0, rows: rows}
	if rows <= skinnyM && p.aCol == 1 {
		t.a, t.lda = p.a[min(r0*p.aRow, len(p.a)):], p.aRow
		t.stream(p0, np)
	} else {
		t.blocked(p0, np)
	}
}

// tile is the work of one worker: some rows of C by a range of panels.
type tile struct {
	*product
	*kernels
	*scratch
	r0, rows int
	a        []float32 // rows of A with contiguous k, for the K block in work
	lda      int
}

// stream takes the panels one by one, each from top to bottom, and A in place:
// with few rows the time is that of reading B, once and in order.
func (t *tile) stream(p0, np int) {
	a := t.a
	for q := p0; q < p0+np; q += stripP {
		end := min(q+stripP, p0+np)
		for panel := q; panel < end; panel++ {
			for k0 := 0; k0 == 0 || k0 < t.k; k0 += blockK {
				t.a = a[min(k0, len(a)):]
				t.panelSlice(panel, k0)
			}
		}
		t.finish(q, end)
	}
}

// blocked takes K block by block, with a packed block of A in the cache.
func (t *tile) blocked(p0, np int) {
	for k0 := 0; k0 == 0 || k0 < t.k; k0 += blockK {
		kc := min(blockK, t.k-k0)
		if kc > 0 {
			packRows(t.packA, t.product.a[t.r0*t.aRow+k0*t.aCol:], t.rows, kc, t.aRow, t.aCol)
		}
		t.a, t.lda = t.packA, scratchStride
		last := k0+blockK >= t.k
		for q := p0; q < p0+np; q += stripP {
			end := min(q+stripP, p0+np)
			for panel := q; panel < end; panel++ {
				t.panelSlice(panel, k0)
			}
			if last {
				t.finish(q, end)
			}
		}
	}
}

// panelSlice adds one K block of one panel to the rows of C.
func (t *tile) panelSlice(panel, k0 int) {
	kc := min(blockK, t.k-k0)
	j := panel * PanelWidth
	cols := min(PanelWidth, t.n-j)
	var b []float32
	if t.packed {
		b = t.b[(panel*t.k+k0)*PanelWidth:][:kc*PanelWidth]
	} else if kc > 0 {
		b = t.packB[:kc*PanelWidth]
		packPanel(b, t.b[k0*t.bRow+j*t.bCol:], kc, cols, t.bRow, t.bCol)
	}
	// Groups of rows of even height: 15 rows are 8+7, not 14+1.
	groups := ceilDiv(t.rows, t.kernels.rows)
	for i := 0; groups > 0; groups-- {
		m := ceilDiv(t.rows-i, groups)
		d, ldd := t.addend(k0 == 0, t.r0+i, j)
		a := t.a[min(i*t.lda, len(t.a)):]
		if cols == PanelWidth {
			t.byRows[m](kc, a, t.lda, b, t.c[(t.r0+i)*t.ldc+j:], t.ldc, d, ldd, t.alpha)
		} else {
			t.rimBlock(m, cols, kc, a, b, t.c[(t.r0+i)*t.ldc+j:], d, ldd)
		}
		i += m
	}
}

// addend is what a K block is added to: C so far, or at first the residual,
// when no activation comes between, or else the bias.
func (t *tile) addend(first bool, r, j int) ([]float32, int) {
	switch {
	case !first:
		return t.c[r*t.ldc+j:], t.ldc
	case t.residualFirst():
		return t.residual[r*t.ldr+j:], t.ldr
	case t.bias != nil:
		return t.bias[j:], 0
	}
	return nil, 0
}

func (t *tile) residualFirst() bool { return t.residual != nil && t.act == None }

// rimBlock computes a block of the last, narrower panel: the kernel works on a full
// one in scratch.
func (t *tile) rimBlock(m, cols, kc int, a, b, c, d []float32, ldd int) {
	w := t.scratch.rim
	if d != nil {
		for i := range m {
			copy(w[i*PanelWidth:][:cols], d[i*ldd:])
		}
		d, ldd = w, PanelWidth
	}
	t.byRows[m](kc, a, t.lda, b, w, PanelWidth, d, ldd, t.alpha)
	for i := range m {
		copy(c[i*t.ldc:][:cols], w[i*PanelWidth:])
	}
}

// finish applies what the kernels did not: the activation and then the
// residual, or the bias where the residual took its place.
func (t *tile) finish(p0, pEnd int) {
	addBias := t.residualFirst() && t.bias != nil
	addResidual := t.residual != nil && !t.residualFirst()
	if t.act == None && !addBias {
		return
	}
	j0, j1 := p0*PanelWidth, min(pEnd*PanelWidth, t.n)
	for r := t.r0; r < t.r0+t.rows; r++ {
		row := t.c[r*t.ldc+j0 : r*t.ldc+j1]
		if addBias {
			vec.Add(row, row, t.bias[j0:])
		}
		activate(t.act, row)
		if addResidual {
			vec.Add(row, row, t.residual[r*t.ldr+j0:])
		}
	}
}

func activate(act Activation, x []float32) {
	switch act {
	case ReLU:
		vec.ReLU(x, x)
	case SiLU:
		vec.SiLU(x, x)
	case GELUErf:
		vec.GELU(x, x)
	case GELUTanh:
		vec.GELUTanh(x, x)
	case Sigmoid:
		vec.Sigmoid(x, x)
	case Softplus:
		vec.Softplus(x, x)
	}
}
