package recur

import (
	"errors"
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes/certify"
)

// try assigns roles to the operands and asks for a certificate.
func (r *chunkRegion) try(y *graph.Value, exits []*graph.Value) error {
	state, from := stateExit(r.a, exits, y)
	for _, v := range exits {
		if v != from && v != state && r.tails.leaves(v, y) {
			return usedOutside{v}
		}
	}
	outs := []*graph.Value{y}
	if state != nil {
		outs = append(outs, state)
	}
	var first error
	for _, r.through = range []bool{true, false} {
		err := r.roles(r.operands(outs), y, state)
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		first = certify.Closer(first, err)
	}
	return first
}

// roles tries the operands as x, B and C, and a state.
func (r *scanRoles) roles(operands [][]*graph.Value, y, state *graph.Value) error {
	var seq [][]*graph.Value
	var past *graph.Value
	either := -1 // a state by its shape too
	for _, ch := range operands {
		s, p := r.sequence(ch), r.stateOf(ch)
		switch {
		case s != nil:
			if p != nil && p.Def == nil && p.Type.Rank() == s[0].Type.Rank() {
				either = len(seq)
			}
			seq = append(seq, s)
		case p != nil && past == nil:
			past = p
		default:
			d := ch[len(ch)-1]
			return fmt.Errorf("operand %q %s of the form is neither a sequence [B,L,...] with the decay's B and L, %s, nor a state [B,H,P,N]", d.Name, d.Type, r.shape())
		}
	}
	if len(seq) == 4 && past == nil && either >= 0 {
		var first error
		for i, s := range seq {
			p := r.stateOf(s)
			if p == nil || p.Type.Rank() != s[0].Type.Rank() {
				continue
			}
			rest := append(append([][]*graph.Value{}, seq[:i]...), seq[i+1:]...)
			err := r.permuted(rest, p, y, state)
			if err == nil {
				return nil
			}
			first = certify.Closer(first, err)
		}
		return first
	}
	if len(seq) == 0 {
		return errNoSequence
	}
	if len(seq) != 3 {
		var names []string
		for _, s := range seq {
			names = append(names, fmt.Sprintf("%q %s", s[0].Name, s[0].Type))
		}
		return fmt.Errorf("y is computed from %d sequences beside the decay (%s); expected three: x, B and C", len(seq), strings.Join(names, ", "))
	}
	return r.permuted(seq, past, y, state)
}

// errNoSequence: what was taken for y is part of the decays.
var errNoSequence = errors.New("y is computed from no sequence beside the decay; expected three: x, B and C")

// permuted tries three sequences in every order.
func (r *scanRoles) permuted(seq [][]*graph.Value, past, y, state *graph.Value) error {
	var last error
	for _, p := range [][3]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}} {
		for _, nFirst := range []bool{false, true} {
			if nFirst && past == nil && state == nil {
				continue // there is no state whose axes could stand in another order
			}
			err := r.assign(seq[p[0]], seq[p[1]], seq[p[2]], past, y, state, nFirst)
			if err == nil {
				return nil
			}
			if last == nil || isRole(last) {
				last = err
			} else if !isRole(err) {
				last = certify.Closer(last, err)
			}
		}
	}
	return last
}

// roleError: the shapes rule the assignment out, before any evaluation.
type roleError struct{ error }

func isRole(err error) bool { _, ok := err.(roleError); return ok }
