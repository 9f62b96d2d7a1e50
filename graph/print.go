package graph

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/graph/tensor"
)

// InlineLimit is the number of elements up to which Print writes a constant's
// contents; a longer one prints as @name with a digest.
const InlineLimit = 16

// Print writes g in the text form: ONNX's textual syntax with operator
// versions, result types and symbolic dimensions. Parse reads it back.
//
//	graph mlp (float[B,64] x) => (float[B,8] y)
//	<
//	  float[64,8] w = @w 5f2b9c0d11aa7e43
//	> {
//	  ["/fc/MatMul"] float[B,8] t0 = MatMul-13 (x, w)
//	  float[B,8] y = Relu-14 (t0)
//	}
func Print(w io.Writer, g *Graph) error {
	p := &printer{w: bufio.NewWriter(w)}
	p.graph(g, "", g.constants())
	p.str("\n")
	return p.w.Flush()
}

// String is the text form.
func (g *Graph) String() string {
	var b strings.Builder
	_ = Print(&b, g) // a Builder does not fail
	return b.String()
}

// constants lists the constants in use, in order of first use.
func (g *Graph) constants() []*Value {
	var out []*Value
	seen := map[*Value]bool{}
	add := func(v *Value) {
		if v != nil && v.Const != nil && !seen[v] {
			seen[v] = true
			out = append(out, v)
		}
	}
	outputs := func(h *Graph) {
		for _, v := range h.Outputs {
			add(v)
		}
	}
	g.Walk(func(n *Node) {
		for _, v := range n.In {
			add(v)
		}
		for _, b := range n.Bodies {
			outputs(b.Graph)
		}
	})
	outputs(g)
	return out
}

// Constants lists the constants that g and its bodies use, in order of first use.
func (g *Graph) Constants() []*Value { return g.constants() }

type printer struct{ w *bufio.Writer }

func (p *printer) str(parts ...string) {
	for _, s := range parts {
		_, _ = p.w.WriteString(s) // a bufio.Writer keeps its first error for Flush
	}
}

func (p *printer) graph(g *Graph, indent string, consts []*Value) {
	p.str("graph ", quoteName(g.Name), " (")
	p.decls(g.Inputs)
	p.str(") => (")
	p.decls(g.Outputs)
	p.str(")")
	if len(consts) > 0 {
		p.str("\n", indent, "<\n")
		for _, v := range consts {
			p.str(indent, "  ", v.Type.String(), " ", quoteName(v.Name), " = ")
			if isInline(v.Const) {
				p.contents(v.Const)
			} else {
				p.str("@", quoteName(v.Name), " ", Digest(v.Const))
			}
			p.str("\n")
		}
		p.str(indent, ">")
	}
	p.str(" {\n")
	for _, n := range g.Nodes {
		p.node(n, indent+"  ")
	}
	p.str(indent, "}")
}

func isInline(t *tensor.Tensor) bool { return t.DType.IsContainer() || t.Len() <= InlineLimit }

