package onnxgo_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/owulveryck/onnx-go"
	pb "google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc/backends/gorgonia/dense"
	"github.com/ssdc-go/ssdc/conformance"
	"github.com/ssdc-go/ssdc/graph/tensor"
	ssdconnx "github.com/ssdc-go/ssdc/importers/onnx"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
	"github.com/ssdc-go/ssdc/importers/onnxgo"
)

// refusal is what stands in the way before or after ssdc's part: onnx-go cannot
// read the model, or gorgonia's tensors cannot hold the data.
type refusal struct{ error }

func (r refusal) Unwrap() error { return r.error }

// unmarshal is what onnx-go makes of a model. It panics on some it cannot read.
func unmarshal(m *onnx.Model, data []byte) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("onnx-go panics: %v", p)
		}
	}()
	return m.UnmarshalBinary(data)
}

func readProto(path string, m pb.Message) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	return pb.Unmarshal(data, m)
}

func readTensor(path string) (*tensor.Tensor, error) {
	var p proto.TensorProto
	if err := readProto(path, &p); err != nil {
		return nil, err
	}
	return ssdconnx.DecodeTensor(&p)
}

// runCase runs a case of ONNX's backend tests through onnx-go.
func runCase(dir string, opts func(model []byte) ([]onnxgo.Option, error)) error {
	data, err := os.ReadFile(filepath.Join(dir, "model.onnx"))
	if err != nil {
		return err
	}
	var mp proto.ModelProto
	if err := pb.Unmarshal(data, &mp); err != nil {
		return err
	}
	o, err := opts(data)
	if err != nil { // operators of another domain alone, and onnx-go drops domains
		return refusal{err}
	}
	backend := onnxgo.NewGraph(append(o, onnxgo.Threads(1))...)
	defer backend.Close()
	m := onnx.NewModel(backend)
	if err := unmarshal(m, data); err != nil {
		return refusal{err}
	}
	sets, err := filepath.Glob(filepath.Join(dir, "test_data_set_*"))
	if err != nil || len(sets) == 0 {
		return fmt.Errorf("no test data: %v", err)
	}
	for _, set := range sets {
		for i := range mp.Graph.Input {
			path := filepath.Join(set, fmt.Sprintf("input_%d.pb", i))
			if _, err := os.Stat(path); os.IsNotExist(err) {
				continue
			}
			t, err := readTensor(path)
			if err != nil {
				return err
			}
			d, err := dense.To(t)
			if err != nil {
				return refusal{err}
			}
			if err := m.SetInput(i, d); err != nil {
				return err
			}
		}
		if err := backend.Run(); err != nil {
			if strings.Contains(err.Error(), "gorgonia has no ") {
				return refusal{err}
			}
			return err
		}
		got, err := m.GetOutputTensors()
		if err != nil {
			return err
		}
		for i := range mp.Graph.Output {
			want, err := readTensor(filepath.Join(set, fmt.Sprintf("output_%d.pb", i)))
			if err != nil {
				return err
			}
			if got[i] == nil {
				return fmt.Errorf("output %d: %w", i, backend.Err())
			}
			t, err := dense.From(got[i])
			if err != nil {
				return err
			}
			if err := conformance.Compare(t, want, 0, 0); err != nil {
				return fmt.Errorf("output %d: %w", i, err)
			}
		}
	}
	return nil
}

// TestConformance runs ONNX's own cases, where their data is, in both ways of
// choosing operator versions. All that ssdc passes by itself (the list of package
// conformance) must pass here, unless onnx-go or gorgonia's tensors rule it out.
func TestConformance(t *testing.T) {
	models, err := filepath.Glob("../../../shared/conformance/onnx-*/*/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	if len(models) == 0 {
		t.Skip("../../../shared/conformance is absent")
	}
	list, err := os.ReadFile("../../conformance/testdata/passing.txt")
	if err != nil {
		t.Fatal(err)
	}
	must := strings.Fields(string(list))
	for _, way := range []struct {
		name string
		opts func([]byte) ([]onnxgo.Option, error)
	}{
		{"opset", func(model []byte) ([]onnxgo.Option, error) {
			n, err := onnxgo.OpsetOf(model)
			return []onnxgo.Option{onnxgo.Opset(n)}, err
		}},
		{"guess", func([]byte) ([]onnxgo.Option, error) { return nil, nil }},
	} {
		t.Run(way.name, func(t *testing.T) {
			passed := 0
			refused := map[string]int{}
			for _, path := range models {
				dir := filepath.Dir(path)
				switch err := runCase(dir, way.opts).(type) {
				case nil:
					passed++
				case refusal:
					refused[reason(err)]++
				default:
					name, _ := filepath.Rel("../../../shared/conformance", dir)
					if slices.Contains(must, filepath.ToSlash(name)) {
						t.Errorf("%s: %v", name, err)
					} else {
						refused["not on the list of package conformance"]++
					}
				}
			}
			t.Logf("%d of %d cases pass", passed, len(models))
			if passed < 840 {
				t.Errorf("%d cases pass; it was 846 once", passed)
			}
			var lines []string
			for r, n := range refused {
				lines = append(lines, fmt.Sprintf("%4d %s", n, r))
			}
			slices.Sort(lines)
			t.Log("refused:\n" + strings.Join(lines, "\n"))
		})
	}
}

func reason(err error) string {
	s := err.Error()
	if i := strings.Index(s, "(&ir."); i > 0 {
		s = s[:i]
	}
	return s[:min(len(s), 120)]
}
