package ssdc_test

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/passes"
)

var update = flag.Bool("update", false, "write docs/accepted-forms.md anew")

const formsDoc = "docs/accepted-forms.md"

const formsHead = `# Accepted forms

<!-- Written by the tests: go test . -run TestFormsTable -update -->

A recurrence is recovered by what it computes and not by how it is spelled, so these tables are no limit: they list what the
tests hold ssdc to. Each graph of the first is an export as PyTorch's exporters wrote it (or made with onnx.helper), and must give
what PyTorch gives in float64, to a relative error of 1e-5. ` + "`ssdc explain MODEL`" + ` says what keeps another from being one of them.

## Exports

The form is the spelling of the recurrence in the file; beside the fused operators, the table names only those of a state space block.

| form | recovered | exporter | release | fixture |
| --- | --- | --- | --- | --- |
`

const handHead = `
## Written by hand

Spellings that no exporter at hand writes, or in isolation: graphs of testdata/passes/recur.

| form | recovered | graph | what |
| --- | --- | --- | --- |
`

const leftHead = `
## Left alone

Look-alikes: graphs that differ from a recurrence in one thing. They stay bit for bit what they are, and a remark says why.

| graph | what it is |
| --- | --- |
`

type formsMeta struct {
	Description string            `json:"description"`
	NumbersOf   string            `json:"numbers_of"` // the fixture whose inputs and outputs these are; empty: its own
	Exporter    string            `json:"exporter"`
	Torch       string            `json:"torch"`
	HF          string            `json:"transformers"`
	Inexact     map[string]int    `json:"expect_inexact"`
	Limit       float64           `json:"rel_err_limit"` // 0: 1e-5
	Miss        map[string]string `json:"expect_miss"`
	Export      map[string]string `json:"export_untold"` // dialect: why it does not tell the scan
}

// TestFormsTable: docs/accepted-forms.md tells what the passes do, of every
// export and every golden; what must be left alone is, for the reason expected.
func TestFormsTable(t *testing.T) {
	var rows []string
	fixtures(t, func(t *testing.T, dir string, _ map[string]int) {
		m := readMeta(t, dir)
		c, err := ssdc.Build(context.Background(), filepath.Join(dir, "model.onnx"), ssdc.Options{NoStates: true})
		if err != nil {
			t.Fatal(err)
		}
		for rule, why := range m.Miss {
			if !slices.ContainsFunc(c.Remarks, func(r passes.Remark) bool {
				return !r.Done && strings.HasPrefix(r.Rule, rule) && strings.Contains(r.Why, why)
			}) {
				t.Errorf("no remark of %s says %q: %v", rule, why, c.Remarks)
			}
			if n := c.Fused[rule]; n > 0 {
				t.Errorf("%d %s in a model that has none", n, rule)
			}
		}
		var recovered []string
		for _, op := range []string{"ssm.SSD", "ssm.SelectiveScan", "ssm.LinearScan", "LinearAttention", "ssm.CausalConv", "ssm.GatedRMSNorm"} {
			if n := c.Fused[op]; n > 0 {
				recovered = append(recovered, fmt.Sprintf("%d %s", n, strings.TrimPrefix(op, "ssm.")))
			}
		}
		release := "PyTorch " + strings.TrimSuffix(majorMinor(m.Torch), "+")
		if m.HF != "" {
			release = "transformers " + majorMinor(m.HF) + ", " + release
		}
		if m.Torch == "" {
			release = ""
		}
		what := form(c.Remarks)
		if len(m.Miss) > 0 {
			what = "left alone: " + m.Description
		}
		rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s | %s |\n", what, strings.Join(recovered, ", "), m.Exporter, release, filepath.Base(dir)))
	})
	if os.Getenv("FIXTURE") != "" {
		return
	}
	slices.Sort(rows)
	var doc bytes.Buffer
	doc.WriteString(formsHead + strings.Join(rows, ""))
	hand, left := goldens(t)
	doc.WriteString(handHead + strings.Join(hand, "") + leftHead + strings.Join(left, ""))
	if *update {
		if err := os.WriteFile(formsDoc, doc.Bytes(), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	if testing.Short() {
		return // a new golden elsewhere makes the page stale, which the full run says
	}
	if was, err := os.ReadFile(formsDoc); err != nil || !bytes.Equal(was, doc.Bytes()) {
		t.Errorf("%s is stale (%v): go test . -run TestFormsTable -update writes it anew", formsDoc, err)
	}
}

func readMeta(t *testing.T, dir string) (m formsMeta) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "meta.json"))
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		t.Fatal(err)
	}
	if m.Limit == 0 {
		m.Limit = 1e-5
	}
	return m
}

