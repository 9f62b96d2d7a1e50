package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// JSON holds what arrays cannot: maps and sequences, and words in plain sight. A
// tensor is nested lists, a sequence a list, a map an object, an optional its
// member or null. Numbers that JSON lacks are "NaN", "Infinity" and "-Infinity".

func isJSON(path string) bool { return strings.HasSuffix(path, ".json") }

// readJSON reads an input of type t, or, with name "", an object whose members
// are named after inputs.
func readJSON(m *model.Model, path, name string, put func(string, *tensor.Tensor) error) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var raw any
	if err := d.Decode(&raw); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%s: the file ends before its JSON value does", path)
	} else if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("%s: something follows the first value", path)
	}
	members := map[string]any{name: raw}
	if name == "" {
		var ok bool
		if members, ok = raw.(map[string]any); !ok {
			return fmt.Errorf("%s: want an object whose members are named after inputs; for the value of one input write --input NAME=%s", path, path)
		}
		for n := range members {
			if !containsName(m.Inputs(), n) {
				return fmt.Errorf("%s: %w", path, backends.UnknownName("input", n, names(m.Inputs())))
			}
		}
	}
	for _, v := range m.Inputs() { // in the order of the inputs
		if raw, given := members[v.Name]; given {
			t, err := fromJSON(v.Type, raw)
			if err != nil {
				return fmt.Errorf("%s: input %q (%s): %w", path, v.Name, v.Type, err)
			}
			if err := put(v.Name, t); err != nil {
				return err
			}
		}
	}
	return nil
}

func containsName(vs []*graph.Value, name string) bool {
	for _, v := range vs {
		if v.Name == name {
			return true
		}
	}
	return false
}

