package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/std"
)

// Exported models, from the root of the repository.
const (
	models  = "../../testdata/models/"
	decode  = models + "mamba2_dynamo_dyn_decode_g2"  // five inputs, four of them states
	prefill = models + "mamba2_dynamo_dyn_prefill_g1" // one input, one output
)

// result is what one command line did.
type result struct {
	code     int
	out, err string
}

// call runs a command line in this process.
func call(t *testing.T, args ...string) result {
	t.Helper()
	root, err := New(std.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&errs)
	root.SetArgs(args)
	return result{Execute(context.Background(), root), out.String(), errs.String()}
}

// must is call for a command that succeeds; it returns stdout.
func must(t *testing.T, args ...string) string {
	t.Helper()
	r := call(t, args...)
	if r.code != 0 {
		t.Fatalf("ssdc %s: exit code %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}

// keys checks that JSON output is an object with these keys, and returns it.
func keys(t *testing.T, out string, want ...string) map[string]any {
	t.Helper()
	m := map[string]any{}
	if err := json.Unmarshal([]byte(out), &m); err != nil {
		t.Fatalf("%v in\n%s", err, out)
	}
	for _, k := range want {
		if v, ok := m[k]; !ok || v == nil {
			t.Errorf("--json has no %q, or null:\n%s", k, out)
		}
	}
	return m
}

// artifactOf compiles a fixture into a temporary folder.
func artifactOf(t *testing.T, dir string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "model.ssda")
	must(t, append([]string{"compile", dir + "/model.onnx", "-o", path}, flags...)...)
	return path
}

func readNpz(t *testing.T, path string) map[string]*tensor.Tensor {
	t.Helper()
	m, _, err := tensor.ReadNpz(path)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// near compares with PyTorch's float64 result, by norm.
func near(t *testing.T, what string, got, want *tensor.Tensor) {
	t.Helper()
	if got == nil || got.Len() != want.Len() {
		t.Fatalf("%s: got %v, want %s", what, got, want.TypeString())
	}
	var diff, norm float64
	for i := range want.Len() {
		d := got.At(i) - want.At(i)
		diff += d * d
		norm += want.At(i) * want.At(i)
	}
	if e := math.Sqrt(diff / norm); !(e <= 1e-5) {
		t.Errorf("%s: relative error %.2g", what, e)
	}
}

func TestCompile(t *testing.T) {
	out := filepath.Join(t.TempDir(), "model.ssda")
	m := keys(t, must(t, "compile", decode+"/model.onnx", "-o", out, "--json"),
		"source", "artifact", "fused", "artifact_bytes", "seconds", "nodes", "states", "remarks")
	if fused := m["fused"].(map[string]any); fused["ssm.SSD"] != 2.0 || fused["RMSNormalization"] != 3.0 {
		t.Errorf("fused %v", fused)
	}
	info, err := os.Stat(out)
	if err != nil || float64(info.Size()) != m["artifact_bytes"] {
		t.Errorf("artifact_bytes %v: %v %v", m["artifact_bytes"], info, err)
	}
	if n := len(m["states"].([]any)); n != 4 {
		t.Errorf("%d states, want 4", n)
	}
	text := must(t, "compile", decode+"/model.onnx", "-o", out, "--require-fusion", "ssd=2", "--require-fusion", "ssm.CausalConv=2")
	for _, want := range []string{"2 ssm.SSD", "KiB", " s,", "present_conv_0 -> past_conv_0"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	// Twice the same bytes.
	first, _ := os.ReadFile(out)
	second, _ := os.ReadFile(artifactOf(t, decode))
	if !bytes.Equal(first, second) {
		t.Error("two compilations of one model differ")
	}
	plain := keys(t, must(t, "compile", decode+"/model.onnx", "-o", out, "-O", "0", "--no-state", "--json"))
	if f := plain["fused"].(map[string]any); len(f) != 0 || len(plain["states"].([]any)) != 0 {
		t.Errorf("-O 0 --no-state: fused %v, states %v", f, plain["states"])
	}
}

// TestDefaultOutput: the artifact lands beside the model, under its name.
func TestDefaultOutput(t *testing.T) {
	model := filepath.Join(t.TempDir(), "tiny.onnx")
	data, err := os.ReadFile(models + "scan_ssd/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(model, data, 0o600); err != nil {
		t.Fatal(err)
	}
	must(t, "compile", model)
	if _, err := os.Stat(strings.TrimSuffix(model, ".onnx") + ".ssda"); err != nil {
		t.Error(err)
	}
}

func TestPrintIR(t *testing.T) {
	r := call(t, "explain", decode+"/model.onnx", "--print-ir-after", "canon")
	if r.code != 0 || !strings.Contains(r.err, "# after canon\ngraph ") || strings.Count(r.err, "# after") != 1 {
		t.Errorf("code %d, stderr %.200s", r.code, r.err)
	}
	if r := call(t, "explain", decode+"/model.onnx", "--print-changed"); !strings.Contains(r.err, "# after recur\n") {
		t.Errorf("--print-changed shows no recur: %.200s", r.err)
	}
}

// TestRun: the stored inputs give PyTorch's outputs, over every way in and out.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	want := readNpz(t, decode+"/expected.npz")
	in := readNpz(t, decode+"/inputs.npz")
	var each []string
	for name, x := range in {
		path := filepath.Join(dir, name+".npy")
		if err := tensor.WriteNpyFile(path, x); err != nil {
			t.Fatal(err)
		}
		each = append(each, "--input", name+"="+path)
	}
	art := artifactOf(t, decode)
	for name, args := range map[string][]string{
		"npz":         {art, "--input", decode + "/inputs.npz"},
		"npy, each":   append([]string{art}, each...),
		"npz members": {art, "-i", "input_ids=" + decode + "/inputs.npz", "-i", "past_conv_0=" + decode + "/inputs.npz", "-i", "past_ssm_0=" + decode + "/inputs.npz", "-i", "past_conv_1=" + decode + "/inputs.npz", "-i", "past_ssm_1=" + decode + "/inputs.npz"},
		"model":       {decode + "/model.onnx", "--input", decode + "/inputs.npz"},
		"model, -O 0": {decode + "/model.onnx", "-O", "0", "--input", decode + "/inputs.npz"},
		"model, ref":  {decode + "/model.onnx", "--target", "ref", "--input", decode + "/inputs.npz"},
		"one thread":  {art, "--threads", "1", "--input", decode + "/inputs.npz"},
	} {
		t.Run(name, func(t *testing.T) {
			npz, npy := filepath.Join(dir, "out.npz"), filepath.Join(dir, "logits.npy")
			must(t, append([]string{"run", "-o", npz, "-o", "logits=" + npy}, args...)...)
			got := readNpz(t, npz)
			for k, w := range want {
				near(t, k, got[k], w)
			}
			logits, err := tensor.ReadNpyFile(npy)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "logits.npy", logits, want["logits"])
		})
	}
}

// TestRunUnnamed: a model with one input and one output needs no names.
func TestRunUnnamed(t *testing.T) {
	dir := t.TempDir()
	in, want := readNpz(t, prefill+"/inputs.npz"), readNpz(t, prefill+"/expected.npz")
	ids, out := filepath.Join(dir, "ids.npy"), filepath.Join(dir, "out.npy")
	if err := tensor.WriteNpyFile(ids, in["input_ids"]); err != nil {
		t.Fatal(err)
	}
	must(t, "run", artifactOf(t, prefill), "--input", ids, "--output", out)
	got, err := tensor.ReadNpyFile(out)
	if err != nil {
		t.Fatal(err)
	}
	near(t, "logits", got, want["logits"])
}

func TestRunRandom(t *testing.T) {
	art := artifactOf(t, prefill)
	m := keys(t, must(t, "run", art, "--random", "--shape", "batch=2,seq=5", "--json"), "seconds", "outputs")
	o := m["outputs"].([]any)[0].(map[string]any)
	if o["name"] != "logits" || !strings.HasPrefix(o["type"].(string), "float[2,5,") || o["nans"] != 0.0 {
		t.Errorf("output %v", o)
	}
	if text := must(t, "run", art, "--random"); !strings.Contains(text, "OUTPUT") || !strings.Contains(text, "logits") {
		t.Errorf("no table:\n%s", text)
	}
}

// TestState: a state saved and loaded continues as if there had been no break.
func TestState(t *testing.T) {
	dir := t.TempDir()
	art := artifactOf(t, decode)
	f := func(name string) string { return filepath.Join(dir, name) }
	must(t, "run", art, "--random", "-o", f("1.npz"), "--save-state", f("1.state"))
	must(t, "run", art, "--random", "--load-state", f("1.state"), "-o", f("2.npz"))
	// The same two steps with the states passed by hand.
	one := readNpz(t, f("1.npz"))
	args := []string{"run", art, "--random", "-o", f("2b.npz")}
	for name, x := range one {
		if rest, ok := strings.CutPrefix(name, "present"); ok {
			if err := tensor.WriteNpyFile(f("past"+rest+".npy"), x); err != nil {
				t.Fatal(err)
			}
			args = append(args, "-i", "past"+rest+"="+f("past"+rest+".npy"))
		}
	}
	must(t, args...)
	byState, byHand := readNpz(t, f("2.npz")), readNpz(t, f("2b.npz"))
	for name, w := range byHand {
		if !bytes.Equal(byState[name].Data, w.Data) {
			t.Errorf("%s differs between a loaded state and states given as inputs", name)
		}
	}
	if bytes.Equal(byState["logits"].Data, one["logits"].Data) {
		t.Error("the loaded state changed nothing")
	}
}

func TestBench(t *testing.T) {
	art := artifactOf(t, prefill)
	m := keys(t, must(t, "bench", art, "--shape", "batch=1,seq=8", "--runs", "3", "--json"),
		"model", "shape", "threads", "runs", "median_ms", "min_ms", "p90_ms", "open_ms", "first_ms", "peak", "of_peak", "steps")
	steps := m["steps"].([]any)
	ssd := 0
	for _, s := range steps {
		s := s.(map[string]any)
		for _, k := range []string{"node", "op", "kernel", "median_ms", "share", "gflops", "gbs", "of_peak"} {
			if _, ok := s[k]; !ok {
				t.Fatalf("a step has no %q: %v", k, s)
			}
		}
		if strings.HasPrefix(s["op"].(string), "ssm.SSD") {
			ssd++
		}
	}
	if ssd != 2 || m["median_ms"].(float64) <= 0 || m["of_peak"].(float64) <= 0 {
		t.Errorf("%d SSD steps, median %v, share of the peak %v", ssd, m["median_ms"], m["of_peak"])
	}
	if text := must(t, "bench", art, "--runs", "1", "--top", "2"); !strings.Contains(text, "median") || !strings.Contains(text, "other steps") {
		t.Errorf("bench prints\n%s", text)
	}
}

func TestProfile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "trace.json")
	must(t, "profile", artifactOf(t, prefill), "--shape", "batch=1,seq=8", "--runs", "2", "-o", path)
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var trace struct {
		TraceEvents []struct {
			Name, Cat, Ph string
			Ts, Dur       float64
			Args          map[string]any
		}
	}
	if err := json.Unmarshal(data, &trace); err != nil {
		t.Fatal(err)
	}
	count, end := map[string]int{}, 0.0
	for _, e := range trace.TraceEvents {
		count[e.Cat]++
		count[e.Name]++
		if e.Ph != "X" || e.Ts < 0 || e.Dur <= 0 {
			t.Errorf("event %+v", e)
		}
		if e.Cat == "step" {
			if e.Ts < end {
				t.Errorf("step %s begins at %g us, before the last one ended at %g", e.Name, e.Ts, end)
			}
			end = e.Ts
		}
	}
	if count["run"] != 2 || count["SSD"] != 4 {
		t.Errorf("%d runs with %d SSD steps, expected 2 and 4", count["run"], count["SSD"])
	}
	fails(t, 2, []string{"--runs 0"}, "profile", artifactOf(t, prefill), "--runs", "0")
}

