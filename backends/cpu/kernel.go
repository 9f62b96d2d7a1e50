package cpu

import (
	"fmt"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// Kernel is a fast implementation of an operator: one row of the table. Only
// Op, Name and Lower are required.
type Kernel struct {
	// Op is the operator; Since is the oldest version that the kernel computes.
	Op graph.OpID
	// Until is the newest such version; 0: any.
	Until int
	Name  string // unique among the kernels of an operator
	Doc   string
	// Accepts says why the kernel cannot run a node, judging by types and
	// attributes; lengths may be symbolic.
	Accepts func(n *graph.Node, t backends.Target) error
	// Pack lists the constant inputs that the kernel wants in a layout of its
	// own. They are packed at compile time and read with Bind.Packed.
	Pack func(n *graph.Node, t backends.Target) []Packing
	// Settings are the keys of Target.Options that the kernel reads with Bind.Option;
	// Compile refuses others.
	Settings []string
	// Rows says over how many leading axes input i may have its rows apart, as
	// part of wider rows; -1 means the input must be dense. A nil Rows: all dense.
	Rows func(n *graph.Node, i int) int
	// Over lists, per output, the inputs whose memory the kernel can write that
	// output to, when shape and dtype agree.
	Over map[int][]int
	// Tile, for element-wise kernels, returns a function that computes elements
	// [lo,hi) of output 0, or nil when these shapes do not allow that. Chains of
	// such nodes run together, a cache-sized tile at a time (tiles.go).
	Tile func(b *Bind, n *graph.Node) func(lo, hi int)
	// Blocks, for kernels that deal with images, says which operands may be in blocks
	// of channels (blocks.go): Mem.Blocks of In and Out then tells Lower. A kernel
	// that has a Tile needs none.
	Blocks func(b *Bind, n *graph.Node) (Blocking, bool)
	// Whole computes a node whose results have sizes that only the contents of its
	// inputs tell, in place of the definition. It may allocate, and the results may
	// not share the inputs' memory.
	Whole func(b *Bind, n *graph.Node) func(in []*tensor.Tensor) ([]*tensor.Tensor, error)
	// Lower makes the step for the shapes of the binding. The memory of In, Out
	// and Scratch is there only when the step runs. It may return ErrFallback.
	Lower func(b *Bind, n *graph.Node) (Step, error)
}

// Step computes one node. It must not allocate.
type Step func() error

// ErrFallback is returned by a Lower that does not want these shapes after
// all: the node then runs by its definition.
var ErrFallback = fmt.Errorf("cpu: kernel declines")

// Packing describes the packed form of a constant input.
type Packing struct {
	In     int
	Layout string // names the format for good: artifacts carry it
	DType  tensor.DType
	Shape  []int
	Pack   func(src *tensor.Tensor) (*tensor.Tensor, error)
	Unpack func(packed *tensor.Tensor, shape []int) (*tensor.Tensor, error)
}

// takes reports whether k is for the operator version of n.
func (k *Kernel) takes(o graph.OpID) bool {
	return k.Op.Domain == o.Domain && k.Op.Name == o.Name && k.Op.Since <= o.Since && (k.Until == 0 || o.Since <= k.Until)
}

// table lists kernels by operator name, in order of preference.
type table struct {
	rows   map[[2]string][]*Kernel
	source map[string]string
}

func (t *table) add(source string, first bool, rows ...*Kernel) error {
	for _, k := range rows {
		if k.Name == "" || k.Lower == nil {
			return fmt.Errorf("kernel %q for %s from %s has no name or no Lower", k.Name, k.Op, source)
		}
		id := k.Op.String() + "/" + k.Name
		if old, dup := t.source[id]; dup {
			return fmt.Errorf("kernel %s is defined by %s and by %s", id, old, source)
		}
		t.source[id] = source
		key := [2]string{k.Op.Domain, k.Op.Name}
		if first {
			t.rows[key] = append([]*Kernel{k}, t.rows[key]...)
		} else {
			t.rows[key] = append(t.rows[key], k)
		}
	}
	return nil
}

// choose returns the first kernel that accepts n, or nil and the reasons why not.
func (t *table) choose(n *graph.Node, tg backends.Target) (*Kernel, error) {
	var why error
	for _, k := range t.rows[[2]string{n.Op.Domain, n.Op.Name}] {
		if !k.takes(n.Op) {
			continue
		}
		if k.Accepts == nil {
			return k, nil
		}
		err := k.Accepts(n, tg)
		if err == nil {
			return k, nil
		}
		why = fmt.Errorf("kernel %s: %w", k.Name, err)
	}
	return nil, why
}

// named returns the kernel of that name for n, or nil.
func (t *table) named(n *graph.Node, name string) *Kernel {
	for _, k := range t.rows[[2]string{n.Op.Domain, n.Op.Name}] {
		if k.Name == name && k.takes(n.Op) {
			return k
		}
	}
	return nil
}

// settings lists what the kernels read of Target.Options.
func (t *table) settings() []string {
	var keys []string
	for _, rows := range t.rows {
		for _, k := range rows {
			keys = append(keys, k.Settings...)
		}
	}
	return keys
}
