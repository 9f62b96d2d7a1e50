package cpu

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"time"
	"unsafe"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/memory"
	"github.com/ssdc-go/ssdc/ops"
)

// maxPrograms is how many bindings a session remembers.
const maxPrograms = 8

// session implements backends.Session.
type session struct {
	e          *executable
	ctx        context.Context // of the run in progress
	programs   []*program
	clock      int64
	arena      []byte
	workspaces map[string]any
	states     []state
	broken     bool // a run failed half-way: the states are undefined
	trace      func(backends.StepTime)

	given   []*tensor.Tensor // inputs of the run in progress; nil: the kept state
	wanted  []*tensor.Tensor // the caller's output tensors, or nil
	aligned [][]byte         // copies of inputs that are badly aligned
	bufs    [][][]byte       // output buffers of the session, by output
	direct  []bool           // output i is computed in the caller's tensor
	headers []tensor.Tensor
	result  map[string]*tensor.Tensor
}

// NewSession implements backends.Executable.
func (e *executable) NewSession() (backends.Session, error) { return e.newSession(), nil }

func (e *executable) newSession() *session {
	nin, nout := len(e.inputNames), len(e.outputNames)
	return &session{
		e: e, workspaces: map[string]any{}, states: make([]state, len(e.plan.States)),
		given: make([]*tensor.Tensor, nin), aligned: make([][]byte, nin),
		wanted: make([]*tensor.Tensor, nout), bufs: make([][][]byte, nout), direct: make([]bool, nout),
		headers: make([]tensor.Tensor, nout), result: make(map[string]*tensor.Tensor, nout),
	}
}

// Run implements backends.Session.
func (s *session) Run(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	if err := s.take(in, out); err != nil {
		return nil, err
	}
	p, err := s.program()
	if err != nil {
		return nil, err
	}
	if err := s.ready(p); err != nil {
		return nil, err
	}
	s.ctx = ctx
	defer s.release(p)
	s.broken = len(s.states) > 0
	if err := s.execute(ctx, p); err != nil {
		return nil, err
	}
	s.finish(p)
	s.broken = false
	return s.result, nil
}

// execute walks the steps. A kernel that indexes out of range, on shapes that
// contradict each other in a way nothing checked, ends the run, not the process.
func (s *session) execute(ctx context.Context, p *program) (err error) {
	i := 0
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%s: kernel %q failed: %s", p.steps[i].node, p.steps[i].kernel, ops.Reason(v))
		}
	}()
	for i = range p.steps {
		if err := ctx.Err(); err != nil {
			return err
		}
		if s.trace == nil {
			if err := p.steps[i].run(); err != nil {
				return err
			}
			continue
		}
		start := time.Now()
		if err := p.steps[i].run(); err != nil {
			return err
		}
		s.trace(backends.StepTime{Step: i, Node: p.steps[i].node, Kernel: p.steps[i].kernel, Took: time.Since(start), Start: start, Cost: p.steps[i].cost})
	}
	return nil
}

// release drops what a run holds of the caller's, also after a failure.
func (s *session) release(p *program) {
	s.ctx = nil
	clear(s.given)
	clear(s.wanted)
	clear(p.heap)
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
		return fmt.Errorf("an earlier run failed half-way and left the session's state undefined: Reset or Restore it first")
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
	for _, p := range s.programs {
		if s.fits(p) {
			p.used = s.clock
			return p, nil
		}
	}
	shapes, err := s.shapes()
	if err != nil {
		return nil, err
	}
	for _, p := range s.programs {
		if slices.EqualFunc(p.shapes, shapes, slices.Equal[[]int]) {
			p.used, p.fromZero = s.clock, p.fromZero || s.anyZero()
			return p, nil
		}
	}
	p, err := s.e.bind(s, shapes)
	if err != nil {
		return nil, err
	}
	p.used, p.fromZero = s.clock, s.anyZero()
	if len(s.programs) == maxPrograms {
		oldest := 0
		for i, q := range s.programs {
			if q.used < s.programs[oldest].used {
				oldest = i
			}
		}
		s.programs = slices.Delete(s.programs, oldest, oldest+1)
	}
	s.programs = append(s.programs, p)
	return p, nil
}

// anyZero reports whether the run starts from a state without a shape.
func (s *session) anyZero() bool {
	for i, j := range s.e.stateOf {
		if j >= 0 && s.given[i] == nil && s.states[j].shape == nil {
			return true
		}
	}
	return false
}

// fits is the quick check that p is for the tensors at hand.
func (s *session) fits(p *program) bool {
	for i, t := range s.given {
		j := s.e.stateOf[i]
		switch {
		case t == nil && s.states[j].shape == nil:
			if !p.fromZero {
				return false
			}
		case t == nil:
			if !slices.Equal(s.states[j].shape, p.shapes[i]) {
				return false
			}
		case p.in[i] == nil:
			return false // heap inputs are checked in full each time
		case t.DType != p.in[i].DType || !slices.Equal(t.Shape, p.shapes[i]) || len(t.Data) != p.in[i].span():
			return false
		}
	}
	return true
}

