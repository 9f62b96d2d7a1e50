// Command kernels times the kernels of the CPU backend alone: a line of JSON for
// every case, best and median seconds of repeated calls. bench/mamba.py runs it in
// turn with other libraries.
//
//	go run ./bench/kernels -only share [-case 2048x2048x2048] [-json]
//
// tells which share of the processor's peak products reach, and -serve answers
// requests for single products.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"time"

	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/backends/cpu/isa"
	"github.com/ssdc-go/ssdc/backends/cpu/peak"
	"github.com/ssdc-go/ssdc/bench/internal/cases"
)

// matmuls are the products of mamba2-130m, a square one, and skinny ones.
var matmuls = [][3]int{{512, 3352, 768}, {512, 768, 1536}, {2048, 3352, 768}, {2048, 768, 1536}, {2048, 2048, 2048}, {8, 3352, 768}, {4, 3352, 768}, {2, 3352, 768}, {1, 3352, 768}, {1, 768, 1536}, {1, 50288, 768}, {8, 50288, 768}}

var formats = []gemm.Format{gemm.F32, gemm.BF16, gemm.Int8, gemm.Int4}

func main() {
	threads := flag.Int("threads", 2, "number of threads")
	seconds := flag.Float64("seconds", 0.25, "time for each case")
	only := flag.String("only", "", "matmul, scan, peak or share; the first three by default")
	part := flag.String("case", "", "with -only share: products whose name (matmul f32 512x768x1536) contains this")
	asJSON := flag.Bool("json", false, "with -only share: lines of JSON for the table; the others print nothing else")
	server := flag.Bool("serve", false, "answer lines FORMAT MxNxK SECONDS")
	flag.Parse()
	if err := isa.EnvError(); err != nil {
		fail(err)
	}
	if *server {
		if err := serve(*threads, os.Stdin); err != nil {
			fail(err)
		}
		return
	}
	if *only == "share" {
		shares(*threads, *seconds, *part, *asJSON)
		return
	}
	b := cases.New(*threads)
	if *only == "" || *only == "peak" {
		m := peak.Measure(*threads)
		print(map[string]any{"case": "peak", "f32": m.F32, "bf16": m.BF16, "int8": m.Int8, "read": m.Read})
	}
	if *only == "" || *only == "matmul" {
		for _, s := range matmuls {
			for _, f := range formats {
				timed(b.Matmul(f, s[0], s[1], s[2]), *seconds)
			}
		}
	}
	if *only == "" || *only == "scan" {
		for _, l := range []int{1, 512, 2048} {
			timed(b.SSD(l), *seconds)
		}
		timed(b.CopyState(), *seconds)
		timed(b.Conv(2048), *seconds)
		timed(b.SelScan(2048), *seconds)
	}
}

func print(v any) {
	if err := json.NewEncoder(os.Stdout).Encode(v); err != nil {
		fail(err)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "kernels:", err)
	os.Exit(1)
}

// timed calls a case until the time is up.
func timed(c cases.Case, seconds float64) {
	runtime.GC() // not while the clock runs
	c.Run()
	var took []float64
	for start := time.Now(); len(took) < 3 || time.Since(start).Seconds() < seconds; {
		t := time.Now()
		c.Run()
		took = append(took, time.Since(t).Seconds())
	}
	sort.Float64s(took)
	print(map[string]any{"case": c.Name, "best": took[0], "median": took[len(took)/2], "runs": len(took)})
}
