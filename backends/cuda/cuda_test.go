package cuda

import (
	"context"
	"flag"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

// Tests run on the device of this machine. Where there is none they run on kernels/emulate/driver.cpp, a driver that
// executes the same kernels on the processor; it needs g++.

var noDevice string // why there is neither

func TestMain(m *testing.M) {
	os.Exit(func() int {
		if !driver.Built {
			noDevice = "built without cgo"
			return m.Run()
		}
		if lib := os.Getenv("SSDC_LIBCUDA"); lib != "" || exists("/dev/nvidia0") {
			return m.Run()
		}
		dir, err := os.MkdirTemp("", "ssdc-cuda")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		lib := filepath.Join(dir, "libcuda_emulated.so")
		if _, err := exec.LookPath("g++"); err != nil {
			noDevice = "no GPU, and no g++ to emulate one"
			return m.Run()
		}
		c := exec.Command("g++", "-std=c++17", "-O2", "-w", "-fPIC", "-shared", "-DSSDC_EMULATE", "kernels/emulate/driver.cpp", "-o", lib, "-ldl")
		if out, err := c.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the emulated driver: %v\n%s", err, out)
			return 1
		}
		os.Setenv("SSDC_LIBCUDA", lib)
		here, err := filepath.Abs("kernels")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		rtc := filepath.Join(dir, "libnvrtc_emulated.so")
		c = exec.Command("g++", "-std=c++17", "-O2", "-w", "-fPIC", "-shared", fmt.Sprintf("-DSSDC_KERNELS=%q", here), "kernels/emulate/nvrtc.cpp", "-o", rtc)
		if out, err := c.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building the emulated NVRTC: %v\n%s", err, out)
			return 1
		}
		os.Setenv("SSDC_LIBNVRTC", rtc)
		return m.Run()
	}())
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func needDevice(t testing.TB) {
	t.Helper()
	if noDevice != "" {
		t.Skip(noDevice)
	}
}

func opTable(t testing.TB) *ops.Table {
	t.Helper()
	table := &ops.Table{}
	if err := onnx.Register(table); err != nil {
		t.Fatal(err)
	}
	if err := ssm.Register(table); err != nil {
		t.Fatal(err)
	}
	return table
}

// distance is ||got-want|| / ||want|| over the finite elements; it fails where only one of both is finite.
func distance(got, want *tensor.Tensor) (float64, error) {
	if got.DType != want.DType || fmt.Sprint(got.Shape) != fmt.Sprint(want.Shape) {
		return 0, fmt.Errorf("got %s, want %s", got.TypeString(), want.TypeString())
	}
	if got.DType.IsContainer() || got.DType == tensor.String {
		return 0, nil
	}
	var diff, norm float64
	for i := range got.Len() {
		g, w := got.At(i), want.At(i)
		if math.IsNaN(g) && math.IsNaN(w) || g == w {
			norm += zeroIfNot(w * w)
			continue
		}
		if math.IsNaN(g) != math.IsNaN(w) || math.IsInf(g, 0) || math.IsInf(w, 0) {
			return 0, fmt.Errorf("element %d is %v, want %v", i, g, w)
		}
		diff += (g - w) * (g - w)
		norm += w * w
	}
	if norm == 0 {
		return math.Sqrt(diff), nil
	}
	return math.Sqrt(diff / norm), nil
}

func zeroIfNot(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// limit is how far results of a type may be from those of float64.
func limit(d tensor.DType) float64 {
	switch d {
	case tensor.BFloat16:
		return 1e-2
	case tensor.Float16:
		return 2e-3
	case tensor.Float32:
		return 1e-5
	}
	return 1e-12
}

func open(t testing.TB, g *graph.Graph, target backends.Target) (*executable, *backends.Plan) {
	t.Helper()
	needDevice(t)
	b := New(opTable(t))
	p, err := b.Compile(g, target)
	if err != nil {
		t.Fatal(err)
	}
	e, err := b.Open(p, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	return e.(*executable), p
}

func session_(t testing.TB, e *executable) *session {
	t.Helper()
	s, err := e.newSession()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// nodeGraph wraps one node.
func nodeGraph(table *ops.Table, id graph.OpID, attrs graph.Attrs, in []*tensor.Tensor, nOut int, konst func(i int, t *tensor.Tensor) bool) (*graph.Graph, map[string]*tensor.Tensor, error) {
	g := graph.New("case")
	feeds := map[string]*tensor.Tensor{}
	var vals []*graph.Value
	for i, x := range in {
		switch {
		case x == nil:
			vals = append(vals, nil)
		case konst(i, x):
			vals = append(vals, g.AddConst(fmt.Sprintf("c%d", i), x))
		default:
			name := fmt.Sprintf("x%d", i)
			vals = append(vals, g.AddInput(name, graph.TypeOf(x)))
			feeds[name] = x
		}
	}
	n := g.Add(id, attrs, vals, nOut, "y")
	n.TrimIn()
	if err := ops.InferNode(table, n); err != nil {
		return nil, nil, err
	}
	for _, v := range n.Out {
		g.AddOutput(v)
	}
	return g, feeds, nil
}

// TestCases runs every operator's cases against its definition, with small integers and matrices as constants and
// without, twice, so that the second run is a graph.
func TestCases(t *testing.T) {
	needDevice(t)
	table := opTable(t)
	b := New(table)
	onDevice := 0
	for _, row := range table.All() {
		if row.Eval == nil || row.Traits&ops.Random != 0 {
			continue
		}
		for ci, c := range row.Cases {
			for _, way := range []string{"constants", "inputs"} {
				name := fmt.Sprintf("%s-%d/%d/%s", row.ID.Name, row.ID.Since, ci, way)
				t.Run(name, func(t *testing.T) {
					nOut := max(c.NOut, 1)
					g, feeds, err := nodeGraph(table, row.ID, c.Attrs, c.In, nOut, func(i int, x *tensor.Tensor) bool {
						return way == "constants" && i > 0 && (!x.DType.IsFloat() || x.Rank() == 2)
					})
					if err != nil {
						t.Fatal("the case has no types: ", err)
					}
					n := g.Nodes[0]
					want, err := ops.Eval(context.Background(), table, n, c.In)
					if err != nil {
						t.Fatal("the case has no value: ", err)
					}
					p, err := b.Compile(g, backends.Target{})
					if err != nil {
						t.Fatal(err)
					}
					if p.Kernels[0] != "" {
						onDevice++
					}
					e, err := b.Open(p, nil)
					if err != nil {
						t.Fatal(err)
					}
					defer e.Close()
					s, err := e.NewSession()
					if err != nil {
						t.Fatal(err)
					}
					for round := range 3 {
						got, err := s.Run(context.Background(), feeds, nil)
						if err != nil {
							t.Fatal(err)
						}
						for i, v := range n.Out {
							d, err := distance(got[v.Name], want[i])
							lim := max(limit(want[i].DType), c.Rtol)
							if err != nil || !(d <= lim) {
								t.Errorf("run %d, output %d on %q: distance %.2e (%v)", round, i, p.Kernels[0], d, err)
							}
						}
					}
				})
			}
		}
	}
	if onDevice < 100 && flag.Lookup("test.run").Value.String() == "" {
		t.Errorf("only %d cases ran on the device", onDevice)
	}
}

// TestDescribe: one line says what was found.
func TestDescribe(t *testing.T) {
	text := Describe()
	if noDevice == "" && !strings.Contains(text, "sm_") {
		t.Errorf("Describe says %q", text)
	}
}
