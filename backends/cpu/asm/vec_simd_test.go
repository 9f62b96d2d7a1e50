package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestAVX2Registers reads the committed assembly: a kernel for AVX2 must not use
// what only AVX-512 has (avo would hand out registers 16 to 31 when the first
// sixteen run out, and the kernel would fault on an older processor).
func TestAVX2Registers(t *testing.T) {
	files, err := filepath.Glob("../*/*_amd64.s")
	if err != nil || len(files) == 0 {
		t.Fatalf("no assembly found beside this module: %v", err)
	}
	only512 := regexp.MustCompile(`\b([XY](1[6-9]|2[0-9]|3[01])|Z[0-9]+|K[0-7])\b`)
	kernels := 0
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, fn := range strings.Split(string(text), "\nTEXT ")[1:] {
			name, _, _ := strings.Cut(fn, "(SB)")
			if !strings.HasSuffix(name, "AVX2") {
				continue
			}
			kernels++
			if m := only512.FindString(fn); m != "" {
				t.Errorf("%s: %s uses %s", filepath.Base(f), name, m)
			}
		}
	}
	if kernels == 0 {
		t.Error("found no AVX2 kernels to check")
	}
}
