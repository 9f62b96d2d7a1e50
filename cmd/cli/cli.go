// Package cli is the ssdc command line. Main takes plugin values, so a compiler
// with extensions of its own is a main of ten lines:
//
//	func main() { cli.Main(std.Plugin, softcap.Plugin) }
package cli

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends/model"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
)

// Plugin is plugin.Plugin, named here for short mains.
type Plugin = plugin.Plugin

// Exit codes: 0 success, 1 the command failed, 2 the command line is wrong.
const (
	exitFailed = 1
	exitUsage  = 2
)

// Main runs the command line with the given plugins and exits.
func Main(plugins ...Plugin) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	root, err := New(plugins...)
	if err != nil {
		fmt.Fprintln(os.Stderr, "ssdc:", err)
		os.Exit(exitFailed)
	}
	os.Exit(Execute(ctx, root))
}

// Execute runs a command tree, prints its error as one line and returns the exit code.
func Execute(ctx context.Context, root *cobra.Command) int {
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return 0
	}
	fmt.Fprintf(root.ErrOrStderr(), "%s: %v\n", root.Name(), err)
	if isUsage(err) {
		fmt.Fprintf(root.ErrOrStderr(), "see %s --help\n", cmd.CommandPath())
		return exitUsage
	}
	return exitFailed
}

// isUsage recognises cobra's own complaints about the command line.
func isUsage(err error) bool {
	s := err.Error()
	for _, p := range []string{"unknown command", "unknown flag", "unknown shorthand", "flag needs", "invalid argument", "accepts ", "requires at least", "required flag"} {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

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
	root := &cobra.Command{
		Use:   "ssdc",
		Short: "compile and run state-space models outside PyTorch",
		Long: `ssdc compiles models, state-space models above all, to artifacts that run anywhere.

It reads ONNX exports of Mamba-2, Mamba and other models, recovers their scans from
however the exporter spelled them, replaces them by fused operators (each rewrite is
certified in float64), and runs them on fast CPU kernels.`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Version:       ssdc.Version(),
	}
	root.SetVersionTemplate("ssdc {{.Version}}\n")
	root.AddCommand(a.compileCommand(), runner.RunCommand(a.open), a.inspectCommand(), a.explainCommand(),
		runner.BenchCommand(a.open), a.optCommand(), a.conformanceCommand(), a.opsCommand(), a.backendsCommand(), a.demoCommand())
	return root, nil
}

// open opens an artifact, or compiles a model in memory.
func (a *app) open(ctx context.Context, path string, threads int) (*model.Model, error) {
	if isArtifact(path) {
		return a.set.Registry.Open(path, model.Options{Threads: threads})
	}
	p := newProgress(os.Stderr)
	c, err := ssdc.BuildWith(ctx, a.set, path, ssdc.Options{Threads: threads, Observe: p.observe})
	p.done()
	if err != nil {
		return nil, err
	}
	return c.Open()
}

// isArtifact looks at the name only: a broken artifact must be reported as one.
func isArtifact(path string) bool { return strings.HasSuffix(path, ".ssda") }

// progress reports passes on stderr once a compilation takes over a second.
type progress struct {
	w     *os.File
	start time.Time
	shown bool
}

func newProgress(w *os.File) *progress { return &progress{w: w, start: time.Now()} }

func (p *progress) observe(s *passes.Pass, g *graph.Graph, _ bool, took time.Duration) {
	if time.Since(p.start) < time.Second {
		return
	}
	p.shown = true
	fmt.Fprintf(p.w, "%6.1fs  %-12s %5.1fs  %d nodes\n", time.Since(p.start).Seconds(), s.Name, took.Seconds(), len(g.Nodes))
}

func (p *progress) done() {
	if p.shown {
		fmt.Fprintf(p.w, "%6.1fs  compiled\n", time.Since(p.start).Seconds())
	}
}
