package ssdc_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/plugin"
)

// kin are operators that stand for each other in a mutation: the same inputs,
// other numbers.
var kin = [][]string{
	{"Exp", "Softplus", "Sigmoid", "Tanh", "Neg", "Relu", "Identity"},
	{"Add", "Sub", "Mul", "Max"},
	{"ReduceSum", "ReduceMean", "ReduceMax"},
	{"Greater", "GreaterOrEqual", "Less", "LessOrEqual"},
}

// mutate changes one thing in g and says what, or "" when the draw has no effect.
func mutate(table *ops.Table, r *rand.Rand, g *graph.Graph) string {
	var nodes []*graph.Node
	g.Walk(func(n *graph.Node) { nodes = append(nodes, n) })
	n := nodes[r.IntN(len(nodes))]
	for range 4 { // arithmetic on shapes matters less: draw again
		if n.Out[0].Known == nil && n.Op.Name != "Constant" {
			break
		}
		n = nodes[r.IntN(len(nodes))]
	}
	switch r.IntN(10) {
	case 0, 1: // another operator
		for _, family := range kin {
			if i := slices.Index(family, n.Op.Name); i >= 0 && n.Op.Domain == "" {
				to := family[(i+1+r.IntN(len(family)-1))%len(family)]
				row := table.Resolve("", to, max(n.Op.Since, 18))
				if row == nil {
					return ""
				}
				was := n.Op
				n.Op = row.ID
				return fmt.Sprintf("%s: %s becomes %s", n, was, to)
			}
		}
	case 2: // operands exchanged
		if len(n.In) >= 2 && n.In[0] != nil && n.In[1] != nil && n.In[0] != n.In[1] {
			i := r.IntN(len(n.In) - 1)
			a, b := n.In[i], n.In[i+1]
			n.SetIn(i, b)
			n.SetIn(i+1, a)
			return fmt.Sprintf("%s: operands %d and %d exchanged", n, i, i+1)
		}
	case 3, 4: // attributes
		names := n.Attrs.Names()
		if len(names) == 0 {
			return ""
		}
		name := names[r.IntN(len(names))]
		was := n.Attrs[name]
		switch a := was.(type) {
		case int64:
			n.Attrs[name] = []int64{1 - a, a - 1, a + 1}[r.IntN(3)]
		case float32:
			n.Attrs[name] = a*1.5 + 0.01
		case []int64:
			if len(a) == 0 {
				return ""
			}
			c := slices.Clone(a)
			if i, j := r.IntN(len(c)), r.IntN(len(c)); r.IntN(2) == 0 {
				c[i], c[j] = c[j], c[i]
			} else {
				c[i]++
				c[j]--
			}
			n.Attrs[name] = c
		default:
			return ""
		}
		return fmt.Sprintf("%s: %s was %v, is %v", n, name, was, n.Attrs[name])
	case 5, 6: // one element of a constant
		for i, v := range n.In {
			if v == nil || v.Const == nil || v.Const.Len() == 0 || v.Const.DType.IsContainer() {
				continue
			}
			c := v.Const.Clone()
			at := r.IntN(c.Len())
			x := c.At(at)
			switch {
			case c.DType == tensor.Bool:
				c.SetIntAt(at, 1-c.IntAt(at))
			case c.DType.IsInt():
				c.SetIntAt(at, c.IntAt(at)+int64(1-2*r.IntN(2)))
			case math.IsInf(x, 0):
				c.SetAt(at, 0)
			default:
				c.SetAt(at, []float64{x + 0.25, x * 1.25, 0}[r.IntN(3)])
			}
			n.SetIn(i, g.AddConst("mutated", c))
			return fmt.Sprintf("%s: element %d of operand %d was %v, is %v", n, at, i, x, c.At(at))
		}
	case 7, 8: // another value of the same type in an operand's place
		if len(n.In) == 0 {
			return ""
		}
		i := r.IntN(len(n.In))
		v := n.In[i]
		if v == nil || v.Const != nil {
			return ""
		}
		var others []*graph.Value
		for _, w := range n.Graph.Inputs {
			if w != v && w.Type.Equal(v.Type) {
				others = append(others, w)
			}
		}
		for _, m := range n.Graph.Nodes {
			if m == n {
				break
			}
			for _, w := range m.Out {
				if w != nil && w != v && w.Type.Equal(v.Type) {
					others = append(others, w)
				}
			}
		}
		if len(others) == 0 {
			return ""
		}
		w := others[max(0, len(others)-1-r.IntN(12))]
		n.SetIn(i, w)
		return fmt.Sprintf("%s: operand %d (%s) is %s now", n, i, v.Name, w.Name)
	case 9: // an inner value is a result too, or a node is left out
		v := n.Out[0]
		if r.IntN(2) == 0 {
			if n.Graph == g && !v.IsOutput() {
				g.AddOutput(v)
				return n.String() + ": is an output too"
			}
			return ""
		}
		if len(n.In) > 0 && n.In[0] != nil && n.In[0].Def != nil && !v.IsOutput() && n.In[0].Type.Equal(v.Type) {
			v.ReplaceWith(n.In[0])
			return n.String() + ": left out"
		}
	}
	return ""
}

