package runner

import (
	"bytes"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
)

// open makes a model of a graph in text form.
func open(t *testing.T, text string, states ...backends.StatePair) *model.Model {
	t.Helper()
	reg, err := model.Standard()
	if err != nil {
		t.Fatal(err)
	}
	g, err := graph.ParseString(text)
	if err != nil {
		t.Fatal(err)
	}
	b, err := reg.Backend("ref")
	if err != nil {
		t.Fatal(err)
	}
	p, err := b.Compile(g, backends.Target{Name: "ref", States: states})
	if err != nil {
		t.Fatal(err)
	}
	m, err := reg.Load(p, nil, model.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = m.Close() })
	return m
}

const lookup3 = `graph g (int64[batch,sequence] ids, float[batch,4] past_h) => (float[batch,sequence,2] y, float[batch,4] present_h)
< float[3,2] table = {1, 2, 3, 4, 5, 6} > {
  float[batch,sequence,2] y = Gather-13 (table, ids)
  float[batch,4] present_h = Neg-13 (past_h)
}`

// TestRandom: ids stay inside the table they index, states are left to the
// session, lengths go by the symbol or the start of its name, and the numbers
// are the same every time.
func TestRandom(t *testing.T) {
	m := open(t, lookup3, backends.StatePair{In: "past_h", Out: "present_h"})
	in, err := Random(m, map[string]int64{"batch": 5, "seq": 40})
	if err != nil {
		t.Fatal(err)
	}
	if len(in) != 1 || in["ids"].TypeString() != "int64[5,40]" {
		t.Fatalf("made %v", in)
	}
	seen := map[int64]bool{}
	for _, id := range in["ids"].AsInts() {
		seen[id] = true
		if id < 0 || id > 2 {
			t.Fatalf("id %d of a table of 3 rows", id)
		}
	}
	if len(seen) != 3 {
		t.Errorf("200 ids take only the values %v", seen)
	}
	again, err := Random(m, map[string]int64{"batch": 5, "seq": 40})
	if err != nil || !bytes.Equal(again["ids"].Data, in["ids"].Data) {
		t.Errorf("a second call differs: %v", err)
	}
	if in, err = Random(m, nil); err != nil || in["ids"].TypeString() != "int64[1,1]" {
		t.Errorf("without lengths: %v, %v", in, err)
	}
	if _, err = Random(m, map[string]int64{"width": 5}); err == nil || !strings.Contains(err.Error(), "--shape width") || !strings.Contains(err.Error(), "batch, sequence") {
		t.Errorf("an unknown length: %v", err)
	}
	fixed := open(t, "graph g (float[2] x) => (float[2] y) {\n float[2] y = Neg-13 (x)\n}")
	if _, err = Random(fixed, map[string]int64{"batch": 1}); err == nil || !strings.Contains(err.Error(), "only fixed lengths") {
		t.Errorf("a length for a fixed model: %v", err)
	}
}

func TestParseShape(t *testing.T) {
	got, err := ParseShape([]string{"batch=1,seq=512", "w=0"})
	if err != nil || len(got) != 3 || got["seq"] != 512 || got["w"] != 0 {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "batch", "batch=", "=3", "batch=-1", "batch=1,,seq=2", "batch=1.5"} {
		if _, err := ParseShape([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		in   []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{1, 3}, 2}, {[]float64{1, 2, 9}, 2}} {
		if got := median(c.in); got != c.want {
			t.Errorf("median of %v is %g, want %g", c.in, got, c.want)
		}
	}
}