func TestInspect(t *testing.T) {
	art := artifactOf(t, decode)
	m := keys(t, must(t, "inspect", art, "--json"), "producer", "source", "digest", "bytes", "targets", "plugins",
		"inputs", "outputs", "states", "fused", "kernels", "weights", "weight_bytes")
	if len(m["inputs"].([]any)) != 5 || m["source"] != "model.onnx" {
		t.Errorf("inspect --json: %v", m)
	}
	for flag, want := range map[string]string{"--ir": "ssm.SSD-1", "--steps": "ssm.SSD-1", "--remarks": "certified in float64", "--verify": "kernels"} {
		if out := must(t, "inspect", art, flag); !strings.Contains(out, want) {
			t.Errorf("inspect %s has no %q:\n%.400s", flag, want, out)
		}
	}
}

func TestExplain(t *testing.T) {
	m := keys(t, must(t, "explain", decode+"/model.onnx", "--json"), "fused", "remarks")
	r := m["remarks"].([]any)[0].(map[string]any)
	for _, k := range []string{"pass", "rule", "at", "done"} {
		if _, ok := r[k]; !ok {
			t.Errorf("a remark has no %q: %v", k, r)
		}
	}
	out := must(t, "explain", decode+"/model.onnx", "--all")
	if !strings.Contains(out, "fused: ") || !strings.Contains(out, ": done") {
		t.Errorf("explain --all prints\n%s", out)
	}
}

