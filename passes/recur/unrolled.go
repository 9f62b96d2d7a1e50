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
		before := len(g.Nodes)
		b := c.Builder(g, col.Value.Def.From)
		l, err := col.Roll(b, index)
		if b.Err != nil {
			return b.Err
		}
		if err == nil {
			err = rolledUp(c, g, l)
		} else if !roll.Telling(err) && (err == roll.ErrParallel || !col.Chained()) {
			continue // values that only stand side by side
		}
		if err != nil {
			g.Truncate(before)
			c.Miss(ruleUnrolled, col.Value, 2, 4, "%v", err)
		}
	}
	return nil
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
