package story

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
)

var line = regexp.MustCompile(`^\[(\S+)\] (.*?) at "([^"]*)"(?: \(([^)]*)\))?: missed(?: at step (\d+) of (\d+))?: (.*)$`)

// misses reads the remarks of all goldens.
func misses(t *testing.T) map[string]passes.Remark {
	t.Helper()
	files, err := filepath.Glob("../../testdata/passes/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	out := map[string]passes.Remark{}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range a.Files {
			if f.Name != "remarks" {
				continue
			}
			for _, l := range strings.Split(string(f.Data), "\n") {
				if m := line.FindStringSubmatch(l); m != nil {
					r := passes.Remark{Pass: m[1], Rule: m[2], At: m[3], From: m[4], Why: m[7]}
					r.Matched, _ = strconv.Atoi(m[5])
					r.Of, _ = strconv.Atoi(m[6])
					out[filepath.Base(filepath.Dir(file))+"/"+filepath.Base(file)] = r
				}
			}
		}
	}
	return out
}

// TestEveryMissHasAHint: of the misses in testdata/passes, nine in ten have a
// hint of their own. A new kind of miss wants a row in hints.go.
func TestEveryMissHasAHint(t *testing.T) {
	all := misses(t)
	if len(all) < 60 {
		t.Fatalf("only %d misses", len(all))
	}
	var general []string
	kinds := map[string]bool{}
	for file, r := range all {
		h := hint(&r)
		if kinds[h] = true; strings.HasPrefix(h, "If this is meant") {
			general = append(general, file+": "+r.Why)
		}
		if reached(r) == "" {
			t.Logf("%s: nothing says how far %q came", file, r.Rule)
		}
	}
	if len(general)*10 > len(all) {
		t.Errorf("%d of %d misses have no hint of their own; add rows to hints.go:\n%s", len(general), len(all), strings.Join(general, "\n"))
	}
	if len(kinds) < 20 {
		t.Errorf("only %d kinds of hints are given", len(kinds))
	}
	t.Logf("%d misses, %d kinds of hints, %d general", len(all), len(kinds), len(general))
	for _, g := range general {
		t.Log(g)
	}
}

func TestTell(t *testing.T) {
	remark := func(layer, node string) passes.Remark {
		return passes.Remark{Pass: "recur", Rule: "ssm.SSD (Loop or Scan)", At: layer + "/y", From: layer + "/Loop", Matched: 1, Of: 3,
			Why: `node "` + layer + `/Loop" (Loop-16): node "` + node + `" (Tanh-13) applies a function that is not linear to the state; expected state*decay + update`}
	}
	remarks := []passes.Remark{remark("l0", "t0"), {Rule: "ssm.Linear", Done: true}, remark("l1", "t1"), remark("l2", "t2")}
	stories, err := Tell(remarks, func(names []string) (map[string]graph.Origin, error) {
		return map[string]graph.Origin{"t0": {Module: "layers.0", File: "model.py", Line: 12, Func: "step", Code: "h = torch.tanh(a * h + u)"}}, nil
	})
	if err != nil || len(stories) != 1 {
		t.Fatalf("%d stories, error %v", len(stories), err)
	}
	var b strings.Builder
	if err := stories[0].Write(&b, 1); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/equal_layers.txt")
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Errorf("got\n%s\nwant\n%s", &b, want)
	}
	if remarks[0].Source != "model.py:12 in step" || remarks[0].Form != "Loop or Scan" || remarks[1].Hint != "" {
		t.Errorf("%+v", remarks)
	}
}
