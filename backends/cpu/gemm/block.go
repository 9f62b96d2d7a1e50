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
	quant          *quantProduct // A and B as int8 groups; a, b and k are then unused
	tiles          *tileProduct  // for the tile registers; a is then unused
}

// split is a division of C into tiles of at most rows x panels.
type split struct {
	mTiles, pTiles, rows, panels int
	// groups of rows, of height each, are spread evenly over the mTiles; without
	// them every tile but the last has all its rows.
	groups, height int
}

// row is the first row of the t-th tile from above.
func (s split) row(t int) int {
	if s.groups == 0 {
		return t * s.rows
	}
	return t * s.groups / s.mTiles * s.height
}

func (s split) tiles() int { return s.mTiles * s.pTiles }

func ceilDiv(a, b int) int { return (a + b - 1) / b }

// divide chooses the tiles of C for kernels of that height when `times` products
// like this one share the workers.
func (p *product) divide(height, workers, times int) split {
	np := panels(p.n)
	enough := ceilDiv(tilesPerWorker*workers, times)
	if p.m <= skinnyM {
		least := ceilDiv(serialWork, max(p.m*p.k*PanelWidth, 1))
		pTiles := ceilDiv(np, min(max(np/enough, least), np))
		return split{mTiles: 1, pTiles: pTiles, rows: p.m, panels: ceilDiv(np, pTiles)}
	}
	pTiles := ceilDiv(np, blockP)
	groups := ceilDiv(p.m, height)
	mTiles := max(ceilDiv(groups, blockM/height), min(ceilDiv(enough, pTiles), ceilDiv(groups, 3)))
	if few := ceilDiv(workers, times); mTiles*pTiles < few { // less to share: narrower tiles
		pTiles = min(np, ceilDiv(few, mTiles))
	}
	return split{mTiles, pTiles, ceilDiv(groups, mTiles) * height, ceilDiv(np, pTiles), groups, height}
}

// tile computes tile i of the split. Neighbours share their part of B.
func (p *product) tile(ks *kernels, s *scratch, sp split, i int) {
	mt, pt := i%sp.mTiles, i/sp.mTiles
	if p.tiles != nil { // their part of A
		mt, pt = i/sp.pTiles, i%sp.pTiles
	}
	r0, p0 := sp.row(mt), pt*sp.panels
	rows, np := min(sp.row(mt+1), p.m)-r0, min(sp.panels, panels(p.n)-p0)
	if rows <= 0 || np <= 0 {
		return
	}
	t := tile{product: p, kernels: ks, scratch: s}
	if p.quant != nil {
		t.quantised(r0, rows, p0, np)
	} else if p.tiles != nil {
		t.tiled(r0, rows, p0, np)
	} else if rows <= skinnyM {
		t.stream(r0, rows, p0, np)
	} else {
		t.blocked(r0, rows, p0, np)
	}
}

// tile is the work of one worker: some rows of C by a range of panels.
type tile struct {
	*product
	*kernels
	*scratch
}

// stream takes the panels one by one, each from top to bottom: with few rows
// the time is that of reading B, once and in order.
func (t *tile) stream(r0, rows, p0, np int) {
	step := stepK(t.k)
	for q := p0; q < p0+np; q += stripP {
		end := min(q+stripP, p0+np)
		if rows == 1 && end-q == widePanels && end*PanelWidth <= t.n && t.packed && t.kernels.wide != nil {
			t.wide(r0, q)
			t.finish(r0, 1, q, end)
			continue
		}
		for panel := q; panel < end; panel++ {
			for k0 := 0; k0 == 0 || k0 < t.k; k0 += step {
				kc := min(step, t.k-k0)
				a, lda := t.rowsOfA(r0, rows, k0, kc, false)
				b := t.sliceOfB(panel, k0, kc, 0)
				for i, groups := 0, ceilDiv(rows, t.rows); groups > 0; groups-- {
					m := ceilDiv(rows-i, groups)
					t.streamBlock(r0+i, m, panel, k0, kc, a[min(i*lda, len(a)):], lda, b, i == 0)
					i += m
				}
			}
		}
		t.finish(r0, rows, q, end)
	}
}

