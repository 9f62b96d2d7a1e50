package cuda

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sort"
	"time"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// maxPrograms is how many bindings a session remembers.
const maxPrograms = 8

// resources are what a session has of the device. They outlive it until the collector finds it gone, or the
// model is closed.
type resources struct {
	dev       *device
	stream    *driver.Stream
	arena     driver.Ptr
	arenaSize int
	workspace driver.Ptr // of cuBLASLt
	states    []state
	programs  []*program
}

func (r *resources) free() {
	for _, p := range r.programs {
		p.free()
	}
	r.dev.Free(r.arena)
	r.dev.Free(r.workspace)
	for _, st := range r.states {
		r.dev.Free(st.cur)
	}
	if r.stream != nil {
		r.stream.Close()
	}
	*r = resources{dev: r.dev}
}

func (p *program) free() {
	if p.graph != nil {
		p.graph.Close()
		p.graph = nil
	}
	for _, q := range p.plans {
		q.Close()
	}
	p.plans = nil
}

// session implements backends.Session.
type session struct {
	*resources
	e      *executable
	ctx    context.Context // of the run in progress
	clock  int64
	broken bool // a run failed half-way: the states are undefined
	keep   bool // results of state pairs stay on the device
	trace  func(backends.StepTime)

	given  []*tensor.Tensor // inputs of the run in progress; nil: the kept state
	wanted []*tensor.Tensor // the caller's output tensors, or nil
	result map[string]*tensor.Tensor
	mine   []*tensor.Tensor // output tensors of the session
}

// NewSession implements backends.Executable.
func (e *executable) NewSession() (backends.Session, error) { return e.newSession() }

func (e *executable) newSession() (*session, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil, fmt.Errorf("the model was closed")
	}
	stream, err := e.dev.NewStream()
	if err != nil {
		return nil, e.dev.explain(err)
	}
	r := &resources{dev: e.dev, stream: stream, states: make([]state, len(e.plan.States))}
	s := &session{
		resources: r, e: e, given: make([]*tensor.Tensor, len(e.inputNames)), wanted: make([]*tensor.Tensor, len(e.outputNames)),
		mine: make([]*tensor.Tensor, len(e.outputNames)), result: map[string]*tensor.Tensor{},
	}
	if e.sessions == nil {
		e.sessions = map[*resources]bool{}
	}
	e.sessions[r] = true
	runtime.AddCleanup(s, func(r *resources) {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.sessions[r] {
			delete(e.sessions, r)
			r.free()
		}
	}, r)
	return s, nil
}

// KeepStates implements backends.StateKeeper.
func (s *session) KeepStates(on bool) { s.keep = on }

// Run implements backends.Session.
func (s *session) Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if s.stream == nil {
		return nil, fmt.Errorf("the model was closed")
	}
	if err := s.take(in, out); err != nil {
		return nil, err
	}
	s.ctx = ctx
	defer s.release()
	p, err := s.program()
	if err != nil {
		return nil, s.e.dev.explain(err)
	}
	if err := s.check(p); err != nil {
		return nil, err
	}
	if err := s.ready(p); err != nil {
		return nil, s.e.dev.explain(err)
	}
	defer clear(p.heap)
	s.broken = len(s.states) > 0
	if err := s.start(p); err != nil {
		return nil, s.e.dev.explain(err)
	}
	if err := s.execute(ctx, p); err != nil {
		return nil, s.e.dev.explain(err)
	}
	if err := s.finish(p); err != nil {
		return nil, s.e.dev.explain(err)
	}
	s.broken = false
	return s.result, nil
}

// execute submits the steps, or the graph that was recorded of them.
func (s *session) execute(ctx context.Context, p *program) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.runs++
	if s.trace != nil || p.onHost || !s.e.set.graphs || len(p.steps) < 2 {
		return s.submit(ctx, p)
	}
	if p.graph == nil && p.runs >= 2 {
		g, err := s.stream.Record(func() error { return s.submit(context.Background(), p) })
		if err != nil {
			return err
		}
		p.graph = g
	}
	if p.graph != nil {
		return s.stream.Replay(p.graph)
	}
	return s.submit(ctx, p)
}

