package gemm

// amxRows is the most rows of a block for the tile registers.
const amxRows = 32

// tiled computes a tile of C with the tile registers, for any number of rows: few
// of them walk the panels one by one, and more keep a few panels in cache.
func (t *tile) tiled(r0, rows, p0, np int) {
	const together = 4 // panels that stay in the second level of cache
	for q := p0; q < p0+np; q += together {
		end := min(q+together, p0+np)
		for i, blocks := 0, ceilDiv(rows, amxRows); blocks > 0; blocks-- {
			m := min(amxRows, rows-i)
			for panel := q; panel < end; panel++ {
				t.amxBlock(r0+i, m, panel)
			}
			t.finish(r0+i, m, q, end)
			i += m
		}
	}
}

func (t *tile) amxBlock(r, m, panel int) {
	j := panel * PanelWidth
	d, ldd := t.addend(true, r, j)
	a, b, c := t.a[min(r*t.aRow, len(t.a)):], t.b[min(panel*t.k*PanelWidth, len(t.b)):], t.c[r*t.ldc+j:]
	if t.n-j >= PanelWidth {
		amxKernel(m, t.k, a, t.aRow, b, t.sums, c, t.ldc, d, ldd, t.alpha)
		return
	}
	d, ldd = t.enterRim(m, t.n-j, d, ldd)
	amxKernel(m, t.k, a, t.aRow, b, t.sums, t.rim, PanelWidth, d, ldd, t.alpha)
	t.leaveRim(m, t.n-j, c)
}
