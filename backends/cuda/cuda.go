// Package cuda runs plans on an NVIDIA GPU.
//
// Compile needs no GPU: it picks a kernel (a row, see Kernel) for every node, so that a model can be compiled on
// one machine and run on another. Open finds the device, loads the machine code (package kernels) and keeps the
// weights on the device, once for all sessions. The first Run with given input shapes binds the program to them, as on
// the CPU: lengths become numbers, values get offsets in one arena by their lifetimes, reshapes, transpositions, slices and
// expansions become strided views, chains of element-wise operators become one launch, and every node becomes a step.
// Recurrent state stays on the device and is updated in place where nobody else reads it. From the second Run on
// a program without host steps is replayed as a CUDA graph.
//
// A node without a kernel runs by its operator's definition on the host, with copies both ways: slow, but complete. What
// such a model pays is told by Session.Trace ("host").
//
// Models compute in their own types. Options of the target: compute=bf16 keeps what a float model has between its
// inputs, outputs and states as bfloat16 and multiplies on tensor cores; compute=tf32 rounds the operands of float products to 10
// bits; the default, f32, does neither. blas=off takes our own matrix products, search=on
// times cuBLASLt's algorithms for large products once for each length of a prompt, a second or two, and takes the fastest, graphs=off launches every time,
// overlap=off lets no kernel start before the one before it has ended, blocks=off keeps decoding blocks from being joined in one launch,
// rtc=on compiles all chains of element-wise operators where NVRTC is there and off none (auto: those of many elements), device=N picks a
// device.
//
// Files: kernel.go (the row), mem.go and params.go (memory, arguments), bind.go, place.go and views.go (from graph to
// program), session.go and state.go (running it), device.go (code and weights), kernels_*.go (the rows, by family).
package cuda

