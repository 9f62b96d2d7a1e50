package cuda

import (
	"errors"
	"fmt"
	"sort"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Kernel is a row: how one operator runs on the device.
type Kernel struct {
	Op   graph.OpID
	Name string
	// Accepts says why a node does not fit, from its types alone.
	Accepts func(*graph.Node, backends.Target) error
	// Lower submits the work for known shapes, or returns ErrFallback: the node then runs by its definition on the
	// host.
	Lower func(*Bind, *graph.Node) error
	// Over lists, per output, an input whose memory the output may take over: recurrent state.
	Over map[int]int
	// chain says how the node joins a chain of element-wise operators, nil when it does not.
	chain func(*graph.Node) (chainOp, bool)
}

// ErrFallback is what Lower returns for shapes that it does not cover.
var ErrFallback = errors.New("shapes that the kernel does not cover")

func onnxOp(name string, since int) graph.OpID { return graph.OpID{Name: name, Since: since} }
func ssmOp(name string) graph.OpID             { return graph.OpID{Domain: "ssm", Name: name, Since: 1} }

// table finds rows: the one with the highest version not above a node's.
type table struct{ rows map[[2]string][]*Kernel }

func newTable(families ...[]*Kernel) table {
	t := table{map[[2]string][]*Kernel{}}
	for _, f := range families {
		for _, k := range f {
			key := [2]string{k.Op.Domain, k.Op.Name}
			t.rows[key] = append(t.rows[key], k)
		}
	}
	for _, l := range t.rows {
		sort.SliceStable(l, func(a, b int) bool { return l[a].Op.Since > l[b].Op.Since })
	}
	return t
}

// choose gives the row for n, or why there is none.
func (t table) choose(n *graph.Node, target backends.Target) (*Kernel, error) {
	var since int
	var why error // of the last row of the version that counts
	for _, k := range t.rows[[2]string{n.Op.Domain, n.Op.Name}] {
		if k.Op.Since > n.Op.Since || why != nil && k.Op.Since != since {
			continue
		}
		if len(n.Bodies) > 0 {
			return nil, fmt.Errorf("it has a body")
		}
		if k.Accepts != nil {
			if err := k.Accepts(n, target); err != nil {
				since, why = k.Op.Since, fmt.Errorf("kernel %q: %w", k.Name, err)
				continue
			}
		}
		return k, nil
	}
	if why == nil {
		why = fmt.Errorf("no kernel for it")
	}
	return nil, why
}

// isReal reports the types that the kernels compute with in f32.
func isReal(d tensor.DType) bool {
	return d == tensor.Float32 || d == tensor.Float16 || d == tensor.BFloat16
}

// reals accepts nodes whose given inputs from the list (none: all), and whose outputs, are float, float16 or bfloat16 of known rank.
func reals(in ...int) func(*graph.Node, backends.Target) error {
	return func(n *graph.Node, _ backends.Target) error {
		if len(in) == 0 {
			for i := range n.In {
				if err := realInput(n, i); err != nil {
					return err
				}
			}
		}
		for _, i := range in {
			if err := realInput(n, i); err != nil {
				return err
			}
		}
		for i, v := range n.Out {
			if v != nil && !isReal(v.Type.DType) {
				return fmt.Errorf("output %d is %s", i, v.Type)
			}
		}
		return nil
	}
}

func realInput(n *graph.Node, i int) error {
	if v := n.Input(i); v != nil && (!isReal(v.Type.DType) || !v.Type.Ranked()) {
		return fmt.Errorf("input %d is %s", i, v.Type)
	}
	return nil
}

// movable accepts every type of whole bytes that a copy can move.
func movable(n *graph.Node, _ backends.Target) error {
	for i, v := range n.In {
		if i == 0 && v != nil && (v.Type.DType.Size() == 0 || v.Type.DType.IsContainer() || v.Type.DType == tensor.String || v.Type.DType.Bits()%8 != 0 || v.Type.DType.Size() > 8) {
			return fmt.Errorf("input is %s", v.Type)
		}
	}
	return nil
}