// Digest is a short content hash of a tensor: 16 hex digits of SHA-256.
func Digest(t *tensor.Tensor) string {
	h := sha256.New()
	h.Write(t.Data)
	for _, s := range t.Strings {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

func (p *printer) decls(vs []*Value) {
	for i, v := range vs {
		if i > 0 {
			p.str(", ")
		}
		p.str(v.Type.String(), " ", quoteName(v.Name))
	}
}

func (p *printer) node(n *Node, indent string) {
	p.str(indent)
	if n.From != "" {
		p.str("[", strconv.Quote(n.From), "] ")
	}
	for i, v := range n.Out {
		if i > 0 {
			p.str(", ")
		}
		if v == nil {
			p.str("_")
			continue
		}
		p.str(v.Type.String(), " ", quoteName(v.Name))
	}
	p.str(" = ", quoteName(opName(n.Op)), "-", strconv.Itoa(n.Op.Since))
	if len(n.Attrs)+len(n.Bodies) > 0 {
		p.str(" <")
		sep := ""
		for _, k := range n.Attrs.Names() {
			p.str(sep)
			p.attr(k, n.Attrs[k])
			sep = ", "
		}
		for _, b := range n.Bodies {
			p.str(sep, quoteName(b.Attr), ": graph = ")
			p.graph(b.Graph, indent+"  ", nil)
			sep = ", "
		}
		p.str(">")
	}
	p.str(" (")
	for i, v := range n.In {
		if i > 0 {
			p.str(", ")
		}
		if v == nil {
			p.str("_")
		} else {
			p.str(quoteName(v.Name))
		}
	}
	p.str(")\n")
}

func opName(o OpID) string {
	if o.Domain == "" {
		return o.Name
	}
	return o.Domain + "." + o.Name
}

func (p *printer) attr(name string, a any) {
	p.str(quoteName(name))
	switch a := a.(type) {
	case int64:
		p.str(": int = ", strconv.FormatInt(a, 10))
	case float32:
		p.str(": float = ", formatFloat(float64(a), 32))
	case string:
		p.str(": string = ", strconv.Quote(a))
	case []int64:
		p.str(": ints = ")
		printList(p, a, func(v int64) string { return strconv.FormatInt(v, 10) })
	case []float32:
		p.str(": floats = ")
		printList(p, a, func(v float32) string { return formatFloat(float64(v), 32) })
	case []string:
		p.str(": strings = ")
		printList(p, a, strconv.Quote)
	case *tensor.Tensor:
		p.str(": tensor = ", TypeOf(a).String(), " ")
		p.contents(a)
	case []*tensor.Tensor:
		p.str(": tensors = [")
		for i, t := range a {
			if i > 0 {
				p.str(", ")
			}
			p.str(TypeOf(t).String(), " ")
			p.contents(t)
		}
		p.str("]")
	case Type:
		p.str(": type = ", a.String())
	default:
		p.str(fmt.Sprintf(": unknown = %q", fmt.Sprint(a))) // Parse refuses it
	}
}

func printList[T any](p *printer, vs []T, f func(T) string) {
	p.str("[")
	for i, v := range vs {
		if i > 0 {
			p.str(", ")
		}
		p.str(f(v))
	}
	p.str("]")
}

// contents writes elements in braces; types that numbers cannot carry exactly
// (complex) as hexadecimal bytes.
func (p *printer) contents(t *tensor.Tensor) {
	p.str("{")
	switch {
	case t.DType == tensor.String:
		for i, s := range t.Strings {
			if i > 0 {
				p.str(", ")
			}
			p.str(strconv.Quote(s))
		}
	case t.DType.IsContainer():
		for i, e := range t.Elems {
			if i > 0 {
				p.str(", ")
			}
			p.str(TypeOf(e).String(), " ")
			p.contents(e)
		}
	case t.DType == tensor.Complex64 || t.DType == tensor.Complex128:
		p.str("x\"", hex.EncodeToString(t.Data), "\"")
	default:
		for i := range t.Len() {
			if i > 0 {
				p.str(", ")
			}
			p.str(formatElem(t, i))
		}
	}
	p.str("}")
}

func formatElem(t *tensor.Tensor, i int) string {
	switch {
	case t.DType == tensor.Uint64:
		return strconv.FormatUint(uint64(t.IntAt(i)), 10)
	case t.DType == tensor.Float64:
		return formatFloat(t.At(i), 64)
	case t.DType.IsFloat():
		return formatFloat(t.At(i), 32)
	}
	return strconv.FormatInt(t.IntAt(i), 10)
}

func formatFloat(v float64, bits int) string {
	switch {
	case math.IsNaN(v):
		return "nan"
	case math.IsInf(v, 1):
		return "inf"
	case math.IsInf(v, -1):
		return "-inf"
	}
	return strconv.FormatFloat(v, 'g', -1, bits)
}

// quoteName leaves plain names bare and quotes the rest.
func quoteName(s string) string {
	if s == "" || s == "_" || s == "graph" {
		return strconv.Quote(s)
	}
	for i := range len(s) {
		if !nameByte(s[i]) {
			return strconv.Quote(s)
		}
	}
	return s
}

func nameByte(c byte) bool {
	return symbolByte(c) || c == '/' || c == ':'
}
