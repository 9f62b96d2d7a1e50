package onnx

import (
	"regexp"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/ssdc-go/ssdc/graph"
)

// Origins looks up, in a model file, where nodes come from in the program that
// was exported. names are those of Node.From. Exporters write a stack trace per
// node, which takes more room than the graph itself: so it is not kept while a
// model is compiled, but read again, from the bytes, for the few nodes of an
// explanation. Nothing is decoded but nodes, and the weights are not touched.
func Origins(path string, names []string) (map[string]graph.Origin, error) {
	data, err := mapFile(path)
	if err != nil {
		return nil, err
	}
	defer unmap(data)
	s := &originScan{want: map[string]bool{}, found: map[string]graph.Origin{}}
	for _, n := range names {
		s.want[n] = true
		// A node of a function that was inlined is called CALL/NODE: the call
		// tells as much as there is.
		for i := strings.LastIndexByte(n, '/'); i > 0; i = strings.LastIndexByte(n[:i], '/') {
			s.want[n[:i]] = true
		}
	}
	s.each(data, func(field protowire.Number, b []byte) {
		if field == 7 { // ModelProto.graph
			s.graph(b, 0)
		}
	})
	out := map[string]graph.Origin{}
	for _, n := range names {
		o, ok := s.found[n]
		for i := strings.LastIndexByte(n, '/'); !ok && i > 0; i = strings.LastIndexByte(n[:i], '/') {
			o, ok = s.found[n[:i]]
		}
		if ok {
			out[n] = o
		}
	}
	return out, nil
}

type originScan struct {
	want  map[string]bool
	found map[string]graph.Origin
}

// each calls f for every field of a message that holds bytes. A file that is
// cut short ends the walk: it was read in full before.
func (s *originScan) each(b []byte, f func(field protowire.Number, b []byte)) {
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return
		}
		b = b[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, b); n < 0 {
				return
			}
			b = b[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(b)
		if n < 0 {
			return
		}
		f(num, v)
		b = b[n:]
	}
}

func (s *originScan) graph(b []byte, depth int) {
	if depth > maxBodies {
		return
	}
	s.each(b, func(field protowire.Number, b []byte) {
		if field == 1 { // GraphProto.node
			s.node(b, depth)
		}
	})
}

// node reads name, outputs, doc string and metadata of a NodeProto, and goes
// into its bodies.
func (s *originScan) node(b []byte, depth int) {
	var name, first, doc string
	meta := map[string]string{}
	s.each(b, func(field protowire.Number, b []byte) {
		switch field {
		case 2:
			if first == "" {
				first = string(b)
			}
		case 3:
			name = string(b)
		case 5: // attributes
			s.each(b, func(field protowire.Number, b []byte) {
				if field == 6 { // AttributeProto.g
					s.graph(b, depth+1)
				}
			})
		case 6:
			doc = string(b)
		case 9:
			var k, v string
			s.each(b, func(field protowire.Number, b []byte) {
				if field == 1 {
					k = string(b)
				} else if field == 2 {
					v = string(b)
				}
			})
			meta[k] = v
		}
	})
	if name == "" {
		name = first
	}
	if _, seen := s.found[name]; seen || !s.want[name] {
		return
	}
	if o := originOf(name, doc, meta); o != (graph.Origin{}) {
		s.found[name] = o
	}
}

var (
	// torch.export: File "/a/b.py", line 12, in forward\n    y = ...
	pythonFrame = regexp.MustCompile(`File "([^"]+)", line (\d+), in (\S+)\n?\s*([^\n]*)`)
	// TorchScript: /a/b.py(12): forward
	scriptFrame = regexp.MustCompile(`(?m)^\s*(\S+\.py)\((\d+)\): (\S+)`)
	listEntry   = regexp.MustCompile(`'([^']*)'`)
)

// originOf reads what PyTorch's two exporters write.
func originOf(name, doc string, meta map[string]string) graph.Origin {
	var o graph.Origin
	if scopes := listEntry.FindAllStringSubmatch(meta["pkg.torch.onnx.name_scopes"], -1); len(scopes) > 1 {
		o.Module = scopes[len(scopes)-2][1] // the last one is the operation itself
	} else if strings.HasPrefix(name, "/") { // TorchScript: /layers.0/mixer/Mul_7
		if i := strings.LastIndexByte(name, '/'); i > 0 {
			o.Module = strings.ReplaceAll(name[1:i], "/", ".")
		}
	}
	take := func(f []string) {
		o.File, o.Func = f[1], f[3]
		o.Line, _ = strconv.Atoi(f[2])
		if len(f) > 4 {
			o.Code = strings.TrimSpace(f[4])
		}
	}
	if frames := pythonFrame.FindAllStringSubmatch(meta["pkg.torch.onnx.stack_trace"], -1); len(frames) > 0 {
		take(frames[0])
		for _, f := range frames { // the outermost comes first; the framework's own lines say little
			if !framework(f[1]) {
				take(f)
			}
		}
	} else if frames := scriptFrame.FindAllStringSubmatch(doc, -1); len(frames) > 0 {
		take(frames[0]) // the innermost comes first
		for i := len(frames) - 1; i >= 0; i-- {
			if !framework(frames[i][1]) {
				take(frames[i])
			}
		}
	}
	return o
}

// framework: a file of PyTorch itself.
func framework(file string) bool {
	return strings.Contains(file, "/torch/") && !strings.Contains(file, "/torchvision/")
}
