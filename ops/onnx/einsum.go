package onnx

import (
	"fmt"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// einsumRows: Einsum, numpy's notation. The product over all operands is
// summed over the labels that the result lacks.
func einsumRows() []*ops.Op {
	a := tensor.From([]float32{1, 2, 3, 4, 5, 6}, 2, 3)
	return versions("Einsum", []int{12, 28}, ops.Op{
		Doc: "Einstein summation by the attribute equation; without -> the result has the labels that occur once, in alphabetical order",
		In:  params("Inputs..."), Out: params("Output"), Attrs: []ops.Attr{attr("equation", nil)},
		Infer: inferEinsum, Eval: evalEinsum,
		Cases: []ops.Case{
			{Name: "matmul", Attrs: graph.Attrs{"equation": "ij,jk->ik"}, In: []*tensor.Tensor{a, tensor.From([]float32{1, 0, 0, 1, 1, 1}, 3, 2)}, Want: one(tensor.From([]float32{4, 5, 10, 11}, 2, 2))},
			{Name: "row sums", Attrs: graph.Attrs{"equation": "ij->i"}, In: one(a), Want: one(tensor.From([]float32{6, 15}, 2))},
			{Name: "three operands", Attrs: graph.Attrs{"equation": "ij,ik,j->ik"}, In: []*tensor.Tensor{a, tensor.From([]float32{1, 2, 3, 4}, 2, 2), tensor.From([]float32{1, 1, 2}, 3)}, Want: one(tensor.From([]float32{9, 18, 63, 84}, 2, 2))},
			{Name: "diagonal", Attrs: graph.Attrs{"equation": "...ii->...i"}, In: one(tensor.From([]float32{1, 2, 3, 4}, 2, 2)), Want: one(tensor.From([]float32{1, 4}, 2))},
		},
	})
}

// label names an axis: a letter, or -1, -2, ... for the axes that an ellipsis
// stands for, counted from the last.
type label int

type equation struct {
	in  [][]label
	out []label
}

// parseEquation resolves an equation for operands of the given ranks.
func parseEquation(s string, ranks []int) (equation, error) {
	s = strings.ReplaceAll(s, " ", "")
	lhs, rhs, explicit := strings.Cut(s, "->")
	terms := strings.Split(lhs, ",")
	if len(terms) != len(ranks) {
		return equation{}, fmt.Errorf("equation %q has %d terms for %d inputs", s, len(terms), len(ranks))
	}
	var eq equation
	count := map[label]int{}
	dots := 0
	for i, t := range terms {
		n := ranks[i] - len(strings.Replace(t, "...", "", 1))
		if n < 0 || n > 0 && !strings.Contains(t, "...") {
			return equation{}, fmt.Errorf("equation %q: term %q does not fit an input of rank %d", s, t, ranks[i])
		}
		ls, err := parseTerm(t, n)
		if err != nil {
			return equation{}, fmt.Errorf("equation %q: %w", s, err)
		}
		dots = max(dots, n)
		for _, l := range ls {
			count[l]++
		}
		eq.in = append(eq.in, ls)
	}
	if !explicit {
		for n := dots; n > 0; n-- {
			eq.out = append(eq.out, label(-n))
		}
		for l := label('A'); l <= 'z'; l++ {
			if count[l] == 1 {
				eq.out = append(eq.out, l)
			}
		}
		return eq, nil
	}
	var err error
	if eq.out, err = parseTerm(rhs, dots); err != nil {
		return equation{}, fmt.Errorf("equation %q: %w", s, err)
	}
	seen := map[label]bool{}
	for _, l := range eq.out {
		if seen[l] || count[l] == 0 {
			return equation{}, fmt.Errorf("equation %q: label %q of the result is repeated or occurs in no input", s, rune(l))
		}
		seen[l] = true
	}
	return eq, nil
}

// parseTerm reads letters and at most one ellipsis, which stands for n axes.
func parseTerm(t string, n int) ([]label, error) {
	ls := []label{}
	for i := 0; i < len(t); i++ {
		switch ch := t[i]; {
		case strings.HasPrefix(t[i:], "..."):
			for ; n > 0; n-- {
				ls = append(ls, label(-n))
			}
			i += 2
		case ch >= 'a' && ch <= 'z' || ch >= 'A' && ch <= 'Z':
			ls = append(ls, label(ch))
		default:
			return nil, fmt.Errorf("unexpected %q in term %q", ch, t)
		}
	}
	return ls, nil
}

func inferEinsum(c *ops.Infer) error {
	ins := make([]int, len(c.Node.In))
	ranks := make([]int, len(ins))
	ranked := true
	for i := range ins {
		ins[i] = i
		ranks[i] = c.Type(i).Rank()
		ranked = ranked && c.Type(i).Ranked()
	}
	if err := same(c, numberTypes, ins...); err != nil {
		return err
	}
	text := c.Node.Attrs.Str("equation", "")
	if !ranked {
		if _, rhs, ok := strings.Cut(strings.ReplaceAll(text, " ", ""), "->"); ok && !strings.Contains(rhs, ".") {
			out := graph.T(c.Type(0).DType)
			for a := range len(rhs) {
				out.Shape = append(out.Shape, c.Fresh(0, a))
			}
			c.Out(0, out)
			return nil
		}
		c.Out(0, unranked(c.Type(0).DType))
		return nil
	}
	eq, err := parseEquation(text, ranks)
	if err != nil {
		return err
	}
	dims := map[label]graph.Dim{}
	for i, ls := range eq.in {
		for a, l := range ls {
			d := c.Type(i).Shape[a]
			if old, seen := dims[l]; seen {
				var ok bool
				if d, ok = broadcastDim(old, d); !ok {
					return c.Errorf("equation %q: label of axis %d of input %d has lengths %v and %v", text, a, i, old, c.Type(i).Shape[a])
				}
			}
			dims[l] = d
		}
	}
	out := graph.T(c.Type(0).DType)
	for _, l := range eq.out {
		out.Shape = append(out.Shape, dims[l])
	}
	c.Out(0, out)
	return nil
}

func evalEinsum(c *ops.Call) ([]*tensor.Tensor, error) {
	ranks := make([]int, len(c.In))
	for i, t := range c.In {
		ranks[i] = t.Rank()
	}
	eq, err := parseEquation(c.Node.Attrs.Str("equation", ""), ranks)
	if err != nil {
		return nil, err
	}
	size := map[label]int{}
	for i, ls := range eq.in {
		for a, l := range ls {
			n := c.In[i].Shape[a]
			if old, seen := size[l]; seen && old != n && old != 1 && n != 1 {
				return nil, fmt.Errorf("equation %q: one label has lengths %d and %d", c.Node.Attrs.Str("equation", ""), old, n)
			} else if !seen || old == 1 {
				size[l] = n
			}
		}
	}
	shape := make([]int, len(eq.out))
	for a, l := range eq.out {
		shape[a] = size[l]
	}
	d := c.In[0].DType
	if d.IsFloat() {
		return one(fromFloats(d, contract(eq, size, c.In, floatsOf), shape...)), nil
	}
	return one(fromInts(d, contract(eq, size, c.In, intsOf), shape...)), nil
}

// operand is a tensor whose axes carry distinct labels. Labels of length 1 are
// left out.
type operand[T accumulator] struct {
	labels []label
	data   []T
}

func contract[T accumulator](eq equation, size map[label]int, in []*tensor.Tensor, read func(*tensor.Tensor) []T) []T {
	var todo []operand[T]
	for i, t := range in {
		todo = append(todo, load(eq.in[i], t.Shape, read(t)))
	}
	var final []label
	for _, l := range eq.out {
		if size[l] != 1 {
			final = append(final, l)
		}
	}
	for len(todo) > 1 {
		i, j := cheapestPair(todo, final, size)
		r := multiply(todo[i], todo[j], needed(todo, final, i, j), size)
		todo = append(todo[:j], todo[j+1:]...)
		todo[i] = r
	}
	return arrange(todo[0], final, size)
}

// load takes diagonals of repeated labels and drops axes of length 1.
func load[T accumulator](ls []label, shape []int, data []T) operand[T] {
	st := strides(shape)
	var o operand[T]
	var sizes, steps []int
	for a, l := range ls {
		if shape[a] == 1 {
			continue
		}
		k := indexOf(o.labels, l)
		if k < 0 {
			o.labels, sizes, steps = append(o.labels, l), append(sizes, shape[a]), append(steps, st[a])
		} else {
			steps[k] += st[a]
		}
	}
	o.data = gatherAt(data, sizes, steps)
	return o
}

func gatherAt[T any](data []T, sizes, steps []int) []T {
	out := make([]T, 0, product(sizes))
	walk(sizes, [][]int{steps}, func(off, step []int, n int) {
		if step[0] == 1 {
			out = append(out, data[off[0]:off[0]+n]...)
			return
		}
		for i := range n {
			out = append(out, data[off[0]+i*step[0]])
		}
	})
	return out
}

func indexOf(ls []label, l label) int {
	for i, x := range ls {
		if x == l {
			return i
		}
	}
	return -1
}

// needed are the labels that must survive the product of operands i and j.
func needed[T accumulator](todo []operand[T], final []label, i, j int) map[label]bool {
	keep := map[label]bool{}
	for _, l := range final {
		keep[l] = true
	}
	for k, o := range todo {
		if k != i && k != j {
			for _, l := range o.labels {
				keep[l] = true
			}
		}
	}
	return keep
}

// cheapestPair picks the pair whose product takes the fewest multiplications.
func cheapestPair[T accumulator](todo []operand[T], final []label, size map[label]int) (int, int) {
	bi, bj, best := 0, 1, -1.0
	for i := range todo {
		for j := i + 1; j < len(todo); j++ {
			cost, seen := 1.0, map[label]bool{}
			for _, l := range append(append([]label{}, todo[i].labels...), todo[j].labels...) {
				if !seen[l] {
					cost *= float64(size[l])
					seen[l] = true
				}
			}
			if best < 0 || cost < best {
				bi, bj, best = i, j, cost
			}
		}
	}
	return bi, bj
}

// multiply forms the product as a batch of matrix products: labels in both
// operands are batch (kept) or summed; the others are rows or columns.
func multiply[T accumulator](x, y operand[T], keep map[label]bool, size map[label]int) operand[T] {
	x, y = sumAway(x, y.labels, keep, size), sumAway(y, x.labels, keep, size)
	var batch, sum, rows, cols []label
	for _, l := range x.labels {
		switch {
		case indexOf(y.labels, l) < 0:
			rows = append(rows, l)
		case keep[l]:
			batch = append(batch, l)
		default:
			sum = append(sum, l)
		}
	}
	for _, l := range y.labels {
		if indexOf(x.labels, l) < 0 {
			cols = append(cols, l)
		}
	}
	total := func(ls []label) int { return product(sizesOf(ls, size)) }
	nb, m, k, n := total(batch), total(rows), total(sum), total(cols)
	a := arrange(x, joinLabels(batch, rows, sum), size)
	b := arrange(y, joinLabels(batch, sum, cols), size)
	out := make([]T, nb*m*n)
	for i := range nb {
		gemm(m, n, k, a[i*m*k:(i+1)*m*k], b[i*k*n:(i+1)*k*n], out[i*m*n:(i+1)*m*n])
	}
	return operand[T]{joinLabels(batch, rows, cols), out}
}

func joinLabels(lists ...[]label) []label {
	var out []label
	for _, l := range lists {
		out = append(out, l...)
	}
	return out
}

func sizesOf(ls []label, size map[label]int) []int {
	out := make([]int, len(ls))
	for i, l := range ls {
		out[i] = size[l]
	}
	return out
}

// sumAway sums x over its labels that neither the partner nor anybody later needs.
func sumAway[T accumulator](x operand[T], partner []label, keep map[label]bool, size map[label]int) operand[T] {
	var stay []label
	for _, l := range x.labels {
		if keep[l] || indexOf(partner, l) >= 0 {
			stay = append(stay, l)
		}
	}
	if len(stay) == len(x.labels) {
		return x
	}
	return operand[T]{stay, arrange(x, stay, size)}
}

// arrange transposes x to the given label order and sums over its other labels.
func arrange[T accumulator](x operand[T], order []label, size map[label]int) []T {
	shape := sizesOf(x.labels, size)
	st := strides(shape)
	var ks, kst, rs, rst []int
	for _, l := range order {
		ks, kst = append(ks, size[l]), append(kst, st[indexOf(x.labels, l)])
	}
	for a, l := range x.labels {
		if indexOf(order, l) < 0 {
			rs, rst = append(rs, shape[a]), append(rst, st[a])
		}
	}
	if len(rs) == 0 {
		return gatherAt(x.data, ks, kst)
	}
	inner := offsets(rs, rst)
	out := make([]T, 0, product(ks))
	walk(ks, [][]int{kst}, func(off, step []int, n int) {
		for i := range n {
			var s T
			for _, o := range inner {
				s += x.data[off[0]+i*step[0]+o]
			}
			out = append(out, s)
		}
	})
	return out
}