func TestOps(t *testing.T) {
	if out := must(t, "ops", "ssm.ssd"); !strings.Contains(out, "ssm.SSD-1") || !strings.Contains(out, "plugin std") {
		t.Errorf("ops ssm.ssd prints\n%s", out)
	}
	var rows []map[string]any
	if err := json.Unmarshal([]byte(must(t, "ops", "--json")), &rows); err != nil || len(rows) < 200 {
		t.Errorf("%d operators, %v", len(rows), err)
	}
	if out := strings.TrimSpace(must(t, "ops", "nosuchoperator", "--json")); out != "[]" {
		t.Errorf("no match prints %q", out)
	}
}

func TestBackends(t *testing.T) {
	if out := must(t, "backends"); !strings.Contains(out, "cpu") || !strings.Contains(out, "ref") {
		t.Errorf("backends prints\n%s", out)
	}
	var rows []map[string]string
	if err := json.Unmarshal([]byte(must(t, "backends", "--json")), &rows); err != nil || len(rows) != 3 || rows[0]["name"] != "cpu" {
		t.Errorf("backends --json: %v %v", rows, err)
	}
}

// TestOpt: the text that opt prints is a model that opt and run read again.
func TestOpt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "double.ssd")
	text := "graph double (float[B,4] x) => (float[B,4] y)\n< float[] two = {2} > {\n  float[B,4] y = Mul-14 (x, two)\n}\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	once := must(t, "opt", path)
	if err := os.WriteFile(path, []byte(once), 0o600); err != nil {
		t.Fatal(err)
	}
	if twice := must(t, "opt", path); twice != once || !strings.Contains(once, "Mul-14") {
		t.Errorf("first\n%s\nthen\n%s", once, twice)
	}
	if out := must(t, "run", path, "--random", "--shape", "B=3"); !strings.Contains(out, "float[3,4]") {
		t.Errorf("run prints\n%s", out)
	}
	file := filepath.Join(t.TempDir(), "out.ssd")
	must(t, "opt", path, "-o", file)
	if got, _ := os.ReadFile(file); string(got) != once {
		t.Errorf("opt -o wrote\n%s", got)
	}
	fails(t, 1, []string{"out.dot", "no exporter", ".ssd"}, "opt", path, "-o", filepath.Join(t.TempDir(), "out.dot"))
	some := must(t, "opt", decode+"/model.onnx", "--pass", "canon")
	if strings.Contains(some, "ssm.SSD") || !strings.Contains(must(t, "opt", decode+"/model.onnx"), "ssm.SSD") {
		t.Error("opt --pass canon fuses, or opt does not")
	}
	if out := must(t, "opt", prefill+"/model.onnx", "--pass", "canon", "--bind", "batch=3"); !strings.Contains(out, "input_ids") || !strings.Contains(out, "[3,") {
		t.Errorf("--bind batch=3 left\n%.300s", out)
	}
}

