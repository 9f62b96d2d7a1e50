// Command check tells whether a change made a kernel or a model slower, whatever
// machine it runs on and whoever else uses it:
//
//	go run ./bench/check            compare with bench/check/baseline.json
//	go run ./bench/check -update    measure this machine anew, before the change
//
// No time is compared, but ratios: every run of a case stands between two runs of
// a loop that only the processor or its memory limits (package peak), in the same
// process and on one thread, in that thread's time, so that what slows both cancels
// out. The number of a
// case is the share of that loop's speed which it reaches, the median of many
// such triples; for whole models, whose work is not counted, the seconds of the
// loop that pass meanwhile. A case that falls by more than the tolerance is measured again
// twice, and fails if it never reaches the bar.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/peak"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// baseline is the file: shares by case, by machine.
type baseline map[string]map[string]float64

func main() {
	path := flag.String("baseline", "bench/check/baseline.json", "the file to compare with or to update")
	update := flag.Bool("update", false, "write this machine's numbers to the file")
	tolerance := flag.Float64("tolerance", 0.12, "how much of its share a case may lose; twice that where memory is the limit, which other programs use too")
	seconds := flag.Float64("seconds", 0.5, "time for each case")
	only := flag.String("only", "", "cases whose name contains this")
	flag.Parse()
	runtime.LockOSThread() // whose time now is
	ok, err := check(*path, *update, *tolerance, *seconds, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

func check(path string, update bool, tolerance, seconds float64, only string) (ok bool, err error) {
	if err := isa.EnvError(); err != nil {
		return false, err
	}
	all := baseline{}
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, &all)
	}
	if err != nil && !(update && os.IsNotExist(err)) {
		return false, fmt.Errorf("%s: %w: run from the repository's root", path, err)
	}
	machine := fmt.Sprintf("%s, %s", processor(), isa.Level())
	known := maps.Clone(all[machine])
	if known == nil && !update {
		return false, fmt.Errorf("%s has no numbers for %q: check out the commit to compare with, run with -update, and then run here", path, machine)
	}
	if known == nil {
		known = map[string]float64{}
	}
	cases, err := list()
	if err != nil {
		return false, err
	}
	references := peak.References()
	fmt.Printf("%s, one thread\n", machine)
	ok = true
	for _, c := range cases {
		if !strings.Contains(c.name, only) {
			continue
		}
		m := meter{c: c, ref: references[c.against], seconds: seconds}
		got, was := m.share(), known[c.name]
		if update {
			known[c.name] = got
			fmt.Printf("%-34s %8.4f of %s\n", c.name, got, c.against)
			continue
		}
		if was == 0 {
			fmt.Printf("%-34s %8.4f of %s  new\n", c.name, got, c.against)
			continue
		}
		bar := was * (1 - tolerance)
		if c.against == "read" {
			bar = was * (1 - 2*tolerance)
		}
		for again := 0; again < 2 && got < bar; again++ {
			got = max(got, m.share())
		}
		verdict := ""
		if got < bar {
			verdict, ok = "SLOWER", false
		}
		fmt.Printf("%-34s %8.4f of %s  %+5.1f%% %s\n", c.name, got, c.against, 100*(got/was-1), verdict)
	}
	if !update {
		return ok, nil
	}
	all[machine] = known
	text, err = json.MarshalIndent(all, "", " ")
	if err != nil {
		return false, err
	}
	return true, wholefile.Write(path, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// meter measures one case.
type meter struct {
	c       measured
	ref     peak.Reference
	seconds float64
	turns   int // of the reference, for about the time of the case
}

// share is the median of triples: reference, case, reference.
func (m *meter) share() float64 {
	m.c.run()
	took := clock(m.c.run)
	if m.turns == 0 {
		m.turns = 1
		const least = 300 * time.Microsecond // a shorter loop measures the clock
		for want := max(took, least); ; m.turns *= 2 {
			if clock(m.reference) >= want/2 || m.turns > 1<<40 {
				break
			}
		}
	}
	runtime.GC()
	var shares []float64
	before := clock(m.reference)
	for start := time.Now(); len(shares) < 5 || time.Since(start).Seconds() < m.seconds; {
		repeat := max(1, int(300*time.Microsecond/max(took, 1)))
		t := clock(func() {
			for range repeat {
				m.c.run()
			}
		}).Seconds() / float64(repeat)
		after := clock(m.reference)
		speed := m.ref.Work * float64(m.turns) / ((before + after).Seconds() / 2)
		shares = append(shares, m.c.work/t/speed)
		before = after
	}
	slices.Sort(shares)
	return shares[len(shares)/2]
}

func (m *meter) reference() { m.ref.Turns(m.turns) }

func clock(f func()) time.Duration {
	start := now()
	f()
	return now() - start
}

// processor is the model that the system names, or the architecture.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOOS + " " + runtime.GOARCH
	}
	defer f.Close()
	family := []string{runtime.GOARCH}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		key, value, _ := strings.Cut(lines.Text(), ":")
		switch strings.TrimSpace(key) {
		case "model name":
			return strings.Join(append([]string{strings.TrimSpace(value)}, family[1:]...), " ")
		case "cpu family", "model", "CPU part":
			family = append(family, strings.TrimSpace(value))
		}
	}
	return strings.Join(family, " ")
}

// fixture is where a model of the tests lies.
func fixture(name string) string { return filepath.Join("testdata", "models", name) }
