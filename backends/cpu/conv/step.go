package conv

// Step is one token of one sequence with the state in the outside layout
// [C, width], width K-1 (ONNX) or K (Hugging Face): channels c0 to c1 of y[C]
// from x[C], and the state moved on by one token into next, which may be state.
// w is [K, C] as Pack makes it, bias [C] or nil.
func Step(y, x, next, state, w, bias []float32, c, k, width int, silu bool, c0, c1 int) {
	for at := c0; at < c1; at += zeroChannels {
		n := min(zeroChannels, c1-at)
		b := zeros[:n]
		if bias != nil {
			b = bias[at:][:n]
		}
		step(y[at:][:n], x[at:][:n], next[at*width:][:n*width], state[at*width:][:n*width],
			w[at:(k-1)*c+at+n], b, c, k, width, silu)
	}
}

// tailChannels is what the step kernels take at a time.
const tailChannels = 8

func step(y, x, next, state, w, bias []float32, ldw, k, width int, silu bool) {
	n := len(y) &^ (tailChannels - 1)
	if !stepBlocks(y, x, next, state, w, bias, ldw, width, k, silu, n) {
		stepTaps(y, x, next, state, w, bias, ldw, k, width, silu)
		return
	}
	rest := len(y) - n
	if rest == 0 {
		return
	}
	// The last channels go through buffers of a whole block.
	var yb, xb, bb [tailChannels]float32
	var wb [4 * tailChannels]float32
	var sb [4 * tailChannels]float32
	copy(xb[:], x[n:])
	copy(bb[:], bias[n:])
	copy(sb[:], state[n*width:])
	for j := range k {
		copy(wb[j*tailChannels:][:rest], w[j*ldw+n:])
	}
	stepBlocks(yb[:], xb[:], sb[:], sb[:], wb[:], bb[:], tailChannels, width, k, silu, tailChannels)
	copy(y[n:], yb[:])
	copy(next[n*width:], sb[:rest*width])
}

// gatherChannels is how many channels stepTaps turns into rows at a time.
const gatherChannels = 64

// stepTaps is the step for any k and width: the state's columns become rows in
// a buffer, then the row kernel runs.
func stepTaps(y, x, next, state, w, bias []float32, ldw, k, width int, silu bool) {
	var buf [MaxK - 1][gatherChannels]float32
	s := Shape{C: ldw, K: k, SiLU: silu}
	skip := width - (k - 1)
	for c := 0; c < len(y); c += gatherChannels {
		n := min(gatherChannels, len(y)-c)
		var rows [MaxK]*float32
		for j := range k - 1 {
			for i := range n {
				buf[j][i] = state[(c+i)*width+skip+j]
			}
			rows[j] = &buf[j][0]
		}
		rows[k-1] = &x[c]
		row(y[c:][:n], &rows, w[c:], bias[c:][:n], s)
		if width == 0 {
			continue
		}
		for i := range n {
			to := next[(c+i)*width:][:width]
			copy(to, state[(c+i)*width:][:width][1:])
			to[width-1] = x[c+i]
		}
	}
}
