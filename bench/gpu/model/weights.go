package main

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// sharedForms gives the weights of a plan and packs matrices of one size once: what is timed does not depend on their numbers, and packing
// billions of them in int4 takes minutes. The device still has every one for itself.
type sharedForms struct {
	plan *backends.Plan
	own  backends.Weights
	got  map[string]*tensor.Tensor
}

// Weight implements backends.Weights.
func (s *sharedForms) Weight(name, layout string) (*tensor.Tensor, error) {
	if layout == "" {
		return s.own.Weight(name, layout)
	}
	for _, w := range s.plan.Weights {
		if w.Name != name || w.Layout != layout {
			continue
		}
		key := fmt.Sprint(layout, w.Shape)
		t := s.got[key]
		if t == nil {
			var err error
			if t, err = w.Load(); err != nil {
				return nil, err
			}
			s.got[key] = t
		}
		c := *t // the device tells weights apart by where they lie
		c.Data = append([]byte(nil), t.Data...)
		return &c, nil
	}
	return s.own.Weight(name, layout)
}
