package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/ssdc-go/ssdc"
	"github.com/ssdc-go/ssdc/backends"
	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/cmd/runner"
	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/internal/wholefile"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/passes/lengths"
)

// compileFlags are the options that compile, explain and export share.
type compileFlags struct {
	level    string
	target   string
	threads  int
	weights  string
	logits   string
	carry    bool
	symbols  []string
	states   []string
	noStates bool
	inexact  bool
	require  []string
	printIR  string
	changed  bool
	settings []string
}

func (f *compileFlags) add(c *cobra.Command) {
	f.addPasses(c)
	c.Flags().StringVar(&f.target, "target", "cpu", "`BACKEND` to compile for (see ssdc backends)")
	c.Flags().StringArrayVar(&f.settings, "set", nil, "`KEY=VALUE` for the backend, as in compute=bf16 for cuda; may repeat")
}

// addPasses adds the flags of reading a model and running passes.
func (f *compileFlags) addPasses(c *cobra.Command) {
	f.target = "cpu"
	fl := c.Flags()
	fl.StringVarP(&f.level, "opt", "O", "1", "optimisation `LEVEL`: 1, or 0 to take the graph as it stands")
	fl.StringArrayVar(&f.symbols, "bind", nil, "fix symbolic lengths: `NAME=N`, as in batch=1,seq=512")
	fl.StringArrayVar(&f.require, "require-fusion", nil, "`OP=N`: fail unless at least N such operators result, as in ssd=24 or ssm.CausalConv=24; may repeat")
	fl.BoolVar(&f.inexact, "inexact", false, "allow rewrites that are no mere rounding where a model guards against underflow; each leaves a remark")
	fl.StringVar(&f.printIR, "print-ir-after", "", "print the graph to stderr after this `PASS`, or after all")
	fl.BoolVar(&f.changed, "print-changed", false, "print the graph to stderr after each pass that changed it")
}

// addArtifact adds the flags that only an artifact keeps.
func (f *compileFlags) addArtifact(c *cobra.Command) {
	fl := c.Flags()
	fl.IntVar(&f.threads, "threads", 0, "`N` threads that the artifact asks for (default: one per processor)")
	fl.StringVar(&f.weights, "weights", "f32", "`FORMAT` of constant matrices: f32 (exact), bf16, int8 (per channel) or int4 (groups of 32)")
	fl.StringVar(&f.logits, "logits", "all", "`POSITIONS` whose logits are computed: all, or last, which makes that output [batch,1,vocabulary]")
	fl.BoolVar(&f.carry, "carry-state", false, "give scans and convolutions that start from zero a state kept by the session, so that prompts run in segments")
	fl.StringArrayVar(&f.states, "state", nil, "`IN=OUT`: output OUT of a run is input IN of the next; may repeat (default: found)")
	fl.BoolVar(&f.noStates, "no-state", false, "pair no inputs and outputs as recurrent state")
}

// fusedName lets --require-fusion ssd=24 stand for ssm.SSD=24. Of operators with
// one name, ssdc's own comes first and ONNX's second.
func (a *app) fusedName(s string) (string, error) {
	found, rank := "", 0
	for _, r := range a.set.Registry.Table.All() {
		full, k := r.ID.Name, 2
		switch r.ID.Domain {
		case "":
		case "ssm":
			full, k = "ssm."+full, 3
		default:
			full, k = r.ID.Domain+"."+full, 1
		}
		if strings.EqualFold(s, full) {
			return full, nil
		}
		if strings.EqualFold(s, r.ID.Name) && k > rank {
			found, rank = full, k
		}
	}
	if found == "" {
		return "", runner.Usagef("--require-fusion: no operator %q; ssdc ops lists them", s)
	}
	return found, nil
}

func noOptimisation(level string) (bool, error) {
	if level != "0" && level != "1" {
		return false, runner.Usagef("-O %s: want 0 or 1", level)
	}
	return level == "0", nil
}

