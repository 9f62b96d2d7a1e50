//go:build !cgo || !linux

package driver

import "errors"

// Built reports whether this program has the shim.
const Built = false

var errNotBuilt = errors.New("this program was built without cgo, which the CUDA backend needs (CGO_ENABLED=1, Linux)")

// The types of cgo.go, of which no value can be made here.
type (
	// Device is an opened device.
	Device struct {
		Info    Info
		Overlap bool
	}
	// Stream is a queue of work.
	Stream struct{}
	// Module is loaded machine code.
	Module struct{}
	// Function is a kernel.
	Function struct{}
	// Graph is recorded work.
	Graph struct{}
	// Event marks a place in a stream.
	Event struct{}
	// BLAS is cuBLASLt on a device.
	BLAS struct{ Version int }
	// MatmulPlan is a product with its algorithm chosen.
	MatmulPlan struct{}
)

// What cgo.go says of these functions holds; here they fail.

func Devices() ([]Info, error)         { return nil, errNotBuilt }
func Open(int) (*Device, error)        { return nil, errNotBuilt }
func (*Device) Close()                 {}
func (*Device) Alloc(int) (Ptr, error) { return 0, errNotBuilt }
func (*Device) Free(Ptr)               {}
func (*Device) TensorMap([]byte, bool, Ptr, [4]uint64, [3]uint64, [4]uint32) error {
	return errNotBuilt
}
func (*Device) FreeMemory() (int64, int64, error)             { return 0, 0, errNotBuilt }
func (*Device) HostBytes(int) ([]byte, error)                 { return nil, errNotBuilt }
func (*Device) FreeHost([]byte)                               {}
func (*Device) NewStream() (*Stream, error)                   { return nil, errNotBuilt }
func (*Device) Load([]byte) (*Module, error)                  { return nil, errNotBuilt }
func (*Device) NewEvent() (*Event, error)                     { return nil, errNotBuilt }
func (*Device) NewBLAS() (*BLAS, error)                       { return nil, errNotBuilt }
func (*Stream) Close()                                        {}
func (*Stream) Sync() error                                   { return errNotBuilt }
func (*Stream) ToDevice(Ptr, []byte) error                    { return errNotBuilt }
func (*Stream) ToHost([]byte, Ptr) error                      { return errNotBuilt }
func (*Stream) Copy(Ptr, Ptr, int) error                      { return errNotBuilt }
func (*Stream) Set(Ptr, byte, int) error                      { return errNotBuilt }
func (*Stream) Launch(*Function, int, int, int, []byte) error { return errNotBuilt }
func (*Stream) LaunchTogether(*Function, int, int, int, []byte) error {
	return errNotBuilt
}
func (*Function) Fits(int, int) (int, error)                  { return 0, errNotBuilt }
func (*Stream) Record(func() error) (*Graph, error)           { return nil, errNotBuilt }
func (*Stream) Replay(*Graph) error                           { return errNotBuilt }
func (*Stream) Mark(*Event) error                             { return errNotBuilt }
func (*Module) Unload()                                       {}
func (*Module) Int(string) (int, error)                       { return 0, errNotBuilt }
func (*Module) Function(string, int, bool) (*Function, error) { return nil, errNotBuilt }
func (*Graph) Close()                                         {}
func (*Event) Close()                                         {}
func (*Event) Since(*Event) (float32, error)                  { return 0, errNotBuilt }
func (*BLAS) Close()                                          {}
func (*BLAS) Plan(Product, int, int) (*MatmulPlan, error)     { return nil, errNotBuilt }
func (*MatmulPlan) Close()                                    {}
func (*MatmulPlan) Run(*Stream, Ptr, int) error               { return errNotBuilt }
func RTCVersion() (int, int, error)                           { return 0, 0, errNotBuilt }
func Compile(string, string, map[string]string, []string, bool) ([]byte, error) {
	return nil, errNotBuilt
}
