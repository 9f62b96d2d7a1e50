// Package ssdc compiles models, state-space models above all, and runs them.
//
//	m, err := ssdc.Compile(ctx, "model.onnx", ssdc.Options{})   // or ssdc.Open("model.ssda")
//	s, err := m.NewSession()
//	out, err := s.Run(ctx, map[string]*tensor.Tensor{"input_ids": ids})
//
// A model comes from an ONNX file or a compiled artifact. Compilation recovers
// the scans of Mamba-2 and Mamba from however the exporter spelled them and
// replaces them by fused operators, each rewrite certified in float64. A session
// keeps recurrent state between runs; it can be reset, cloned, saved and restored.
//
// Package plugin extends the compiler by values; Compiler.Plugins takes them.
package ssdc

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"sort"
	"strings"
	"time"

	"github.com/ssdc-go/ssdc/backends"
	format "github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/exporters/artifact"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/carry"
	"github.com/ssdc-go/ssdc/plugin"
	"github.com/ssdc-go/ssdc/std"
)

// Model is an opened model; Session runs it.
type (
	Model   = model.Model
	Session = model.Session
)

// Options say how to compile. The zero value optimises for this machine's CPU.
type Options struct {
	// Level 1 is the default; use NoOpt for none, where every operator of the
	// file runs as it stands.
	NoOpt bool
	// Target is the backend: "cpu" (default), "cuda" or "ref".
	Target string
	// Threads of the CPU backend; 0 means one per processor.
	Threads int
	// Weights is how constant matrices are stored: "f32" (default, exact), "bf16",
	// "int8" or "int4".
	Weights string
	// LastLogits keeps, of the output "logits" or the only output that looks like
	// it, the last position: [B,L,V] becomes [B,1,V], and nothing is computed for
	// the others that only their logits need.
	LastLogits bool
	// Inexact allows rewrites that are the better number where a model guards
	// against underflow, but not the same one: Mamba's cumulative-sum trick with
	// its 1e-12. Each leaves a remark.
	Inexact bool
	// Settings are the backend's own, by name: {"compute": "bf16"} for cuda.
	Settings map[string]string
	// CarryState gives scans and convolutions that start from zero a state to start
	// from, kept by the session: a model for whole prompts then also takes them in
	// pieces (Session.RunSegments), and single tokens after them.
	CarryState bool
	// Symbols fixes symbolic lengths of the inputs: {"batch": 1}.
	Symbols map[string]int64
	// States pairs recurrent inputs with the outputs that replace them. Nil
	// finds them: past_x with present_x, and the states of fused scans.
	States []backends.StatePair
	// NoStates leaves every input to the caller.
	NoStates bool
	// RequireFusion fails the compilation when fewer fused operators than
	// asked for are found: {"ssm.SSD": 24}.
	RequireFusion map[string]int
	// Plugins are added to the standard one.
	Plugins []plugin.Plugin
	// Observe is called after every pass.
	Observe func(p *passes.Pass, g *graph.Graph, changed bool, took time.Duration)
	// Warn is called with each of Source.Warnings once the model is read.
	Warn func(warning string)
}

// Compiled is the result of a compilation, before it is written or opened.
type Compiled struct {
	Plan    *backends.Plan
	Fused   map[string]int
	Remarks []passes.Remark
	Source  *plugin.Source
	Path    string
	set     *plugin.Set
}

// Compile imports, optimises and opens a model in memory.
func Compile(ctx context.Context, path string, o Options) (*Model, error) {
	c, err := Build(ctx, path, o)
	if err != nil {
		return nil, err
	}
	return c.Open()
}

// Open opens an artifact that Compiled.Write or `ssdc compile` wrote.
func Open(path string, plugins ...plugin.Plugin) (*Model, error) {
	set, err := join(plugins)
	if err != nil {
		return nil, err
	}
	return set.Registry.Open(path, model.Options{})
}

func join(plugins []plugin.Plugin) (*plugin.Set, error) {
	return plugin.Join(append([]plugin.Plugin{std.Plugin}, plugins...)...)
}

// Build imports and optimises a model.
func Build(ctx context.Context, path string, o Options) (*Compiled, error) {
	set, err := join(o.Plugins)
	if err != nil {
		return nil, err
	}
	return BuildWith(ctx, set, path, o)
}

