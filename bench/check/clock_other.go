//go:build !linux

package main

import "time"

var started = time.Now()

// now is wall time, where a thread's own is not to be had: leave the machine alone meanwhile.
func now() time.Duration { return time.Since(started) }
