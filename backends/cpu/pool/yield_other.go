//go:build !linux

package pool

import "runtime"

func yield() { runtime.Gosched() }
