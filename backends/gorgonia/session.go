package gorgonia

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// maxPrograms is how many sets of input shapes a session remembers.
const maxPrograms = 8

// session implements backends.Session. Unlike the CPU backend's it allocates:
// a TapeMachine makes new memory in every run.
type session struct {
	e        *executable
	programs []*program
	clock    int64
	states   []*tensor.Tensor // by state pair; nil: zeros
	trace    func(backends.StepTime)
}

// Run implements backends.Session. A run that has started does not look at ctx.
func (s *session) Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	g := s.e.plan.Graph
	if err := checkNames("input", in, g.Inputs); err != nil {
		return nil, err
	}
	if err := checkNames("output", out, g.Outputs); err != nil {
		return nil, err
	}
	args, err := s.arguments(in)
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p, err := s.program(args)
	if err != nil {
		return nil, err
	}
	start := time.Now()
	got, err := p.run(g, args)
	if err != nil {
		return nil, err
	}
	if s.trace != nil {
		s.trace(backends.StepTime{Kernel: Name, Took: time.Since(start)})
	}
	for i, v := range g.Outputs { // before anything is changed
		if w := out[v.Name]; w != nil && (w.DType != got[i].DType || !slices.Equal(w.Shape, got[i].Shape)) {
			return nil, fmt.Errorf("output %q: the tensor given for it is %s, the result %s", v.Name, w.TypeString(), got[i].TypeString())
		}
	}
	result := make(map[string]*tensor.Tensor, len(got))
	for i, v := range g.Outputs {
		t := got[i]
		if j := s.stateOf(v.Name, true); j >= 0 {
			s.states[j] = t.Clone()
		}
		if w := out[v.Name]; w != nil {
			copy(w.Data, t.Data)
			t = w
		}
		result[v.Name] = t
	}
	return result, nil
}

// arguments puts the inputs in order; states that are not given are those kept.
func (s *session) arguments(in map[string]*tensor.Tensor) ([]*tensor.Tensor, error) {
	g := s.e.plan.Graph
	args := make([]*tensor.Tensor, len(g.Inputs))
	for i, v := range g.Inputs {
		args[i] = in[v.Name]
		if j := s.stateOf(v.Name, false); args[i] == nil && j >= 0 {
			args[i] = s.states[j]
		}
	}
	b, err := backends.BindShapes(g, args, func(i int) bool { return s.stateOf(g.Inputs[i].Name, false) >= 0 })
	if err != nil {
		return nil, err
	}
	for i, v := range g.Inputs {
		if args[i] != nil {
			continue
		}
		for _, d := range v.Type.Shape {
			for _, sym := range d.Symbols() {
				if _, set := b[sym]; !set {
					b[sym] = 0 // nothing else has this length: a cache that starts empty
				}
			}
		}
		shape, ok, err := backends.EvalShape(v.Type, b)
		if err != nil || !ok {
			return nil, fmt.Errorf("state %q (%s): its shape is not clear from the other inputs; give it as an input", v.Name, v.Type)
		}
		args[i] = tensor.New(v.Type.DType, shape...)
	}
	return args, nil
}

// program finds or makes the program for the shapes of args.
func (s *session) program(args []*tensor.Tensor) (*program, error) {
	s.clock++
	shapes := make([][]int, len(args))
	for i, t := range args {
		shapes[i] = slices.Clone(t.Shape)
	}
	for _, p := range s.programs {
		if slices.EqualFunc(p.shapes, shapes, slices.Equal[[]int]) {
			p.used = s.clock
			return p, nil
		}
	}
	p, err := s.e.lower(shapes)
	if err != nil {
		return nil, err
	}
	p.used = s.clock
	if len(s.programs) == maxPrograms {
		oldest := 0
		for i, q := range s.programs {
			if q.used < s.programs[oldest].used {
				oldest = i
			}
		}
		if err := s.programs[oldest].close(); err != nil {
			return nil, err
		}
		s.programs = slices.Delete(s.programs, oldest, oldest+1)
	}
	s.programs = append(s.programs, p)
	return p, nil
}

func checkNames(kind string, given map[string]*tensor.Tensor, have []*graph.Value) error {
	var names, unknown []string
	for _, v := range have {
		names = append(names, v.Name)
	}
	for k := range given {
		if !slices.Contains(names, k) {
			unknown = append(unknown, k)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	sort.Strings(unknown)
	return backends.UnknownName(kind, unknown[0], names)
}

// stateOf finds the pair of an input, or of an output; -1: none.
func (s *session) stateOf(name string, output bool) int {
	return slices.IndexFunc(s.e.plan.States, func(p backends.StatePair) bool {
		return output && p.Out == name || !output && p.In == name
	})
}

// Reset implements backends.Session.
func (s *session) Reset() { clear(s.states) }

// Clone implements backends.Session.
func (s *session) Clone() (backends.Session, error) {
	c := &session{e: s.e, states: make([]*tensor.Tensor, len(s.states))}
	for i, t := range s.states {
		if t != nil {
			c.states[i] = t.Clone()
		}
	}
	return c, nil
}

// Save implements backends.Session.
func (s *session) Save(w io.Writer) error {
	var list []backends.StateEntry
	for i, p := range s.e.plan.States {
		list = append(list, backends.StateEntry{Name: p.In, Tensor: s.states[i]})
	}
	return backends.SaveStates(w, list)
}

// Restore implements backends.Session.
func (s *session) Restore(r io.Reader) error {
	var names []string
	var types []graph.Type
	for _, p := range s.e.plan.States {
		names = append(names, p.In)
		for _, v := range s.e.plan.Graph.Inputs {
			if v.Name == p.In {
				types = append(types, v.Type)
			}
		}
	}
	list, err := backends.RestoreStates(r, names, types)
	if err != nil {
		return err
	}
	for i, e := range list {
		s.states[i] = e.Tensor
	}
	return nil
}

// Trace implements backends.Session; the whole graph is one step.
func (s *session) Trace(f func(backends.StepTime)) { s.trace = f }
