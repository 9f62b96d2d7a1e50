package cli

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	pb "google.golang.org/protobuf/proto"

	"golang.org/x/tools/txtar"

	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

var updateStories = flag.Bool("update", false, "rewrite the goldens in testdata/explain")

// told are look-alikes of testdata/passes, one per kind of miss.
var told = []string{
	"recur/not_strict", "recur/not_tiled_groups", "recur/not_softmax", "recur/not_used_elsewhere", "recur/not_chunked_no_carry",
	"recur/not_loop_early_stop", "recur/not_loop_trip_from_input", "recur/not_loop_delta", "recur/not_retention_strict", "recur/not_kv_sum_reversed", "recur/not_loop_tanh",
	"recur/not_scan_gru", "recur/not_scan_dense", "recur/not_scan_max", "recur/not_scan_kept_states",
	"recur/not_step_per_channel", "recur/not_step_mamba1_other_dt", "recur/not_unrolled_tanh", "recur/not_step_relu_state", "recur/not_step_rnn", "recur/not_step_s4d", "recur/not_step_heads_rolled", "recur/not_step_signed_decay", "recur/not_step_read_tanh",
	"absorb/not_other_dt", "absorb/not_other_x", "fuse-conv/not_centred", "fuse-conv/not_uncut", "fuse-norm/not_other_axis", "named/not_per_key",
}

// TestStories runs ssdc explain on small graphs, each of which misses a fusion
// in a way of its own, and holds what it prints against testdata/explain.
func TestStories(t *testing.T) {
	for _, name := range told {
		t.Run(name, func(t *testing.T) {
			a, err := txtar.ParseFile("../../testdata/passes/" + name + ".txtar")
			if err != nil {
				t.Fatal(err)
			}
			model := filepath.Join(t.TempDir(), filepath.Base(name)+".ssd")
			for _, f := range a.Files {
				if f.Name == "in" {
					write(t, model, f.Data)
				}
			}
			page := filepath.Join(t.TempDir(), "why.html")
			got := must(t, "explain", model, "--html", page)
			checkPage(t, page)
			golden := "testdata/explain/" + strings.ReplaceAll(name, "/", "_") + ".txt"
			if *updateStories {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil { //nolint:gosec // a golden
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got\n%s\nwant (go test ./cmd/cli -run TestStories -update accepts the new text)\n%s", got, want)
			}
			if !strings.Contains(got, "   but ") || !strings.Contains(got, "   do ") || strings.Contains(got, "please report it") {
				t.Errorf("the story tells no reason, or nothing to do about it:\n%s", got)
			}
		})
	}
}

// checkPage: whole, with a drawing, without anything from the network.
func checkPage(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := string(data)
	for _, want := range []string{"<!DOCTYPE html>", "<svg", "class=\"box mark\"", "Pass by pass", "</html>"} {
		if !strings.Contains(s, want) {
			t.Errorf("the page has no %q", want)
		}
	}
	if m := regexp.MustCompile(`(src|href)=|https?://|@import|url\(`).FindString(s); m != "" {
		t.Errorf("the page loads something: %q", m)
	}
	if strings.Count(s, "<g ") != strings.Count(s, "</g>") || strings.Count(s, "<details") != strings.Count(s, "</details>") {
		t.Error("the page's elements are not closed")
	}
}

// TestStorySource: the line of the exported program is found in the file, for
// the node that differs, in a body.
func TestStorySource(t *testing.T) {
	dir := t.TempDir()
	data, err := os.ReadFile(models + "loop_ssd_scanout/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	m := &proto.ModelProto{}
	if err := pb.Unmarshal(data, m); err != nil {
		t.Fatal(err)
	}
	changed := false
	for _, n := range m.Graph.Node {
		for _, a := range n.Attribute {
			for _, k := range a.GetG().GetNode() {
				if k.OpType == "Exp" && !changed { // a decay that is no exponential of the input
					changed = true
					k.OpType, k.Name = "Tanh", "wrong"
					k.MetadataProps = []*proto.StringStringEntryProto{
						{Key: "pkg.torch.onnx.stack_trace", Value: "File \"/src/mixer.py\", line 41, in forward\n    decay = torch.tanh(dt * self.A)"},
						{Key: "pkg.torch.onnx.name_scopes", Value: "['', 'layers.0.mixer', 'tanh']"},
					}
					n.Name = "the_loop"
					n.DocString = "/src/mixer.py(30): forward\n/src/model.py(12): forward"
				}
			}
		}
	}
	if !changed {
		t.Fatal("the model has no Exp in a body")
	}
	if data, err = pb.Marshal(m); err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(dir, "m.onnx"), data)
	out := must(t, "explain", path)
	if !strings.Contains(out, "/src/mixer.py:30 in forward") && !strings.Contains(out, "/src/mixer.py:41 in forward") {
		t.Errorf("no source line in\n%s", out)
	}
	var e Explain
	if err := json.Unmarshal([]byte(must(t, "explain", path, "--json")), &e); err != nil {
		t.Fatal(err)
	}
	for _, r := range e.Remarks {
		if !r.Done && (r.Hint == "" || r.Source == "") {
			t.Errorf("%+v", r)
		}
	}
}

func TestExplainPageErrors(t *testing.T) {
	fails(t, 1, []string{"there is no folder"}, "explain", decode+"/model.onnx", "--html", filepath.Join(t.TempDir(), "no", "x.html"))
	model := write(t, filepath.Join(t.TempDir(), "m.onnx"), []byte("x"))
	fails(t, 1, []string{"is the model itself"}, "explain", model, "--html", model)
}
