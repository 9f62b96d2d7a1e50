// Package cli is the ssdc command line. Main takes plugin values, so a compiler
// with extensions of its own is a main of ten lines:
//
//	func main() { cli.Main(std.Plugin, softcap.Plugin) }
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/artifact"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
)

// Plugin is plugin.Plugin, named here for short mains.
type Plugin = plugin.Plugin

// Main runs the command line with the given plugins and exits.
func Main(plugins ...Plugin) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	root, err := New(plugins...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ssdc:", err)
		os.Exit(1)
	}
	code := Execute(ctx, root)
	stop() // os.Exit runs no deferred calls
	os.Exit(code)
}

// Execute runs a command tree, prints its error and returns the exit code:
// 0 success, 1 the command failed, 2 the command line is wrong.
func Execute(ctx context.Context, root *cobra.Command) int { return runner.Execute(ctx, root) }

// app is what the commands share.
type app struct {
	set *plugin.Set
}

// New makes the command tree.
func New(plugins ...Plugin) (*cobra.Command, error) {
	set, err := plugin.Join(plugins...)
	if err != nil {
		return nil, err
	}
	a := &app{set}
	root := runner.NewRoot("ssdc", "compile and run state-space models outside PyTorch",
		`ssdc compiles models, state-space models above all, to artifacts that run anywhere.

It reads ONNX exports of Mamba-2, Mamba and other models, recovers their scans from
however the exporter spelled them, replaces them by fused operators (each rewrite is
certified in float64), and runs them on fast CPU kernels.

  ssdc demo                                 see all of it on a model that ships with ssdc
  ssdc compile model.onnx -o model.ssda     compile
  ssdc run model.ssda -i in.npz -o out.npz  run

Exit codes: 0 success, 1 the command failed, 2 the command line is wrong.`)
	root.Version = ssdc.Version()
	root.SetVersionTemplate("ssdc {{.Version}}\n")
	root.AddCommand(a.compileCommand(), a.runCommand(), a.exportCommand(), a.inspectCommand(), a.explainCommand(), a.benchCommand(),
		a.profileCommand(), a.optCommand(), a.conformanceCommand(), a.opsCommand(), a.backendsCommand(), a.demoCommand())
	return root, nil
}

// runCommand is runner's, which here takes models as well as artifacts.
func (a *app) runCommand() *cobra.Command { return a.compiling(runner.RunCommand) }

func (a *app) benchCommand() *cobra.Command { return a.compiling(runner.BenchCommand) }

func (a *app) profileCommand() *cobra.Command { return a.compiling(runner.ProfileCommand) }

// compiling adds the flags for models that are compiled in memory.
func (a *app) compiling(make func(runner.Opener) *cobra.Command) *cobra.Command {
	var c *cobra.Command
	var level, target string
	c = make(func(ctx context.Context, path string, threads int) (*model.Model, error) {
		if err := runner.CheckFile(path); err != nil {
			return nil, err
		}
		if isArtifact(path) {
			if c.Flags().Changed("opt") || c.Flags().Changed("target") {
				return nil, runner.Usagef("-O and --target are for models; %s is compiled already", path)
			}
			return a.set.Registry.Open(path, model.Options{Threads: threads})
		}
		noOpt, err := noOptimisation(level)
		if err != nil {
			return nil, err
		}
		p := newProgress(c.ErrOrStderr())
		b, err := ssdc.BuildWith(ctx, a.set, path, ssdc.Options{Threads: threads, NoOpt: noOpt, Target: target, Observe: p.observe, Warn: warner(c.ErrOrStderr(), path)})
		p.done()
		if err != nil {
			return nil, err
		}
		return b.Open()
	})
	c.Flags().StringVarP(&level, "opt", "O", "1", "for a model: optimisation `LEVEL` 1, or 0 to run the graph as it stands")
	c.Flags().StringVar(&target, "target", "cpu", "for a model: `BACKEND` to compile for (see ssdc backends)")
	return c
}

// isArtifact goes by the start of the file, or by its name: a broken artifact
// must be reported as one.
func isArtifact(path string) bool { return strings.HasSuffix(path, ".ssda") || artifact.Is(path) }

// warner prints warnings about a model, a line each.
func warner(w io.Writer, path string) func(string) {
	return func(warning string) { fmt.Fprintf(w, "warning: %s: %s\n", path, warning) }
}

// progress reports passes on stderr once a compilation takes over a second.
type progress struct {
	w     io.Writer
	start time.Time
	shown bool
}

func newProgress(w io.Writer) *progress { return &progress{w: w, start: time.Now()} }

func (p *progress) observe(s *passes.Pass, g *graph.Graph, _ bool, took time.Duration) {
	if time.Since(p.start) < time.Second {
		return
	}
	p.shown = true
	fmt.Fprintf(p.w, "%6.1fs  %-12s %5.1fs  %d nodes\n", time.Since(p.start).Seconds(), s.Name, took.Seconds(), len(g.Nodes))
}

// step announces what follows the passes.
func (p *progress) step(what string) {
	if time.Since(p.start) >= time.Second {
		p.shown = true
		fmt.Fprintf(p.w, "%6.1fs  %s\n", time.Since(p.start).Seconds(), what)
	}
}

func (p *progress) done() {
	if p.shown {
		fmt.Fprintf(p.w, "%6.1fs  compiled\n", time.Since(p.start).Seconds())
	}
}
