// Package html writes explanations as one page that needs nothing but a
// browser: what was fused, a card per miss with the region of the graph around
// it as a drawing, and the graph after every pass with what the pass changed.
package html

import (
	_ "embed"
	"fmt"
	"html"
	"io"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

//go:embed page.css
var style string

//go:embed page.js
var script string

// Page is what to show.
type Page struct {
	Title   string
	Summary []string
	Cards   []Card
	Done    []string // rewrites that were made
	Passes  []Pass
}

// Card tells of one candidate.
type Card struct {
	Title string
	Rows  []Row
	// Graph is where At, a value, is looked for; Marked names nodes or values to
	// show in colour.
	Graph  *graph.Graph
	At     string
	Marked []string
}

// Row is a label with a text; Code is set in a fixed-width font.
type Row struct{ Label, Text, Code string }

// Pass is the graph's text after a pass; equal to the one before, it is not shown.
type Pass struct {
	Name, Took, Text string
	Nodes            int
}

// Write writes the page to path.
func Write(path string, p *Page) error {
	return wholefile.Write(path, func(w io.Writer) error {
		_, err := io.WriteString(w, p.String())
		return err
	})
}

// String is the page.
func (p *Page) String() string {
	b := &strings.Builder{}
	fmt.Fprintf(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\n"+
		"<title>%s</title>\n<style>\n%s</style></head><body>\n<main>\n<h1>%s</h1>\n", esc(p.Title), style, esc(p.Title))
	for _, s := range p.Summary {
		fmt.Fprintf(b, "<p class=\"summary\">%s</p>\n", esc(s))
	}
	for i := range p.Cards {
		p.Cards[i].write(b, i+1)
	}
	if len(p.Done) > 0 {
		fmt.Fprintf(b, "<details class=\"done\"><summary>%d rewrites were made</summary><ul>\n", len(p.Done))
		for _, d := range p.Done {
			fmt.Fprintf(b, "<li>%s</li>\n", esc(d))
		}
		b.WriteString("</ul></details>\n")
	}
	p.passes(b)
	fmt.Fprintf(b, "</main>\n<script>\n%s</script>\n</body></html>\n", script)
	return b.String()
}

func esc(s string) string { return html.EscapeString(s) }

func (c *Card) write(b *strings.Builder, n int) {
	fmt.Fprintf(b, "<section class=\"card\" id=\"miss%d\">\n<h2><span class=\"no\">%d</span>%s</h2>\n<dl>\n", n, n, esc(c.Title))
	for _, r := range c.Rows {
		if r.Text == "" && r.Code == "" {
			continue
		}
		fmt.Fprintf(b, "<dt>%s</dt><dd class=\"%s\">%s", esc(r.Label), esc(r.Label), esc(r.Text))
		if r.Code != "" {
			fmt.Fprintf(b, "<pre>%s</pre>", esc(r.Code))
		}
		b.WriteString("</dd>\n")
	}
	b.WriteString("</dl>\n")
	c.drawing(b)
	b.WriteString("</section>\n")
}

// drawing shows the region around the value, and the body of a loop beside it.
func (c *Card) drawing(b *strings.Builder) {
	at := find(c.Graph, c.At)
	if at == nil {
		return
	}
	marked := map[string]bool{}
	for _, m := range append([]string{c.At}, c.Marked...) {
		marked[m] = true
	}
	b.WriteString("<div class=\"drawings\">")
	around(at, marked).svg(b, "the graph around "+c.At)
	for _, body := range at.Bodies {
		whole(body.Graph, marked).svg(b, fmt.Sprintf("the %s of %s", body.Attr, at.Op.Name))
	}
	b.WriteString("</div>\n")
}

// find returns the node that makes a value, or the first that uses it.
func find(g *graph.Graph, name string) *graph.Node {
	if g == nil {
		return nil
	}
	var made, used *graph.Node
	g.Walk(func(n *graph.Node) {
		for _, v := range n.Out {
			if v != nil && v.Name == name && made == nil {
				made = n
			}
		}
		for _, v := range n.In {
			if v != nil && v.Name == name && (used == nil || shapeOnly(used)) {
				used = n
			}
		}
	})
	if made != nil {
		return made
	}
	return used
}

func (r *region) svg(b *strings.Builder, title string) {
	if len(r.nodes) == 0 {
		return
	}
	const margin = 14
	w, h := r.w+2*margin, r.h+2*margin
	fmt.Fprintf(b, "<figure><figcaption>%s</figcaption><div class=\"scroll\"><svg width=\"%d\" height=\"%d\" viewBox=\"%d %d %d %d\" role=\"img\">\n", esc(title), w, h, -margin, -margin, w, h)
	for _, e := range r.edges {
		x1, y1 := e.from.x+e.from.w/2, e.from.y+boxHeight
		x2, y2 := e.to.x+e.to.w/2, e.to.y
		bend := (y2 - y1) / 2
		fmt.Fprintf(b, "<path class=\"edge\" data-from=\"%d\" data-to=\"%d\" d=\"M%d %dC%d %d %d %d %d %d\"><title>%s</title></path>\n",
			e.from.id, e.to.id, x1, y1, x1, y1+bend, x2, y2-bend, x2, y2, esc(e.label))
	}
	for _, n := range r.nodes {
		fmt.Fprintf(b, "<g class=\"box %s\" data-id=\"%d\" transform=\"translate(%d %d)\"><title>%s</title><rect width=\"%d\" height=\"%d\" rx=\"6\"/>"+
			"<text class=\"op\" x=\"%d\" y=\"16\">%s</text><text class=\"type\" x=\"%d\" y=\"30\">%s</text></g>\n",
			n.class, n.id, n.x, n.y, esc(n.tooltip()), n.w, boxHeight, n.w/2, esc(clip(n.label, 26)), n.w/2, esc(clip(n.sub, 30)))
	}
	b.WriteString("</svg></div></figure>\n")
}

// tooltip tells all about a node.
func (b *box) tooltip() string {
	if b.n == nil {
		return b.v.Name + " " + b.v.Type.String()
	}
	s := b.n.String()
	for _, v := range b.n.Out {
		if v != nil {
			s += "\n-> " + v.Name + " " + v.Type.String()
		}
	}
	for _, v := range b.n.In {
		if v != nil {
			s += "\n<- " + v.Name + " " + v.Type.String()
		}
	}
	for _, k := range b.n.Attrs.Names() {
		s += fmt.Sprintf("\n%s = %v", k, b.n.Attrs[k])
	}
	return s
}

// passes shows each pass that changed the text, with new and gone lines.
func (p *Page) passes(b *strings.Builder) {
	if len(p.Passes) < 2 {
		return
	}
	b.WriteString("<h2 class=\"passes\">Pass by pass</h2>\n")
	var idle []string
	flush := func() {
		if len(idle) > 0 {
			fmt.Fprintf(b, "<p class=\"same\">%s <span>changed nothing</span></p>\n", esc(strings.Join(idle, ", ")))
			idle = nil
		}
	}
	defer flush()
	for i, q := range p.Passes {
		if i > 0 && q.Text == p.Passes[i-1].Text {
			idle = append(idle, q.Name)
			continue
		}
		flush()
		fmt.Fprintf(b, "<details class=\"pass\"><summary>%s <span>%d nodes, %s</span></summary><pre>", esc(q.Name), q.Nodes, esc(q.Took))
		before := map[string]int{}
		if i > 0 {
			for _, l := range strings.Split(p.Passes[i-1].Text, "\n") {
				before[l]++
			}
		}
		now := map[string]int{}
		for _, l := range strings.Split(q.Text, "\n") {
			now[l]++
			if i > 0 && now[l] > before[l] {
				fmt.Fprintf(b, "<ins>%s</ins>\n", esc(l))
			} else {
				fmt.Fprintf(b, "%s\n", esc(l))
			}
		}
		b.WriteString("</pre>")
		if i > 0 {
			gone := 0
			lines := &strings.Builder{}
			for _, l := range strings.Split(p.Passes[i-1].Text, "\n") {
				if now[l] > 0 {
					now[l]--
					continue
				}
				gone++
				fmt.Fprintf(lines, "<del>%s</del>\n", esc(l))
			}
			if gone > 0 {
				fmt.Fprintf(b, "<details><summary>%d lines are gone</summary><pre>%s</pre></details>", gone, lines)
			}
		}
		b.WriteString("</details>\n")
	}
}
