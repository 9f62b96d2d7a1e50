// Package plugin defines what extends ssdc: a value with operators, kernels,
// passes, importers and exporters. The standard set is such a value itself
// (package std); a compiler with further plugins is a main of ten lines that
// passes more of them to cli.Main.
package plugin

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu"
	"github.com/ssdc-go/ssdc/backends/cuda"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/backends/ref"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
)

// Plugin is a set of extensions. Every field but Name may be left out.
type Plugin struct {
	Name string // as artifacts record it; "std" is the built-in one
	// Ops adds operators.
	Ops []*ops.Op
	// Kernels adds CPU kernels, ahead of those of earlier plugins.
	Kernels []*cpu.Kernel
	// Passes adds passes; each is placed after those it names in After.
	Passes []*passes.Pass
	// Importers reads further kinds of model files.
	Importers []*Importer
	// Exporters writes graphs in further formats, for ssdc opt.
	Exporters []*Exporter
}

// Importer reads model files of one kind.
type Importer struct {
	Name, Doc string
	Ext       []string // file name endings, with the dot
	Load      func(ctx context.Context, path string, t *ops.Table, symbols map[string]int64) (*Source, error)
}

// Source is an imported model.
type Source struct {
	Graph    *graph.Graph
	Producer string // "pytorch 2.9.1"
	Digest   string // SHA-256 of the file
	// What the file says about itself, kept when a graph is written again.
	Doc      string
	Metadata map[string]string
	Opsets   map[string]int // by domain; nil when the format has none
	// Warnings say what in the file is wrong but changes no result.
	Warnings []string
	// Origins tells where nodes, by Node.From, come from in the exported program;
	// nil when the format does not say.
	Origins func(names []string) (map[string]graph.Origin, error)
}

// Exporter writes graphs in one format.
type Exporter struct {
	Name, Doc string
	Ext       string // file name ending, with the dot
	Write     func(ctx context.Context, path string, t *ops.Table, g *graph.Graph) error
}

// Set is the sum of several plugins.
type Set struct {
	Registry  *model.Registry
	CPU       *cpu.Backend
	Pipeline  passes.Pipeline
	Importers []*Importer
	Exporters []*Exporter
}

// Join puts plugins together. Two that define the same thing are an error that
// names both.
func Join(plugins ...Plugin) (*Set, error) {
	t := &ops.Table{}
	s := &Set{Registry: &model.Registry{Table: t}}
	seen := map[string]bool{}
	for _, p := range plugins {
		if p.Name == "" {
			return nil, fmt.Errorf("a plugin has no name")
		}
		if seen[p.Name] {
			return nil, fmt.Errorf("two plugins are named %q", p.Name)
		}
		seen[p.Name] = true
		if err := t.Add("plugin "+p.Name, p.Ops...); err != nil {
			return nil, err
		}
	}
	s.CPU = cpu.New(t)
	s.Registry.Backends = []backends.Backend{s.CPU, ref.New(t), cuda.New(t)}
	for _, p := range plugins {
		s.Registry.Plugins = append(s.Registry.Plugins, p.Name)
		if err := s.CPU.Add("plugin "+p.Name, p.Kernels...); err != nil {
			return nil, err
		}
		for _, q := range p.Passes {
			s.Pipeline = s.Pipeline.Insert(q)
		}
		s.Importers = append(s.Importers, p.Importers...)
		s.Exporters = append(s.Exporters, p.Exporters...)
	}
	return s, s.Pipeline.Check()
}

// Exporter finds the exporter for a file by its ending.
func (s *Set) Exporter(path string) (*Exporter, error) {
	ext := strings.ToLower(filepath.Ext(path))
	var have []string
	for _, e := range s.Exporters {
		if e.Ext == ext {
			return e, nil
		}
		have = append(have, e.Ext)
	}
	return nil, fmt.Errorf("%s: no exporter writes %q files; this program has %s", path, ext, strings.Join(have, ", "))
}

// Importer finds the importer for a file by its ending; a file without a known
// one is taken for the first importer's kind.
func (s *Set) Importer(path string) (*Importer, error) {
	ext := strings.ToLower(filepath.Ext(path))
	for _, i := range s.Importers {
		for _, e := range i.Ext {
			if e == ext {
				return i, nil
			}
		}
	}
	if len(s.Importers) == 0 {
		return nil, fmt.Errorf("%s: this program has no importers", path)
	}
	return s.Importers[0], nil
}
