// Package artifact writes .ssda files, compiled models. Package
// backends/artifact describes the format and reads it.
package artifact

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sort"

	"github.com/ssdc-go/ssdc/backends"
	format "github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// Contents is what goes into an artifact.
type Contents struct {
	// Meta needs Producer; the signature and the targets are filled in from
	// the first plan.
	Meta format.Meta
	// Plans holds one plan per target.
	Plans   []*backends.Plan
	Remarks string
}

// Write makes the file at path: complete, or not at all. Weights are packed and
// written one at a time. The same contents give the same bytes.
func Write(path string, c *Contents) error {
	return wholefile.WriteFile(path, func(f *os.File) error { return WriteTo(f, c) })
}

// WriteTo writes an artifact from the present position of w on, which counts as
// offset 0 of the artifact.
func WriteTo(w io.WriteSeeker, c *Contents) error {
	start, err := w.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	o := &output{w: w, c: c, seen: map[[sha256.Size]byte]uint64{}}
	if err := o.prepare(); err != nil {
		return err
	}
	// Weights come last in the file and first in time: the table that precedes
	// them must know their sums. So everything before them is sized up first.
	table, err := o.planWeights()
	if err != nil {
		return err
	}
	return o.write(start, table)
}

// output is an artifact being written.
type output struct {
	w     io.WriteSeeker
	c     *Contents
	small []chunk // all sections but WEIGHTS
	items []item  // stored tensors, each content once
	size  uint64  // of WEIGHTS
	seen  map[[sha256.Size]byte]uint64
}

type chunk struct {
	name, target string
	data         []byte
}

// item is a tensor in WEIGHTS.
type item struct {
	offset uint64
	load   func() ([]byte, error)
	sum    [sha256.Size]byte
}

// prepare makes META, IR, PLAN and REMARKS.
func (o *output) prepare() error {
	if len(o.c.Plans) == 0 {
		return fmt.Errorf("no plan to write")
	}
	meta := o.c.Meta
	meta.Targets = nil
	g := o.c.Plans[0].Graph
	meta.Model = g.Name
	meta.Inputs, meta.Outputs = ports(g.Inputs), ports(g.Outputs)
	meta.Symbols = symbols(g)
	for _, p := range o.c.Plans {
		t := p.Target.Name
		switch {
		case t == "" || !format.FitsName(t):
			return fmt.Errorf("target %q: expected a name of 1 to 16 bytes", t)
		case slices.Contains(meta.Targets, t):
			return fmt.Errorf("two plans for target %q", t)
		}
		meta.Targets = append(meta.Targets, t)
	}
	if err := o.json(format.SecMeta, "", meta); err != nil {
		return err
	}
	for _, p := range o.c.Plans {
		var text bytes.Buffer
		if err := graph.Print(&text, p.Graph); err != nil {
			return err
		}
		o.small = append(o.small, chunk{format.SecIR, p.Target.Name, text.Bytes()})
		if err := o.json(format.SecPlan, p.Target.Name, format.Plan{
			Target: p.Target, States: p.States, Kernels: p.Kernels, Options: p.Options,
		}); err != nil {
			return err
		}
	}
	if o.c.Remarks != "" {
		o.small = append(o.small, chunk{format.SecRemarks, "", []byte(o.c.Remarks)})
	}
	return nil
}

func ports(vs []*graph.Value) []format.Port {
	out := []format.Port{}
	for _, v := range vs {
		out = append(out, format.Port{Name: v.Name, Type: v.Type.String()})
	}
	return out
}

// symbols lists the symbolic lengths of the inputs, sorted.
func symbols(g *graph.Graph) []string {
	var out []string
	for _, v := range g.Inputs {
		for _, d := range v.Type.Shape {
			out = append(out, d.Symbols()...)
		}
	}
	sort.Strings(out)
	return slices.Compact(out)
}

func (o *output) json(name, target string, v any) error {
	b, err := json.MarshalIndent(v, "", " ")
	if err != nil {
		return err
	}
	o.small = append(o.small, chunk{name, target, append(b, '\n')})
	return nil
}

