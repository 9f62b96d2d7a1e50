// Package conv holds the CPU backend's causal depthwise convolution in time
// (ONNX CausalConvWithState-27), with bias and SiLU fused.
//
// Activations are channels-last: row t of x holds the channels of token t, rows
// LdX elements apart, so x may be a column slice of a wider projection. For
// every channel c
//
//	y[t,c] = act(bias[c] + sum_{j<K} w[j,c] * h[t+j,c])
//
// where h is the K-1 rows of state followed by the rows of x. The terms are
// added in that order, one rounding each, on every path but the portable one,
// so a result does not depend on how the work was divided, and a decode step
// equals the same token of a longer sequence bit for bit. Nothing allocates.
package conv

// MaxK is the widest kernel.
const MaxK = 8

// Shape describes one sequence; lengths and strides count elements.
type Shape struct {
	C, K int  // channels; taps, 1 to MaxK
	LdX  int  // row stride of x
	LdY  int  // row stride of y
	LdS  int  // row stride of the state
	SiLU bool // apply x*sigmoid(x)
}

// zeros stands for a missing state or bias, zeroChannels at a time.
var zeros [zeroChannels]float32

const zeroChannels = 4096

// Causal computes rows t0 to t1 and channels c0 to c1 of y. Row t of x must be
// there for every t in [t0-(K-1), t1) that is not negative; state is [K-1, C]
// with row stride LdS, or nil for zeros; w is [K, C] as Pack makes it; bias is
// [C] or nil. y must not overlap x or state.
func Causal(y, x, state, w, bias []float32, s Shape, t0, t1, c0, c1 int) {
	for c := c0; c < c1; c += zeroChannels {
		n := min(zeroChannels, c1-c)
		b := zeros[:n]
		if bias != nil {
			b = bias[c:][:n]
		}
		for t := t0; t < t1; {
			if t >= s.K-1 && t+blockRows <= t1 {
				// Bounds of what the block reads and writes, checked once.
				_, _ = x[(t+blockRows-1)*s.LdX+c+n-1], y[(t+blockRows-1)*s.LdY+c+n-1]
				if block(y[t*s.LdY+c:], x[(t-s.K+1)*s.LdX+c:], w[c:(s.K-1)*s.C+c+n], b, s, n) {
					t += blockRows
					continue
				}
			}
			var rows [MaxK]*float32
			for j := range s.K {
				switch i := t + j - (s.K - 1); {
				case i >= 0:
					rows[j] = &x[i*s.LdX+c : i*s.LdX+c+n][0]
				case state == nil:
					rows[j] = &zeros[0]
				default:
					at := (t+j)*s.LdS + c
					rows[j] = &state[at : at+n][0]
				}
			}
			row(y[t*s.LdY+c:][:n], &rows, w[c:(s.K-1)*s.C+c+n], b, s)
			t++
		}
	}
}

// blockRows is how many rows the block kernels make at once.
const blockRows = 4

// Pack turns ONNX weights [C, 1, K] into [K, C].
func Pack(dst, src []float32, c, k int) {
	for i := range c {
		for j := range k {
			dst[j*c+i] = src[i*k+j]
		}
	}
}