// submit walks the steps. Traced, it waits for each.
func (s *session) submit(ctx context.Context, p *program) error {
	for i := range p.steps {
		st := &p.steps[i]
		var start time.Time
		if s.trace != nil || p.onHost {
			if err := ctx.Err(); err != nil {
				return err
			}
			start = time.Now()
		}
		var err error
		if l := st.launch; l != nil {
			err = s.stream.Launch(l.f, l.blocks, l.threads, l.shared, l.p.b)
		} else {
			err = st.run(s)
		}
		if err == nil && s.trace != nil {
			err = s.stream.Sync()
		}
		if err != nil {
			if st.node != nil {
				return fmt.Errorf("%s: kernel %q: %w", st.node, st.kernel, err)
			}
			return err
		}
		if s.trace != nil {
			s.trace(backends.StepTime{Step: i, Node: st.node, Kernel: st.kernel, Took: time.Since(start)})
		}
	}
	return nil
}

// release drops what a run holds of the caller's, also after a failure.
func (s *session) release() {
	s.ctx = nil
	clear(s.given)
	clear(s.wanted)
}

// take sorts the caller's tensors by position and checks the names.
func (s *session) take(in, out map[string]*tensor.Tensor) error {
	e, found, kept := s.e, 0, false
	for i, name := range e.inputNames {
		t, ok := in[name]
		if ok {
			found++
		}
		s.given[i] = t
		if t == nil && e.stateOf[i] < 0 {
			for k := range in {
				if !slices.Contains(e.inputNames, k) {
					return backends.UnknownName("input", k, e.inputNames)
				}
			}
			return fmt.Errorf("input %q (%s) is missing", name, e.plan.Graph.Inputs[i].Type)
		}
		kept = kept || t == nil
	}
	if found != len(in) {
		return unknown("input", in, e.inputNames)
	}
	if kept && s.broken {
		return errBroken
	}
	found = 0
	for i, name := range e.outputNames {
		t, ok := out[name]
		if ok && !slices.Contains(e.outputNames[:i], name) {
			found++
		}
		s.wanted[i] = t
	}
	if found != len(out) {
		return unknown("output", out, e.outputNames)
	}
	return nil
}

var errBroken = fmt.Errorf("an earlier run failed half-way and left the session's state undefined: Reset or Restore it first")

func unknown(kind string, given map[string]*tensor.Tensor, have []string) error {
	var names []string
	for k := range given {
		if !slices.Contains(have, k) {
			names = append(names, k)
		}
	}
	sort.Strings(names)
	return backends.UnknownName(kind, names[0], have)
}

// program finds or makes the program for the inputs at hand.
func (s *session) program() (*program, error) {
	s.clock++
	shapes, err := s.shapes()
	if err != nil {
		return nil, err
	}
	for _, p := range s.programs {
		if slices.EqualFunc(p.shapes, shapes, slices.Equal[[]int]) {
			p.used = s.clock
			return p, nil
		}
	}
	p, err := s.e.bind(shapes)
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
		s.programs[oldest].free()
		s.programs = slices.Delete(s.programs, oldest, oldest+1)
	}
	s.programs = append(s.programs, p)
	return p, nil
}

// shapes checks the inputs against the signature.
func (s *session) shapes() ([][]int, error) {
	g := s.e.plan.Graph
	in, kept := slices.Clone(s.given), make([]bool, len(s.given))
	var keeps string
	for i, j := range s.e.stateOf {
		if j >= 0 && in[i] == nil && s.states[j].shape != nil {
			in[i], kept[i] = &tensor.Tensor{DType: g.Inputs[i].Type.DType, Shape: s.states[j].shape}, true
			keeps = "; " + g.Inputs[i].Name + " is the state that the session keeps: Reset it to change the shapes"
		}
	}
	b, err := backends.BindShapesOf(g, in, func(i int) bool { return s.e.stateOf[i] >= 0 }, func(i int) bool { return kept[i] })
	if err != nil {
		return nil, fmt.Errorf("%w%s", err, keeps)
	}
	shapes := make([][]int, len(in))
	for i, t := range in {
		if t != nil {
			if !t.DType.IsContainer() {
				shapes[i] = append([]int{}, t.Shape...)
			}
			continue
		}
		shape := []int{}
		for _, d := range g.Inputs[i].Type.Shape {
			for _, sym := range d.Symbols() {
				if _, set := b[sym]; !set {
					b[sym] = 0 // nothing else has this length: a cache that starts empty
				}
			}
			n, err := d.Eval(b)
			if err != nil || n < 0 {
				return nil, fmt.Errorf("state %q (%s): length %s is not clear from the other inputs; give the state as an input", g.Inputs[i].Name, g.Inputs[i].Type, d)
			}
			shape = append(shape, int(n))
		}
		shapes[i] = shape
	}
	return shapes, nil
}