// planWeights gives every stored tensor its place and sum. It loads each once;
// write loads it again, so that no more than one packed tensor is in memory.
func (o *output) planWeights() ([]format.WeightEntry, error) {
	table := []format.WeightEntry{}
	add := func(target string, e format.WeightEntry, load func() ([]byte, error)) error {
		data, err := load()
		if err != nil {
			return fmt.Errorf("weight %q: %w", e.Name, err)
		}
		sum := sha256.Sum256(data)
		off, stored := o.seen[sum]
		if !stored {
			align := uint64(format.WeightAlign)
			if len(data) >= format.LargeWeight {
				align = format.PageSize
			}
			off = (o.size + align - 1) &^ (align - 1)
			o.size = off + uint64(len(data))
			o.seen[sum] = off
			o.items = append(o.items, item{off, load, sum})
		}
		e.Target, e.Offset, e.Size, e.Sum = target, off, uint64(len(data)), hex.EncodeToString(sum[:])
		table = append(table, e)
		return nil
	}
	for _, p := range o.c.Plans {
		inline := map[string]bool{}
		for _, v := range p.Graph.Constants() {
			t := v.Const
			inline[v.Name] = t.DType.IsContainer() || t.Len() <= graph.InlineLimit
			if t.DType == tensor.String && !inline[v.Name] {
				e := format.WeightEntry{Name: v.Name, Layout: format.LayoutStrings, DType: t.DType.String(), Shape: t.Shape}
				if err := add(p.Target.Name, e, func() ([]byte, error) { return json.Marshal(t.Strings) }); err != nil {
					return nil, err
				}
			}
		}
		for _, w := range p.Weights {
			if w.Layout == "" && inline[w.Name] {
				continue // the text has it
			}
			if w.Load == nil {
				return nil, fmt.Errorf("weight %q: the plan was read from a file and holds no data", w.Name)
			}
			e := format.WeightEntry{Name: w.Name, Layout: w.Layout, DType: w.DType.String(), Shape: w.Shape}
			if err := add(p.Target.Name, e, func() ([]byte, error) {
				t, err := w.Load()
				if err != nil {
					return nil, err
				}
				if len(t.Data) != w.Bytes() {
					return nil, fmt.Errorf("%d bytes, the plan says %d", len(t.Data), w.Bytes())
				}
				return t.Data, nil
			}); err != nil {
				return nil, err
			}
		}
	}
	return table, nil
}

// write streams the file and puts the header in front at the end.
func (o *output) write(start int64, table []format.WeightEntry) error {
	if err := o.json(format.SecTable, "", table); err != nil {
		return err
	}
	n := len(o.small) + 1
	pos := uint64(format.HeaderSize + n*format.EntrySize)
	if _, err := o.w.Write(make([]byte, pos)); err != nil {
		return err
	}
	pad := func(to uint64) error {
		_, err := o.w.Write(make([]byte, to-pos))
		pos = to
		return err
	}
	var entries []byte
	for _, c := range o.small {
		if err := pad((pos + 63) &^ 63); err != nil {
			return err
		}
		s := format.Section{Name: c.name, Target: c.target, Offset: pos, Size: uint64(len(c.data)), Sum: sha256.Sum256(c.data)}
		entries = append(entries, s.Encode()...)
		if _, err := o.w.Write(c.data); err != nil {
			return err
		}
		pos += s.Size
	}
	if err := pad((pos + format.PageSize - 1) &^ (format.PageSize - 1)); err != nil {
		return err
	}
	weights := format.Section{Name: format.SecWeights, Offset: pos, Size: o.size}
	sum := sha256.New()
	both := io.MultiWriter(o.w, sum)
	at := uint64(0)
	for _, it := range o.items {
		data, err := it.load()
		if err != nil {
			return err
		}
		for _, b := range [][]byte{make([]byte, it.offset-at), data} {
			if _, err := both.Write(b); err != nil {
				return err
			}
		}
		at = it.offset + uint64(len(data))
	}
	sum.Sum(weights.Sum[:0])
	entries = append(entries, weights.Encode()...)

	h := format.Header{Major: format.Major, Minor: format.Minor, FileSize: pos + o.size, Sections: uint32(n), TableSum: sha256.Sum256(entries)}
	if _, err := o.w.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := o.w.Write(append(h.Encode(), entries...)); err != nil {
		return err
	}
	_, err := o.w.Seek(start+int64(h.FileSize), io.SeekStart)
	return err
}