import (
	"cmp"
	"fmt"
	"strconv"

	"github.com/ssdc-go/ssdc/backends"
	panels "github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Backend is the CUDA backend.
type Backend struct {
	ops     *ops.Table
	kernels table
}

// New makes the backend; t defines the operators.
func New(t *ops.Table) *Backend {
	return &Backend{ops: t, kernels: newTable(quantKernels(), elementwiseKernels(), moveKernels(), rowKernels(), matmulKernels(), ssmKernels(), attentionKernels())}
}

// Name implements backends.Backend.
func (b *Backend) Name() string { return "cuda" }

// Supports implements backends.Backend: a node runs if it has a kernel or an Eval.
func (b *Backend) Supports(n *graph.Node, t backends.Target) error {
	k, why := b.kernels.choose(n, t)
	if k != nil {
		return nil
	}
	row, err := b.ops.Of(n)
	switch {
	case err != nil:
		return err
	case row.Eval != nil:
		return nil
	}
	return fmt.Errorf("%s: no reference implementation, and %w", n, why)
}

// KernelFor names the kernel that n would run on, or says why it has none.
func (b *Backend) KernelFor(n *graph.Node, t backends.Target) (string, error) {
	k, why := b.kernels.choose(n, t)
	if k != nil {
		return k.Name, nil
	}
	return "", why
}

// settings are the target's options, checked.
type settings struct {
	compute      string
	blas, graphs bool
	overlap      bool
	blocks       bool
	search       bool   // time cuBLASLt's algorithms
	rtc          string // which chains NVRTC compiles: auto, on, off
	device       int
}

func readSettings(t backends.Target) (settings, error) {
	s := settings{compute: "f32", blas: true, graphs: true, overlap: true, blocks: true, rtc: "auto"}
	for k, v := range t.Options {
		switch k {
		case "compute":
			if v != "f32" && v != "tf32" && v != "bf16" {
				return s, fmt.Errorf("option compute=%s: expected f32, tf32 or bf16", v)
			}
			s.compute = v
		case "blas", "graphs", "overlap", "blocks", "search":
			if v != "on" && v != "off" {
				return s, fmt.Errorf("option %s=%s: expected on or off", k, v)
			}
			*map[string]*bool{"blas": &s.blas, "graphs": &s.graphs, "overlap": &s.overlap, "blocks": &s.blocks, "search": &s.search}[k] = v == "on"
		case "rtc":
			if v != "auto" && v != "on" && v != "off" {
				return s, fmt.Errorf("option rtc=%s: expected auto, on or off", v)
			}
			s.rtc = v
		case "device":
			n, err := strconv.Atoi(v)
			if err != nil || n < 0 {
				return s, fmt.Errorf("option device=%s: expected the number of a device", v)
			}
			s.device = n
		default:
			return s, fmt.Errorf("option %s=%s: the cuda backend knows compute, blas, search, graphs, overlap, blocks, rtc and device", k, v)
		}
	}
	return s, nil
}

// Compile implements backends.Backend.
func (b *Backend) Compile(g *graph.Graph, t backends.Target) (*backends.Plan, error) {
	if err := g.Verify(); err != nil {
		return nil, err
	}
	if err := backends.CheckStates(g, t.States); err != nil {
		return nil, err
	}
	if _, err := readSettings(t); err != nil {
		return nil, err
	}
	if _, err := panels.ParseFormat(t.Weights); err != nil {
		return nil, err
	}
	p := &backends.Plan{Target: t, Graph: g, States: t.States}
	p.Target.Name = b.Name()
	seen := map[string]bool{}
	keep := func(v *graph.Value) {
		if v == nil || v.Const == nil || seen[v.Name] {
			return
		}
		c := v.Const
		if c.DType.IsContainer() || c.DType == tensor.String {
			return // printed with the graph
		}
		seen[v.Name] = true
		p.Weights = append(p.Weights, &backends.Weight{Name: v.Name, DType: c.DType, Shape: c.Shape, Load: func() (*tensor.Tensor, error) {
			if len(c.Data) != c.DType.Bytes(c.Len()) {
				return nil, fmt.Errorf("the plan holds no data of it")
			}
			return c, nil
		}})
	}
	for _, n := range g.Nodes {
		if err := b.Supports(n, t); err != nil {
			return nil, err
		}
		name := ""
		k, _ := b.kernels.choose(n, t)
		if k != nil {
			name = k.Name
		}
		p.Kernels = append(p.Kernels, name)
		m := packed(k, n, t)
		if m != nil && !seen[m.value.Name+" "+m.layout()] {
			seen[m.value.Name+" "+m.layout()] = true
			p.Weights = append(p.Weights, m.weight())
		}
		for _, v := range n.In {
			if m == nil || v != m.value {
				keep(v)
			}
		}
		for _, body := range n.Bodies {
			for _, v := range body.Constants() {
				keep(v)
			}
		}
	}
	for _, v := range g.Outputs {
		keep(v)
	}
	return p, nil
}

// Open implements backends.Backend.
func (b *Backend) Open(p *backends.Plan, w backends.Weights) (backends.Executable, error) {
	if len(p.Kernels) != len(p.Graph.Nodes) {
		return nil, fmt.Errorf("plan: %d kernels for %d nodes; compile the model again", len(p.Kernels), len(p.Graph.Nodes))
	}
	if err := backends.CheckStates(p.Graph, p.States); err != nil {
		return nil, err
	}
	s, err := readSettings(p.Target)
	if err != nil {
		return nil, err
	}
	if _, err := panels.ParseFormat(p.Target.Weights); err != nil {
		return nil, fmt.Errorf("plan: %w", err)
	}
	if w == nil {
		w = p.Own()
	}
	e := &executable{plan: p, ops: b.ops, weights: w, set: s, kernels: map[*graph.Node]*Kernel{}, matrices: map[*graph.Node]*matrix{}, captures: captures(p.Graph)}
	for i, n := range p.Graph.Nodes {
		if p.Kernels[i] == "" {
			if row, err := b.ops.Of(n); err != nil {
				return nil, err
			} else if row.Eval == nil {
				return nil, fmt.Errorf("%s: operator has no reference implementation", n)
			}
			continue
		}
		k, why := b.kernels.choose(n, p.Target)
		if k == nil || k.Name != p.Kernels[i] {
			return nil, fmt.Errorf("%s: the plan asks for kernel %q, which this program does not have (%v); compile the model again", n, p.Kernels[i], why)
		}
		e.kernels[n] = k
		if m := cmp.Or(packed(k, n, p.Target), inDigits(n)); m != nil {
			e.matrices[n] = m
		}
	}
	pair := func(name string, of func(backends.StatePair) string) int {
		for j, s := range p.States {
			if of(s) == name {
				return j
			}
		}
		return -1
	}
	for _, v := range p.Graph.Inputs {
		e.inputNames = append(e.inputNames, v.Name)
		e.stateOf = append(e.stateOf, pair(v.Name, func(s backends.StatePair) string { return s.In }))
	}
	for _, v := range p.Graph.Outputs {
		e.outputNames = append(e.outputNames, v.Name)
		e.nextOf = append(e.nextOf, pair(v.Name, func(s backends.StatePair) string { return s.Out }))
	}
	if e.dev, err = openDevice(s); err != nil {
		return nil, fmt.Errorf("cuda: %w", err)
	}
	return e, nil
}
