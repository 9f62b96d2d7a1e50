package cuda

import (
	"fmt"
	"strings"
	"sync"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/backends/cuda/kernels"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// workspaceBytes is what cuBLASLt may use in a session.
const workspaceBytes = 32 << 20

// device is an opened device with its code.
type device struct {
	*driver.Device
	arch    string
	blas    *driver.BLAS
	mu      sync.Mutex
	modules map[string]*driver.Module
	found   map[string]*driver.Function
	numbers map[string]int
	chains  map[string]*driver.Function // compiled, by text
	choices map[driver.Product]int      // algorithms of cuBLASLt, by product; addresses modulo 256
}

func openDevice(s settings) (*device, error) {
	d, err := driver.Open(s.device)
	if err != nil {
		return nil, err
	}
	arch, err := kernels.ArchFor(d.Info.Major, d.Info.Minor)
	if err != nil {
		d.Close()
		return nil, fmt.Errorf("%s: %w", d.Info.Name, err)
	}
	dev := &device{Device: d, arch: arch, modules: map[string]*driver.Module{}, found: map[string]*driver.Function{}, numbers: map[string]int{}, chains: map[string]*driver.Function{}, choices: map[driver.Product]int{}}
	// Graphs keep such edges from CUDA 12.3 on; the code for sm_80 and PTX has no waits.
	d.Overlap = s.overlap && d.Info.Driver >= 12030 && (arch == "sm_90a" || arch == "sm_100")
	if s.blas {
		dev.blas, _ = d.NewBLAS() // our own products serve without it
	}
	return dev, nil
}

func (d *device) module(unit string) (*driver.Module, error) {
	if m := d.modules[unit]; m != nil {
		return m, nil
	}
	image, err := kernels.Image(d.arch, unit)
	if err != nil {
		return nil, err
	}
	m, err := d.Load(image)
	if err != nil {
		return nil, fmt.Errorf("loading %s for %s: %w", unit, d.arch, err)
	}
	d.modules[unit] = m
	return m, nil
}

// function finds a kernel of a unit; shared is the most dynamic shared memory it will ask for.
func (d *device) function(unit, name string, shared int) (*driver.Function, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	key := fmt.Sprint(name, shared)
	if f := d.found[key]; f != nil {
		return f, nil
	}
	m, err := d.module(unit)
	if err != nil {
		return nil, err
	}
	f, err := m.Function(name, shared, d.Overlap && (unit == "decode" || strings.HasPrefix(name, "ssd_step_")))
	if err != nil {
		return nil, err
	}
	d.found[key] = f
	return f, nil
}

// number reads an int that a unit exports.
func (d *device) number(unit, name string) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if v, ok := d.numbers[name]; ok {
		return v, nil
	}
	m, err := d.module(unit)
	if err != nil {
		return 0, err
	}
	v, err := m.Int(name)
	if err == nil {
		d.numbers[name] = v
	}
	return v, err
}

func (d *device) close() {
	for _, m := range d.modules {
		m.Unload()
	}
	if d.blas != nil {
		d.blas.Close()
	}
	d.Close()
}

// executable is an opened plan.
type executable struct {
	plan     *backends.Plan
	ops      *ops.Table
	set      settings
	kernels  map[*graph.Node]*Kernel
	captures map[*graph.Node][]*graph.Value
	weights  backends.Weights
	matrices map[*graph.Node]*matrix // those in fewer bits
	dev      *device

	inputNames, outputNames []string
	stateOf, nextOf         []int // per input, per output: the state pair, or -1

	mu       sync.Mutex
	resident map[any]driver.Ptr // constants on the device, by form
	sessions map[*resources]bool
	closed   bool
}

// formKey names a stored form of a constant.
type formKey struct {
	t          *tensor.Tensor
	text       string // contents of small values that are no constants of the plan
	d          tensor.DType
	transposed bool
}

// Plan implements backends.Executable.
func (e *executable) Plan() *backends.Plan { return e.plan }

// Close implements backends.Executable.
func (e *executable) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	for r := range e.sessions {
		r.free()
	}
	for _, p := range e.resident {
		e.dev.Free(p)
	}
	e.dev.close()
	return nil
}

