//go:build cgo && linux

package driver

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "shim.h"
import "C"

import (
	"fmt"
	"strings"
	"sync"
	"unsafe"
)

// Built reports whether this program has the shim.
const Built = true

var opened struct {
	sync.Mutex
	path string
	err  error
}

// load opens libcuda once. Another path after the first is an error: a process has one driver.
func load() error {
	opened.Lock()
	defer opened.Unlock()
	path := libcuda()
	if opened.path != "" {
		if opened.path != path {
			return fmt.Errorf("the driver was opened as %s already, not as %s", opened.path, path)
		}
		return opened.err
	}
	opened.path = path
	var text [512]C.char
	p := C.CString(path)
	defer C.free(unsafe.Pointer(p))
	switch code := C.ssdc_cuda_open(p, &text[0], C.int(len(text))); {
	case code < 0:
		opened.err = fmt.Errorf("no driver: %s", C.GoString(&text[0]))
	case code > 0:
		opened.err = failure("cuInit", code)
	}
	return opened.err
}

func failure(call string, code C.int) error {
	if code == 0 {
		return nil
	}
	var name, text *C.char
	C.ssdc_cuda_error(code, &name, &text)
	e := &Error{Call: call, Code: int(code), Name: fmt.Sprint("CUDA error ", code), Text: "unknown error"}
	if name != nil {
		e.Name, e.Text = C.GoString(name), C.GoString(text)
	}
	return e
}

// Devices describes the devices of this machine.
func Devices() ([]Info, error) {
	if err := load(); err != nil {
		return nil, err
	}
	var n, version C.int
	if err := failure("cuDeviceGetCount", C.ssdc_cuda_count(&n, &version)); err != nil {
		return nil, err
	}
	var all []Info
	for i := range int(n) {
		info, _, err := device(i, false)
		if err != nil {
			return nil, err
		}
		info.Driver = int(version)
		all = append(all, info)
	}
	return all, nil
}

func device(i int, retain bool) (Info, unsafe.Pointer, error) {
	var name [256]C.char
	var values [4]C.int
	var memory C.longlong
	var ctx unsafe.Pointer
	at := &ctx
	if !retain {
		at = nil
	}
	err := failure("cuDevicePrimaryCtxRetain", C.ssdc_cuda_device(C.int(i), at, &name[0], C.int(len(name)), &values[0], &memory))
	return Info{
		Name: C.GoString(&name[0]), Major: int(values[0]), Minor: int(values[1]), Multiprocessors: int(values[2]),
		SharedBytes: int(values[3]), Memory: int64(memory),
	}, ctx, err
}

// Device is an opened device.
type Device struct {
	Info Info
	// Overlap lets kernels start while the one before them drains. All kernels must then wait for it by
	// themselves (griddepcontrol.wait).
	Overlap bool

	index int
	ctx   unsafe.Pointer
}

// Open opens device number i.
func Open(i int) (*Device, error) {
	all, err := Devices()
	if err != nil {
		return nil, err
	}
	if i < 0 || i >= len(all) {
		return nil, fmt.Errorf("no device %d: the driver shows %d", i, len(all))
	}
	_, ctx, err := device(i, true)
	if err != nil {
		return nil, err
	}
	return &Device{Info: all[i], index: i, ctx: ctx}, nil
}

// Close gives the context back. What was allocated must have been freed.
func (d *Device) Close() { C.ssdc_cuda_release(C.int(d.index)) }

// Alloc takes n bytes of device memory.
func (d *Device) Alloc(n int) (Ptr, error) {
	var p C.ssdc_ptr
	err := failure("cuMemAlloc", C.ssdc_alloc(d.ctx, &p, C.size_t(max(n, 1))))
	return Ptr(p), err
}

// TensorMap fills the 128 bytes of map with a descriptor for bulk copies of boxes of a bf16 (or f16) tensor. Axes go from
// the innermost out; strides are those of all but the innermost, in bytes.
func (d *Device) TensorMap(m []byte, f16 bool, p Ptr, dims [4]uint64, strides [3]uint64, box [4]uint32) error {
	half := C.int(0)
	if f16 {
		half = 1
	}
	_ = m[127]
	return failure("cuTensorMapEncodeTiled", C.ssdc_tensor_map(d.ctx, unsafe.Pointer(unsafe.SliceData(m)), half, C.ssdc_ptr(p),
		(*C.ulonglong)(unsafe.Pointer(&dims)), (*C.ulonglong)(unsafe.Pointer(&strides)), (*C.uint)(unsafe.Pointer(&box))))
}

