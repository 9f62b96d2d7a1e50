package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ssdc-go/ssdc/backends/cpu/gemm"
	"github.com/ssdc-go/ssdc/bench/internal/cases"
)

// serve answers every line "FORMAT MxNxK SECONDS" with the seconds of a call of that
// product, timed for so long, as the workers of bench/matmul_peer.py do.
func serve(threads int, in io.Reader) error {
	maker, made := cases.New(threads), map[string]cases.Case{}
	answer := json.NewEncoder(os.Stdout)
	for lines := bufio.NewScanner(in); lines.Scan(); {
		var format, shape string
		var seconds float64
		if _, err := fmt.Sscan(lines.Text(), &format, &shape, &seconds); err != nil {
			return fmt.Errorf("%q: expected FORMAT MxNxK SECONDS: %w", lines.Text(), err)
		}
		key := format + " " + shape
		c, ok := made[key]
		if !ok {
			f, err := gemm.ParseFormat(format)
			if err != nil {
				return err
			}
			var m, n, k int
			if _, err := fmt.Sscanf(shape, "%dx%dx%d", &m, &n, &k); err != nil {
				return fmt.Errorf("%q: expected MxNxK: %w", shape, err)
			}
			c = maker.Matmul(f, m, n, k)
			made[key] = c
		}
		if err := answer.Encode(map[string]float64{"s": perCall(c.Run, seconds)}); err != nil {
			return err
		}
	}
	return nil
}

// perCall is the mean of calls that fill so many seconds. Calls before them, for as long,
// wake threads, fill caches and wait until the system has given every thread a processor
// of its own again, which takes it some milliseconds; a call that is longer than that counts.
func perCall(call func(), seconds float64) float64 {
	for start := time.Now(); ; {
		begun := time.Now()
		call()
		if took := time.Since(begun).Seconds(); took > 2*seconds {
			return took
		}
		if time.Since(start).Seconds() >= seconds {
			break
		}
	}
	start := time.Now()
	for n := 1; ; n++ {
		call()
		if took := time.Since(start).Seconds(); took >= seconds {
			return took / float64(n)
		}
	}
}
