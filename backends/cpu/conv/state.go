package conv

// The state is kept here as rows, [K-1, C] with row stride LdS: the inputs of
// the last K-1 tokens, oldest first. Outside, ONNX keeps [C, K-1] for each
// sequence and Hugging Face [C, K]; width is the second number below.

// NextState writes the state after l tokens of x. dst may be state itself.
func NextState(dst, x, state []float32, s Shape, l, c0, c1 int) {
	for i := range s.K - 1 {
		to := dst[i*s.LdS+c0 : i*s.LdS+c1]
		switch from := l + i - (s.K - 1); {
		case from >= 0:
			copy(to, x[from*s.LdX+c0:from*s.LdX+c1])
		case state == nil:
			clear(to)
		default: // row l+i > i: not yet overwritten when dst is state
			copy(to, state[(l+i)*s.LdS+c0:(l+i)*s.LdS+c1])
		}
	}
}

// ReadState fills the rows dst from the last K-1 columns of src, [C, width].
func ReadState(dst, src []float32, s Shape, width, c0, c1 int) {
	for i := range s.K - 1 {
		col := width - (s.K - 1) + i
		row := dst[i*s.LdS:]
		for c := c0; c < c1; c++ {
			row[c] = src[c*width+col]
		}
	}
}

// WriteState writes the last width columns of state followed by l tokens of x
// to dst, [C, width]; width is K-1, or K if l > 0. A nil state is zeros.
func WriteState(dst, x, state []float32, s Shape, width, l, c0, c1 int) {
	for j := range width {
		switch from := l + j - width; {
		case from >= 0:
			row := x[from*s.LdX:]
			for c := c0; c < c1; c++ {
				dst[c*width+j] = row[c]
			}
		case state == nil:
			for c := c0; c < c1; c++ {
				dst[c*width+j] = 0
			}
		default:
			row := state[(from+s.K-1)*s.LdS:]
			for c := c0; c < c1; c++ {
				dst[c*width+j] = row[c]
			}
		}
	}
}
