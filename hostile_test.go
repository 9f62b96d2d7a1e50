package ssdc_test

import (
	"context"
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
	pb "github.com/ssdc-go/ssdc/importers/onnx/proto"
)

var hostile = flag.Int("hostile", 300, "how many damaged models TestHostileModels compiles and runs")
var hostileSeed = flag.Uint64("hostile-seed", 1, "the first of their seeds")

// Bounds for one damaged model of a few kilobytes.
const (
	hostileTime   = 20 * time.Second
	hostileMemory = 3 << 30
)

// extremes are what a damaged model holds in place of a length, an axis or an index.
var extremes = []int64{-1, 0, 1, 2, -2, 3, 7, 64, 1 << 20, 1<<31 - 1, 1 << 31, -1 << 31, 1 << 40, 1 << 62, math.MaxInt64, math.MinInt64}

// TestHostileModels: models with absurd attributes, shapes, constants and
// wiring end in an error or run, within bounds of time and memory, and none of
// them in a panic. They are small models of every kind, damaged at random.
func TestHostileModels(t *testing.T) {
	var files []string
	for _, pattern := range []string{"testdata/ops/*/*/model.onnx", "testdata/zoo/*/model.onnx", "../shared/conformance/onnx-node/*/model.onnx"} {
		list, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, list...)
	}
	count := *hostile
	if testing.Short() {
		count = min(count, 60)
	}
	dir := t.TempDir()
	ran := 0
	for i := range count {
		seed := *hostileSeed + uint64(i)
		r := rand.New(rand.NewPCG(seed, 99))
		file := files[r.IntN(len(files))]
		m := readModel(t, file)
		var damage []string
		for range 1 + r.IntN(2) {
			if d := harm(r, m.Graph); d != "" {
				damage = append(damage, d)
			}
		}
		what := fmt.Sprintf("-hostile-seed %d: %s with %s", seed, file, strings.Join(damage, ", "))
		if os.Getenv("HOSTILE_LOG") != "" {
			fmt.Fprintln(os.Stderr, what)
		}
		b, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "model.onnx")
		if err := os.WriteFile(path, b, 0o666); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		err = attempt(path, m.Graph, r)
		runtime.ReadMemStats(&after)
		if err == nil {
			ran++
		} else if s := err.Error(); strings.Contains(s, "runtime error") || strings.Contains(s, "panic") {
			t.Errorf("%s\n%v", what, err)
		}
		if d := time.Since(start); d > hostileTime {
			t.Errorf("%s\ntook %v", what, d)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > hostileMemory {
			t.Errorf("%s\nallocated %d MB", what, n>>20)
		}
	}
	t.Logf("%d of %d ran", ran, count)
}

func readModel(t *testing.T, path string) *pb.ModelProto {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	m := &pb.ModelProto{}
	if err := proto.Unmarshal(b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

// attempt compiles and runs a model on zeros of the shapes it declares.
func attempt(path string, g *pb.GraphProto, r *rand.Rand) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), hostileTime)
	defer cancel()
	o := ssdc.Options{NoStates: true, Threads: 2, NoOpt: r.IntN(3) == 0}
	if r.IntN(4) == 0 {
		o.Target = "ref"
	}
	m, err := ssdc.Compile(ctx, path, o)
	if err != nil {
		return err
	}
	defer m.Close()
	s, err := m.NewSession()
	if err != nil {
		return err
	}
	in := map[string]*tensor.Tensor{}
	for _, v := range g.Input {
		tt := v.GetType().GetTensorType()
		if tt == nil {
			return fmt.Errorf("%s is no tensor", v.GetName())
		}
		d, ok := map[int32]tensor.DType{1: tensor.Float32, 2: tensor.Uint8, 3: tensor.Int8, 6: tensor.Int32, 7: tensor.Int64, 9: tensor.Bool, 11: tensor.Float64}[tt.GetElemType()]
		if !ok {
			return fmt.Errorf("%s is of type %d", v.GetName(), tt.GetElemType())
		}
		shape, n := []int{}, int64(1)
		for _, d := range tt.GetShape().GetDim() {
			k := int64(2)
			if x, ok := d.GetValue().(*pb.TensorShapeProto_Dimension_DimValue); ok {
				k = x.DimValue
			}
			if k < 0 || k > 1<<16 || n*k > 1<<22 {
				return fmt.Errorf("%s is too large", v.GetName())
			}
			shape, n = append(shape, int(k)), n*k
		}
		x := tensor.New(d, shape...)
		for i := range x.Len() {
			if d.IsFloat() {
				x.SetAt(i, r.NormFloat64())
			} else {
				x.SetIntAt(i, int64(r.IntN(2)))
			}
		}
		in[v.GetName()] = x
	}
	_, err = s.Run(ctx, in)
	return err
}

