package cli

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	pb "google.golang.org/protobuf/proto"

	format "github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/importers/onnx/proto"
)

// fails runs a command line that must end with the code and one line that has
// all the words; nothing may be printed on stdout.
func fails(t *testing.T, code int, words []string, args ...string) {
	t.Helper()
	r := call(t, args...)
	if r.code != code {
		t.Errorf("ssdc %s: exit code %d, want %d\n%s", strings.Join(args, " "), r.code, code, r.err)
		return
	}
	msg, rest, _ := strings.Cut(r.err, "\n")
	for _, w := range words {
		if !strings.Contains(msg, w) {
			t.Errorf("ssdc %s: no %q in\n%s", strings.Join(args, " "), w, r.err)
		}
	}
	if code == 1 && rest != "" || code == 2 && (!strings.HasPrefix(rest, "see ssdc") || strings.Count(rest, "\n") != 1) {
		t.Errorf("ssdc %s: more than one line:\n%s", strings.Join(args, " "), r.err)
	}
	if r.out != "" {
		t.Errorf("ssdc %s: printed\n%s", strings.Join(args, " "), r.out)
	}
}

func write(t *testing.T, path string, data []byte) string {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// empty checks that a folder holds only what is listed.
func empty(t *testing.T, dir string, but ...string) {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range all {
		names = append(names, e.Name())
	}
	if strings.Join(names, " ") != strings.Join(but, " ") {
		t.Errorf("the folder holds %v, want %v", names, but)
	}
}

func TestUsageErrors(t *testing.T) {
	for _, c := range []struct {
		args, word string
	}{
		{"frobnicate", `no command "frobnicate"`},
		{"compil x.onnx", `did you mean "compile"?`},
		{"frobnicate --help", `no command "frobnicate"`},
		{"--help frobnicate", `no command "frobnicate"`},
		{"compil -h", `did you mean "compile"?`},
		{"help frobnicate", `no command "frobnicate"`},
		{"compile", "needs a MODEL"},
		{"run a b", "takes one MODEL"},
		{"inspect", "needs an ARTIFACT"},
		{"backends x", "takes no arguments"},
		{"run --frob", "unknown flag: --frob"},
		{"run m --threads many", "many"},
		{"run m --threads -1", "--threads -1"},
		{"bench m --threads -1", "--threads -1"},
		{"compile m --threads -1", "--threads -1"},
		{"run m --shape batch", "--shape"},
		{"run m --shape batch=1", "goes with --random"},
		{"bench m --runs 0", "--runs 0"},
		{"compile m -O 7", "-O 7"},
		{"compile m --bind batch=x", "--bind"},
		{"compile m --state a", "IN=OUT"},
		{"compile m --require-fusion ssd", "OP=N"},
		{"compile m --require-fusion nosuch=1", `no operator "nosuch"`},
		{"compile m --print-ir-after nosuch", "the passes are"},
		{"opt m --pass nosuch", "the passes are"},
		{"conformance . --match (", "--match"},
		{"demo --seq 0", "--seq 0"},
	} {
		fails(t, 2, []string{c.word}, strings.Fields(c.args)...)
	}
}

// TestModelErrors: what is wrong with a model is said in one line that names
// the file, by every command that reads models; no artifact appears.
func TestModelErrors(t *testing.T) {
	dir := t.TempDir()
	out := t.TempDir()
	whole, err := os.ReadFile(decode + "/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	broken := map[string]string{
		filepath.Join(dir, "missing.onnx"): "no such file",
		dir:                                "folder",
		write(t, filepath.Join(dir, "text.onnx"), []byte("hello")):          "not an ONNX model",
		write(t, filepath.Join(dir, "empty.onnx"), nil):                     "not an ONNX model",
		write(t, filepath.Join(dir, "short.onnx"), whole[:len(whole)/2]):    "not an ONNX model, or is cut short",
		write(t, filepath.Join(dir, "other.bin"), []byte("PK\x03\x04 zip")): "not an ONNX model",
		artifactOf(t, decode): "is a compiled artifact",
	}
	for path, word := range broken {
		fails(t, 1, []string{word, path}, "compile", path, "-o", filepath.Join(out, "x.ssda"))
		fails(t, 1, []string{word, path}, "explain", path)
		fails(t, 1, []string{word, path}, "opt", path)
		if !strings.HasSuffix(path, ".ssda") {
			fails(t, 1, []string{word, path}, "run", path, "--random")
			fails(t, 1, []string{word, path}, "bench", path)
		}
	}
	empty(t, out)
}

// unsupported is a model with three nodes of two operators that do not exist.
func unsupported(t *testing.T) string {
	t.Helper()
	float := func(name string) *proto.ValueInfoProto {
		return &proto.ValueInfoProto{Name: name, Type: &proto.TypeProto{Value: &proto.TypeProto_TensorType{
			TensorType: &proto.TypeProto_Tensor{ElemType: 1, Shape: &proto.TensorShapeProto{}}}}}
	}
	m := &proto.ModelProto{
		IrVersion:   8,
		OpsetImport: []*proto.OperatorSetIdProto{{Version: 17}, {Domain: "com.example", Version: 1}},
		Graph: &proto.GraphProto{
			Name: "g", Input: []*proto.ValueInfoProto{float("x")}, Output: []*proto.ValueInfoProto{float("y")},
			Node: []*proto.NodeProto{
				{Name: "/layers.0/warp", Domain: "com.example", OpType: "Warp", Input: []string{"x"}, Output: []string{"a"}},
				{Name: "/layers.1/warp", Domain: "com.example", OpType: "Warp", Input: []string{"a"}, Output: []string{"b"}},
				{Name: "/head/frob", OpType: "Frobnicate", Input: []string{"b"}, Output: []string{"y"}},
			},
		},
	}
	data, err := pb.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, filepath.Join(t.TempDir(), "odd.onnx"), data)
}

