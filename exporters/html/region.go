package html

import (
	"fmt"
	"sort"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
)

// maxNodes bounds a drawing; what lies further off is left out.
const maxNodes = 44

// maxOpen bounds the operands of a node that are drawn as open ends: a Concat
// of a traced loop has one per step.
const maxOpen = 8

// region is the part of a graph around a node, laid out in layers.
type region struct {
	nodes []*box
	edges []edge
	w, h  int
}

type box struct {
	n       *graph.Node // nil for an input or an open end
	v       *graph.Value
	label   string
	sub     string
	class   string // "mark", "at", "in", "control"
	id      int    // within the drawing
	x, y, w int
	layer   int
	order   float64
}

type edge struct {
	from, to *box
	label    string
}

// around draws the neighbourhood of a node: what computes it and what uses it,
// nearest first. Shape arithmetic is left out unless it is all there is.
func around(at *graph.Node, marked map[string]bool) *region {
	dist := map[*graph.Node]int{at: 0}
	queue := []*graph.Node{at}
	for len(queue) > 0 && len(dist) < maxNodes {
		n := queue[0]
		queue = queue[1:]
		visit := func(m *graph.Node) {
			if m == nil || m.Graph != at.Graph || len(dist) >= maxNodes || shapeOnly(m) {
				return
			}
			if _, ok := dist[m]; !ok {
				dist[m] = dist[n] + 1
				queue = append(queue, m)
			}
		}
		for _, v := range n.In {
			if v != nil {
				visit(v.Def)
			}
		}
		for _, v := range n.Out {
			if v == nil {
				continue
			}
			for _, u := range v.Uses {
				visit(u.Node)
			}
		}
	}
	return draw(at.Graph, dist, at, marked)
}

// whole draws a body, as far as it fits.
func whole(g *graph.Graph, marked map[string]bool) *region {
	pick := map[*graph.Node]int{}
	for _, n := range g.Nodes {
		if len(pick) < maxNodes && !shapeOnly(n) {
			pick[n] = 0
		}
	}
	return draw(g, pick, nil, marked)
}

func shapeOnly(n *graph.Node) bool {
	for _, v := range n.Out {
		if v != nil && !(v.Type.DType == tensor.Int64 && v.Type.Rank() <= 1) {
			return false
		}
	}
	return true
}

func draw(g *graph.Graph, pick map[*graph.Node]int, at *graph.Node, marked map[string]bool) *region {
	r := &region{}
	boxes := map[*graph.Node]*box{}
	ends := map[*graph.Value]*box{}
	for i, n := range g.Nodes {
		if _, ok := pick[n]; !ok {
			continue
		}
		b := &box{n: n, label: n.Op.Name, order: float64(i)}
		if n.Op.Domain != "" {
			b.label = n.Op.Domain + "." + b.label
		}
		for _, v := range n.Out {
			if v != nil {
				b.sub = v.Type.String()
				break
			}
		}
		switch {
		case marks(n, marked):
			b.class = "mark"
		case n == at:
			b.class = "at"
		case len(n.Bodies) > 0:
			b.class = "control"
		}
		boxes[n] = b
		r.nodes = append(r.nodes, b)
		open, more := 0, (*box)(nil)
		for _, v := range n.In {
			if v == nil || v.Const != nil || v.Def != nil && shapeOnly(v.Def) {
				continue
			}
			from := boxes[v.Def]
			if v.Def == nil || from == nil {
				if from = ends[v]; from == nil && open >= maxOpen && !marked[v.Name] {
					if more == nil {
						more = &box{v: v, sub: "operands", class: "in", order: float64(i) - 0.5}
						r.nodes, r.edges = append(r.nodes, more), append(r.edges, edge{more, b, ""})
					}
					open++
					more.label = fmt.Sprintf("%d more", open-maxOpen)
					continue
				}
				if open++; from == nil {
					from = &box{v: v, label: v.Name, sub: v.Type.String(), class: "in", order: float64(i) - 0.5}
					if marked[v.Name] {
						from.class = "in mark"
					}
					ends[v] = from
					r.nodes = append(r.nodes, from)
				}
			}
			r.edges = append(r.edges, edge{from, b, v.Name})
		}
	}
	r.layout()
	return r
}

func marks(n *graph.Node, marked map[string]bool) bool {
	if marked[n.From] && n.From != "" {
		return true
	}
	for _, v := range n.Out {
		if v != nil && marked[v.Name] {
			return true
		}
	}
	return false
}

const (
	boxHeight = 38
	gapX      = 22
	gapY      = 44
	charWidth = 8
)

// layout puts each box one layer below the lowest of its operands, orders the
// layers by the mean of their neighbours' places, and centres them.
func (r *region) layout() {
	for i, b := range r.nodes {
		b.id = i
	}
	for range r.nodes { // longest paths; the graph is acyclic
		moved := false
		for _, e := range r.edges {
			if e.to.layer < e.from.layer+1 {
				e.to.layer, moved = e.from.layer+1, true
			}
		}
		if !moved {
			break
		}
	}
	for range 2 { // inputs stand right above what uses them
		for _, b := range r.nodes {
			if b.n != nil {
				continue
			}
			low := 1 << 30
			for _, e := range r.edges {
				if e.from == b {
					low = min(low, e.to.layer-1)
				}
			}
			if low < 1<<30 {
				b.layer = max(low, 0)
			}
		}
	}
	layers := map[int][]*box{}
	last := 0
	for _, b := range r.nodes {
		b.w = max(60, charWidth*max(len([]rune(clip(b.label, 26))), len([]rune(clip(b.sub, 30)))*5/6)+16)
		layers[b.layer] = append(layers[b.layer], b)
		last = max(last, b.layer)
	}
	for sweep := range 8 {
		for i := range last + 1 {
			k := i
			if sweep%2 == 1 {
				k = last - i
			}
			for _, b := range layers[k] {
				sum, n := 0.0, 0
				for _, e := range r.edges {
					switch {
					case sweep%2 == 0 && e.to == b:
						sum, n = sum+e.from.order, n+1
					case sweep%2 == 1 && e.from == b:
						sum, n = sum+e.to.order, n+1
					}
				}
				if n > 0 {
					b.order = sum / float64(n)
				}
			}
			sort.SliceStable(layers[k], func(i, j int) bool { return layers[k][i].order < layers[k][j].order })
			for j, b := range layers[k] {
				b.order = float64(j) - float64(len(layers[k]))/2
			}
		}
	}
	for _, l := range layers {
		w := -gapX
		for _, b := range l {
			w += b.w + gapX
		}
		r.w = max(r.w, w)
	}
	for k, l := range layers {
		w := -gapX
		for _, b := range l {
			w += b.w + gapX
		}
		x := (r.w - w) / 2
		for _, b := range l {
			b.x, b.y = x, k*(boxHeight+gapY)
			x += b.w + gapX
		}
	}
	r.h = last*(boxHeight+gapY) + boxHeight
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