// streamBlock is block, which asks for a part of each quarter of the panel beside
// this one if that is still to come from memory.
func (t *tile) streamBlock(r, m, panel, k0, kc int, a []float32, lda int, b []float32, ask bool) {
	f, j := t.kernels.stream[m], panel*PanelWidth
	if f == nil || kc == 0 || t.n-j < PanelWidth {
		t.block(r, m, panel, k0, kc, a, lda, b)
		return
	}
	next, stride := &b[0], 0
	if ask && t.packed && panel+1 < panels(t.n) {
		next, stride = &t.b[((panel+1)*t.k+k0/4)*PanelWidth], t.k/4*PanelWidth
	}
	d, ldd := t.addend(k0 == 0, r, j)
	f(kc, a, lda, b, t.c[r*t.ldc+j:], t.ldc, d, ldd, t.alpha, next, stride)
}

// wide computes one row of widePanels panels, a K block of all at a time.
func (t *tile) wide(r, panel int) {
	step, j := stepK(t.k), panel*PanelWidth
	for k0 := 0; k0 == 0 || k0 < t.k; k0 += step {
		kc := min(step, t.k-k0)
		a, _ := t.rowsOfA(r, 1, k0, kc, false)
		d, ldd := t.addend(k0 == 0, r, j)
		t.kernels.wide(kc, a, t.k*PanelWidth, t.b[(panel*t.k+k0)*PanelWidth:], t.c[r*t.ldc+j:], t.ldc, d, ldd, t.alpha)
	}
}

// blocked takes K block by block, and in it the rows group by group.
func (t *tile) blocked(r0, rows, p0, np int) {
	step := stepK(t.k)
	for k0 := 0; k0 == 0 || k0 < t.k; k0 += step {
		kc := min(step, t.k-k0)
		if !t.packed {
			for p := range np {
				t.sliceOfB(p0+p, k0, kc, p)
			}
		}
		// Groups of even height: 15 rows are 8+7, not 14+1.
		groups := ceilDiv(rows, t.rows)
		for g, i := 0, 0; g < groups; g++ {
			m := ceilDiv(rows-i, groups-g)
			a, lda := t.rowsOfA(r0+i, m, k0, kc, true)
			for p := range np {
				var b []float32
				if t.packed {
					b = t.sliceOfB(p0+p, k0, kc, 0)
				} else {
					b = t.packB[p*blockK*PanelWidth:][:kc*PanelWidth]
				}
				if f := t.ahead[m]; f != nil && kc > 0 && t.n-(p0+p)*PanelWidth >= PanelWidth {
					nextA, nextB := t.next(a, b, r0, rows, i+m+p, p0+p, k0, g)
					j := (p0 + p) * PanelWidth
					d, ldd := t.addend(k0 == 0, r0+i, j)
					f(kc, a, lda, b, t.c[(r0+i)*t.ldc+j:], t.ldc, d, ldd, t.alpha, nextA, nextB)
					continue
				}
				t.block(r0+i, m, p0+p, k0, kc, a, lda, b)
			}
			if k0+step >= t.k {
				t.finish(r0+i, m, p0, p0+np)
			}
			i += m
		}
	}
}