// mutation runs a mutated fixture at both levels. It returns what was done,
// whether results were compared, and how they disagree.
func mutation(set *plugin.Set, src *graph.Graph, seed uint64, in map[string]*tensor.Tensor) (what string, compared bool, err error) {
	r := rand.New(rand.NewPCG(seed, 41))
	g, _ := src.Clone()
	for range 1 + r.IntN(8)/7 {
		for range 40 {
			if what = mutate(set.Registry.Table, r, g); what != "" {
				break
			}
		}
	}
	if g.Sort() != nil {
		return what, false, nil
	}
	g.Sweep()
	if ops.InferGraph(set.Registry.Table, g) != nil || ops.Verify(set.Registry.Table, g) != nil {
		return what, false, nil
	}
	var out [2]map[string]*tensor.Tensor
	for level := range out {
		var m *model.Model
		if m, err = build(set, g, level); err != nil {
			if level == 0 {
				return what, false, nil
			}
			return what, false, fmt.Errorf("level %d does not compile: %w", level, err)
		}
		defer m.Close()
		s, err := m.NewSession()
		if err != nil {
			return what, false, err
		}
		if out[level], err = s.Run(context.Background(), in); err != nil {
			if level == 0 {
				return what, false, nil
			}
			return what, false, fmt.Errorf("level %d does not run: %w", level, err)
		}
	}
	for _, v := range g.Outputs {
		if err := near(out[1][v.Name], out[0][v.Name]); err != nil {
			return what, true, fmt.Errorf("output %s: %w", v.Name, err)
		}
	}
	return what, true, nil
}

// near compares by norm. Results that are not finite, or of a size at which
// rounding decides, are not compared.
func near(got, want *tensor.Tensor) error {
	if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
		return fmt.Errorf("got %s, want %s", got.TypeString(), want.TypeString())
	}
	var diff, norm float64
	for i := range want.Len() {
		a, b := got.At(i), want.At(i)
		if math.IsNaN(b) || math.Abs(b) > 1e6 {
			return nil
		}
		diff += (a - b) * (a - b)
		norm += b * b
	}
	if e := math.Sqrt(diff / max(norm, 1e-12)); !(e <= 1e-4) {
		return fmt.Errorf("relative error %.2e", e)
	}
	return nil
}

// TestMutations: fixtures in which one thing is changed compute the same with
// and without the passes. What looks like a Mamba layer and is none must not
// become one. MUTATIONS=from:n tries more of them per fixture, FIXTURE selects.
func TestMutations(t *testing.T) {
	set := standard(t)
	from, n, stride := uint64(0), uint64(4), 4
	if s := os.Getenv("MUTATIONS"); s != "" {
		stride = 1
		if _, err := fmt.Sscanf(s, "%d:%d", &from, &n); err != nil {
			t.Fatalf("MUTATIONS=%q: want FROM:N", s)
		}
	}
	dirs, err := filepath.Glob("testdata/models/*/meta.json")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	only := regexp.MustCompile(os.Getenv("FIXTURE"))
	tried, ran := 0, 0
	for i, meta := range dirs {
		dir := filepath.Dir(meta)
		if i%stride != 0 || !only.MatchString(filepath.Base(dir)) {
			continue
		}
		src, err := ssdc.Import(context.Background(), set, filepath.Join(dir, "model.onnx"), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(src.Graph.Nodes) > 1500 {
			continue // long unrolled traces
		}
		if readMeta(t, dir).Limit > 1e-4 {
			continue // float16 rounds by more than a mutation's difference may be
		}
		in, _, err := tensor.ReadNpz(filepath.Join(numbers(t, dir), "inputs.npz"))
		if err != nil {
			t.Fatal(err)
		}
		for seed := from; seed < from+n; seed++ {
			what, compared, err := mutation(set, src.Graph, seed+uint64(i)<<32, in)
			tried++
			if compared {
				ran++
			}
			if err != nil {
				t.Errorf("%s, mutation %d (%s): %v", filepath.Base(dir), seed, what, err)
			}
		}
	}
	t.Logf("%d mutations, %d of them ran", tried, ran)
	if 2*ran < tried {
		t.Errorf("only %d of %d mutations ran: too few to say anything", ran, tried)
	}
}
