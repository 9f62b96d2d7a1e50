package ssdc_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ssdc-go/ssdc"

// layers says what packages may depend on, directly or through others: imports
// point down. A name stands for the package and all below it; "." is the root.
// Every package may depend on its own layer and on internal.
var layers = []struct {
	name string
	may  []string
	// outside lists what the layer may use beyond the standard library.
	outside []string
}{
	{"internal", nil, []string{"golang.org/x/image"}}, // WebP in ImageDecoder
	{"graph", nil, nil},
	{"ops", []string{"graph"}, []string{"golang.org/x/image"}},
	{"passes", []string{"graph", "ops"}, []string{"golang.org/x/image"}},
	{"backends", []string{"graph", "ops"}, []string{"golang.org/x/image", "golang.org/x/sys"}},
	{"importers", []string{"graph", "ops"}, []string{"golang.org/x/image", "golang.org/x/sys", "google.golang.org/protobuf"}},
	{"exporters", []string{"graph", "ops", "backends", "importers/onnx/proto"}, []string{"golang.org/x/image", "golang.org/x/sys", "google.golang.org/protobuf"}},
	{"conformance", []string{"graph", "ops", "importers", "backends"}, []string{"golang.org/x/image", "golang.org/x/sys", "google.golang.org/protobuf"}},
	{"plugin", []string{"graph", "ops", "passes", "backends"}, []string{"golang.org/x/image", "golang.org/x/sys"}},
	// What ssdc-run links: no importer and no pass.
	{"cmd/runner", []string{"graph", "ops", "backends"}, []string{"golang.org/x/image", "golang.org/x/sys", "github.com/spf13", "github.com/inconshreveable/mousetrap"}},
	{"cmd/ssdc-run", []string{"graph", "ops", "backends", "cmd/runner"}, []string{"golang.org/x/image", "golang.org/x/sys", "github.com/spf13", "github.com/inconshreveable/mousetrap"}},
}

// TestImports enforces layers, and that nothing but a command depends on cmd.
func TestImports(t *testing.T) {
	if testing.Short() {
		t.Skip("runs go list")
	}
	out, err := exec.Command("go", "list", "-f", `{{.ImportPath}}{{range .Deps}} {{.}}{{end}}`, "./...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	standard, err := exec.Command("go", "list", "std").Output()
	if err != nil {
		t.Fatalf("go list std: %v", err)
	}
	std := map[string]bool{"C": true, "unsafe": true}
	for _, p := range strings.Fields(string(standard)) {
		std[p] = true
	}
	seen := map[string]bool{}
	for _, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
		deps := strings.Fields(line)
		pkg := local(deps[0])
		for _, l := range layers {
			if !under(pkg, l.name) {
				continue
			}
			seen[l.name] = true
			may := append([]string{l.name, "internal"}, l.may...)
			for _, d := range deps[1:] {
				if std[d] || strings.HasPrefix(d, "vendor/") {
					continue
				}
				list, what := l.outside, d
				if d == module || strings.HasPrefix(d, module+"/") {
					list, what = may, local(d)
				}
				if !slices.ContainsFunc(list, func(a string) bool { return under(what, a) }) {
					t.Errorf("%s depends on %s; %s may use only %s", pkg, what, l.name, strings.Join(list, ", "))
				}
			}
		}
		if !under(pkg, "cmd") {
			for _, d := range deps[1:] {
				if under(local(d), "cmd") {
					t.Errorf("%s depends on %s: only commands may", pkg, local(d))
				}
			}
		}
	}
	for _, l := range layers {
		if !seen[l.name] {
			t.Errorf("layer %s has no package: is it renamed?", l.name)
		}
	}
}

// local is a package's path inside the module, "." for the root.
func local(path string) string {
	if path == module {
		return "."
	}
	return strings.TrimPrefix(path, module+"/")
}

// under reports whether path is a or below it.
func under(path, a string) bool { return path == a || strings.HasPrefix(path, a+"/") }