// check compares the caller's output tensors with the results, before any state changes.
func (s *session) check(p *program) error {
	for i, m := range p.out {
		d := s.e.plan.Graph.Outputs[i].Type.DType
		if t := s.wanted[i]; t != nil && m != nil && (t.DType != d || !slices.Equal(t.Shape, m.Shape) || len(t.Data) != d.Bytes(m.Len())) {
			return fmt.Errorf("output %q: the tensor given for it is %s, the result %s", s.e.outputNames[i], t.TypeString(),
				(&tensor.Tensor{DType: d, Shape: m.Shape}).TypeString())
		}
	}
	return nil
}

// ready takes the memory that p works on and tells its steps the addresses.
func (s *session) ready(p *program) error {
	moved := false
	if s.arenaSize < p.arenaSize || s.arena == 0 {
		if err := s.stream.Sync(); err != nil {
			return err
		}
		s.dev.Free(s.arena)
		s.arena, s.arenaSize = 0, 0
		at, err := s.dev.Alloc(p.arenaSize)
		if err != nil {
			return fmt.Errorf("%d bytes for a run with inputs of these lengths: %w", p.arenaSize, err)
		}
		s.arena, s.arenaSize, moved = at, p.arenaSize, true
	}
	for i, j := range s.e.stateOf {
		if j < 0 {
			continue
		}
		grown, err := s.states[j].reserve(s, p.in[i].Bytes(), p.next[j])
		if err != nil {
			return err
		}
		moved = moved || grown
	}
	if p.blasBytes > 0 && s.workspace == 0 {
		at, err := s.dev.Alloc(workspaceBytes)
		if err != nil {
			return err
		}
		s.workspace = at
	}
	if moved { // what was recorded or placed is void
		for _, q := range s.programs {
			q.placed = 0
		}
	}
	if p.placed == s.arena {
		return nil
	}
	p.free()
	p.runs = 0
	for _, r := range p.arena {
		r.base = s.arena + driver.Ptr(r.off)
	}
	for j, r := range p.states {
		if r != nil {
			r.base = s.states[j].cur
		}
	}
	for i := range p.steps {
		switch st := &p.steps[i]; {
		case st.launch != nil:
			if err := st.launch.p.place(); err != nil {
				return fmt.Errorf("%s: %w", st.node, err)
			}
		case st.place != nil:
			if err := st.place(); err != nil {
				return fmt.Errorf("%s: %w", st.node, err)
			}
		}
	}
	p.placed = s.arena
	return nil
}

// start copies the inputs up and clears states that begin at zero.
func (s *session) start(p *program) error {
	for i, t := range s.given {
		j := s.e.stateOf[i]
		switch {
		case j >= 0:
			st, size := &s.states[j], p.in[i].Bytes()
			var err error
			if t != nil {
				err = s.stream.ToDevice(st.cur, t.Data)
			} else if st.shape == nil {
				err = s.stream.Set(st.cur, 0, size)
			}
			if err != nil {
				return err
			}
			st.shape = p.shapes[i]
		case p.in[i] == nil:
			p.heap[s.e.plan.Graph.Inputs[i]] = t
		default:
			if err := s.stream.ToDevice(p.in[i].addr(), t.Data); err != nil {
				return err
			}
		}
	}
	if p.bad != nil {
		return s.stream.Set(p.bad.addr(), 0, 4)
	}
	return nil
}

// Trace implements backends.Session.
func (s *session) Trace(f func(backends.StepTime)) { s.trace = f }
