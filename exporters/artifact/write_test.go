package artifact

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ssdc-go/ssdc/backends"
	format "github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/backends/ref"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/ops/onnx"
	"github.com/ssdc-go/ssdc/ops/ssm"
)

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

func randn(r *rand.Rand, shape ...int) *tensor.Tensor {
	t := tensor.New(tensor.Float32, shape...)
	for i := range t.Len() {
		tensor.Of[float32](t)[i] = float32(r.NormFloat64())
	}
	return t
}

// mlp has packed and plain, inline and stored constants.
func mlp(t testing.TB, table *ops.Table, hidden int) *graph.Graph {
	t.Helper()
	r := rand.New(rand.NewPCG(1, 2))
	g := graph.New("mlp")
	b := ops.NewBuilder(table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(40)))
	h := b.Op("Add", nil, b.Op("MatMul", nil, x, b.Const(randn(r, 40, hidden))), b.Const(randn(r, hidden)))
	h = b.Op("Mul", nil, h, b.Const(randn(r, 1)))
	y := b.SSM("Linear", graph.Attrs{"activation": "silu"}, h, b.Const(randn(r, hidden, 7)), b.Const(randn(r, 7)))
	if b.Err != nil {
		t.Fatal(b.Err)
	}
	y.Name = "y"
	g.AddOutput(y)
	return g
}

