// Package runner is the running half of the command line: inputs and outputs
// as .npy and .npz files, random inputs, the run and bench commands. It links
// neither importers nor passes, so that ssdc-run stays small.
package runner

import (
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/memory"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// ParseShape reads batch=1,seq=512.
func ParseShape(specs []string) (map[string]int64, error) {
	out := map[string]int64{}
	for _, spec := range specs {
		for _, part := range strings.Split(spec, ",") {
			name, val, ok := strings.Cut(part, "=")
			n, err := strconv.ParseInt(val, 10, 64)
			if !ok || err != nil || n < 0 || name == "" {
				return nil, Usagef("--shape %q: want NAME=LENGTH[,NAME=LENGTH...], as in batch=1,seq=512", spec)
			}
			out[name] = n
		}
	}
	return out, nil
}

// ReadInputs reads --input values: NAME=FILE.npy, FILE.npy for a model with
// one input beside the states that the session keeps, FILE.npz or FILE.json, whose members are named after inputs,
// NAME=FILE.npz, which takes that member alone, or NAME=FILE.json, which is the value itself.
func ReadInputs(m *model.Model, specs []string) (map[string]*tensor.Tensor, error) {
	in := map[string]*tensor.Tensor{}
	put := func(name string, t *tensor.Tensor) error {
		if in[name] != nil {
			return fmt.Errorf("input %q is given twice", name)
		}
		in[name] = t
		return nil
	}
	have := names(m.Inputs())
	for _, spec := range specs {
		name, path := split(spec)
		if path == "" {
			return nil, Usagef("--input %q: want NAME=FILE", spec)
		}
		if name == "" && !isNpz(path) && !isJSON(path) {
			given := slices.DeleteFunc(slices.Clone(have), func(s string) bool { return slices.Contains(m.States(), s) })
			if len(given) != 1 {
				return nil, fmt.Errorf("--input %s: the model has %d inputs (%s); write --input NAME=%s", spec, len(have), strings.Join(have, ", "), path)
			}
			name = given[0]
		}
		if name != "" && !slices.Contains(have, name) {
			return nil, fmt.Errorf("--input %s: %w", spec, backends.UnknownName("input", name, have))
		}
		if isJSON(path) {
			if err := readJSON(m, path, name, put); err != nil {
				return nil, err
			}
			continue
		}
		if !isNpz(path) {
			t, err := tensor.ReadNpyFile(path)
			if err != nil {
				return nil, err
			}
			if err := put(name, t); err != nil {
				return nil, err
			}
			continue
		}
		all, order, err := tensor.ReadNpz(path)
		if err != nil {
			return nil, err
		}
		if name != "" {
			if all[name] == nil {
				return nil, fmt.Errorf("%s has no array %q; it has %s", path, name, strings.Join(order, ", "))
			}
			order = []string{name}
		}
		for _, n := range order {
			if !slices.Contains(have, n) {
				return nil, fmt.Errorf("%s: %w", path, backends.UnknownName("input", n, have))
			}
			if err := put(n, all[n]); err != nil {
				return nil, err
			}
		}
	}
	return in, nil
}

// split cuts NAME=FILE; a value without a name is all file.
func split(spec string) (name, path string) {
	if name, path, ok := strings.Cut(spec, "="); ok {
		return name, path
	}
	return "", spec
}

func isNpz(path string) bool { return strings.HasSuffix(path, ".npz") }

func names(vs []*graph.Value) []string {
	var s []string
	for _, v := range vs {
		s = append(s, v.Name)
	}
	return s
}

// CheckOutputs checks --output values before the model runs for long.
func CheckOutputs(m *model.Model, specs []string) error {
	have, taken := names(m.Outputs()), map[string]bool{}
	for _, spec := range specs {
		name, path := split(spec)
		switch {
		case taken[filepath.Clean(path)]:
			return Usagef("--output %s: %s is named twice", spec, path)
		case !isNpz(path) && !isJSON(path) && !strings.HasSuffix(path, ".npy"):
			return Usagef("--output %s: want a file that ends in .npy, .npz or .json", spec)
		case name == "" && !isNpz(path) && !isJSON(path) && len(have) != 1:
			return fmt.Errorf("--output %s: the model has %d outputs (%s); write --output NAME=%s, or a .npz or .json file for all", spec, len(have), strings.Join(have, ", "), path)
		case name != "" && !slices.Contains(have, name):
			return fmt.Errorf("--output %s: %w", spec, backends.UnknownName("output", name, have))
		}
		if !isJSON(path) {
			for _, v := range m.Outputs() {
				if (name == "" || name == v.Name) && v.Type.DType.IsContainer() {
					return fmt.Errorf("--output %s: output %q is a %s, which is no array; write it as .json", spec, v.Name, v.Type)
				}
			}
		}
		if err := wholefile.Check(path); err != nil {
			return err
		}
		taken[filepath.Clean(path)] = true
	}
	return nil
}

// WriteOutputs writes --output values: NAME=FILE.npy, FILE.npy for a model
// with one output, or FILE.npz or FILE.json for all of them.
func WriteOutputs(m *model.Model, out map[string]*tensor.Tensor, specs []string) error {
	for _, spec := range specs {
		name, path := split(spec)
		if isJSON(path) {
			if err := wholefile.Write(path, func(w io.Writer) error { return writeJSONOutputs(w, m, out, name) }); err != nil {
				return err
			}
			continue
		}
		if isNpz(path) {
			var order []string
			var ts []*tensor.Tensor
			for _, v := range m.Outputs() {
				if name == "" || v.Name == name {
					order, ts = append(order, v.Name), append(ts, out[v.Name])
				}
			}
			if err := tensor.WriteNpzFile(path, order, ts); err != nil {
				return err
			}
			continue
		}
		if name == "" {
			name = m.Outputs()[0].Name
		}
		if err := tensor.WriteNpyFile(path, out[name]); err != nil {
			return err
		}
	}
	return nil
}

// Random makes inputs from the signature: normal numbers for floats, ids below
// the length of the table that they index for integers. Lengths come from
// shape, by symbol; batch-like symbols that are not given are 1. Recurrent
// states are left to the session.
func Random(m *model.Model, shape map[string]int64) (map[string]*tensor.Tensor, error) {
	rng := rand.New(rand.NewPCG(1, 2))
	state := map[string]bool{}
	for _, s := range m.States() {
		state[s] = true
	}
	bind, used := graph.Bindings{}, map[string]bool{}
	for _, v := range m.Inputs() {
		for _, d := range v.Type.Shape {
			s, scale, offset, ok := d.Affine()
			if !ok {
				continue
			}
			used[s] = true
			n, given := lookup(shape, s)
			switch {
			case !given:
				if bind[s] == 0 {
					bind[s] = 1
				}
				continue
			case shape[s] == 0: // named after the axis: n is the whole length
				if n < offset || (n-offset)%scale != 0 {
					return nil, fmt.Errorf("--shape: input %q is %s; %d is no such length", v.Name, v.Type, n)
				}
				n = (n - offset) / scale
			}
			bind[s] = n
		}
	}
	for s := range shape {
		if !matches(used, s) {
			return nil, fmt.Errorf("--shape %s: no input has such a length; the model has %s", s, strings.Join(keys(used), ", "))
		}
	}
	in := map[string]*tensor.Tensor{}
	for _, v := range m.Inputs() {
		if state[v.Name] {
			continue
		}
		if !v.Type.Ranked() || v.Type.DType.IsContainer() || v.Type.DType == tensor.String {
			return nil, fmt.Errorf("cannot make a random input %q of type %s; give it with --input", v.Name, v.Type)
		}
		dims := make([]int, len(v.Type.Shape))
		for i, d := range v.Type.Shape {
			n, err := d.Eval(bind)
			if err != nil {
				return nil, err
			}
			dims[i] = int(n)
		}
		what := fmt.Sprintf("a random input %q of shape %v", v.Name, dims)
		if err := memory.Check(what, memory.Product(max(v.Type.DType.Size(), 1), dims...)); err != nil {
			return nil, err
		}
		t := tensor.New(v.Type.DType, dims...)
		limit := tableLength(v)
		for i := range t.Len() {
			if v.Type.DType.IsFloat() {
				t.SetAt(i, rng.NormFloat64())
			} else {
				t.SetIntAt(i, rng.Int64N(limit))
			}
		}
		in[v.Name] = t
	}
	return in, nil
}

// lookup finds a length by its symbol; seq, sequence and seq_len mean the same,
// for symbols that exporters made up ("s77") only the exact name counts.
func lookup(shape map[string]int64, sym string) (int64, bool) {
	if n, ok := shape[sym]; ok {
		return n, true
	}
	for name, n := range shape {
		if alike(name, sym) {
			return n, true
		}
	}
	return 0, false
}

func alike(given, sym string) bool {
	return len(given) >= 3 && (strings.HasPrefix(strings.ToLower(sym), strings.ToLower(given)) || strings.HasPrefix(strings.ToLower(given), strings.ToLower(sym)) && len(sym) >= 3)
}

func matches(used map[string]bool, name string) bool {
	for s := range used {
		if s == name || alike(name, s) {
			return true
		}
	}
	return false
}

func keys(m map[string]bool) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	if len(out) == 0 {
		return []string{"only fixed lengths"}
	}
	return out
}

// tableLength bounds the ids of an integer input: the rows of the tables it is
// looked up in; 2 when it indexes none.
func tableLength(v *graph.Value) int64 {
	limit := int64(0)
	for _, u := range v.Uses {
		n := u.Node
		if n.Op.Is("", "Gather") && u.Index == 1 && n.In[0].Type.Rank() > 0 {
			if rows, ok := n.In[0].Type.Shape[n.Attrs.Int("axis", 0)].Const(); ok && (limit == 0 || rows < limit) {
				limit = rows
			}
		}
	}
	return max(limit, 2)
}