// next is what an aheadKernel asks for while it computes a block of group g: row i of
// the tile's part of A, which is one of the next group's, and a part of the next K
// block of the panel. Behind the last row comes the next K block, and behind the last
// of these the first, for the tile of the rows below. With nothing to ask for it is
// what the caches hold.
func (t *tile) next(a, b []float32, r0, rows, i, panel, k0, g int) (nextA, nextB *float32) {
	step := stepK(t.k)
	next := k0 + step
	if next >= t.k {
		next = 0
	}
	r := r0 + i
	if i >= rows {
		k0 = next
		if next > 0 {
			r -= rows
		}
	}
	nextA, nextB = &a[0], &b[0]
	if r < t.m && t.aCol == 1 {
		nextA = &t.a[r*t.aRow+k0]
	}
	if part := g * 2 * step; t.packed && part < min(step, t.k-next)*PanelWidth {
		nextB = &t.b[(panel*t.k+next)*PanelWidth+part]
	}
	return nextA, nextB
}

// rowsOfA is a block of A with contiguous rows: A itself, or a copy if its
// rows are not contiguous, or if they are to stay in a cache whose sets they
// would crowd.
func (t *tile) rowsOfA(r, rows, k0, kc int, stay bool) ([]float32, int) {
	if kc == 0 {
		return nil, 0
	}
	a := t.a[r*t.aRow+k0*t.aCol:]
	if t.aCol == 1 && !(stay && t.aRow%512 == 0) {
		return a, t.aRow
	}
	packRows(t.packA, a, rows, kc, t.aRow, t.aCol)
	return t.packA, scratchStride
}

// sliceOfB is one K block of a panel of B; if B is not packed, it is packed to
// the given place in scratch.
func (t *tile) sliceOfB(panel, k0, kc, place int) []float32 {
	if t.packed {
		return t.b[(panel*t.k+k0)*PanelWidth:][:kc*PanelWidth]
	}
	if kc == 0 {
		return nil
	}
	b := t.packB[place*blockK*PanelWidth:][:kc*PanelWidth]
	j := panel * PanelWidth
	packPanel(b, t.b[k0*t.bRow+j*t.bCol:], kc, min(PanelWidth, t.n-j), t.bRow, t.bCol)
	return b
}

// block adds one K block to m rows of a panel of C.
func (t *tile) block(r, m, panel, k0, kc int, a []float32, lda int, b []float32) {
	j := panel * PanelWidth
	d, ldd := t.addend(k0 == 0, r, j)
	if c := t.c[r*t.ldc+j:]; t.n-j >= PanelWidth {
		t.byRows[m](kc, a, lda, b, c, t.ldc, d, ldd, t.alpha)
	} else {
		t.rimBlock(m, t.n-j, kc, a, lda, b, c, d, ldd)
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
func (t *tile) rimBlock(m, cols, kc int, a []float32, lda int, b, c, d []float32, ldd int) {
	d, ldd = t.enterRim(m, cols, d, ldd)
	f := t.byRows[m]
	if cols <= PanelWidth/2 && t.half[m] != nil {
		f = t.half[m]
	}
	f(kc, a, lda, b, t.rim, PanelWidth, d, ldd, t.alpha)
	t.leaveRim(m, cols, c)
}

// enterRim copies the addend of a narrow block to scratch, where a kernel may
// read whole rows of it.
func (t *tile) enterRim(m, cols int, d []float32, ldd int) ([]float32, int) {
	if d == nil {
		return nil, 0
	}
	for i := range m {
		copy(t.rim[i*PanelWidth:][:cols], d[i*ldd:])
	}
	return t.rim, PanelWidth
}

// leaveRim copies the result of a narrow block to C.
func (t *tile) leaveRim(m, cols int, c []float32) {
	for i := range m {
		copy(c[i*t.ldc:][:cols], t.rim[i*PanelWidth:])
	}
}

// finish applies what the kernels did not: the activation and then the
// residual, or the bias where the residual took its place.
func (t *tile) finish(r0, rows, p0, pEnd int) {
	addBias := t.residualFirst() && t.bias != nil
	addResidual := t.residual != nil && !t.residualFirst()
	if t.act == None && !addBias {
		return
	}
	j0, j1 := p0*PanelWidth, min(pEnd*PanelWidth, t.n)
	for r := r0; r < r0+rows; r++ {
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