func (a *app) options(f *compileFlags, p *progress) (ssdc.Options, error) {
	o := ssdc.Options{Target: f.target, Threads: f.threads, Weights: f.weights, CarryState: f.carry, NoStates: f.noStates, Inexact: f.inexact}
	if _, err := gemm.ParseFormat(f.weights); err != nil {
		return o, runner.Usagef("--weights: %v", err)
	}
	if f.carry && f.noStates {
		return o, runner.Usagef("--carry-state and --no-state exclude each other")
	}
	switch f.logits {
	case "", "all":
	case "last":
		o.LastLogits = true
	default:
		return o, runner.Usagef("--logits %s: want all or last", f.logits)
	}
	var err error
	if o.NoOpt, err = noOptimisation(f.level); err != nil {
		return o, err
	}
	if f.threads < 0 {
		return o, runner.Usagef("--threads %d: want 1 or more, or 0 for one per processor", f.threads)
	}
	if _, err := a.set.Registry.Backend(f.target); err != nil {
		return o, err
	}
	if o.Symbols, err = runner.ParseShape(f.symbols); err != nil {
		return o, runner.Usagef("%s", strings.Replace(err.Error(), "--shape", "--bind", 1))
	}
	for _, s := range f.states {
		in, out, ok := strings.Cut(s, "=")
		if !ok {
			return o, runner.Usagef("--state %q: want IN=OUT", s)
		}
		o.States = append(o.States, backends.StatePair{In: in, Out: out})
	}
	for _, s := range f.settings {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return o, runner.Usagef("--set %q: want KEY=VALUE, as in compute=bf16", s)
		}
		if o.Settings == nil {
			o.Settings = map[string]string{}
		}
		o.Settings[k] = v
	}
	for _, s := range f.require {
		name, n, ok := strings.Cut(s, "=")
		k, err := strconv.Atoi(n)
		if !ok || err != nil || k < 0 {
			return o, runner.Usagef("--require-fusion %q: want OP=N, as in ssd=24", s)
		}
		if o.RequireFusion == nil {
			o.RequireFusion = map[string]int{}
		}
		if name, err = a.fusedName(name); err != nil {
			return o, err
		}
		o.RequireFusion[name] = k
	}
	if f.printIR != "" && f.printIR != "all" {
		found := false
		for _, q := range a.set.Pipeline {
			found = found || q.Name == f.printIR
		}
		if !found {
			return o, runner.Usagef("--print-ir-after %s: no such pass; the passes are %s", f.printIR, a.passNames())
		}
	}
	last := ""
	o.Observe = func(s *passes.Pass, g *graph.Graph, changed bool, took time.Duration) {
		p.observe(s, g, changed, took)
		if f.changed {
			text := g.String()
			if last != "" {
				changed = text != last
			}
			last = text
		}
		if f.printIR == s.Name || f.printIR == "all" || f.changed && changed {
			fmt.Fprintf(p.w, "# after %s\n", s.Name)
			_ = graph.Print(p.w, g) // a broken stderr cannot be reported anyway
		}
	}
	return o, nil
}

func (a *app) passNames() string {
	var s []string
	for _, p := range a.set.Pipeline {
		s = append(s, p.Name)
	}
	return strings.Join(s, ", ")
}

// Compile is what compile --json prints; keys are stable.
type Compile struct {
	Source        string               `json:"source"`
	Artifact      string               `json:"artifact"`
	Fused         map[string]int       `json:"fused"`
	ArtifactBytes int64                `json:"artifact_bytes"`
	Seconds       float64              `json:"seconds"`
	Nodes         int                  `json:"nodes"`
	States        []backends.StatePair `json:"states"`
	Remarks       []passes.Remark      `json:"remarks"`
}