// Free returns memory; 0 is allowed.
func (d *Device) Free(p Ptr) {
	if p != 0 {
		C.ssdc_free(d.ctx, C.ssdc_ptr(p))
	}
}

// FreeMemory is what the device has left, and its total.
func (d *Device) FreeMemory() (free, total int64, err error) {
	var f, t C.size_t
	err = failure("cuMemGetInfo", C.ssdc_mem_info(d.ctx, &f, &t))
	return int64(f), int64(t), err
}

// HostBytes takes page-locked memory, which copies without a detour.
func (d *Device) HostBytes(n int) ([]byte, error) {
	var p unsafe.Pointer
	if err := failure("cuMemAllocHost", C.ssdc_alloc_host(d.ctx, &p, C.size_t(max(n, 1)))); err != nil {
		return nil, err
	}
	return unsafe.Slice((*byte)(p), n), nil
}

// FreeHost returns memory of HostBytes.
func (d *Device) FreeHost(b []byte) {
	if cap(b) > 0 {
		C.ssdc_free_host(d.ctx, unsafe.Pointer(unsafe.SliceData(b)))
	}
}

// Stream is a queue of work.
type Stream struct {
	d *Device
	s unsafe.Pointer
}

// NewStream makes a stream.
func (d *Device) NewStream() (*Stream, error) {
	s := &Stream{d: d}
	return s, failure("cuStreamCreate", C.ssdc_stream(d.ctx, &s.s))
}

// Close frees the stream.
func (s *Stream) Close() { C.ssdc_stream_free(s.d.ctx, s.s) }

// Sync waits for all work.
func (s *Stream) Sync() error { return failure("cuStreamSynchronize", C.ssdc_sync(s.d.ctx, s.s)) }

// ToDevice copies bytes up. src may be reused when the call returns unless it is of HostBytes: then after Sync.
func (s *Stream) ToDevice(dst Ptr, src []byte) error {
	if len(src) == 0 {
		return nil
	}
	return failure("cuMemcpyHtoDAsync", C.ssdc_to_device(s.d.ctx, C.ssdc_ptr(dst), unsafe.Pointer(unsafe.SliceData(src)), C.size_t(len(src)), s.s))
}

// ToHost copies bytes down; dst has them after Sync.
func (s *Stream) ToHost(dst []byte, src Ptr) error {
	if len(dst) == 0 {
		return nil
	}
	return failure("cuMemcpyDtoHAsync", C.ssdc_to_host(s.d.ctx, unsafe.Pointer(unsafe.SliceData(dst)), C.ssdc_ptr(src), C.size_t(len(dst)), s.s))
}

// Copy copies n bytes on the device.
func (s *Stream) Copy(dst, src Ptr, n int) error {
	if n == 0 || dst == src {
		return nil
	}
	return failure("cuMemcpyDtoDAsync", C.ssdc_copy(s.d.ctx, C.ssdc_ptr(dst), C.ssdc_ptr(src), C.size_t(n), s.s))
}

// Set fills n bytes.
func (s *Stream) Set(dst Ptr, v byte, n int) error {
	if n == 0 {
		return nil
	}
	return failure("cuMemsetD8Async", C.ssdc_set(s.d.ctx, C.ssdc_ptr(dst), C.uchar(v), C.size_t(n), s.s))
}

// Module is loaded machine code.
type Module struct {
	d *Device
	m unsafe.Pointer
}

// Load loads a cubin, or PTX ending in a zero byte.
func (d *Device) Load(image []byte) (*Module, error) {
	m := &Module{d: d}
	return m, failure("cuModuleLoadData", C.ssdc_module(d.ctx, &m.m, unsafe.Pointer(unsafe.SliceData(image))))
}

// Unload frees the module.
func (m *Module) Unload() { C.ssdc_unload(m.d.ctx, m.m) }

// Int reads a global variable of type int.
func (m *Module) Int(name string) (int, error) {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	var p C.ssdc_ptr
	if err := failure("cuModuleGetGlobal "+name, C.ssdc_global(m.d.ctx, &p, m.m, n)); err != nil {
		return 0, err
	}
	s, err := m.d.NewStream()
	if err != nil {
		return 0, err
	}
	defer s.Close()
	v := make([]byte, 4)
	if err := s.ToHost(v, Ptr(p)); err != nil {
		return 0, err
	}
	if err := s.Sync(); err != nil {
		return 0, err
	}
	return int(int32(uint32(v[0]) | uint32(v[1])<<8 | uint32(v[2])<<16 | uint32(v[3])<<24)), nil
}

