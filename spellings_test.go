package ssdc_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
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
// leaves a remark, but for one in a thousand.
//
//	go test -run TestSpellings -spellings 10000 .     # many
//	go test -run TestSpellings -spelling 4711 -spellings 1 -v .
func TestSpellings(t *testing.T) {
	set := standard(t)
	type count struct{ all, recovered, silent int }
	var mu sync.Mutex
	shares, changed := map[string]*count{}, &count{}
	var wg sync.WaitGroup
	next := make(chan uint64)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for seed := range next {
				s, what, fused, err := guarded(set, seed)
				mu.Lock()
				silent := err == errSilent
				if silent && *spellings == 1 {
					t.Log(text(s.g))
				} else if err != nil && !silent {
					t.Errorf("case %d, %s%s: %v", seed, s, what, err)
				}
				c := changed
				if what == "" {
					if c = shares[s.String()]; c == nil {
						c = &count{}
						shares[s.String()] = c
					}
				}
				c.all++
				if fused {
					c.recovered++
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
	}
	t.Logf("%-24s %4d of %4d recovered", "with one thing changed", changed.recovered, changed.all)
	if silent*1000 > *spellings+1000 {
		t.Errorf("%d of %d cases are left without a remark: more than one in a thousand", silent, *spellings)
	}
}

// errSilent: no remark says why a spelling was not recovered.
var errSilent = errors.New("not recovered, and no remark says why")

// guarded makes a panic the failure of one case.
func guarded(set *plugin.Set, seed uint64) (s *speller, what string, fused bool, err error) {
	s = &speller{}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
		}
	}()
	return spelling(set, seed)
}

// spelling runs one case.
func spelling(set *plugin.Set, seed uint64) (s *speller, what string, fused bool, err error) {
	s, err = spell(set, seed)
	if err != nil {
		return s, "", false, fmt.Errorf("the test's own graph is broken: %w", err)
	}
	table := set.Registry.Table
	r := rand.New(rand.NewPCG(seed, 5))
	src := s.g
	if seed%3 == 2 {
		for what == "" {
			src, _ = s.g.Clone()
			what = mutate(table, r, src)
		}
		what = ", but " + what
		if src.Sort() != nil {
			return s, what, false, nil
		}
		src.Sweep()
		if ops.InferGraph(table, src) != nil || ops.Verify(table, src) != nil {
			return s, what, false, nil
		}
	}
	g, _ := src.Clone()
	c := passes.NewContext(context.Background(), table)
	if err := set.Pipeline.Run(c, g); err != nil {
		return s, what, false, err
	}
	missed := false
	for _, m := range c.Remarks {
		missed = missed || m.Pass == "recur" && !m.Done
	}
	for _, n := range g.Nodes {
		fused = fused || n.Op.Domain == "ssm" && strings.HasSuffix(n.Op.Name, "Scan") || n.Op.Is("ssm", "SSD")
	}
	// One step of an elementwise recurrence is plain arithmetic, not worth a word; so is the second of two tokens.
	if plain := s.kind == "linear" && s.form == "step" || s.form == "unrolled" && s.length.Is(2); !fused && !missed && what == "" && !plain {
		err = errSilent
	}
	want, _ := src.Clone()
	if e := widened(table, want); e != nil {
		return s, what, fused, err // a mutation that only works in one type
	}
	if e := widened(table, g); e != nil {
		return s, what, fused, fmt.Errorf("in float64: %w\n%s", e, text(g))
	}
	tolerance := 1e-9
	if s.dtype != tensor.Float64 { // constants were folded in float32
		tolerance = 1e-6
	}
	for _, l := range []int64{1, 2, 5} {
		lengths := map[string]int64{"batch": 1 + l%3, "seq": l, "chunks": l}
		in, _ := feed(rand.New(rand.NewPCG(seed, uint64(l))), want, lengths)
		a, e := ops.Run(context.Background(), table, want, in)
		if e != nil {
			continue // a mutation that does not run
		}
		b, e := ops.Run(context.Background(), table, g, in)
		if e != nil {
			return s, what, fused, fmt.Errorf("%v: runs no more: %w\n%s", lengths, e, text(src))
		}
		for i := range a {
			if e := equal(b[i], a[i], tolerance); e != nil {
				return s, what, fused, fmt.Errorf("%v, output %d: %w\n%s", lengths, i, e, text(src))
			}
		}
	}
	return s, what, fused, err
}

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