func compile(t testing.TB, b backends.Backend, g *graph.Graph) *backends.Plan {
	t.Helper()
	p, err := b.Compile(g, backends.Target{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func contents(t testing.TB, table *ops.Table, hidden int) *Contents {
	g := mlp(t, table, hidden)
	return &Contents{
		Meta:    format.Meta{Producer: "ssdc test", Source: "mlp.onnx"},
		Plans:   []*backends.Plan{compile(t, cpu.New(table), g), compile(t, ref.New(table), g)},
		Remarks: "fuse: Linear: done\n",
	}
}

func TestRoundTrip(t *testing.T) {
	table := opTable(t)
	c := contents(t, table, 64)
	path := filepath.Join(t.TempDir(), "mlp.ssda")
	if err := Write(path, c); err != nil {
		t.Fatal(err)
	}
	f, err := format.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Verify(); err != nil {
		t.Error(err)
	}
	if f.Remarks() != c.Remarks || f.Meta.Producer != "ssdc test" || len(f.Meta.Inputs) != 1 || f.Meta.Inputs[0].Type != "float[B,40]" {
		t.Errorf("META is %+v", f.Meta)
	}
	in := map[string]*tensor.Tensor{"x": randn(rand.New(rand.NewPCG(3, 3)), 3, 40)}
	var results [][]byte
	for i, b := range []backends.Backend{cpu.New(table), ref.New(table)} {
		p, err := f.Plan(b.Name(), table)
		if err != nil {
			t.Fatal(err)
		}
		for _, plan := range []struct {
			p *backends.Plan
			w backends.Weights
		}{{c.Plans[i], nil}, {p, f.For(b.Name())}} {
			e, err := b.Open(plan.p, plan.w)
			if err != nil {
				t.Fatal(err)
			}
			s, err := e.NewSession()
			if err != nil {
				t.Fatal(err)
			}
			out, err := s.Run(context.Background(), in, nil)
			if err != nil {
				t.Fatal(err)
			}
			results = append(results, bytes.Clone(out["y"].Data))
			e.Close()
		}
	}
	if !bytes.Equal(results[0], results[1]) || !bytes.Equal(results[2], results[3]) {
		t.Error("a plan from the file computes something else than the plan in memory")
	}
	if _, err := f.Plan("cuda", table); err == nil || !strings.Contains(err.Error(), "--target=cuda") {
		t.Errorf("plan for a missing target: %v", err)
	}
	// The packed matrix is not stored a second time for the CPU.
	for _, w := range f.Weights {
		if w.Target == "cpu" && w.Layout == "" && len(w.Shape) == 2 {
			t.Errorf("weight %s of cpu is stored row-major", w.Name)
		}
	}
}

func TestUnpack(t *testing.T) {
	table := opTable(t)
	c := contents(t, table, 33)
	b := cpu.New(table)
	p := c.Plans[0]
	consts := map[string]*tensor.Tensor{}
	for _, v := range p.Graph.Constants() {
		consts[v.Name] = v.Const
	}
	for _, w := range p.Weights {
		stored, err := w.Load()
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Unpack(p, w.Name, w.Layout, stored)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Data, consts[w.Name].Data) {
			t.Errorf("%s in layout %q does not unpack to what it was", w.Name, w.Layout)
		}
	}
}

// TestRecompile: an artifact has all that is needed to compile it again.
func TestRecompile(t *testing.T) {
	table := opTable(t)
	c := contents(t, table, 33)
	dir := t.TempDir()
	b := cpu.New(table)
	var files [][]byte
	g := c.Plans[0].Graph
	for i := range 2 {
		path := filepath.Join(dir, strings.Repeat("m", i+1)+".ssda")
		if err := Write(path, &Contents{Plans: []*backends.Plan{compile(t, b, g)}}); err != nil {
			t.Fatal(err)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, data)
		f, err := format.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if g, err = f.Graph("cpu", table, b.Unpack); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(files[0], files[1]) {
		t.Error("compiling an artifact again gives another file")
	}
}

func TestDeterministic(t *testing.T) {
	table := opTable(t)
	dir := t.TempDir()
	var first []byte
	for range 5 {
		path := filepath.Join(dir, "m.ssda")
		if err := Write(path, contents(t, table, 64)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = b
		}
		if !bytes.Equal(b, first) {
			t.Fatal("two files of one model differ")
		}
	}
	if names, _ := filepath.Glob(filepath.Join(dir, "*")); len(names) != 1 {
		t.Errorf("left behind: %v", names)
	}
}

func written(t testing.TB) []byte {
	t.Helper()
	path := filepath.Join(t.TempDir(), "m.ssda")
	if err := Write(path, contents(t, opTable(t), 48)); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return aligned(b)
}

func aligned(b []byte) []byte {
	a := tensor.AlignedBytes(len(b))
	copy(a, b)
	return a
}

func TestDamage(t *testing.T) {
	table := opTable(t)
	good := written(t)
	for n := 0; n < len(good); n += 97 {
		if _, err := format.Parse(aligned(good[:n])); err == nil {
			t.Fatalf("opened the first %d of %d bytes", n, len(good))
		}
	}
	if _, err := format.Parse(append(aligned(good), 0)); err == nil {
		t.Error("opened a file with something appended")
	}
	f, err := format.Parse(good)
	if err != nil {
		t.Fatal(err)
	}
	// inWeights tells the bytes of WEIGHTS, and of those the ones between tensors.
	inWeights := func(i int) (inside, between bool) {
		for _, s := range f.Sections {
			if s.Name != format.SecWeights || uint64(i) < s.Offset || uint64(i) >= s.Offset+s.Size {
				continue
			}
			for _, w := range f.Weights {
				if at := uint64(i) - s.Offset; at >= w.Offset && at < w.Offset+w.Size {
					return true, false
				}
			}
			return true, true
		}
		return false, false
	}
	inSection := func(i int) bool {
		if i < format.HeaderSize+len(f.Sections)*format.EntrySize {
			return true
		}
		for _, s := range f.Sections {
			if uint64(i) >= s.Offset && uint64(i) < s.Offset+s.Size {
				return true
			}
		}
		return false
	}
	for i := 0; i < len(good); i += 31 {
		if !inSection(i) {
			continue
		}
		bad := aligned(good)
		bad[i] ^= 0x10
		g, err := format.Parse(bad)
		if weight, between := inWeights(i); !weight {
			if err == nil {
				t.Fatalf("opened a file with byte %d flipped", i)
			}
		} else if between {
			continue
		} else if err != nil || g.Verify() == nil {
			t.Fatalf("byte %d of the weights flipped: open %v, and Verify does not see it", i, err)
		}
	}
	newer := aligned(good)
	binary.LittleEndian.PutUint16(newer[8:], 2)
	if _, err := format.Parse(newer); err == nil || !strings.Contains(err.Error(), "format 2.0") || !strings.Contains(err.Error(), "reads 1.x") || !strings.Contains(err.Error(), "ssdc compile") {
		t.Errorf("newer format: %v", err)
	}
	if _, err := f.Plan("cpu", &ops.Table{}); err == nil || !strings.Contains(err.Error(), "unknown operator") {
		t.Errorf("plan without operators: %v", err)
	}
	_ = table
}

// TestOpensQuickly: opening does not read the weights.
func TestOpensQuickly(t *testing.T) {
	table := opTable(t)
	g := graph.New("large")
	b := ops.NewBuilder(table, g)
	x := g.AddInput("x", graph.T(tensor.Float32, graph.Sym("B"), graph.D(4096)))
	w := tensor.New(tensor.Float32, 4096, 8192) // 128 MB
	y := b.Op("MatMul", nil, x, b.Const(w))
	g.AddOutput(y)
	path := filepath.Join(t.TempDir(), "large.ssda")
	if err := Write(path, &Contents{Plans: []*backends.Plan{compile(t, cpu.New(table), g)}}); err != nil {
		t.Fatal(err)
	}
	best := time.Hour
	for range 5 {
		start := time.Now()
		f, err := format.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		p, err := f.Plan("cpu", table)
		if err != nil {
			t.Fatal(err)
		}
		e, err := cpu.New(table).Open(p, f.For("cpu"))
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, time.Since(start))
		e.Close()
		f.Close()
	}
	t.Logf("opening %d MB takes %v", w.Len()*4>>20, best)
	if best > 20*time.Millisecond {
		t.Errorf("opening takes %v", best)
	}
}

func FuzzOpen(f *testing.F) {
	table := opTable(f)
	good := written(f)
	f.Add(good)
	f.Add(good[:200])
	f.Add([]byte(format.Magic))
	f.Fuzz(func(t *testing.T, data []byte) {
		data = aligned(data)
		if a, err := format.Parse(data); err == nil {
			_ = a.Verify()
		}
		reseal(data) // an attacker can compute sums, too
		a, err := format.Parse(data)
		if err != nil {
			return
		}
		_ = a.Verify()
		for _, target := range a.Targets() {
			p, err := a.Plan(target, table)
			if err != nil {
				continue
			}
			if e, err := cpu.New(table).Open(p, a.For(target)); err == nil {
				e.Close()
			}
		}
	})
}

// reseal makes the sums and sizes of a damaged file fit, as far as it has a
// section table.
func reseal(b []byte) {
	if len(b) < format.HeaderSize {
		return
	}
	le := binary.LittleEndian
	n := int(le.Uint32(b[24:]) % 32)
	end := format.HeaderSize + n*format.EntrySize
	if end > len(b) {
		return
	}
	for i := range n {
		e := b[format.HeaderSize+i*format.EntrySize:][:format.EntrySize]
		off, size := le.Uint64(e[32:]), le.Uint64(e[40:])
		if off <= uint64(len(b)) && size <= uint64(len(b))-off {
			sum := sha256.Sum256(b[off : off+size])
			copy(e[48:], sum[:])
		}
	}
	h := format.Header{Major: format.Major, Minor: format.Minor, FileSize: uint64(len(b)), Sections: uint32(n), TableSum: sha256.Sum256(b[format.HeaderSize:end])}
	copy(b, h.Encode())
}
