package onnx

import (
	"context"
	"strconv"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
)

// TestModels runs the cases of operators with bodies, and finds each row of the
// table with a case of one kind or the other.
func TestModels(t *testing.T) {
	tab := table(t)
	for _, r := range tab.All() {
		if r.Doc == "" || len(r.Cases)+len(r.Models) == 0 {
			t.Errorf("%s has no doc or no case", r.ID)
		}
		for _, m := range r.Models {
			g, err := graph.ParseString(strings.ReplaceAll(m.Text, "VERSION", strconv.Itoa(r.ID.Since)))
			if err != nil {
				t.Fatalf("%s %s: %v", r.ID, m.Name, err)
			}
			if err := ops.InferGraph(tab, g); err != nil {
				t.Errorf("%s %s: %v", r.ID, m.Name, err)
				continue
			}
			out, err := ops.Run(context.Background(), tab, g, m.In)
			if err != nil {
				t.Errorf("%s %s: %v", r.ID, m.Name, err)
				continue
			}
			for i, w := range m.Want {
				if err := closeTo(out[i], w, 1e-6, 1e-6); err != nil {
					t.Errorf("%s %s, output %d: %v", r.ID, m.Name, i, err)
				}
			}
		}
	}
}
