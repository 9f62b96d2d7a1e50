package ssdc_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ssdc-go/ssdc/graph"
	"github.com/ssdc-go/ssdc/graph/tensor"
	"github.com/ssdc-go/ssdc/ops"
	"github.com/ssdc-go/ssdc/passes"
	"github.com/ssdc-go/ssdc/plugin"
)

var (
	spellings = flag.Int("spellings", 400, "cases of TestSpellings")
	spellFrom = flag.Uint64("spelling", 0, "first case of TestSpellings")
)

// TestSpellings writes random recurrences in random spellings, every third with
// one thing changed, and runs the passes. Whatever they do, the graph must
// compute what it computed, in float64, and a spelling that is not recovered
// leaves a remark.
//
//	go test -run TestSpellings -spellings 10000 .     # many
//	go test -run TestSpellings -spelling 4711 -spellings 1 -v .
func TestSpellings(t *testing.T) {
	set := standard(t)
	type count struct {
		all, recovered, silent int
		why                    map[string][]uint64 // per kind of remark, the cases
	}
	var mu sync.Mutex
	shares, changed := map[string]*count{}, &count{}
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range next {
				v := guarded(set, seed)
				mu.Lock()
				silent := v.err == errSilent
				if *spellings == 1 && v.what == "" {
					t.Log(text(v.s.g), v.why)
				}
				if v.err != nil && !silent {
					t.Errorf("case %d, %s%s: %v", seed, v.s, v.what, v.err)
				}
				c := changed
				if v.what == "" {
					if c = shares[v.s.String()]; c == nil {
						c = &count{why: map[string][]uint64{}}
						shares[v.s.String()] = c
					}
				}
				c.all++
				if v.fused {
					c.recovered++
				} else if c != changed {
					kind := kindOf.ReplaceAllString(v.why, "_")
					c.why[kind] = append(c.why[kind], seed)
				}
				if silent {
					c.silent++
				}
				mu.Unlock()
			}
		})
	}
	for i := range uint64(*spellings) {
		next <- *spellFrom + i
	}
	close(next)
	wg.Wait()
	silent := 0
	for _, k := range slices.Sorted(maps.Keys(shares)) {
		c := shares[k]
		t.Logf("%-24s %4d of %4d recovered, %d left without a remark", k, c.recovered, c.all, c.silent)
		silent += c.silent
		for _, why := range slices.SortedFunc(maps.Keys(c.why), func(a, b string) int { return len(c.why[b]) - len(c.why[a]) }) {
			t.Logf("  %4d, such as %d: %s", len(c.why[why]), c.why[why][:min(3, len(c.why[why]))], why)
		}
	}
	t.Logf("%-24s %4d of %4d recovered", "with one thing changed", changed.recovered, changed.all)
	if silent > 0 {
		t.Errorf("%d of %d cases are left without a remark", silent, *spellings)
	}
}

// errSilent: no remark says why a spelling was not recovered.
var errSilent = errors.New("not recovered, and no remark says why")

// verdict is what one case came to.
type verdict struct {
	s     *speller
	what  string // was changed
	fused bool
	why   string // not, by the remarks
	err   error
}

// guarded makes a panic the failure of one case.
func guarded(set *plugin.Set, seed uint64) (v *verdict) {
	v = &verdict{s: &speller{}}
	defer func() {
		if p := recover(); p != nil {
			v.err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	v.err = v.spelling(set, seed)
	return v
}

// spelling runs one case.
func (v *verdict) spelling(set *plugin.Set, seed uint64) (err error) {
	if v.s, err = spell(set, seed); err != nil {
		return fmt.Errorf("the test's own graph is broken: %w", err)
	}
	s, table := v.s, set.Registry.Table
	r := rand.New(rand.NewPCG(seed, 5))
	src := s.g
	if seed%3 == 2 {
		for v.what == "" {
			src, _ = s.g.Clone()
			v.what = mutate(table, r, src)
		}
		v.what = ", but " + v.what
		if src.Sort() != nil {
			return nil
		}
		src.Sweep()
		if ops.InferGraph(table, src) != nil || ops.Verify(table, src) != nil {
			return nil
		}
	}
	g, _ := src.Clone()
	c := passes.NewContext(context.Background(), table)
	if err := set.Pipeline.Run(c, g); err != nil {
		return err
	}
	for _, m := range c.Remarks {
		if m.Pass == "recur" && !m.Done {
			v.why += fmt.Sprintf("[%s] %s ", m.Rule, m.Why)
		}
	}
	for _, n := range g.Nodes {
		v.fused = v.fused || n.Op.Domain == "ssm" && strings.HasSuffix(n.Op.Name, "Scan") || n.Op.Is("ssm", "SSD")
	}
	// Of two tokens that read the state before they write it, the first reads what is given: one step
	// is left that no state comes out of, which is plain arithmetic.
	if plain := s.form == "unrolled" && s.early && s.length.Is(2); !v.fused && v.why == "" && v.what == "" && !plain {
		err = errSilent
	}
	want, _ := src.Clone()
	if e := widened(table, want); e != nil {
		return err // a mutation that only works in one type
	}
	if e := widened(table, g); e != nil {
		return fmt.Errorf("in float64: %w\n%s", e, text(g))
	}
	tolerance := 1e-9
	if s.dtype != tensor.Float64 { // constants were folded in float32
		tolerance = 1e-6
	}
	lengths := []int64{1, 2, 5}
	if v.what == "" { // what a changed loop reads need not exist where it never runs
		lengths = append(lengths, 0)
	}
	for _, l := range lengths {
		sizes := map[string]int64{"batch": 1 + l%3, "seq": l, "chunks": l}
		in, _ := feed(rand.New(rand.NewPCG(seed, uint64(l))), want, sizes)
		a, e := ops.Run(context.Background(), table, want, in)
		if e != nil {
			continue // a mutation that does not run
		}
		b, e := ops.Run(context.Background(), table, g, in)
		if e != nil {
			return fmt.Errorf("%v: runs no more: %w\n%s", sizes, e, text(src))
		}
		for i := range a {
			if e := equal(b[i], a[i], tolerance); e != nil {
				return fmt.Errorf("%v, output %d: %w\n%s", sizes, i, e, text(src))
			}
		}
	}
	return err
}

// kindOf matches what differs between remarks of one kind: names, shapes, numbers.
var kindOf = regexp.MustCompile(`"[^"]*"|\([^)]*\)|\w*\[[^\]]*\]|[-+.\d]*\d\S*`)

func text(g *graph.Graph) string {
	var b strings.Builder
	_ = graph.Print(&b, g)
	return b.String()
}

// equal compares by norm; results that overflow are not compared.
func equal(got, want *tensor.Tensor, tolerance float64) error {
	if got.DType != want.DType || !slices.Equal(got.Shape, want.Shape) {
		return fmt.Errorf("got %s, want %s", got.TypeString(), want.TypeString())
	}
	var diff, norm float64
	for i := range want.Len() {
		x, y := got.At(i), want.At(i)
		if math.IsNaN(y) || math.Abs(y) > 1e12 {
			return nil
		}
		diff += (x - y) * (x - y)
		norm += y * y
	}
	if e := math.Sqrt(diff / max(norm, 1e-20)); !(e <= tolerance) {
		return fmt.Errorf("relative error %.2e", e)
	}
	return nil
}
