package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/layout"
	"github.com/ssdc-go/ssdc/passes/lift"
)

// isParam reports a constant that a layer could have in another size of its
// numbers: a vector, and not zeros.
func isParam(v *graph.Value) bool {
	return v.Const != nil && v.Const.DType.IsFloat() && v.Const.Len() > 1 && !lift.Zero(v)
}

// setKinds says how the inputs of a claim are drawn.
func setKinds(cl *certify.Claim, scans []*graph.Node, roots map[*graph.Value]bool) {
	kinds := decayKinds(scans, roots)
	for i, in := range cl.In {
		k, ok := kinds[in.Value]
		if c := in.Value.Const; c != nil && !ok {
			k = ofSign(c)
		}
		cl.In[i].Kind = k
	}
}

func ofSign(t *tensor.Tensor) certify.Kind {
	neg, pos := true, true
	for i := range t.Len() {
		neg, pos = neg && t.At(i) <= 0, pos && t.At(i) >= 0
	}
	switch {
	case neg:
		return certify.LogDecay
	case pos:
		return certify.Positive
	}
	return certify.Any
}

// decayKinds says how inputs are to be drawn so that decays decay: a is exp of
// something mostly negative, or lies in (0, 1].
func decayKinds(scans []*graph.Node, roots map[*graph.Value]bool) map[*graph.Value]certify.Kind {
	kinds := map[*graph.Value]certify.Kind{}
	at := func(v *graph.Value, k certify.Kind) bool {
		for _, u := range layout.Chain(v) {
			if roots[u] {
				kinds[u] = k
				return true
			}
		}
		return false
	}
	sign := func(v *graph.Value) float64 { // of a constant
		if v = layout.Deepest(v); v.Const == nil || v.Const.Len() == 0 {
			return 0
		}
		return v.Const.At(0)
	}
	var log func(v *graph.Value, k certify.Kind)
	log = func(v *graph.Value, k certify.Kind) {
		other := certify.LogDecay
		if k == certify.LogDecay {
			other = certify.Positive
		}
		v = layout.Deepest(v)
		if at(v, k) || v.Def == nil || v.Def.Op.Domain != "" {
			return
		}
		switch in := v.Def.In; v.Def.Op.Name {
		case "Neg":
			log(in[0], other)
		case "Cast":
			log(in[0], k)
		case "Mul":
			for i, u := range in {
				if x := sign(u); x < 0 {
					log(in[1-i], other)
					return
				} else if x > 0 {
					log(in[1-i], k)
					return
				}
			}
			a, dt := in[0], in[1]
			if n, ok := layout.Numel(layout.Deepest(a)).Const(); !ok || n == 0 {
				a, dt = dt, a
			}
			log(a, k)
			log(dt, certify.Positive)
		}
	}
	var decay func(v *graph.Value)
	decay = func(v *graph.Value) {
		v = layout.Deepest(v)
		if at(v, certify.Positive) || v.Def == nil || v.Def.Op.Domain != "" {
			return
		}
		switch v.Def.Op.Name {
		case "Exp":
			log(v.Def.In[0], certify.LogDecay)
		case "Mul", "Cast":
			for _, u := range v.Def.In {
				decay(u)
			}
		case "Where":
			decay(v.Def.In[1])
			decay(v.Def.In[2])
		}
	}
	for _, n := range scans {
		decay(n.In[0])
	}
	return kinds
}
