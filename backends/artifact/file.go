package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sort"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// File is an open artifact. Its weights are a read-only map of the file: they
// are valid until Close, and must not be written to.
type File struct {
	Meta     Meta
	Header   Header
	Sections []Section
	Weights  []WeightEntry

	path   string
	data   []byte
	file   *os.File // that data maps, from base on; or nil
	base   int64
	unmap  func() error
	places map[weightKey]int // in Weights
}

type weightKey struct{ target, name, layout string }

// Open maps an artifact and checks all of it but the contents of the weights.
func Open(path string) (*File, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	return OpenAt(path, 0, st.Size())
}

// Is reports whether the file at path starts as an artifact does, intact or not.
func Is(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	start := make([]byte, len(Magic))
	_, err = io.ReadFull(f, start)
	return err == nil && string(start) == Magic
}

// OpenAt opens an artifact that is part of a file, as at the end of a
// standalone program. offset must be a multiple of the page size.
func OpenAt(path string, offset, size int64) (*File, error) {
	data, file, unmap, err := mapFile(path, offset, size)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f, err := parse(data)
	if err != nil {
		_ = unmap() // the file is unusable anyway
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	f.path, f.file, f.base, f.unmap = path, file, offset, unmap
	return f, nil
}

// Parse reads an artifact in memory, which must be 64-byte aligned and stay
// unchanged.
func Parse(data []byte) (*File, error) {
	f, err := parse(data)
	if err != nil {
		return nil, fmt.Errorf("artifact: %w", err)
	}
	f.path, f.unmap = "artifact", func() error { return nil }
	return f, nil
}

func parse(data []byte) (*File, error) {
	h, err := decodeHeader(data)
	if err != nil {
		return nil, err
	}
	if h.FileSize != uint64(len(data)) {
		return nil, fmt.Errorf("the file has %d bytes, its header says %d: it is cut short or something was appended", len(data), h.FileSize)
	}
	tableEnd := HeaderSize + uint64(h.Sections)*EntrySize // at most 2^12*96: no overflow
	if tableEnd > uint64(len(data)) {
		return nil, fmt.Errorf("the section table of %d entries exceeds the file", h.Sections)
	}
	table := data[HeaderSize:tableEnd]
	if sha256.Sum256(table) != h.TableSum {
		return nil, fmt.Errorf("the section table is damaged (checksum)")
	}
	f := &File{Header: *h, data: data, places: map[weightKey]int{}}
	for len(table) > 0 {
		f.Sections = append(f.Sections, decodeSection(table))
		table = table[EntrySize:]
	}
	if err := f.checkSections(tableEnd); err != nil {
		return nil, err
	}
	if err := f.json(SecMeta, "", &f.Meta); err != nil {
		return nil, err
	}
	if err := f.json(SecTable, "", &f.Weights); err != nil {
		return nil, err
	}
	return f, f.checkWeights()
}

// checkSections makes sure that sections lie inside the file, apart from each
// other, and that the small ones are intact.
func (f *File) checkSections(start uint64) error {
	size := uint64(len(f.data))
	byPlace := slices.Clone(f.Sections)
	sort.Slice(byPlace, func(i, j int) bool { return byPlace[i].Offset < byPlace[j].Offset })
	end := start
	for _, s := range byPlace {
		if s.Offset > size || s.Size > size-s.Offset {
			return fmt.Errorf("section %s lies outside the file: %d bytes at %d of %d", s.label(), s.Size, s.Offset, size)
		}
		if s.Offset < end {
			return fmt.Errorf("section %s at %d overlaps what is before it", s.label(), s.Offset)
		}
		end = s.Offset + s.Size
		if s.Name == SecWeights && s.Offset%PageSize != 0 {
			return fmt.Errorf("section %s at %d does not start on a page", s.label(), s.Offset)
		}
	}
	seen := map[[2]string]bool{}
	for _, s := range f.Sections {
		if k := [2]string{s.Name, s.Target}; seen[k] {
			return fmt.Errorf("section %s is there twice", s.label())
		} else {
			seen[k] = true
		}
		if s.Name != SecWeights && sha256.Sum256(f.bytes(s)) != s.Sum {
			return fmt.Errorf("section %s is damaged (checksum)", s.label())
		}
	}
	return nil
}

func (s *Section) label() string {
	if s.Target != "" {
		return s.Name + " of " + s.Target
	}
	return s.Name
}

func (f *File) checkWeights() error {
	w, _ := f.section(SecWeights, "")
	for i, e := range f.Weights {
		d, ok := tensor.ParseDType(e.DType)
		want, fits := byteSize(d.Bits(), e.Shape)
		if d == tensor.String {
			want = e.Size
		}
		switch {
		case !ok || d.IsContainer() || !fits || want != e.Size:
			return fmt.Errorf("weight %q: %d bytes for %s%v", e.Name, e.Size, e.DType, e.Shape)
		case e.Offset > w.Size || e.Size > w.Size-e.Offset:
			return fmt.Errorf("weight %q lies outside its section: %d bytes at %d of %d", e.Name, e.Size, e.Offset, w.Size)
		case e.Offset%WeightAlign != 0:
			return fmt.Errorf("weight %q at %d is not aligned", e.Name, e.Offset)
		}
		k := weightKey{e.Target, e.Name, e.Layout}
		if _, dup := f.places[k]; dup {
			return fmt.Errorf("weight %q is there twice", e.Name)
		}
		f.places[k] = i
	}
	return nil
}

func (f *File) section(name, target string) (Section, bool) {
	for _, s := range f.Sections {
		if s.Name == name && s.Target == target {
			return s, true
		}
	}
	return Section{}, false
}

func (f *File) bytes(s Section) []byte { return f.data[s.Offset : s.Offset+s.Size : s.Offset+s.Size] }

// Section returns the bytes of a section, or nil.
func (f *File) Section(name, target string) []byte {
	s, ok := f.section(name, target)
	if !ok {
		return nil
	}
	return f.bytes(s)
}

func (f *File) json(name, target string, into any) error {
	s, ok := f.section(name, target)
	if !ok {
		return fmt.Errorf("section %s is missing", (&Section{Name: name, Target: target}).label())
	}
	if err := json.Unmarshal(f.bytes(s), into); err != nil {
		return fmt.Errorf("section %s is damaged: %w", s.label(), err)
	}
	return nil
}

// Targets lists the targets that the artifact was compiled for.
func (f *File) Targets() []string {
	var out []string
	for _, s := range f.Sections {
		if s.Name == SecPlan {
			out = append(out, s.Target)
		}
	}
	return out
}

// IR is the text of the legalised graph of a target.
func (f *File) IR(target string) string { return string(f.Section(SecIR, target)) }

// Remarks is what the passes said.
func (f *File) Remarks() string { return string(f.Section(SecRemarks, "")) }

// Plan reads the plan of a target. t defines its operators.
func (f *File) Plan(target string, t *ops.Table) (*backends.Plan, error) {
	var p Plan
	if _, ok := f.section(SecPlan, target); !ok {
		return nil, fmt.Errorf("%s: compiled for %s, not for %q: compile the model again with --target=%s", f.path, strings.Join(f.Targets(), ", "), target, target)
	}
	if err := f.json(SecPlan, target, &p); err != nil {
		return nil, fmt.Errorf("%s: %w", f.path, err)
	}
	g, err := graph.Parse(bytes.NewReader(f.Section(SecIR, target)), func(name string, ty graph.Type, _ string) (*tensor.Tensor, error) {
		return f.constant(target, name, ty)
	})
	if err != nil {
		return nil, fmt.Errorf("%s: section IR of %s: %w", f.path, target, err)
	}
	if err := ops.Verify(t, g); err != nil {
		if len(f.Meta.Plugins) > 0 {
			err = fmt.Errorf("%w (the model needs plugin %s)", err, strings.Join(f.Meta.Plugins, ", "))
		}
		return nil, fmt.Errorf("%s: section IR of %s: %w", f.path, target, err)
	}
	if len(p.Kernels) != len(g.Nodes) {
		return nil, fmt.Errorf("%s: section PLAN of %s has %d kernels for %d nodes", f.path, target, len(p.Kernels), len(g.Nodes))
	}
	plan := &backends.Plan{Target: p.Target, Graph: g, States: p.States, Kernels: p.Kernels, Options: p.Options}
	for _, e := range f.Weights {
		if e.Target == target {
			d, _ := tensor.ParseDType(e.DType) // checked when the file was opened
			plan.Weights = append(plan.Weights, &backends.Weight{Name: e.Name, Layout: e.Layout, DType: d, Shape: e.Shape})
		}
	}
	return plan, nil
}

// constant gives the graph a constant: the stored tensor, or one without data
// when only packed forms are stored.
func (f *File) constant(target, name string, ty graph.Type) (*tensor.Tensor, error) {
	if t, err := f.weight(target, name, ""); err == nil {
		return t, nil
	}
	if t, err := f.weight(target, name, LayoutStrings); err == nil {
		return t, nil
	}
	shape, ok := ty.Static()
	if !ok || ty.DType.Size() == 0 {
		return nil, fmt.Errorf("no stored form of %s", ty)
	}
	for _, e := range f.Weights {
		if e.Target == target && e.Name == name {
			if _, ok := byteSize(ty.DType.Bits(), shape); !ok {
				return nil, fmt.Errorf("%s is too large", ty)
			}
			return &tensor.Tensor{DType: ty.DType, Shape: shape}, nil
		}
	}
	return nil, fmt.Errorf("no stored form of it")
}

// For gives the weights of a target.
func (f *File) For(target string) backends.Weights { return targetWeights{f, target} }

type targetWeights struct {
	f      *File
	target string
}

// Weight implements backends.Weights.
func (w targetWeights) Weight(name, layout string) (*tensor.Tensor, error) {
	return w.f.weight(w.target, name, layout)
}

// Reader implements backends.TableWeights.
func (w targetWeights) Reader(name string) io.ReaderAt {
	i, ok := w.f.places[weightKey{w.target, name, ""}]
	if !ok || w.f.file == nil {
		return nil
	}
	s, _ := w.f.section(SecWeights, "")
	e := w.f.Weights[i]
	return io.NewSectionReader(w.f.file, w.f.base+int64(s.Offset+e.Offset), int64(e.Size))
}

func (f *File) weight(target, name, layout string) (*tensor.Tensor, error) {
	i, ok := f.places[weightKey{target, name, layout}]
	if !ok {
		return nil, fmt.Errorf("%s: no weight %q in layout %q", f.path, name, layout)
	}
	e := f.Weights[i]
	d, _ := tensor.ParseDType(e.DType)
	data := f.weightBytes(e)
	if layout == LayoutStrings {
		t := &tensor.Tensor{DType: tensor.String, Shape: e.Shape}
		if err := json.Unmarshal(data, &t.Strings); err != nil || len(t.Strings) != t.Len() {
			return nil, fmt.Errorf("%s: weight %q is damaged", f.path, name)
		}
		return t, nil
	}
	if d == tensor.String {
		return nil, fmt.Errorf("%s: weight %q is damaged", f.path, name)
	}
	return &tensor.Tensor{DType: d, Shape: e.Shape, Data: data}, nil
}

func (f *File) weightBytes(e WeightEntry) []byte {
	w, _ := f.section(SecWeights, "")
	return f.data[w.Offset+e.Offset:][:e.Size:e.Size]
}

// Verify reads all weights, on all processors, and compares their sums. It
// names the first damaged one in the order of the file.
func (f *File) Verify() error {
	var todo []WeightEntry
	seen := map[uint64]bool{}
	for _, e := range f.Weights {
		if e.Size > 0 && !seen[e.Offset] { // targets share weights
			seen[e.Offset] = true
			todo = append(todo, e)
		}
	}
	damaged := make([]bool, len(todo))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(todo); i = int(next.Add(1)) - 1 {
				sum := sha256.Sum256(f.weightBytes(todo[i]))
				damaged[i] = hex.EncodeToString(sum[:]) != todo[i].Sum
			}
		})
	}
	wg.Wait()
	for i, bad := range damaged {
		if bad {
			return fmt.Errorf("%s: weight %q is damaged (checksum); compile the model again or copy the file again", f.path, todo[i].Name)
		}
	}
	return nil
}