// majorMinor is 4.57 of 4.57.6.
func majorMinor(v string) string {
	v, _, _ = strings.Cut(v, "+")
	p := strings.SplitN(v, ".", 3)
	return strings.Join(p[:min(2, len(p))], ".")
}

// form names the spellings that remarks say were recovered.
func form(rs []passes.Remark) string {
	var out []string
	for _, r := range rs {
		_, f, ok := strings.Cut(r.Rule, " (")
		if f = strings.TrimSuffix(f, ")"); ok && r.Done && r.Pass == "recur" && !slices.Contains(out, f) {
			out = append(out, f)
		}
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}

// goldens lists the graphs of testdata/passes: recovered, and left alone.
func goldens(t *testing.T) (hand, left []string) {
	t.Helper()
	files, err := filepath.Glob("testdata/passes/*/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no goldens: %v", err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		what, _, _ := strings.Cut(strings.TrimSpace(string(a.Comment)), "\n")
		pass := filepath.Base(filepath.Dir(file))
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		if strings.HasPrefix(name, "not_") {
			left = append(left, fmt.Sprintf("| %s/%s | %s |\n", pass, name, what))
			continue
		}
		if pass != "recur" {
			continue
		}
		var forms, ops []string
		for _, f := range a.Files {
			if f.Name != "remarks" {
				continue
			}
			for line := range strings.Lines(string(f.Data)) {
				rule, rest, ok := strings.Cut(strings.TrimPrefix(line, "[recur] "), " (")
				f, rest, ok2 := strings.Cut(rest, ")")
				if ok && ok2 && strings.Contains(rest, ": done") {
					if !slices.Contains(forms, f) {
						forms = append(forms, f)
					}
					if rule = strings.TrimPrefix(rule, "ssm."); !slices.Contains(ops, rule) {
						ops = append(ops, rule)
					}
				}
			}
		}
		hand = append(hand, fmt.Sprintf("| %s | %s | %s | %s |\n", strings.Join(forms, ", "), strings.Join(ops, ", "), name, what))
	}
	slices.Sort(hand)
	slices.Sort(left)
	return hand, left
}

// TestInexact: what is left alone because it is not the same number is recovered
// when that is allowed, with results that PyTorch's are close to.
func TestInexact(t *testing.T) {
	n := 0
	fixtures(t, func(t *testing.T, dir string, _ map[string]int) {
		m := readMeta(t, dir)
		if len(m.Inexact) == 0 {
			return
		}
		n++
		c, err := ssdc.Compile(context.Background(), filepath.Join(dir, "model.onnx"), ssdc.Options{Inexact: true, RequireFusion: m.Inexact, NoStates: true})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		in, _, err := tensor.ReadNpz(filepath.Join(numbers(t, dir), "inputs.npz"))
		if err != nil {
			t.Fatal(err)
		}
		want, _, err := tensor.ReadNpz(filepath.Join(numbers(t, dir), "expected.npz"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Run(context.Background(), in)
		if err != nil {
			t.Fatal(err)
		}
		for name, w := range want {
			if e := relError(t, got[name], w); !(e <= 1e-5) {
				t.Errorf("%s: relative error %.2e, at most 1e-5", name, e)
			}
		}
	})
	if n == 0 && os.Getenv("FIXTURE") == "" {
		t.Error("no fixture is recovered by inexact rewrites alone")
	}
}