// harm does one kind of damage and says which.
func harm(r *rand.Rand, g *pb.GraphProto) string {
	if len(g.Node) == 0 {
		return ""
	}
	extreme := func() int64 { return extremes[r.IntN(len(extremes))] }
	n := g.Node[r.IntN(len(g.Node))]
	switch r.IntN(9) {
	case 0, 1: // an attribute
		if len(n.Attribute) == 0 {
			return ""
		}
		a := n.Attribute[r.IntN(len(n.Attribute))]
		x := extreme()
		switch {
		case len(a.Ints) > 0:
			a.Ints[r.IntN(len(a.Ints))] = x
			if r.IntN(3) == 0 {
				a.Ints = append(a.Ints, x)
			}
		case a.GetType() == pb.AttributeProto_FLOAT:
			f := []float32{float32(math.NaN()), float32(math.Inf(1)), -1, 0, 3e38}[r.IntN(5)]
			a.F = f
		case a.GetType() == pb.AttributeProto_INT:
			a.I = x
		default:
			return ""
		}
		return fmt.Sprintf("%s of %s an extreme", a.GetName(), n.GetOpType())
	case 2, 3: // a constant
		if len(g.Initializer) == 0 {
			return ""
		}
		c := g.Initializer[r.IntN(len(g.Initializer))]
		x := extreme()
		switch {
		case len(c.Int64Data) > 0:
			c.Int64Data[r.IntN(len(c.Int64Data))] = x
		case len(c.RawData) >= 8:
			at := r.IntN(len(c.RawData)/8) * 8
			for i := range 8 {
				c.RawData[at+i] = byte(x >> (8 * i))
			}
		default:
			return ""
		}
		return fmt.Sprintf("an extreme in %s", c.GetName())
	case 4: // a constant's shape
		if len(g.Initializer) == 0 {
			return ""
		}
		c := g.Initializer[r.IntN(len(g.Initializer))]
		if len(c.Dims) == 0 || r.IntN(3) == 0 {
			c.Dims = append(c.Dims, 1)
		} else {
			c.Dims[r.IntN(len(c.Dims))] = extreme()
		}
		return fmt.Sprintf("%s of shape %v", c.GetName(), c.Dims)
	case 5: // an input's shape
		if len(g.Input) == 0 {
			return ""
		}
		dims := g.Input[r.IntN(len(g.Input))].GetType().GetTensorType().GetShape().GetDim()
		if len(dims) == 0 {
			return ""
		}
		x := extreme()
		if r.IntN(2) == 0 {
			x = int64(r.IntN(9))
		}
		dims[r.IntN(len(dims))].Value = &pb.TensorShapeProto_Dimension_DimValue{DimValue: x}
		return fmt.Sprintf("an input's axis of %d", x)
	case 6: // a missing operand
		if len(n.Input) == 0 {
			return ""
		}
		i := r.IntN(len(n.Input))
		if r.IntN(2) == 0 {
			n.Input = n.Input[:i]
		} else {
			n.Input[i] = ""
		}
		return fmt.Sprintf("%s without input %d", n.GetOpType(), i)
	case 7: // other wiring: a cycle, too
		if len(n.Input) == 0 {
			return ""
		}
		m := g.Node[r.IntN(len(g.Node))]
		from := append(append([]string{}, m.Input...), m.Output...)
		i := r.IntN(len(n.Input))
		n.Input[i] = from[r.IntN(len(from))]
		return fmt.Sprintf("input %d of %s from %s", i, n.GetOpType(), m.GetOpType())
	default: // another operator
		m := g.Node[r.IntN(len(g.Node))]
		other := []string{m.GetOpType(), "Reshape", "Expand", "Tile", "Pad", "Range", "Resize", "ConstantOfShape", "OneHot", "TopK", "Split", "Conv", "LSTM", "Einsum"}
		op := other[r.IntN(len(other))]
		was := n.GetOpType()
		n.OpType = op
		return fmt.Sprintf("%s for %s", op, was)
	}
}