// TestUnsupported: every operator that is missing is listed, with its nodes.
func TestUnsupported(t *testing.T) {
	fails(t, 1, []string{"odd.onnx", "com.example.Warp", "/layers.0/warp", "/layers.1/warp", "Frobnicate", "/head/frob", "plugin"},
		"compile", unsupported(t), "-o", filepath.Join(t.TempDir(), "x.ssda"))
}

func TestInputErrors(t *testing.T) {
	dir := t.TempDir()
	art := artifactOf(t, prefill)
	npy := func(name string, x *tensor.Tensor) string {
		path := filepath.Join(dir, name)
		if err := tensor.WriteNpyFile(path, x); err != nil {
			t.Fatal(err)
		}
		return path
	}
	ids := npy("ids.npy", tensor.From([]int64{1, 2, 3, 4}, 1, 4))
	three := npy("three.npy", tensor.From([]int64{1, 2, 3, 4}, 1, 2, 2))
	float := npy("float.npy", tensor.From([]float32{1, 2}, 1, 2))
	large := npy("large.npy", tensor.From([]int64{1, 1 << 40}, 1, 2))
	out := filepath.Join(dir, "out.npy")
	for _, c := range []struct {
		input string
		words []string
	}{
		{"input_id=" + ids, []string{`no input "input_id"`, `did you mean "input_ids"?`}},
		{three, []string{`"input_ids"`, "expected int64[batch", "got int64[1,2,2]"}},
		{float, []string{`"input_ids"`, "expected int64", "got float[1,2]"}},
		{large, []string{"1099511627776"}},
		{filepath.Join(dir, "missing.npy"), []string{"missing.npy", "no such file"}},
		{filepath.Join(dir, "missing.npz"), []string{"missing.npz", "no such file"}},
		{write(t, filepath.Join(dir, "bad.npy"), []byte("this is no array at all")), []string{"bad.npy", "magic bytes of a .npy file"}},
		{write(t, filepath.Join(dir, "bad.npz"), []byte("no arrays")), []string{"bad.npz", "not a .npz"}},
		{prefill + "/expected.npz", []string{"expected.npz", `no input "logits"`}},
		{"input_ids=" + prefill + "/expected.npz", []string{`no array "input_ids"`, "it has logits"}},
	} {
		fails(t, 1, c.words, "run", art, "--input", c.input, "--output", out)
		fails(t, 1, c.words, "bench", art, "--runs", "1", "--input", c.input)
	}
	fails(t, 1, []string{`input "input_ids"`, "is missing"}, "run", art)
	fails(t, 1, []string{"given twice"}, "run", art, "-i", ids, "-i", ids)
	fails(t, 1, []string{"--shape foo", "batch"}, "run", art, "--random", "--shape", "foo=3")
	fails(t, 1, []string{"2 inputs", "--input NAME="}, "run", artifactOf(t, models+"mamba2_dynamo_dyn_prefill_mask_g1n16"), "-i", ids)
	fails(t, 1, []string{"no.state", "no such file"}, "run", art, "--random", "--load-state", filepath.Join(dir, "no.state"))
	fails(t, 1, []string{"bad.npy", "restoring"}, "run", artifactOf(t, decode), "--random", "--load-state", filepath.Join(dir, "bad.npy"))
	if _, err := os.Stat(out); err == nil {
		t.Error("a failed run left an output")
	}
}

