package attention

import "github.com/ssdc-go/ssdc/backends/cpu/vec"

// What a block of the mask does to a block of queries.
const (
	mixed  byte = iota // it must be added
	plain              // it hides nothing and adds nothing
	hidden             // it hides every key
)

// Masks hide keys with -Inf or with a number so negative that nothing is left
// of the exponential: exporters write the least float32. Beside a score that is
// itself of this size the softmax means nothing any more.
const (
	hides = -1e30
	shows = -1e20
)

// flag is what look found out, or plain without a mask.
func (j *job) flag(b, h, qb, kb int) byte {
	if !j.Mask.given() {
		return plain
	}
	if j.maskH == 1 {
		h = 0
	}
	return j.ws.Flags[((b*j.maskH+h)*j.shape.queryBlocks()+qb)*j.shape.keyBlocks()+kb]
}

// look reads the rows of the mask for one block of queries.
func (j *job) look(i int) {
	blocks, cols := j.shape.queryBlocks(), j.shape.keyBlocks()
	b, h, qb := i/blocks/j.maskH, i/blocks%j.maskH, i%blocks
	flags := j.ws.Flags[i*cols:][:cols]
	clear(flags)
	m := &j.Mask
	if m.StrideT == 0 {
		return
	}
	first := qb * j.shape.rows()
	rows := min(j.shape.rows(), j.S-first)
	same := m.StrideS == 0 && !j.Causal && j.Left < 0 && j.Right < 0
	if same {
		rows = 1
	}
	// Rows in which some key is seen: a finite mask hides others only there.
	lit := true
	for r := range rows {
		lo, hi := j.sees(b, first+r)
		at := m.at(b, h, first+r)
		if m.F != nil && lo < hi && !(vec.MaxOf(m.F[at+lo:at+hi]) > shows) {
			lit = false
		}
	}
	for kb := range flags {
		k0 := kb * keyBlock
		k1 := min(k0+keyBlock, m.Len)
		if k1 <= k0 {
			break
		}
		top, low := negInf, float32(0)
		all, none := true, true // of a Boolean mask: keys that are seen
		for r := range rows {
			at := m.at(b, h, first+r)
			if m.F != nil {
				x := m.F[at+k0 : at+k1]
				top, low = max(top, vec.MaxOf(x)), min(low, vec.MinOf(x))
				continue
			}
			for _, v := range m.Bool[at+k0 : at+k1] {
				all, none = all && v != 0, none && v == 0
			}
		}
		switch {
		case m.F != nil && (top == negInf || lit && top < hides) || m.F == nil && none:
			flags[kb] = hidden
		case m.F != nil && top == 0 && low == 0 || m.F == nil && all:
			flags[kb] = plain
		}
	}
}

// mask applies the mask to the scores x of keys from k0 on, of which [lo,hi) are seen.
func (j *job) mask(x []float32, b, h, s, k0, lo, hi int) {
	m := &j.Mask
	at := m.at(b, h, s) + k0*m.StrideT
	switch {
	case m.F != nil && m.StrideT == 1:
		vec.Add(x[lo:hi], x[lo:hi], m.F[at+lo:at+hi])
	case m.F != nil:
		vec.AddS(x[lo:hi], x[lo:hi], m.F[at])
	default:
		for i := lo; i < hi; i++ {
			if m.Bool[at+i*m.StrideT] == 0 {
				x[i] = negInf
			}
		}
	}
}
