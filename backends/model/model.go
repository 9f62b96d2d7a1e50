// Package model opens compiled models and runs them. It is all that ssdc-run
// links besides operators and kernels: no importer, no pass.
package model

import (
	"context"
	"fmt"
	"io"
	"sort"
	"strings"
	"sync"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/backends/segment"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
)

// Registry knows operators and backends.
type Registry struct {
	Table    *ops.Table
	Backends []backends.Backend
	// Plugins names what the registry was built from, as artifacts record it.
	Plugins []string
}

// Backend finds a backend by name.
func (r *Registry) Backend(name string) (backends.Backend, error) {
	var have []string
	for _, b := range r.Backends {
		if b.Name() == name {
			return b, nil
		}
		have = append(have, b.Name())
	}
	return nil, fmt.Errorf("no backend %q; this program has %s", name, strings.Join(have, ", "))
}

// Model is an opened model. It may serve any number of sessions, each on a
// goroutine of its own.
type Model struct {
	Plan *backends.Plan
	// Meta is set for models opened from an artifact.
	Meta *artifact.Meta
	exe  backends.Executable
	file *artifact.File
	cut  func() (*segment.Cut, error)
}

// Options change how a model is opened.
type Options struct {
	// Target selects among the targets of an artifact; "" takes the first.
	Target string
	// Threads overrides the number of threads; 0 keeps that of the plan.
	Threads int
}

// Open opens an artifact. The weights are mapped, not read.
func (r *Registry) Open(path string, o Options) (*Model, error) {
	f, err := artifact.Open(path)
	if err != nil {
		return nil, err
	}
	m, err := r.open(f, o)
	if err != nil {
		_ = f.Close() // the first error says more
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func (r *Registry) open(f *artifact.File, o Options) (*Model, error) {
	have := map[string]bool{}
	for _, p := range r.Plugins {
		have[p] = true
	}
	for _, p := range f.Meta.Plugins {
		if !have[p] {
			return nil, fmt.Errorf("the artifact needs plugin %q, which this program lacks; run it with a program that was built with the plugin", p)
		}
	}
	target := o.Target
	if target == "" {
		if all := f.Targets(); len(all) > 0 {
			target = all[0]
		}
	}
	p, err := f.Plan(target, r.Table)
	if err != nil {
		return nil, err
	}
	m, err := r.Load(p, f.For(target), o)
	if err != nil {
		return nil, err
	}
	m.file, m.Meta = f, &f.Meta
	return m, nil
}

// Load opens a plan in memory. Weights nil means the plan's own.
func (r *Registry) Load(p *backends.Plan, w backends.Weights, o Options) (*Model, error) {
	b, err := r.Backend(p.Target.Name)
	if err != nil {
		return nil, err
	}
	if o.Threads > 0 {
		q := *p
		q.Target.Threads = o.Threads
		p = &q
	}
	exe, err := b.Open(p, w)
	if err != nil {
		return nil, err
	}
	cut := sync.OnceValues(func() (*segment.Cut, error) { return segment.Find(r.Table, p.Graph, p.States) })
	return &Model{Plan: p, exe: exe, cut: cut}, nil
}

// Artifact is the file the model was opened from, or nil.
func (m *Model) Artifact() *artifact.File { return m.file }

// Inputs lists the model's inputs.
func (m *Model) Inputs() []*graph.Value { return m.Plan.Graph.Inputs }

// Outputs lists the model's outputs.
func (m *Model) Outputs() []*graph.Value { return m.Plan.Graph.Outputs }

// Fused counts the operators of domains other than ai.onnx, and the fused ones
// of ai.onnx itself, by name: "ssm.SSD": 24.
func (m *Model) Fused() map[string]int { return Fused(m.Plan.Graph) }

// Fused counts fused operators in a graph.
func Fused(g *graph.Graph) map[string]int {
	out := map[string]int{}
	g.Walk(func(n *graph.Node) {
		switch {
		case n.Op.Is("ssm", "Dims"):
		case n.Op.Domain != "":
			out[n.Op.Domain+"."+n.Op.Name]++
		case n.Op.Name == "RMSNormalization" || n.Op.Name == "LayerNormalization" || n.Op.Name == "LinearAttention" || n.Op.Name == "CausalConvWithState":
			out[n.Op.Name]++
		}
	})
	return out
}

// Close ends the model's threads and unmaps its file. Its sessions, and
// results that they still own, must not be used any more.
func (m *Model) Close() error {
	err := m.exe.Close()
	if m.file != nil {
		if e := m.file.Close(); err == nil {
			err = e
		}
	}
	return err
}

// Session runs a model and keeps its recurrent state between runs. It is not
// safe for concurrent use.
type Session struct {
	backends.Session
	m *Model
}

// NewSession makes a session whose state is zero.
func (m *Model) NewSession() (*Session, error) {
	s, err := m.exe.NewSession()
	if err != nil {
		return nil, err
	}
	return &Session{s, m}, nil
}

// Model is the session's model.
func (s *Session) Model() *Model { return s.m }

// Run computes all outputs from inputs by name, see backends.Session. Results
// live in memory of the session and are overwritten by its next Run; Clone
// those that must stay.
func (s *Session) Run(ctx context.Context, in map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	return s.Session.Run(ctx, in, nil)
}

// RunInto is Run with result memory given by the caller, for the outputs in out.
func (s *Session) RunInto(ctx context.Context, in, out map[string]*tensor.Tensor) (map[string]*tensor.Tensor, error) {
	return s.Session.Run(ctx, in, out)
}

// Clone makes an independent session with a copy of the state.
func (s *Session) Clone() (*Session, error) {
	c, err := s.Session.Clone()
	if err != nil {
		return nil, err
	}
	return &Session{c, s.m}, nil
}

// Save writes the recurrent state.
func (s *Session) Save(w io.Writer) error { return s.Session.Save(w) }

// Restore reads a state that Save wrote.
func (s *Session) Restore(r io.Reader) error { return s.Session.Restore(r) }

// States lists the names of the recurrent inputs, sorted.
func (m *Model) States() []string {
	var out []string
	for _, p := range m.Plan.States {
		out = append(out, p.In)
	}
	sort.Strings(out)
	return out
}
