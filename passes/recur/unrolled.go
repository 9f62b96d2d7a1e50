package recur

import (
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/certify"
	"github.com/ssdc-go/ssdc/passes/recur/roll"
)

// A loop over time that was unrolled: package roll makes a Scan of it again,
// which is certified against the whole trace, and takes the road of all rolled
// recurrences.

const ruleUnrolled = "unrolled trace"

func unrolled(c *passes.Context, g *graph.Graph) error {
	found := roll.Find(g)
	index := roll.NewIndex(found)
	for i := len(found) - 1; i >= 0; i-- { // in the order of the model
		col := found[i]
		if !isFloat(col.Value) || col.Value.Unused() {
			continue
		}
		if _, err := trace(c, g, col, index, nil); err != nil {
			return err
		}
	}
	for _, states := range roll.Finals(g) {
		last, before := states[len(states)-1], len(g.Nodes)
		b := c.Builder(g, last.Def.From)
		if col := roll.Collect(b, states); col != nil {
			done, err := trace(c, g, col, index, last)
			if err != nil {
				return err
			}
			if done {
				continue
			}
		}
		g.Truncate(before)
	}
	return nil
}

// trace rolls what col collects. Where nothing collects the steps, and they are
// only followed back from the last state, steps that differ are none.
func trace(c *passes.Context, g *graph.Graph, col *roll.Collector, index *roll.Index, last *graph.Value) (done bool, err error) {
	before, at := len(g.Nodes), col.Value
	if last != nil {
		at = last
	}
	b := c.Builder(g, at.Def.From)
	l, err := col.Roll(b, index)
	if b.Err != nil {
		return false, b.Err
	}
	if err == nil {
		if err = rolledUp(c, g, l); err != nil && l.Odd != nil && !notLinear(err) {
			err = l.Odd
		}
	} else if e := col.Disordered(); last == nil && e != nil {
		err = e
	} else if last != nil || !roll.Telling(err) && (err == roll.ErrParallel || !col.Chained()) {
		return false, nil // values that only stand side by side
	}
	if err != nil {
		g.Truncate(before)
		c.Miss(ruleUnrolled, at, 2, 4, "%v", err)
	}
	return err == nil, nil
}

// rolledUp puts what the Scan of a trace becomes in the place of the trace.
func rolledUp(c *passes.Context, g *graph.Graph, l *roll.Loop) error {
	cl := &certify.Claim{Old: l.Old, New: l.New}
	for _, v := range l.In {
		cl.In = append(cl.In, certify.Input{Value: v})
	}
	err := certify.Check(c.Ctx, c.Table, c.Cache, cl)
	if err == nil {
		r := &rolled{node: l.Node, rule: ruleUnrolled}
		err = r.rewrite(c, g)
	}
	if err != nil {
		return err
	}
	for i, v := range l.Old {
		w := l.New[i]
		if v.IsOutput() { // outputs of the model keep their names
			v.Name, w.Name = w.Name, v.Name
		}
		v.ReplaceWith(w)
	}
	return nil
}
