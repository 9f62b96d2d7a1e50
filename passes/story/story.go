// Package story turns remarks into what people need to mend an export: for
// each candidate that was not fused, in which form it came, where it stands in
// the exported program, how far the match came, what differs and what to
// change. Candidates that differ in names alone, as equal layers do, are told
// once.
package story

import (
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
)

// Story is one candidate, or several alike.
type Story struct {
	passes.Remark
	Op      string // what it would have become: "ssm.SSD"
	Reached string // how far the match came, in words
	Places  []Place
	Like    []string // where the others stand
}

// Place is a node that the story names, with its origin.
type Place struct {
	Node string
	graph.Origin
}

// Lookup finds where nodes come from; nil when nothing is known.
type Lookup func(names []string) (map[string]graph.Origin, error)

var (
	nodeName = regexp.MustCompile(`node "([^"]+)"`)
	quoted   = regexp.MustCompile(`"[^"]*"`)
	number   = regexp.MustCompile(`\d+(\.\d+)?(e-?\d+)?`)
)

// Annotate gives every miss among the remarks its form, hint and source.
func Annotate(remarks []passes.Remark, lookup Lookup) error {
	var names []string
	for _, r := range remarks {
		if !r.Done {
			names = append(names, nodesOf(r)...)
		}
	}
	from := map[string]graph.Origin{}
	if lookup != nil && len(names) > 0 {
		var err error
		if from, err = lookup(names); err != nil {
			return err
		}
	}
	for i := range remarks {
		r := &remarks[i]
		if r.Done {
			continue
		}
		_, r.Form = split(r.Rule)
		r.Hint = hint(r)
		for _, n := range nodesOf(*r) {
			if s := from[n].String(); s != "" {
				r.Source = s
				break
			}
		}
	}
	return nil
}

// nodesOf lists the nodes a remark names, the one that differs first.
func nodesOf(r passes.Remark) []string {
	var out []string
	add := func(s string) {
		for _, o := range out {
			if o == s {
				return
			}
		}
		if s != "" {
			out = append(out, s)
		}
	}
	all := nodeName.FindAllStringSubmatch(r.Why, -1)
	for i := len(all) - 1; i >= 0; i-- { // "node LOOP: node INNER does ...": the last is the culprit
		add(all[i][1])
	}
	add(r.From)
	if r.From == "" {
		add(r.At)
	}
	return out
}

// split takes "ssm.SSD (chunked form)" apart.
func split(rule string) (op, form string) {
	op, rest, ok := strings.Cut(rule, " (")
	if ok {
		form = strings.TrimSuffix(rest, ")")
	}
	if rule == "unrolled trace" {
		return "a scan", rule
	}
	return op, form
}

// Tell makes the stories of all misses, in order.
func Tell(remarks []passes.Remark, lookup Lookup) ([]Story, error) {
	if err := Annotate(remarks, lookup); err != nil {
		return nil, err
	}
	var out []Story
	at := map[string]int{}
	var names []string
	for _, r := range remarks {
		if r.Done {
			continue
		}
		key := r.Rule + quoted.ReplaceAllString(number.ReplaceAllString(r.Why, "#"), "?")
		if i, ok := at[key]; ok {
			out[i].Like = append(out[i].Like, place(r))
			continue
		}
		at[key] = len(out)
		op, _ := split(r.Rule)
		s := Story{Remark: r, Op: op, Reached: reached(r)}
		for _, n := range nodesOf(r) {
			s.Places = append(s.Places, Place{Node: n})
			names = append(names, n)
		}
		out = append(out, s)
	}
	if lookup == nil || len(names) == 0 {
		return out, nil
	}
	from, err := lookup(names)
	for i := range out {
		for j := range out[i].Places {
			p := &out[i].Places[j]
			p.Origin = from[p.Node]
		}
	}
	return out, err
}

// Named lists all names in the reason: of nodes and of values.
func (s *Story) Named() []string {
	var out []string
	for _, q := range quoted.FindAllString(s.Why, -1) {
		out = append(out, q[1:len(q)-1])
	}
	return out
}

func place(r passes.Remark) string {
	if r.From != "" {
		return r.From
	}
	return r.At
}

// Title is "ssm.SSD from a chunked form, at "y"".
func (s *Story) Title() string {
	t := s.Op
	switch s.Form {
	case "":
	case "decode step":
		t += " from a decode step"
	case "Loop or Scan":
		t += " from a Loop or Scan"
	case "chunked form":
		t += " from the chunked or quadratic form"
	case "unrolled trace":
		t += " from an unrolled trace"
	default:
		t += " from " + s.Form
	}
	return fmt.Sprintf("%s, at %q", t, s.At)
}

// maxLike bounds the names of equal candidates that are listed.
const maxLike = 3

// Write prints the story as number n.
func (s *Story) Write(w io.Writer, n int) error {
	b := &strings.Builder{}
	fmt.Fprintf(b, "%d. %s\n", n, s.Title())
	if len(s.Like) > 0 {
		names := s.Like
		more := ""
		if len(names) > maxLike {
			names, more = names[:maxLike], ", ..."
		}
		row(b, "also", fmt.Sprintf("%d more like it: %s%s", len(s.Like), strings.Join(names, ", "), more))
	}
	if s.Reached != "" {
		row(b, "reached", fmt.Sprintf("step %d of %d: %s", s.Matched, s.Of, s.Reached))
	}
	row(b, "but", s.Why)
	for _, p := range s.Places {
		if p.Origin == (graph.Origin{}) {
			continue
		}
		text := fmt.Sprintf("%q", p.Node)
		if p.Module != "" {
			text += " in module " + p.Module
		}
		if from := p.Origin.String(); from != "" {
			text += ", " + from
		}
		row(b, "source", text)
		if p.Code != "" {
			row(b, "", "    "+p.Code)
		}
	}
	row(b, "do", s.Hint)
	_, err := io.WriteString(w, b.String())
	return err
}

// row prints a label and a wrapped text.
func row(b *strings.Builder, label, text string) {
	const width, indent = 100, 12
	if strings.HasPrefix(text, "    ") { // code is not wrapped
		fmt.Fprintf(b, "   %-9s%s\n", label, text)
		return
	}
	line := ""
	flush := func() {
		fmt.Fprintf(b, "   %-9s%s\n", label, line)
		label, line = "", ""
	}
	for _, word := range strings.Fields(text) {
		if line != "" && indent+len(line)+1+len(word) > width {
			flush()
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	flush()
}