func TestOutputErrors(t *testing.T) {
	dir := t.TempDir()
	art := artifactOf(t, decode)
	f := func(name string) string { return filepath.Join(dir, name) }
	run := func(words []string, args ...string) {
		t.Helper()
		fails(t, 1, words, append([]string{"run", art, "--random"}, args...)...)
	}
	run([]string{`no output "logit"`, `did you mean "logits"?`}, "-o", "logit="+f("x.npy"))
	run([]string{"5 outputs", ".npz"}, "-o", f("x.npy"))
	run([]string{"x.npz", "there is no folder"}, "-o", f("no/x.npz"))
	run([]string{"there is no folder"}, "--save-state", f("no/x.state"))
	fails(t, 2, []string{"ends in .npy, .npz or .json"}, "run", art, "--random", "-o", "logits="+f("x.txt"))
	for _, args := range [][]string{{"-o", f("no/x.ssda")}, {"-o", f("no/x.ssda"), "--json"}} {
		fails(t, 1, []string{"cannot write", "x.ssda", "there is no folder"}, append([]string{"compile", decode + "/model.onnx"}, args...)...)
	}
	fails(t, 1, []string{"cannot write", dir, "folder"}, "compile", decode+"/model.onnx", "-o", dir)
	empty(t, dir)
}

// TestUnwritable: a folder without write permission.
func TestUnwritable(t *testing.T) {
	if os.Getuid() == 0 || runtime.GOOS == "windows" {
		t.Skip("this user may write everywhere")
	}
	art := artifactOf(t, decode)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o500); err != nil { //nolint:gosec // the point of the test
		t.Fatal(err)
	}
	fails(t, 1, []string{"cannot write", "x.ssda", "permission denied"}, "compile", decode+"/model.onnx", "-o", filepath.Join(dir, "x.ssda"))
	fails(t, 1, []string{"cannot write", "x.npz", "permission denied"}, "run", art, "--random", "-o", filepath.Join(dir, "x.npz"))
	empty(t, dir)
}

