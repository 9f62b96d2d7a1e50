// Package passes holds what every graph pass shares: the Pass row, the
// Pipeline that orders and verifies passes, and remarks, by which a pass says
// what it did and what kept it from doing more.
package passes

import (
	"context"
	"fmt"
	"time"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// Pass is one transformation of a graph. A plugin adds a pass by its value.
type Pass struct {
	Name, Doc string
	// After lists passes that must come before, each with the reason.
	After []Order
	// Run changes the graph in place. The graph is sorted, swept and verified
	// after every pass, so Run may leave new nodes at the end and dead ones behind.
	Run func(*Context, *graph.Graph) error
}

// Order says that a pass runs after another, and why.
type Order struct{ Pass, Why string }

// Remark reports an attempt of a pass: done, or why not.
type Remark struct {
	Pass string `json:"pass"`
	Rule string `json:"rule"`           // what was attempted: "ssm.SSD (chunked form)"
	At   string `json:"at"`             // the value or node where it stands
	From string `json:"from,omitempty"` // its name in the source model
	Why  string `json:"why,omitempty"`  // the reason of a miss, or a detail of a success
	Done bool   `json:"done"`
	// Matched of Of steps succeeded before a miss.
	Matched int `json:"matched,omitempty"`
	Of      int `json:"of,omitempty"`
	// What package story adds for people: which form the candidate came in, what
	// to change, and where it stands in the exported program.
	Form   string `json:"form,omitempty"`
	Hint   string `json:"hint,omitempty"`
	Source string `json:"source,omitempty"`
}

// String is one line: "[recur] ssm.SSD (chunked form) at "y": done".
func (r Remark) String() string {
	s := fmt.Sprintf("[%s] %s at %q", r.Pass, r.Rule, r.At)
	if r.From != "" && r.From != r.At {
		s += fmt.Sprintf(" (%s)", r.From)
	}
	if r.Done {
		s += ": done"
	} else {
		s += ": missed"
	}
	if r.Of > 0 && !r.Done {
		s += fmt.Sprintf(" at step %d of %d", r.Matched, r.Of)
	}
	if r.Why != "" {
		s += ": " + r.Why
	}
	return s
}

// Context is what a pass may use.
type Context struct {
	Ctx     context.Context
	Table   *ops.Table
	Remarks []Remark
	// Observe, when set, is called after every pass that ran.
	Observe func(p *Pass, g *graph.Graph, changed bool, took time.Duration)
	// Cache keeps results of costly checks, such as certificates of regions
	// that many layers repeat, for the length of one compilation.
	Cache map[string]any
	// Inexact allows rewrites that change results by more than rounding where
	// the graph guards against underflow. Each is remarked on.
	Inexact bool
	// Target names the backend that is compiled for, "" where that is open: a
	// pass may leave a node that the target runs faster than its replacement.
	Target string
	pass   string
}

// NewContext makes a Context for one compilation.
func NewContext(ctx context.Context, t *ops.Table) *Context {
	return &Context{Ctx: ctx, Table: t, Cache: map[string]any{}}
}

// Builder makes a Builder for g whose nodes are attributed to from.
func (c *Context) Builder(g *graph.Graph, from string) *graph.Builder {
	b := ops.NewBuilder(c.Table, g)
	b.From = from
	return b
}

// Remark records r for the running pass.
func (c *Context) Remark(r Remark) {
	r.Pass = c.pass
	c.Remarks = append(c.Remarks, r)
}

// Done records a rewrite that produced v.
func (c *Context) Done(rule string, v *graph.Value, why string) {
	c.Remark(Remark{Rule: rule, At: v.Name, From: from(v), Why: why, Done: true})
}

// Miss records a rewrite at v that was not done.
func (c *Context) Miss(rule string, v *graph.Value, matched, of int, format string, a ...any) {
	c.Remark(Remark{Rule: rule, At: v.Name, From: from(v), Why: fmt.Sprintf(format, a...), Matched: matched, Of: of})
}

func from(v *graph.Value) string {
	if v.Def != nil {
		return v.Def.From
	}
	return ""
}

// Pipeline is an ordered list of passes.
type Pipeline []*Pass

// Check reports duplicate names and passes that stand before one they must follow.
func (p Pipeline) Check() error {
	at := map[string]int{}
	for i, s := range p {
		if s.Name == "" || s.Run == nil {
			return fmt.Errorf("pass %d (%q) has no name or no Run function", i, s.Name)
		}
		if _, dup := at[s.Name]; dup {
			return fmt.Errorf("pass %q is listed twice; passes may only repeat inside one", s.Name)
		}
		at[s.Name] = i
	}
	for i, s := range p {
		for _, o := range s.After {
			if j, ok := at[o.Pass]; ok && j > i {
				return fmt.Errorf("pass %q must run after %q: %s", s.Name, o.Pass, o.Why)
			}
		}
	}
	return nil
}

// Insert places s as early as its After list allows, at the end when it has none.
func (p Pipeline) Insert(s *Pass) Pipeline {
	if len(s.After) == 0 {
		return append(p[:len(p):len(p)], s)
	}
	i := 0
	for j, q := range p {
		for _, o := range s.After {
			if o.Pass == q.Name {
				i = j + 1
			}
		}
	}
	out := append(Pipeline{}, p[:i]...)
	return append(append(out, s), p[i:]...)
}

// Run runs the passes in order. After each, the graph is sorted, swept of dead
// nodes and verified: a pass that breaks the graph is named in the error.
func (p Pipeline) Run(c *Context, g *graph.Graph) error {
	if err := p.Check(); err != nil {
		return err
	}
	for _, s := range p {
		if err := c.Ctx.Err(); err != nil {
			return err
		}
		if err := RunOne(c, s, g); err != nil {
			return err
		}
	}
	return nil
}

// RunOne runs a single pass with the checks of Pipeline.Run.
func RunOne(c *Context, s *Pass, g *graph.Graph) error {
	start := time.Now()
	before := len(g.Nodes)
	c.pass = s.Name
	if err := s.Run(c, g); err != nil {
		return fmt.Errorf("pass %s: %w", s.Name, err)
	}
	if err := Tidy(g); err != nil {
		return fmt.Errorf("pass %s: %w", s.Name, err)
	}
	if err := ops.Verify(c.Table, g); err != nil {
		return fmt.Errorf("pass %s left a broken graph: %w", s.Name, err)
	}
	if c.Observe != nil {
		c.Observe(s, g, len(g.Nodes) != before, time.Since(start))
	}
	return nil
}

// Tidy restores topological order and removes dead nodes.
func Tidy(g *graph.Graph) error {
	if err := g.Sort(); err != nil {
		return err
	}
	g.Sweep()
	return nil
}
