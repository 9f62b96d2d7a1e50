package cuda

import (
	"fmt"
	"math"
	"strings"
	"sync"

	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/backends/cuda/kernels"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Chains of element-wise operators as code of their own, compiled by NVRTC when it is there: types, instructions and which operands
// step evenly are in the text, lengths and strides in the arguments, which are the interpreter's (kernels/elementwise.cu). A text is
// compiled once in a process. Without NVRTC, or when it refuses, the interpreter serves.

// compileFrom is from how many elements on a chain is worth some 50 ms of compiling, once: below, a launch takes longer than the
// interpreter's instructions.
const compileFrom = 1 << 18

// elementNames are the element types of kernels/compiled.cuh.
var elementNames = map[tensor.DType]string{
	tensor.Float32: "kF32", tensor.Uint8: "kU8", tensor.Int8: "kI8", tensor.Uint16: "kU16", tensor.Int16: "kI16", tensor.Int32: "kI32", tensor.Int64: "kI64",
	tensor.Bool: "kBool", tensor.Float16: "kF16", tensor.Float64: "kF64", tensor.Uint32: "kU32", tensor.Uint64: "kU64", tensor.BFloat16: "kBF16",
}

var registerNames = map[string]string{"f32": "float", "f64": "double", "i64": "int64"}

// source is the text of a chain over rank axes whose inputs have the given last strides; ok is false for what has no text.
func (c *chain) source(reg string, width, rank int, out *Mem, in []*Mem, last []int) (text string, ok bool) {
	var s strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&s, "  "+format+"\n", args...) }
	load := func(k int, to string) {
		step := -1
		switch {
		case last[k] == 0:
			step = 0
		case last[k] == 1 && (width == 1 || isReal(in[k].DType)): // those start where such a load may
			step = 1
		}
		line("load<%s, %d>(p.in[%d], at[%d], p.in[%d].stride[%d], %s);", elementNames[in[k].DType], step, k, k, k, rank-1, to)
	}
	for _, m := range append([]*Mem{out}, in...) {
		if elementNames[m.DType] == "" {
			return "", false
		}
	}
	s.WriteString("#include \"compiled.cuh\"\nSSDC_KERNEL(chain, Chain, 256) {\n")
	line("const int64 first = ((int64)blockIdx.x * blockDim.x + threadIdx.x) * %d;", width)
	line("if (first >= p.count) return;")
	line("int64 at[%d];", len(in))
	line("places<%d, %d>(p, first, at);", rank, len(in))
	line("%s acc[%d], a[%d], b[%d];", registerNames[reg], width, width, width)
	load(0, "acc")
	for _, i := range c.code {
		swap := i.swap != 0
		switch {
		case i.code == codeWhere:
			load(i.index, "a")
			load(i.index2, "b")
			line("choose(acc, a, b);")
		case i.code >= 32:
			line("operate<%d, false>(acc, acc, %s, %s);", i.code, number(i.constants[0]), number(i.constants[1]))
		case i.from == fromConstant:
			line("operate<%d, %t>(acc, (%s)%s);", i.code, swap, registerNames[reg], number(i.constants[0]))
		default:
			load(i.index, "a")
			line("operate<%d, %t>(acc, a, %s, %s);", i.code, swap, number(i.constants[0]), number(i.constants[1]))
		}
	}
	line("store<%s>(p.out, first, acc);", elementNames[out.DType])
	s.WriteString("}\n")
	return s.String(), true
}

// number is a double as it is.
func number(v float64) string {
	switch {
	case math.IsInf(v, 1):
		return "(1e300 * 1e300)"
	case math.IsInf(v, -1):
		return "(-1e300 * 1e300)"
	case math.IsNaN(v):
		return "(1e300 * 1e300 * 0.)"
	}
	return fmt.Sprintf("%x", v)
}

// compiledImages has the machine code of every text compiled so far, by architecture; nil where NVRTC refused.
var compiledImages = struct {
	sync.Mutex
	of map[[2]string][]byte
}{of: map[[2]string][]byte{}}

func compiledImage(arch, text string) []byte {
	compiledImages.Lock()
	defer compiledImages.Unlock()
	key := [2]string{arch, text}
	image, ok := compiledImages.of[key]
	if ok {
		return image
	}
	headers := map[string]string{}
	for _, name := range []string{"compiled.cuh", "chain.cuh"} {
		body, err := kernels.Source(name)
		if err != nil {
			return nil
		}
		headers[name] = body
	}
	image, err := driver.Compile(text, "chain.cu", headers, []string{"--gpu-architecture=" + arch, "--std=c++17"}, false)
	if err != nil {
		image = nil
	}
	compiledImages.of[key] = image
	return image
}

// compiled is the kernel of a text, nil when there is none.
func (d *device) compiled(text string) *driver.Function {
	if _, _, err := driver.RTCVersion(); err != nil {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if f, ok := d.chains[text]; ok {
		return f
	}
	var f *driver.Function
	if image := compiledImage(fmt.Sprintf("sm_%d%d", d.Info.Major, d.Info.Minor), text); image != nil {
		if m, err := d.Load(image); err == nil {
			d.modules[text] = m
			if f, err = m.Function("chain", 0, false); err != nil {
				f = nil
			}
		}
	}
	d.chains[text] = f
	return f
}