// TestDiskFull: a device without space, where the system has one.
func TestDiskFull(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("no /dev/full here")
	}
	art := artifactOf(t, decode)
	dir := t.TempDir()
	for _, name := range []string{"x.ssda", "x.npz", "x.npy", "x.state"} {
		if err := os.Symlink("/dev/full", filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	f := func(name string) string { return filepath.Join(dir, name) }
	fails(t, 1, []string{"cannot write " + f("x.ssda"), "no space"}, "compile", decode+"/model.onnx", "-o", f("x.ssda"))
	fails(t, 1, []string{"cannot write " + f("x.npz"), "no space"}, "run", art, "--random", "-o", f("x.npz"))
	fails(t, 1, []string{"cannot write " + f("x.npy"), "no space"}, "run", art, "--random", "-o", "logits="+f("x.npy"))
	fails(t, 1, []string{"cannot write " + f("x.state"), "no space"}, "run", art, "--random", "--save-state", f("x.state"))
	empty(t, dir, "x.npy", "x.npz", "x.ssda", "x.state")
}

// TestOldFileStays: a command that fails leaves an earlier output as it was.
func TestOldFileStays(t *testing.T) {
	dir := t.TempDir()
	out := write(t, filepath.Join(dir, "model.ssda"), []byte("earlier"))
	r := call(t, "compile", decode+"/model.onnx", "-o", out, "--require-fusion", "ssd=3")
	if r.code != 1 || !strings.Contains(r.err, "required fusions are missing: 2 of 3 ssm.SSD") || !strings.Contains(r.err, "model.onnx") {
		t.Errorf("exit code %d\n%s", r.code, r.err)
	}
	if got, _ := os.ReadFile(out); string(got) != "earlier" {
		t.Errorf("the old file holds %q", got)
	}
	empty(t, dir, "model.ssda")
}

// TestRequireFusion names what blocked the misses.
func TestRequireFusion(t *testing.T) {
	r := call(t, "explain", models+"scan_ssd/model.onnx", "-O", "0", "--require-fusion", "SSD=1")
	if r.code != 1 || !strings.Contains(r.err, "0 of 1 ssm.SSD") {
		t.Errorf("exit code %d\n%s", r.code, r.err)
	}
}

func TestArtifactErrors(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(artifactOf(t, decode))
	if err != nil {
		t.Fatal(err)
	}
	change := func(name string, f func(b []byte) []byte) string {
		return write(t, filepath.Join(dir, name), f(append([]byte{}, whole...)))
	}
	for path, words := range map[string][]string{
		filepath.Join(dir, "missing.ssda"):                                                                             {"no such file"},
		change("empty.ssda", func(b []byte) []byte { return nil }):                                                     {"too few"},
		change("text.ssda", func(b []byte) []byte { return []byte(strings.Repeat("no artifact ", 99)) }):               {"not an ssdc artifact"},
		change("short.ssda", func(b []byte) []byte { return b[:len(b)-1] }):                                            {"cut short"},
		change("long.ssda", func(b []byte) []byte { return append(b, 0) }):                                             {"appended"},
		change("header.ssda", func(b []byte) []byte { b[70] ^= 1; return b }):                                          {"damaged"},
		change("table.ssda", func(b []byte) []byte { b[140] ^= 1; return b }):                                          {"damaged"},
		change("meta.ssda", func(b []byte) []byte { b[strings.Index(string(b), `"producer"`)+3] ^= 1; return b }):      {"damaged"},
		change("newer.ssda", func(b []byte) []byte { binary.LittleEndian.PutUint16(b[8:], 2); return b }):              {"format 2.0", "reads 1.x", "newer ssdc", "ssdc compile"},
		change("text-mode.ssda", func(b []byte) []byte { return []byte(strings.ReplaceAll(string(b), "\r\n", "\n")) }): {"not an ssdc artifact"},
	} {
		for _, cmd := range []string{"run", "inspect", "bench"} {
			fails(t, 1, append(words, path), cmd, path)
		}
	}
	// The weights are mapped, not read: their sums are compared on request.
	flipped := change("weights.ssda", func(b []byte) []byte { b[format.PageSize+9] ^= 1; return b }) // the first weight
	fails(t, 1, []string{flipped, "damaged"}, "inspect", flipped, "--verify")
	fails(t, 1, []string{flipped, "damaged"}, "run", flipped, "--random")
	if r := call(t, "run", flipped, "--random", "--no-verify"); r.code != 0 {
		t.Errorf("--no-verify: exit code %d: %s", r.code, r.err)
	}
	fails(t, 1, []string{"is not an artifact", "ssdc compile"}, "inspect", decode+"/model.onnx")
	fails(t, 2, []string{`--weights: weight format "int3": expected f32, bf16, int8, int4`}, "compile", decode+"/model.onnx", "--weights", "int3")
	fails(t, 1, []string{"cannot run in segments", "--carry-state"}, "run", artifactOf(t, prefill), "--random", "--shape", "batch=1,seq=40", "--segment", "8")
	fails(t, 2, []string{"--segment -1"}, "run", artifactOf(t, prefill), "--random", "--segment", "-1")
	fails(t, 2, []string{"--logits first: want all or last"}, "compile", decode+"/model.onnx", "--logits", "first")
	fails(t, 2, []string{"compiled already"}, "run", artifactOf(t, decode), "-O", "0")
}

func TestOtherErrors(t *testing.T) {
	fails(t, 1, []string{`no backend "gpu"`, "cpu, ref"}, "compile", decode+"/model.onnx", "--target", "gpu", "-o", filepath.Join(t.TempDir(), "x.ssda"))
	fails(t, 1, []string{`no backend "gpu"`}, "conformance", t.TempDir(), "--target", "gpu")
	fails(t, 1, []string{"no test case"}, "conformance", t.TempDir())
	fails(t, 1, []string{"nowhere", "no such file"}, "conformance", "nowhere")
	fails(t, 1, []string{"batsh"}, "compile", prefill+"/model.onnx", "--bind", "batsh=1", "-o", filepath.Join(t.TempDir(), "x.ssda"))
	fails(t, 1, []string{"nosuch"}, "compile", decode+"/model.onnx", "--state", "nosuch=logits", "-o", filepath.Join(t.TempDir(), "x.ssda"))
}

// TestOverTheModel: an output that is the model itself, by any name, is refused
// before anything is written.
func TestOverTheModel(t *testing.T) {
	dir := t.TempDir()
	whole, err := os.ReadFile(decode + "/model.onnx")
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, filepath.Join(dir, "m.onnx"), whole)
	link := filepath.Join(dir, "l.onnx")
	if err := os.Symlink("m.onnx", link); err != nil {
		t.Skip(err)
	}
	for _, out := range []string{path, filepath.Join(dir, "..", filepath.Base(dir), "m.onnx"), link} {
		fails(t, 1, []string{"is the model itself"}, "compile", path, "-o", out)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != string(whole) {
		t.Errorf("the model has changed (%v)", err)
	}
}

// TestHugeLengths: lengths that no memory can hold end as an error.
func TestHugeLengths(t *testing.T) {
	path := artifactOf(t, prefill)
	for shape, word := range map[string]string{
		"sequence=99999999999":                 "memory",
		"batch=100000000,sequence=100000000":   "memory",
		"sequence=9223372036854775807,batch=2": "",
	} {
		fails(t, 1, []string{word}, "run", path, "--random", "--shape", shape)
	}
}

// TestSameFileTwice: of two outputs to one file only one could stay.
func TestSameFileTwice(t *testing.T) {
	out := filepath.Join(t.TempDir(), "y.npy")
	fails(t, 2, []string{"named twice"}, "run", artifactOf(t, prefill), "--random", "--output", "logits="+out, "--output", "logits="+out)
	fails(t, 2, []string{"NAME=FILE"}, "run", artifactOf(t, prefill), "--input", "input_ids=")
}

// TestUnknownSetting: a setting that nothing reads is refused, with those that something does.
func TestUnknownSetting(t *testing.T) {
	out := filepath.Join(t.TempDir(), "x.ssda")
	fails(t, 1, []string{"option ssd-chunks=64", "the cpu backend knows ssd-algo, ssd-chunk"}, "compile", decode+"/model.onnx", "-o", out, "--set", "ssd-chunks=64")
	fails(t, 1, []string{"option compute=bf16", "the ref backend has no settings"}, "compile", decode+"/model.onnx", "-o", out, "--target", "ref", "--set", "compute=bf16")
	must(t, "compile", decode+"/model.onnx", "-o", out, "--set", "ssd-chunk=64")
}