func TestDemo(t *testing.T) {
	m := keys(t, must(t, "demo", "--seq", "16", "--json"), "source", "fused", "artifact_bytes", "seconds", "relative_error", "unfused_ms", "fused_ms")
	if e := m["relative_error"].(float64); !(e > 0 && e <= 1e-5) {
		t.Errorf("relative error %v", e)
	}
	if f := m["fused"].(map[string]any); f["ssm.SSD"] != 2.0 {
		t.Errorf("fused %v", f)
	}
	out := must(t, "demo", "--seq", "16")
	for _, want := range []string{"compiled", "fused", "against PyTorch in float64", "without fusion", "with fusion", "times as fast"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
}

// TestHelp: every command says what it does, how it is called, and by what
// example; nothing in it is longer than a terminal is wide.
func TestHelp(t *testing.T) {
	root, err := New(std.Plugin)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range root.Commands() {
		if c.Short == "" || c.Long == "" && c.Name() != "help" {
			t.Errorf("%s has no help", c.Name())
		}
		for _, l := range strings.Split(c.Long, "\n") {
			if len(l) > 90 {
				t.Errorf("%s: help line of %d columns: %s", c.Name(), len(l), l)
			}
		}
		if out := must(t, c.Name(), "--help"); !strings.Contains(out, "Usage:") {
			t.Errorf("%s --help prints\n%s", c.Name(), out)
		}
	}
	if out := must(t); !strings.Contains(out, "ssdc demo") {
		t.Errorf("ssdc alone prints\n%s", out)
	}
	if out := must(t, "--version"); !strings.HasPrefix(out, "ssdc ") {
		t.Errorf("--version prints %q", out)
	}
}