func (a *app) compileCommand() *cobra.Command {
	var f compileFlags
	var out string
	var asJSON bool
	c := &cobra.Command{
		Use:   "compile MODEL",
		Short: "compile a model to an artifact",
		Long: `Compile an ONNX model to an artifact (.ssda), and print what was fused, how big the
artifact is and how long it took. What kept a scan from being fused is told by
ssdc explain; --require-fusion turns a miss into an error.`,
		Example: "  ssdc compile model.onnx -o model.ssda\n  ssdc compile model.onnx -o model.ssda --require-fusion ssd=24",
		Args:    runner.One("MODEL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if out == "" {
				out = strings.TrimSuffix(args[0], filepath.Ext(args[0])) + ".ssda"
			}
			p := newProgress(cmd.ErrOrStderr())
			o, err := a.options(&f, p)
			if err != nil {
				return err
			}
			o.Warn = warner(cmd.ErrOrStderr(), args[0])
			if err := wholefile.Check(out); err != nil {
				return err
			}
			if same(args[0], out) {
				return fmt.Errorf("cannot write %s: it is the model itself; name another file with -o", out)
			}
			start := time.Now()
			c, err := ssdc.BuildWith(cmd.Context(), a.set, args[0], o)
			if err != nil {
				return err
			}
			p.step("writing " + out)
			if err := c.Write(out); err != nil {
				return err
			}
			p.done()
			info, err := os.Stat(out)
			if err != nil {
				return err
			}
			r := Compile{
				Source: args[0], Artifact: out, Fused: c.Fused, ArtifactBytes: info.Size(), Seconds: time.Since(start).Seconds(),
				Nodes: len(c.Plan.Graph.Nodes), States: list(c.Plan.States), Remarks: list(c.Remarks),
			}
			if asJSON {
				return runner.PrintJSON(cmd.OutOrStdout(), r)
			}
			r.print(cmd.OutOrStdout())
			return nil
		},
	}
	f.add(c)
	f.addArtifact(c)
	c.Flags().StringVarP(&out, "output", "o", "", "`FILE` to write (default: the model's name with .ssda)")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON: source, artifact, fused{op: count}, artifact_bytes, seconds, nodes, states, remarks")
	return c
}

// same reports whether two names mean one existing file.
func same(a, b string) bool {
	x, err := os.Stat(a)
	y, err2 := os.Stat(b)
	return err == nil && err2 == nil && os.SameFile(x, y)
}

// list makes an empty list of nil, which JSON would print as null.
func list[T any](s []T) []T { return append([]T{}, s...) }

func (r *Compile) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %s in %.2f s, %d nodes\n", r.Artifact, Size(r.ArtifactBytes), r.Seconds, r.Nodes)
	fmt.Fprintf(w, "fused: %s\n", fusedLine(r.Fused))
	if len(r.States) > 0 {
		fmt.Fprintf(w, "recurrent state: %d pairs, %s -> %s", len(r.States), r.States[0].Out, r.States[0].In)
		if len(r.States) > 1 {
			fmt.Fprint(w, ", ...")
		}
		fmt.Fprintln(w)
	}
	for _, m := range r.Remarks {
		if m.Done && m.Pass == lengths.Pass.Name {
			fmt.Fprintf(w, "note: %s\n", m.Why)
		}
	}
	missed := 0
	for _, m := range r.Remarks {
		if !m.Done {
			missed++
		}
	}
	if missed > 0 {
		fmt.Fprintf(w, "%d candidates were not fused; ssdc explain %s tells why\n", missed, r.Source)
	}
}

func fusedLine(fused map[string]int) string {
	if len(fused) == 0 {
		return "nothing"
	}
	var names []string
	for k := range fused {
		names = append(names, k)
	}
	sort.Strings(names)
	for i, k := range names {
		names[i] = fmt.Sprintf("%d %s", fused[k], k)
	}
	return strings.Join(names, ", ")
}

// Size prints a number of bytes for people.
func Size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.2f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
