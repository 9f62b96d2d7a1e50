package onnxgo

import (
	"fmt"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/plugin"
)

type options struct {
	opset   int
	target  string
	threads int
	plain   bool
	plugins []plugin.Plugin
}

// Option changes how a Graph runs its model.
type Option func(*options)

// Opset says which opset of ai.onnx the model imports, see OpsetOf. Without it
// each operation is taken in the newest version that its attributes and inputs fit.
func Opset(n int) Option { return func(o *options) { o.opset = n } }

// Target chooses the backend: "cpu", the default, or "ref".
func Target(name string) Option { return func(o *options) { o.target = name } }

// Threads is the number of threads; 0, the default, means one per processor.
func Threads(n int) Option { return func(o *options) { o.threads = n } }

// NoOptimisation runs every operation as it stands.
func NoOptimisation() Option { return func(o *options) { o.plain = true } }

// Plugins adds operators, kernels and passes to the standard ones.
func Plugins(p ...plugin.Plugin) Option {
	return func(o *options) { o.plugins = append(o.plugins, p...) }
}

// OpsetOf reads from an ONNX file which opset of ai.onnx it imports.
func OpsetOf(model []byte) (int, error) {
	var m proto.ModelProto
	if err := pb.Unmarshal(model, &m); err != nil {
		return 0, fmt.Errorf("not an ONNX model, or cut short: %w", err)
	}
	for _, o := range m.OpsetImport {
		if o.Domain == "" || o.Domain == "ai.onnx" {
			return int(o.Version), nil
		}
	}
	return 0, fmt.Errorf("the model imports no opset of ai.onnx")
}
