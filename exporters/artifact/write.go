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
	// The weights come first: the table must know their sums, and this way each is
	// packed and hashed once.
	n := uint64(len(o.small) + 2) // and TABLE, WEIGHTS
	if err := o.pad(alignUp(format.HeaderSize+n*format.EntrySize, format.PageSize)); err != nil {
		return err
	}
	table, err := o.weights()
	if err != nil {
		return err
	}
	if err := o.json(format.SecTable, "", table); err != nil {
		return err
	}
	return o.finish(start)
}

// output is an artifact being written.
type output struct {
	w        io.WriteSeeker
	c        *Contents
	pos      uint64                       // bytes written
	small    []chunk                      // all sections but WEIGHTS
	sections []format.Section             // those written
	seen     map[[sha256.Size]byte]uint64 // places of stored tensors in WEIGHTS, by content
}

type chunk struct {
	name, target string
	data         []byte
}

func alignUp(n, to uint64) uint64 { return (n + to - 1) / to * to }

func (o *output) write(b []byte) error {
	o.pos += uint64(len(b))
	_, err := o.w.Write(b)
	return err
}

func (o *output) pad(to uint64) error { return o.write(make([]byte, to-o.pos)) }

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

// weights writes WEIGHTS and returns its table. One packed tensor is in memory at a
// time; one whose content was written before is not written again.
func (o *output) weights() ([]format.WeightEntry, error) {
	table, base, sums := []format.WeightEntry{}, o.pos, sha256.New()
	add := func(e format.WeightEntry, data []byte) error {
		sum := sha256.Sum256(data)
		off, stored := o.seen[sum]
		if !stored {
			align := uint64(format.WeightAlign)
			if len(data) >= format.LargeWeight {
				align = format.PageSize
			}
			if err := o.pad(alignUp(o.pos, align)); err != nil {
				return err
			}
			off = o.pos - base
			if err := o.write(data); err != nil {
				return err
			}
			o.seen[sum] = off
			sums.Write(sum[:])
		}
		e.Offset, e.Size, e.Sum = off, uint64(len(data)), hex.EncodeToString(sum[:])
		table = append(table, e)
		return nil
	}
	for _, p := range o.c.Plans {
		inline := map[string]bool{}
		for _, v := range p.Graph.Constants() {
			t := v.Const
			inline[v.Name] = t.DType.IsContainer() || t.Len() <= graph.InlineLimit
			if t.DType == tensor.String && !inline[v.Name] {
				data, err := json.Marshal(t.Strings)
				if err != nil {
					return nil, fmt.Errorf("weight %q: %w", v.Name, err)
				}
				e := format.WeightEntry{Target: p.Target.Name, Name: v.Name, Layout: format.LayoutStrings, DType: t.DType.String(), Shape: t.Shape}
				if err := add(e, data); err != nil {
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
			t, err := w.Load()
			if err != nil {
				return nil, fmt.Errorf("weight %q: %w", w.Name, err)
			}
			if len(t.Data) != w.Bytes() {
				return nil, fmt.Errorf("weight %q: %d bytes, the plan says %d", w.Name, len(t.Data), w.Bytes())
			}
			e := format.WeightEntry{Target: p.Target.Name, Name: w.Name, Layout: w.Layout, DType: w.DType.String(), Shape: w.Shape}
			if err := add(e, t.Data); err != nil {
				return nil, err
			}
		}
	}
	s := format.Section{Name: format.SecWeights, Offset: base, Size: o.pos - base}
	sums.Sum(s.Sum[:0])
	o.sections = append(o.sections, s)
	return table, nil
}

// finish writes the small sections and then, in front, the header.
func (o *output) finish(start int64) error {
	for _, c := range o.small {
		if err := o.pad(alignUp(o.pos, format.WeightAlign)); err != nil {
			return err
		}
		o.sections = append(o.sections, format.Section{Name: c.name, Target: c.target, Offset: o.pos, Size: uint64(len(c.data)), Sum: sha256.Sum256(c.data)})
		if err := o.write(c.data); err != nil {
			return err
		}
	}
	var entries []byte
	for _, s := range o.sections {
		entries = append(entries, s.Encode()...)
	}
	h := format.Header{Major: format.Major, Minor: format.Minor, FileSize: o.pos, Sections: uint32(len(o.sections)), TableSum: sha256.Sum256(entries)}
	if _, err := o.w.Seek(start, io.SeekStart); err != nil {
		return err
	}
	if _, err := o.w.Write(append(h.Encode(), entries...)); err != nil {
		return err
	}
	_, err := o.w.Seek(start+int64(h.FileSize), io.SeekStart)
	return err
}
