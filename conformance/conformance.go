// Package conformance runs ONNX's backend test data: folders with a model.onnx
// and test_data_set_K/{input,output}_I.pb. It imports each model, executes it
// through a function of the caller and compares the results, so that every
// backend can be held to the same cases.
package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/ops"
)

// Runner executes a graph. in follows g.Inputs, the result g.Outputs.
type Runner func(g *graph.Graph, in []*tensor.Tensor) ([]*tensor.Tensor, error)

// ErrUnsupported is what a Runner wraps when its backend lacks an operator or
// type that the operator table has.
var ErrUnsupported = errors.New("not supported by this backend")

// Status is the outcome of a case.
type Status int

// Outcomes.
const (
	Pass Status = iota
	Fail
	Unsupported // the operator table or the backend lacks something; never a pass
)

func (s Status) String() string { return [...]string{"pass", "fail", "unsupported"}[s] }

// Result is the outcome of one case.
type Result struct {
	Name    string   // folder of the case, relative to the folder given to Run
	Ops     []string // operator types in the model, sorted; domain.Name outside ai.onnx
	Status  Status
	Reason  string   // why it did not pass
	Missing []string // operators without a row
}

// Options change how cases are run. Nil means the defaults.
type Options struct {
	Rtol, Atol float64 // |got-want| <= Atol + Rtol*|want|; 0 means ONNX's own: the case's, or 1e-3 and 1e-7
	// Match selects cases by name; nil takes all.
	Match  func(name string) bool
	Import onnx.Options
}

// Run runs every case at any depth below dir, in order of name.
func Run(dir string, t *ops.Table, run Runner, o *Options) ([]Result, error) {
	var out []Result
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.Name() != "model.onnx" {
			return err
		}
		name, err := filepath.Rel(dir, filepath.Dir(path))
		if err != nil {
			return err
		}
		name = filepath.ToSlash(name)
		if o == nil || o.Match == nil || o.Match(name) {
			r := RunCase(filepath.Dir(path), t, run, o)
			r.Name = name
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

// RunCase runs the case in one folder.
func RunCase(dir string, t *ops.Table, run Runner, o *Options) Result {
	if o == nil {
		o = &Options{}
	}
	r := Result{Name: filepath.Base(dir)}
	var mp proto.ModelProto
	if err := readProto(filepath.Join(dir, "model.onnx"), &mp); err != nil {
		return r.fail(err)
	}
	r.Ops = opTypes(mp.GetGraph())
	m, err := onnx.Load(filepath.Join(dir, "model.onnx"), t, &o.Import)
	if err != nil {
		return r.fail(err)
	}
	sets, err := filepath.Glob(filepath.Join(dir, "test_data_set_*"))
	if err != nil || len(sets) == 0 {
		return r.fail(fmt.Errorf("%s has no test data", dir))
	}
	slices.Sort(sets)
	rtol, atol, err := tolerances(dir, o)
	if err != nil {
		return r.fail(err)
	}
	for _, set := range sets {
		if err := runSet(set, &mp, m.Graph, run, rtol, atol); err != nil {
			return r.fail(fmt.Errorf("%s: %w", filepath.Base(set), err))
		}
	}
	return r
}

func (r Result) fail(err error) Result {
	r.Status, r.Reason = Fail, err.Error()
	var u *onnx.UnsupportedError
	if errors.As(err, &u) {
		r.Status = Unsupported
		for _, m := range u.Ops {
			r.Missing = append(r.Missing, strings.TrimPrefix(m.Domain+"."+m.Name, "."))
		}
	}
	if errors.Is(err, ErrUnsupported) {
		r.Status = Unsupported
	}
	return r
}

// tolerances are those of the options, else the case's own in data.json, where
// ONNX writes those of its larger models; zeros stand for ONNX's defaults.
func tolerances(dir string, o *Options) (rtol, atol float64, err error) {
	if o.Rtol != 0 || o.Atol != 0 {
		return o.Rtol, o.Atol, nil
	}
	b, err := os.ReadFile(filepath.Join(dir, "data.json"))
	if os.IsNotExist(err) {
		return 0, 0, nil
	}
	var own struct{ Rtol, Atol float64 }
	if err == nil {
		err = json.Unmarshal(b, &own)
	}
	if err != nil {
		return 0, 0, fmt.Errorf("data.json: %w", err)
	}
	return own.Rtol, own.Atol, nil
}

// runSet runs one data set. Files are numbered by the inputs that the file
// declares; those that are also initializers are not inputs of the graph.
func runSet(set string, mp *proto.ModelProto, g *graph.Graph, run Runner, rtol, atol float64) error {
	given := map[string]*tensor.Tensor{}
	for i, vi := range mp.Graph.Input {
		path := filepath.Join(set, fmt.Sprintf("input_%d.pb", i))
		if _, err := os.Stat(path); os.IsNotExist(err) {
			continue
		}
		t, err := readValue(path, vi.Type)
		if err != nil {
			return err
		}
		given[vi.Name] = t
	}
	in := make([]*tensor.Tensor, len(g.Inputs))
	for i, v := range g.Inputs {
		if in[i] = given[v.Name]; in[i] == nil {
			return fmt.Errorf("no data for input %q", v.Name)
		}
	}
	got, err := run(g, in)
	if err != nil {
		return err
	}
	if len(got) != len(mp.Graph.Output) {
		return fmt.Errorf("computed %d outputs, want %d", len(got), len(mp.Graph.Output))
	}
	for i, vi := range mp.Graph.Output {
		want, err := readValue(filepath.Join(set, fmt.Sprintf("output_%d.pb", i)), vi.Type)
		if err != nil {
			return err
		}
		if err := Compare(got[i], want, rtol, atol); err != nil {
			return fmt.Errorf("output %d %q: %w", i, vi.Name, err)
		}
	}
	return nil
}

// readValue reads a data file, whose kind the declared type tells.
func readValue(path string, t *proto.TypeProto) (*tensor.Tensor, error) {
	var v *tensor.Tensor
	var err error
	switch {
	case t.GetSequenceType() != nil:
		var p proto.SequenceProto
		if err = readProto(path, &p); err == nil {
			v, err = onnx.DecodeSequence(&p)
		}
	case t.GetOptionalType() != nil:
		var p proto.OptionalProto
		if err = readProto(path, &p); err == nil {
			v, err = onnx.DecodeOptional(&p)
		}
	case t.GetMapType() != nil:
		var p proto.MapProto
		if err = readProto(path, &p); err == nil {
			v, err = onnx.DecodeMap(&p)
		}
	default:
		var p proto.TensorProto
		if err = readProto(path, &p); err == nil {
			v, err = onnx.DecodeTensor(&p)
		}
		// NumPy had no bfloat16 when ONNX 1.12 wrote its data: the files hold the
		// bit patterns as uint16, and only the model says what they are.
		if err == nil && v.DType == tensor.Uint16 && t.GetTensorType().GetElemType() == int32(tensor.BFloat16) {
			v.DType = tensor.BFloat16
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return v, nil
}

func readProto(path string, m pb.Message) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return pb.Unmarshal(b, m)
}

// opTypes lists the operators of a graph and its bodies.
func opTypes(g *proto.GraphProto) []string {
	var out []string
	for _, n := range g.GetNode() {
		name := n.OpType
		if n.Domain != "" && n.Domain != "ai.onnx" {
			name = n.Domain + "." + name
		}
		out = append(out, name)
		for _, a := range n.Attribute {
			out = append(out, opTypes(a.G)...)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
