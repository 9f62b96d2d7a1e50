package cli

import (
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/exporters/html"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/internal/wholefile"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/story"
)

// Explain is what explain --json prints; keys are stable.
type Explain struct {
	Fused   map[string]int  `json:"fused"`
	Remarks []passes.Remark `json:"remarks"`
}

func (a *app) explainCommand() *cobra.Command {
	var f compileFlags
	var asJSON, all bool
	var page string
	c := &cobra.Command{
		Use:   "explain MODEL",
		Short: "tell what was fused, and what to change where something was not",
		Long: `Run the passes and tell a short story of every candidate that was not fused: in which
form it came, how far the match came, what differs, which line of the exported program
wrote it (where the exporter noted that), and what to change. Layers that differ in
names alone are told once.

--html writes a page with the region of the graph around each of them, and the graph
after every pass.`,
		Example: "  ssdc explain model.onnx\n  ssdc explain model.onnx --html why.html",
		Args:    runner.One("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			w := cmd.OutOrStdout()
			p := newProgress(cmd.ErrOrStderr())
			o, err := a.options(&f, p)
			if err != nil {
				return err
			}
			o.Warn = warner(cmd.ErrOrStderr(), args[0])
			var shots []html.Pass
			if page != "" {
				if err := wholefile.Check(page); err != nil {
					return err
				}
				if same(args[0], page) {
					return fmt.Errorf("cannot write %s: it is the model itself; name another file with --html", page)
				}
				src, err := ssdc.Import(cmd.Context(), a.set, args[0], o.Symbols)
				if err != nil {
					return err
				}
				shots = append(shots, shot("import", src.Graph, 0))
				observe := o.Observe
				o.Observe = func(s *passes.Pass, g *graph.Graph, changed bool, took time.Duration) {
					observe(s, g, changed, took)
					shots = append(shots, shot(s.Name, g, took))
				}
			}
			c, missing := ssdc.OptimiseWith(cmd.Context(), a.set, args[0], o)
			p.done()
			if c == nil {
				return missing
			}
			stories, err := story.Tell(c.Remarks, c.Source.Origins)
			if err != nil {
				return err
			}
			if page != "" {
				if err := html.Write(page, explainPage(args[0], c, stories, shots)); err != nil {
					return err
				}
			}
			if asJSON {
				err = runner.PrintJSON(w, Explain{c.Fused, list(c.Remarks)})
			} else {
				err = tell(w, c, stories, all)
			}
			if err != nil {
				return err
			}
			return missing
		},
	}
	f.add(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: fused{op: count}, remarks[pass,rule,at,from,why,done,matched,of,form,hint,source]")
	c.Flags().BoolVar(&all, "all", false, "print the rewrites that were done as well")
	c.Flags().StringVar(&page, "html", "", "also write `FILE`, a page with drawings; it needs no network")
	return c
}

// tell prints the stories.
func tell(w io.Writer, c *ssdc.Compiled, stories []story.Story, all bool) error {
	fmt.Fprintf(w, "fused: %s\n", fusedLine(c.Fused))
	for _, r := range c.Remarks {
		if all && r.Done {
			fmt.Fprintln(w, r)
		}
	}
	_, err := fmt.Fprintln(w, missedLine(stories))
	for i := range stories {
		if err == nil {
			_, err = fmt.Fprintln(w)
		}
		if err == nil {
			err = stories[i].Write(w, i+1)
		}
	}
	return err
}

func missedLine(stories []story.Story) string {
	n := 0
	for _, s := range stories {
		n += 1 + len(s.Like)
	}
	switch n {
	case 0:
		return "nothing that looked like a fusion was missed"
	case 1:
		return "1 candidate was not fused:"
	}
	return fmt.Sprintf("%d candidates were not fused:", n)
}

// maxShot bounds the text of a graph in the page.
const maxShot = 1 << 20

func shot(name string, g *graph.Graph, took time.Duration) html.Pass {
	s := html.Pass{Name: name, Took: fmt.Sprintf("%.0f ms", float64(took.Microseconds())/1000), Nodes: len(g.Nodes)}
	if len(g.Nodes) < 20000 {
		s.Text = g.String()
	}
	if s.Text == "" || len(s.Text) > maxShot {
		s.Text = fmt.Sprintf("(the text of %d nodes is too long for a page; see ssdc explain --print-ir-after %s)", len(g.Nodes), name)
	}
	return s
}

func explainPage(path string, c *ssdc.Compiled, stories []story.Story, shots []html.Pass) *html.Page {
	p := &html.Page{
		Title:   filepath.Base(path),
		Summary: []string{"fused: " + fusedLine(c.Fused), strings.TrimSuffix(missedLine(stories), ":")},
		Passes:  shots,
	}
	for _, r := range c.Remarks {
		if r.Done {
			p.Done = append(p.Done, r.String())
		}
	}
	for i := range stories {
		s := &stories[i]
		card := html.Card{Title: s.Title(), Graph: c.Source.Graph, At: s.At}
		row := func(label, text, code string) {
			card.Rows = append(card.Rows, html.Row{Label: label, Text: text, Code: code})
		}
		if s.Reached != "" {
			row("reached", fmt.Sprintf("step %d of %d: %s", s.Matched, s.Of, s.Reached), "")
		}
		row("but", s.Why, "")
		card.Marked = s.Named()
		for _, q := range s.Places {
			card.Marked = append(card.Marked, q.Node)
			if q.Origin != (graph.Origin{}) {
				row("source", q.Origin.String()+"  "+q.Module, q.Code)
			}
		}
		row("do", s.Hint, "")
		if len(s.Like) > 0 {
			row("also", fmt.Sprintf("%d more like it", len(s.Like)), "")
		}
		p.Cards = append(p.Cards, card)
	}
	return p
}
