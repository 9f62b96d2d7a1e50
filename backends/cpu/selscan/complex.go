package selscan

// complexSteps is the linear scan of complex numbers, stored as (re, im)
// pairs, of w floats: h = a*h + u, every h to y.
func complexSteps(h, a, u, y []float32, w, steps, lda, ldu, ldy int) {
	for t := range steps {
		at, ut, yt := a[t*lda:][:w], u[t*ldu:][:w], y[t*ldy:][:w]
		hs := h[:w]
		for i := 0; i+1 < w; i += 2 {
			re, im := hs[i], hs[i+1]
			hs[i] = at[i]*re - at[i+1]*im + ut[i]
			hs[i+1] = at[i]*im + at[i+1]*re + ut[i+1]
			yt[i], yt[i+1] = hs[i], hs[i+1]
		}
	}
}