// fromJSON makes a value of type t.
func fromJSON(t graph.Type, raw any) (*tensor.Tensor, error) {
	list, isList := raw.([]any)
	object, isObject := raw.(map[string]any)
	switch t.DType {
	case tensor.Sequence:
		if !isList || t.Elem == nil {
			return nil, fmt.Errorf("want a list, got %s", kindOf(raw))
		}
		out := tensor.Seq()
		for i, r := range list {
			e, err := fromJSON(*t.Elem, r)
			if err != nil {
				return nil, fmt.Errorf("member %d: %w", i, err)
			}
			out.Elems = append(out.Elems, e)
		}
		return out, nil
	case tensor.Optional:
		out := &tensor.Tensor{DType: tensor.Optional}
		if raw == nil || t.Elem == nil {
			return out, nil
		}
		e, err := fromJSON(*t.Elem, raw)
		out.Elems = []*tensor.Tensor{e}
		return out, err
	case tensor.Map:
		if !isObject || t.Elem == nil {
			return nil, fmt.Errorf("want an object, got %s", kindOf(raw))
		}
		return mapFromJSON(t, object)
	}
	var shape []int
	for inner := raw; ; {
		l, ok := inner.([]any)
		if !ok {
			break
		}
		if shape = append(shape, len(l)); len(l) == 0 {
			break
		}
		inner = l[0]
	}
	if t.Ranked() && len(shape) != t.Rank() {
		return nil, fmt.Errorf("want lists nested %d deep, got %d", t.Rank(), len(shape))
	}
	// Leaves come before the tensor: the shape is that of the first lists alone, and
	// those of a small file may promise more than there is memory.
	leaves, err := appendLeaves(nil, raw, shape)
	if err != nil {
		return nil, err
	}
	out := tensor.New(t.DType, shape...)
	for i, r := range leaves {
		if err := setJSON(out, i, r); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func appendLeaves(to []any, raw any, shape []int) ([]any, error) {
	if len(shape) == 0 {
		return append(to, raw), nil
	}
	l, ok := raw.([]any)
	if !ok || len(l) != shape[0] {
		return nil, fmt.Errorf("the lists are of different lengths: want %d members, got %s", shape[0], kindOf(raw))
	}
	var err error
	for _, r := range l {
		if to, err = appendLeaves(to, r, shape[1:]); err != nil {
			return nil, err
		}
	}
	return to, nil
}

func mapFromJSON(t graph.Type, object map[string]any) (*tensor.Tensor, error) {
	keys, values := tensor.New(t.Key, len(object)), tensor.New(t.Elem.DType, len(object))
	i := 0
	for k, r := range object {
		if t.Key == tensor.String {
			keys.Strings[i] = k
		} else if err := setJSON(keys, i, json.Number(k)); err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
		if err := setJSON(values, i, r); err != nil {
			return nil, fmt.Errorf("key %q: %w", k, err)
		}
		i++
	}
	return tensor.NewMap(keys, values)
}

// notFinite are the numbers that JSON has no digits for.
var notFinite = map[string]float64{"NaN": math.NaN(), "Infinity": math.Inf(1), "-Infinity": math.Inf(-1)}

func setJSON(t *tensor.Tensor, i int, raw any) error {
	bad := func() error { return fmt.Errorf("want an element of type %s, got %s", t.DType, kindOf(raw)) }
	switch d := t.DType; {
	case d == tensor.String:
		s, ok := raw.(string)
		if !ok {
			return bad()
		}
		t.Strings[i] = s
	case d == tensor.Bool:
		b, ok := raw.(bool)
		if !ok {
			return bad()
		}
		t.SetAt(i, map[bool]float64{true: 1}[b])
	case d.IsFloat():
		if s, ok := raw.(string); ok {
			v, known := notFinite[s]
			if !known {
				return bad()
			}
			t.SetAt(i, v)
			return nil
		}
		n, ok := raw.(json.Number)
		v, err := n.Float64()
		if !ok || err != nil {
			return bad()
		}
		t.SetAt(i, v)
	case d == tensor.Uint64:
		n, _ := raw.(json.Number)
		v, err := strconv.ParseUint(n.String(), 10, 64)
		if err != nil {
			return bad()
		}
		t.SetIntAt(i, int64(v))
	case d.IsInt():
		n, _ := raw.(json.Number)
		v, err := n.Int64()
		if t.SetIntAt(i, v); err != nil || t.IntAt(i) != v {
			return bad()
		}
	default:
		return fmt.Errorf("there is no JSON for elements of type %s; give them as .npy", d)
	}
	return nil
}

// kindOf describes a JSON value for messages.
func kindOf(raw any) string {
	switch v := raw.(type) {
	case nil:
		return "null"
	case []any:
		return fmt.Sprintf("a list of %d", len(v))
	case map[string]any:
		return "an object"
	case string:
		if len(v) > 40 {
			v = v[:40] + "..."
		}
		return strconv.Quote(v)
	}
	return fmt.Sprint(raw)
}

// ToJSON writes a value on one line.
func ToJSON(t *tensor.Tensor) json.RawMessage {
	var b bytes.Buffer
	writeJSON(&b, t)
	return b.Bytes()
}

func writeJSON(b *bytes.Buffer, t *tensor.Tensor) {
	list := func(n int, one func(i int)) {
		b.WriteByte('[')
		for i := range n {
			if i > 0 {
				b.WriteString(", ")
			}
			one(i)
		}
		b.WriteByte(']')
	}
	switch t.DType {
	case tensor.Sequence:
		list(len(t.Elems), func(i int) { writeJSON(b, t.Elems[i]) })
		return
	case tensor.Optional:
		if len(t.Elems) == 0 {
			b.WriteString("null")
			return
		}
		writeJSON(b, t.Elems[0])
		return
	case tensor.Map:
		keys, values := t.Entries()
		b.WriteByte('{')
		for i := range keys.Len() {
			if i > 0 {
				b.WriteString(", ")
			}
			if keys.DType == tensor.String {
				writeString(b, keys.Strings[i])
			} else {
				writeString(b, integer(keys, i))
			}
			b.WriteString(": ")
			writeElement(b, values, i)
		}
		b.WriteByte('}')
		return
	}
	at := 0
	var nested func(shape []int)
	nested = func(shape []int) {
		if len(shape) == 0 {
			writeElement(b, t, at)
			at++
			return
		}
		list(shape[0], func(int) { nested(shape[1:]) })
	}
	nested(t.Shape)
}

func writeString(b *bytes.Buffer, s string) {
	q, _ := json.Marshal(s) // a string always has a form
	b.Write(q)
}

func integer(t *tensor.Tensor, i int) string {
	if t.DType == tensor.Uint64 {
		return strconv.FormatUint(uint64(t.IntAt(i)), 10)
	}
	return strconv.FormatInt(t.IntAt(i), 10)
}

func writeElement(b *bytes.Buffer, t *tensor.Tensor, i int) {
	switch d := t.DType; {
	case d == tensor.String:
		writeString(b, t.Strings[i])
	case d == tensor.Bool:
		b.WriteString(strconv.FormatBool(t.IntAt(i) != 0))
	case d == tensor.Complex64:
		c := tensor.Of[complex64](t)[i]
		b.WriteString("[" + number(float64(real(c)), 32) + ", " + number(float64(imag(c)), 32) + "]")
	case d == tensor.Complex128:
		c := tensor.Of[complex128](t)[i]
		b.WriteString("[" + number(real(c), 64) + ", " + number(imag(c), 64) + "]")
	case d == tensor.Float64:
		b.WriteString(number(t.At(i), 64))
	case d.IsFloat():
		b.WriteString(number(t.At(i), 32))
	default:
		b.WriteString(integer(t, i))
	}
}

func number(v float64, bits int) string {
	switch {
	case math.IsNaN(v):
		return `"NaN"`
	case math.IsInf(v, 0):
		return map[bool]string{true: `"Infinity"`, false: `"-Infinity"`}[v > 0]
	}
	return strconv.FormatFloat(v, 'g', -1, bits)
}

// writeJSONOutputs writes one output, or, with name "", an object of all of them.
func writeJSONOutputs(w io.Writer, m *model.Model, out map[string]*tensor.Tensor, name string) error {
	var b bytes.Buffer
	if name != "" {
		writeJSON(&b, out[name])
		b.WriteByte('\n')
		_, err := w.Write(b.Bytes())
		return err
	}
	sep := "{\n "
	for _, v := range m.Outputs() {
		b.WriteString(sep)
		sep = ",\n "
		writeString(&b, v.Name)
		b.WriteString(": ")
		writeJSON(&b, out[v.Name])
	}
	b.WriteString("\n}\n")
	_, err := w.Write(b.Bytes())
	return err
}

// maxShown members of a value are shown on the terminal.
const maxShown = 10

// show prints what statistics cannot tell: words, sequences, maps.
func show(w io.Writer, name string, t *tensor.Tensor) {
	members, n := []*tensor.Tensor{t}, 1
	switch {
	case t.DType == tensor.String && t.Len() > maxShown:
		short := tensor.FromStrings(t.Strings[:maxShown], maxShown)
		members, n = []*tensor.Tensor{short}, t.Len()-maxShown+1
	case t.DType == tensor.Sequence:
		members, n = t.Elems[:min(len(t.Elems), maxShown)], len(t.Elems)
	}
	fmt.Fprintf(w, "\n%s:\n", name)
	for _, e := range members {
		line := ToJSON(e)
		if len(line) > 400 {
			line = append(bytes.ToValidUTF8(line[:400:400], nil), "..."...)
		}
		fmt.Fprintf(w, "  %s\n", line)
	}
	if n > len(members) {
		fmt.Fprintf(w, "  and %d more\n", n-len(members))
	}
}