// Function is a kernel.
type Function struct {
	d *Device
	f unsafe.Pointer
}

// Function finds a kernel, which may use up to shared bytes of dynamic shared memory: what is said last holds for all launches. full
// splits a multiprocessor's memory in favour of shared memory; kernels overlap only where they split it alike.
func (m *Module) Function(name string, shared int, full bool) (*Function, error) {
	n := C.CString(name)
	defer C.free(unsafe.Pointer(n))
	f := &Function{d: m.d}
	if err := failure("cuModuleGetFunction "+name, C.ssdc_function(m.d.ctx, &f.f, m.m, n)); err != nil {
		return nil, err
	}
	all := C.int(0)
	if full {
		all = 1
	}
	if shared > 48<<10 || full {
		if err := failure("cuFuncSetAttribute "+name, C.ssdc_shared(m.d.ctx, f.f, C.int(shared), all)); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// Fits is how many blocks of f a multiprocessor holds at a time.
func (f *Function) Fits(threads, shared int) (int, error) {
	var n C.int
	err := failure("cuOccupancyMaxActiveBlocksPerMultiprocessor", C.ssdc_fits(f.d.ctx, f.f, &n, C.int(threads), C.int(shared)))
	return int(n), err
}

// Launch submits a kernel whose only parameter is the struct in params.
func (s *Stream) Launch(f *Function, blocks, threads, shared int, params []byte) error {
	how := C.int(C.SSDC_PLAIN)
	if s.d.Overlap {
		how = C.SSDC_EARLY
	}
	return s.launch(f, blocks, threads, shared, how, params)
}

// LaunchTogether is Launch for a kernel whose blocks wait for one another: all of them run at the same time, or the launch fails.
func (s *Stream) LaunchTogether(f *Function, blocks, threads, shared int, params []byte) error {
	return s.launch(f, blocks, threads, shared, C.SSDC_TOGETHER, params)
}

func (s *Stream) launch(f *Function, blocks, threads, shared int, how C.int, params []byte) error {
	return failure("cuLaunchKernel", C.ssdc_launch(s.d.ctx, f.f, C.uint(blocks), C.uint(threads), C.uint(shared), s.s, how, unsafe.Pointer(unsafe.SliceData(params))))
}

// Graph is recorded work.
type Graph struct {
	d *Device
	g unsafe.Pointer
}

// Record captures what f submits to the stream instead of running it.
func (s *Stream) Record(f func() error) (*Graph, error) {
	if err := failure("cuStreamBeginCapture", C.ssdc_capture(s.d.ctx, s.s)); err != nil {
		return nil, err
	}
	g := &Graph{d: s.d}
	err := f()
	code := C.ssdc_capture_end(s.d.ctx, s.s, &g.g)
	if err == nil {
		err = failure("cuStreamEndCapture", code)
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// Close frees the graph.
func (g *Graph) Close() {
	if g.g != nil {
		C.ssdc_graph_free(g.d.ctx, g.g)
		g.g = nil
	}
}

// Replay submits the recorded work again.
func (s *Stream) Replay(g *Graph) error {
	return failure("cuGraphLaunch", C.ssdc_graph_launch(s.d.ctx, g.g, s.s))
}

// Event marks a place in a stream.
type Event struct {
	d *Device
	e unsafe.Pointer
}

// NewEvent makes an event.
func (d *Device) NewEvent() (*Event, error) {
	e := &Event{d: d}
	return e, failure("cuEventCreate", C.ssdc_event(d.ctx, &e.e))
}

// Close frees the event.
func (e *Event) Close() { C.ssdc_event_free(e.d.ctx, e.e) }

// Mark records the event behind the work submitted so far.
func (s *Stream) Mark(e *Event) error {
	return failure("cuEventRecord", C.ssdc_record(s.d.ctx, e.e, s.s))
}

// Since waits for e and gives the milliseconds from an earlier event.
func (e *Event) Since(from *Event) (float32, error) {
	var ms C.float
	err := failure("cuEventElapsedTime", C.ssdc_elapsed(e.d.ctx, from.e, e.e, &ms))
	return float32(ms), err
}

// openFirst opens the first library that is there.
func openFirst(names []string, open func(path *C.char, err *C.char, n C.int) C.int) error {
	var why []string
	for _, name := range names {
		var text [512]C.char
		p := C.CString(name)
		code := open(p, &text[0], C.int(len(text)))
		C.free(unsafe.Pointer(p))
		if code == 0 {
			return nil
		}
		why = append(why, C.GoString(&text[0]))
	}
	return fmt.Errorf("%s", strings.Join(why, "; "))
}