// host gives the bytes of a constant.
func (e *executable) host(v *graph.Value, t *tensor.Tensor) (*tensor.Tensor, error) {
	if len(t.Data) == t.DType.Bytes(t.Len()) {
		return t, nil
	}
	w, err := e.weights.Weight(v.Name, "")
	if err == nil {
		return w, nil
	}
	for _, m := range e.matrices { // it may be stored in panels alone
		if m.value == v && m.digits == nil {
			stored, err := e.stored(m)
			if err != nil {
				return nil, err
			}
			return m.unpack(stored)
		}
	}
	return nil, err
}

// constant puts t on the device in the form asked for, once for all sessions: converted to d where that differs
// (both floating-point), a matrix transposed when asked.
func (e *executable) constant(v *graph.Value, t *tensor.Tensor, d tensor.DType, transposed bool) (driver.Ptr, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return 0, fmt.Errorf("the model was closed")
	}
	key := formKey{t: t, d: d, transposed: transposed}
	if v == nil || v.Const != t {
		key.t, key.text = nil, fmt.Sprint(t.DType, t.Shape, string(t.Data))
	}
	if p, ok := e.resident[key]; ok {
		return p, nil
	}
	src, err := e.host(v, t)
	if err != nil {
		return 0, err
	}
	p, err := e.upload(src, d, transposed)
	if err != nil {
		name := "a value"
		if v != nil {
			name = fmt.Sprintf("weight %q", v.Name)
		}
		return 0, fmt.Errorf("%s, %d bytes: %w", name, len(src.Data), e.dev.explain(err))
	}
	e.keep(key, p)
	return p, nil
}

// upload copies t up and brings it into form there.
func (e *executable) upload(t *tensor.Tensor, d tensor.DType, transposed bool) (driver.Ptr, error) {
	s, err := e.dev.NewStream()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	raw, err := e.dev.Alloc(len(t.Data))
	if err != nil {
		return 0, err
	}
	if err := s.ToDevice(raw, t.Data); err != nil {
		e.dev.Free(raw)
		return 0, err
	}
	if d == t.DType && !transposed {
		return raw, s.Sync()
	}
	defer e.dev.Free(raw)
	out, err := e.dev.Alloc(d.Bytes(t.Len()))
	if err != nil {
		return 0, err
	}
	l, err := e.dev.formLaunch(t, raw, out, d, transposed)
	if err == nil {
		err = s.Launch(l.f, l.blocks, l.threads, l.shared, l.p.b)
	}
	if err == nil {
		err = s.Sync()
	}
	if err != nil {
		e.dev.Free(out)
		return 0, err
	}
	return out, nil
}

func (d *device) formLaunch(t *tensor.Tensor, raw, out driver.Ptr, to tensor.DType, transposed bool) (*launch, error) {
	src, dst := denseMem(t.DType, t.Shape), denseMem(to, t.Shape)
	src.root, dst.root = &root{base: raw}, &root{base: out}
	if !transposed {
		l, err := copyLaunch(d, dst, src)
		if err == nil {
			err = l.p.place()
		}
		return l, err
	}
	rows, cols := t.Shape[0], t.Shape[1]
	f, err := d.function("move", "transpose_tiles", 32*33*4)
	if err != nil {
		return nil, err
	}
	p := (&params{}).tensor(src).tensor(dst).i64(rows, cols, cols, 0, 0, 1)
	if err := p.place(); err != nil {
		return nil, err
	}
	return &launch{f, ceilDiv(rows, 32) * ceilDiv(cols, 32), 256, 32 * 33 * 4, p}, nil
}

// explain adds to an error of the driver what the user can do.
func (d *device) explain(err error) error {
	var e *driver.Error
	if !asDriver(err, &e) {
		return err
	}
	switch {
	case e.Is(driver.ErrOutOfMemory):
		free, total, ferr := d.FreeMemory()
		if ferr != nil {
			return fmt.Errorf("%w: %w", driver.ErrOutOfMemory, err)
		}
		return fmt.Errorf("%w: %.1f of %.1f GB are free; use a smaller batch or length, or compute=bf16: %w", driver.ErrOutOfMemory, float64(free)/1e9, float64(total)/1e9, err)
	case e.Is(driver.ErrLost):
		return fmt.Errorf("%w: %w", driver.ErrLost, err)
	}
	return err
}