// Size is the number of bytes of the artifact.
func (f *File) Size() int { return len(f.data) }

// Close unmaps the file. Plans, weights and executables made from it must not
// be used any more.
func (f *File) Close() error {
	f.data = nil
	return f.unmap()
}

// Unpacker turns a stored weight back into the row-major constant of the graph;
// backends/cpu.Backend has one.
type Unpacker func(p *backends.Plan, name, layout string, stored *tensor.Tensor) (*tensor.Tensor, error)

// Graph reads the legalised graph of a target with all constants row-major, for
// compiling it again.
func (f *File) Graph(target string, t *ops.Table, unpack Unpacker) (*graph.Graph, error) {
	p, err := f.Plan(target, t)
	if err != nil {
		return nil, err
	}
	layouts := map[string]string{}
	for _, w := range p.Weights {
		layouts[w.Name] = w.Layout
	}
	for _, v := range p.Graph.Constants() {
		c := v.Const
		if c.DType.Size() == 0 || len(c.Data) == c.DType.Bytes(c.Len()) {
			continue
		}
		stored, err := f.weight(target, v.Name, layouts[v.Name])
		if err != nil {
			return nil, err
		}
		full, err := unpack(p, v.Name, layouts[v.Name], stored)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.path, err)
		}
		if full.DType != c.DType || !slices.Equal(full.Shape, c.Shape) || len(full.Data) != c.DType.Bytes(c.Len()) {
			return nil, fmt.Errorf("%s: weight %q unpacks to %s, expected %s", f.path, v.Name, full.TypeString(), c.TypeString())
		}
		v.Const = full
	}
	return p.Graph, nil
}