// OptimiseWith imports a model and runs the passes: all of Build but the plan.
// The graph is Source.Graph of the result.
func OptimiseWith(ctx context.Context, set *plugin.Set, path string, o Options) (*Compiled, error) {
	src, err := Import(ctx, set, path, o.Symbols)
	if err != nil {
		return nil, err
	}
	for _, w := range src.Warnings {
		if o.Warn != nil {
			o.Warn(w)
		}
	}
	if o.LastLogits {
		if err := lastLogits(set.Registry.Table, src.Graph); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	pc := passes.NewContext(ctx, set.Registry.Table)
	pc.Observe, pc.Inexact, pc.Target = o.Observe, o.Inexact, cmp.Or(o.Target, "cpu")
	if !o.NoOpt {
		if err := set.Pipeline.Run(pc, src.Graph); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	if o.CarryState {
		if err := passes.RunOne(pc, carry.Pass, src.Graph); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	c := &Compiled{Fused: model.Fused(src.Graph), Remarks: pc.Remarks, Source: src, Path: path, set: set}
	if err := c.require(o.RequireFusion); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// BuildWith is Build with a plugin set that is put together already.
func BuildWith(ctx context.Context, set *plugin.Set, path string, o Options) (*Compiled, error) {
	c, err := OptimiseWith(ctx, set, path, o)
	if err != nil {
		return c, err
	}
	g := c.Source.Graph
	t := backends.Target{Name: o.Target, Threads: o.Threads, States: o.States}
	t.Options = o.Settings
	if o.Weights != "f32" {
		t.Weights = o.Weights
	}
	if t.Name == "" {
		t.Name = "cpu"
	}
	if t.Weights != "" && t.Name != "cpu" && t.Name != "cuda" {
		return c, fmt.Errorf("weights in %s: backend %q stores them as they are; compile for cpu or cuda", t.Weights, t.Name)
	}
	if !o.NoOpt {
		t.Level = 1
	}
	if t.States == nil && !o.NoStates {
		t.States = findStates(g, set)
	}
	b, err := set.Registry.Backend(t.Name)
	if err != nil {
		return c, err
	}
	if c.Plan, err = b.Compile(g, t); err != nil {
		return c, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Import reads a model and changes nothing in it. symbols fixes symbolic lengths.
func Import(ctx context.Context, set *plugin.Set, path string, symbols map[string]int64) (*plugin.Source, error) {
	switch info, err := os.Stat(path); {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, fmt.Errorf("%s is a folder; name the model file in it", path)
	case format.Is(path):
		return nil, fmt.Errorf("%s is a compiled artifact; name the model that it was made from", path)
	}
	imp, err := set.Importer(path)
	if err != nil {
		return nil, err
	}
	return imp.Load(ctx, path, set.Registry.Table, symbols)
}

func (c *Compiled) require(want map[string]int) error {
	var short []string
	for _, op := range sortedKeys(want) {
		if c.Fused[op] < want[op] {
			short = append(short, fmt.Sprintf("%d of %d %s", c.Fused[op], want[op], op))
		}
	}
	if len(short) == 0 {
		return nil
	}
	msg := "required fusions are missing: " + strings.Join(short, ", ")
	more := 0
	for _, r := range c.Remarks {
		switch {
		case r.Done:
		case more < shownMisses:
			msg += "\n  " + r.String()
			more++
		default:
			more++
		}
	}
	if more > shownMisses {
		msg += fmt.Sprintf("\n  and %d more: ssdc explain %s", more-shownMisses, c.Path)
	}
	return fmt.Errorf("%s", msg)
}

// shownMisses bounds the remarks in an error.
const shownMisses = 5

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// findStates pairs inputs and outputs that carry recurrent state: by name
// (past_x, present_x) and by the aliasing of fused scans.
func findStates(g *graph.Graph, set *plugin.Set) []backends.StatePair {
	var pairs []backends.StatePair
	taken := map[string]bool{}
	add := func(in, out *graph.Value) {
		if in.Type.DType == out.Type.DType && in.Type.Equal(out.Type) && !taken[in.Name] && !taken[out.Name] {
			taken[in.Name], taken[out.Name] = true, true
			pairs = append(pairs, backends.StatePair{In: in.Name, Out: out.Name})
		}
	}
	outputs := map[string]*graph.Value{}
	for _, v := range g.Outputs {
		outputs[v.Name] = v
	}
	inputs := map[*graph.Value]bool{}
	for _, v := range g.Inputs {
		inputs[v] = true
		if rest, ok := strings.CutPrefix(v.Name, "past"); ok {
			if out := outputs["present"+rest]; out != nil {
				add(v, out)
			}
		}
	}
	for _, n := range g.Nodes {
		op := set.Registry.Table.Lookup(n.Op)
		if op == nil {
			continue
		}
		for out := range n.Out {
			in, ok := op.Alias[out]
			if v := n.Input(in); ok && v != nil && inputs[v] && n.Out[out] != nil && n.Out[out].IsOutput() {
				add(v, n.Out[out])
			}
		}
	}
	return pairs
}

// Open opens the compiled model in memory.
func (c *Compiled) Open() (*Model, error) {
	return c.set.Registry.Load(c.Plan, nil, model.Options{})
}

// Write writes the artifact: complete, or not at all.
func (c *Compiled) Write(path string) error {
	var remarks strings.Builder
	for _, r := range c.Remarks {
		remarks.WriteString(r.String() + "\n")
	}
	return artifact.Write(path, &artifact.Contents{
		Meta: format.Meta{
			Producer: "ssdc " + Version(),
			Source:   filepath.Base(c.Path),
			Digest:   c.Source.Digest,
			Model:    c.Plan.Graph.Name,
			Plugins:  c.neededPlugins(),
			Notes:    map[string]string{"exporter": c.Source.Producer},
		},
		Plans:   []*backends.Plan{c.Plan},
		Remarks: remarks.String(),
	})
}

// neededPlugins lists plugins, other than the standard one, whose operators the
// graph uses or whose kernels the plan chose.
func (c *Compiled) neededPlugins() []string {
	need := map[string]bool{}
	add := func(source string) {
		if p, ok := strings.CutPrefix(source, "plugin "); ok && p != std.Plugin.Name {
			need[p] = true
		}
	}
	c.Plan.Graph.Walk(func(n *graph.Node) { add(c.set.Registry.Table.Source(n.Op)) })
	if c.Plan.Target.Name == c.set.CPU.Name() {
		for i, n := range c.Plan.Graph.Nodes {
			add(c.set.CPU.Source(n, c.Plan.Kernels[i]))
		}
	}
	return sortedKeys(need)
}

// Version is the version of this module, "devel" when built from a checkout.
func Version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range append(info.Deps, &info.Main) {
			if m.Path == "github.com/ssdc-go/ssdc" && m.Version != "" && m.Version != "(devel)" {
				return m.Version
			}
		}
	}
	return "devel"
}
