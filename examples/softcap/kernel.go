package softcap

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/backends/cpu/vec"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// grain is the least number of elements worth a thread of its own.
const grain = 4096

// Kernel computes Op on float32. Without it the operator would run by its Eval.
var Kernel = &cpu.Kernel{
	Op:   Op.ID,
	Name: "softcap",
	Doc:  "division, vector tanh and product in one pass over the memory",
	Accepts: func(n *graph.Node, _ backends.Target) error {
		if d := n.In[0].Type.DType; d != tensor.Float32 {
			return fmt.Errorf("x is %s; the kernel computes float", d)
		}
		return nil
	},
	Over: map[int][]int{0: {0}},
	Lower: func(b *cpu.Bind, n *graph.Node) (cpu.Step, error) {
		x, y, limit := b.In(0), b.Out(0), n.Attrs.Float("cap", 0)
		// F32 is set before each run, so the step reads it when it runs.
		return b.Split(x.Len(), grain, func(lo, hi int) {
			dst := y.F32[lo:hi]
			vec.MulS(dst, x.F32[lo:hi], 1/limit)
			vec.Tanh(dst, dst)
			vec.MulS(dst, dst, limit)
		}), nil
	},
}