// shapes checks the inputs against the signature.
func (s *session) shapes() ([][]int, error) {
	g := s.e.plan.Graph
	in := slices.Clone(s.given)
	var keeps string
	for i, j := range s.e.stateOf {
		if j >= 0 && in[i] == nil && s.states[j].shape != nil {
			in[i] = s.stateTensor(i, j)
			keeps = "; " + g.Inputs[i].Name + " is the state that the session keeps: Reset it to change the shapes"
		}
	}
	b, err := backends.BindShapes(g, in, func(i int) bool { return s.e.stateOf[i] >= 0 })
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

// ready puts everything that p works on in its place.
func (s *session) ready(p *program) (err error) {
	defer func() { // outputs have memory of their own
		if v := recover(); v != nil {
			large, ok := v.(*tensor.TooLarge)
			if !ok {
				panic(v)
			}
			err = fmt.Errorf("graph %q: an output of a run with inputs of these lengths: %w", s.e.plan.Graph.Name, large)
		}
	}()
	if len(s.arena) < p.arenaSize {
		if err := memory.Check("a run with inputs of these lengths", int64(p.arenaSize)); err != nil {
			return err
		}
		s.arena = memory.Large(p.arenaSize)
	}
	if base := unsafe.SliceData(s.arena); p.arenaBase != base {
		for _, r := range p.arena {
			r.place(s.arena[r.off : r.off+r.size])
		}
		p.arenaBase = base
	}
	for i, m := range p.out { // before any state changes
		if t := s.wanted[i]; t != nil && m != nil && (t.DType != m.DType || !slices.Equal(t.Shape, m.Shape) || len(t.Data) != m.span()) {
			return fmt.Errorf("output %q: the tensor given for it is %s, the result %s", s.e.outputNames[i], t.TypeString(),
				(&tensor.Tensor{DType: m.DType, Shape: m.Shape}).TypeString())
		}
	}
	for i, t := range s.given {
		switch j := s.e.stateOf[i]; {
		case j >= 0:
			st := &s.states[j]
			size := p.in[i].span()
			st.cur = sized(st.cur, size)
			if t != nil {
				copy(st.cur[:size], t.Data)
			} else if st.shape == nil {
				clear(st.cur[:size])
			}
			st.shape = p.shapes[i]
		case p.in[i] == nil:
			p.heap[s.e.plan.Graph.Inputs[i]] = t
		}
	}
	for _, r := range p.external {
		switch r.kind {
		case inInput:
			r.place(s.align(r.index, s.given[r.index]))
		case inState:
			r.place(s.states[r.index].cur[:r.size])
		case inNext:
			st := &s.states[r.index]
			st.next = sized(st.next, r.size)
			r.place(st.next[:r.size])
		}
	}
	for i, m := range p.out {
		s.direct[i] = false
		t := s.wanted[i]
		if m == nil || m.root.kind != inOutput {
			continue
		}
		if t != nil && isAligned(t) && !s.overlapsInput(t.Data) {
			s.direct[i] = true
			m.root.place(t.Data)
			continue
		}
		m.root.place(s.buffer(i, m.root.size))
	}
	return nil
}

// sized returns b with room for n bytes; it does not keep the contents when it
// has to grow, except that it never shrinks.
func sized(b []byte, n int) []byte {
	if cap(b) >= n && (n == 0 || b != nil) {
		return b[:cap(b)]
	}
	return tensor.AlignedBytes(n)
}

// align returns the input's memory, or an aligned copy of it.
func (s *session) align(i int, t *tensor.Tensor) []byte {
	if isAligned(t) {
		return t.Data
	}
	s.aligned[i] = sized(s.aligned[i], len(t.Data))
	copy(s.aligned[i], t.Data)
	return s.aligned[i][:len(t.Data)]
}

func isAligned(t *tensor.Tensor) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(t.Data)))%uintptr(t.DType.Size()) == 0
}

// buffer is memory of the session for output i which this run does not read: a
// result of the last run may well be an input of this one.
func (s *session) buffer(i, size int) []byte {
	for k, b := range s.bufs[i] {
		if !s.overlapsInput(b) {
			s.bufs[i][k] = sized(b, size)
			return s.bufs[i][k][:size]
		}
	}
	b := tensor.AlignedBytes(size)
	s.bufs[i] = append(s.bufs[i], b)
	return b
}

func (s *session) overlapsInput(b []byte) bool {
	for _, t := range s.given {
		if t != nil && overlap(t.Data, b) {
			return true
		}
	}
	return false
}

func overlap(a, b []byte) bool {
	if len(a) == 0 || len(b) == 0 {
		return false
	}
	pa, pb := uintptr(unsafe.Pointer(unsafe.SliceData(a))), uintptr(unsafe.Pointer(unsafe.SliceData(b)))
	return pa < pb+uintptr(len(b)) && pb < pa+uintptr(len(a))
}

// finish takes over the new states and fills in the results.
func (s *session) finish(p *program) {
	for j, m := range p.next {
		if m == nil {
			continue
		}
		st := &s.states[j]
		if m.root.kind == inNext {
			st.cur, st.next = st.next, st.cur
			st.shape = m.Shape
		}
	}
	for i, m := range p.out {
		name := s.e.outputNames[i]
		if m == nil {
			s.result[name] = s.heapResult(p, i)
			continue
		}
		if t := s.wanted[i]; t != nil {
			if !s.direct[i] {
				copy(t.Data, m.Raw)
			}
			s.result[name] = t
			continue
		}
		h := &s.headers[i]
		*h = tensor.Tensor{DType: m.DType, Shape: m.Shape, Data: m.Raw}
		s.result[name] = h
	}
}

func (s *session) heapResult(p *program, i int) *tensor.Tensor {
	v := s.e.plan.Graph.Outputs[i]
	t := p.heap[v]
	if v.Const != nil {
		t = v.Const
	}
	if w := s.wanted[i]; w != nil && w.DType == t.DType && slices.Equal(w.Shape, t.Shape) && len(w.Data) == len(t.Data) {
		copy(w.Data, t.Data)
		copy(w.Strings, t.Strings)
		w.Elems = t.Elems
		return w
	}
	if v.Const != nil {
		t = t.Clone()
	}
	return t
}

// Trace implements backends.Session.
func (s *session) Trace(f func(backends.StepTime)) { s.trace = f }
