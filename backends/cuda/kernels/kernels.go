// Package kernels has the GPU kernels: their sources (*.cu) and the machine code made of them, in bin.
//
// The machine code is for sm_80, sm_90a and sm_100, but for a few units; PTX serves those, newer and other devices. It is made by
//
//	go generate ./backends/cuda/kernels
//
// with NVRTC 12.8, NVIDIA's compiler as a library, so that every driver for CUDA 12.x and 13.x loads it; see build. bin/SOURCES
// lists the sums of the sources, and a test compares.
package kernels

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"fmt"
	"io"
	"slices"
	"sort"
	"strings"
)

//go:generate go run ./build

//go:embed bin
var bin embed.FS

//go:embed *.cu *.cuh *.h
var sources embed.FS

// Units are the translation units: X.cu is bin/<arch>/X.gz.
var Units = []string{"attention", "conv", "decode", "elementwise", "flash", "matmul", "move", "norm", "quant", "scan", "ssd_entry", "step", "step_bits"}

// Archs are the targets: code for a device of that capability, and PTX.
var Archs = []string{"sm_80", "sm_90a", "sm_100", "compute_80"}

// fromPTX names the units of which a target has no machine code, so that all of it stays below 4 MiB; none of their kernels may start
// before the one in front has ended.
var fromPTX = map[string][]string{
	"sm_80":  {"attention", "decode", "flash", "scan", "ssd_entry"},
	"sm_100": {"attention", "conv", "elementwise", "flash", "matmul", "move", "norm", "quant", "ssd_entry", "step_bits"},
}

// Made reports whether bin has a unit for a target itself.
func Made(arch, unit string) bool { return !slices.Contains(fromPTX[arch], unit) }

// ArchFor gives the target whose code runs on a device of capability major.minor. Code for sm_80 runs on 8.x;
// that for sm_90a and sm_100 on exactly these.
func ArchFor(major, minor int) (string, error) {
	switch {
	case major < 8:
		return "", fmt.Errorf("the device has compute capability %d.%d; 8.0 or newer is wanted", major, minor)
	case major == 8:
		return "sm_80", nil
	case major == 9 && minor == 0:
		return "sm_90a", nil
	case major == 10 && minor == 0:
		return "sm_100", nil
	}
	return "compute_80", nil
}

// Image is the machine code of a unit, or PTX with a zero byte behind it.
func Image(arch, unit string) ([]byte, error) {
	if !Made(arch, unit) {
		arch = "compute_80"
	}
	packed, err := bin.ReadFile("bin/" + arch + "/" + unit + ".gz")
	if err != nil {
		return nil, err
	}
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	if strings.HasPrefix(arch, "compute") {
		b = append(b, 0)
	}
	return b, nil
}

// Sums lists the sources with their SHA-256, as bin/SOURCES has them.
func Sums() (string, error) {
	entries, err := sources.ReadDir(".")
	if err != nil {
		return "", err
	}
	var lines []string
	for _, e := range entries {
		b, err := sources.ReadFile(e.Name())
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("%x  %s\n", sha256.Sum256(b), e.Name()))
	}
	sort.Strings(lines)
	return strings.Join(lines, ""), nil
}

// Built is what bin was made of: the sums of the sources, then of the outputs and the compiler.
func Built() (sums, made string, err error) {
	b, err := bin.ReadFile("bin/SOURCES")
	if err != nil {
		return "", "", err
	}
	sums, made, _ = strings.Cut(string(b), "\n\n")
	return sums + "\n", made, nil
}

// Source is the text of a source file.
func Source(name string) (string, error) {
	b, err := sources.ReadFile(name)
	return string(b), err
}

// Headers are the texts that sources include from here.
func Headers() (map[string]string, error) {
	entries, err := sources.ReadDir(".")
	if err != nil {
		return nil, err
	}
	all := map[string]string{}
	for _, e := range entries {
		b, err := sources.ReadFile(e.Name())
		if err != nil {
			return nil, err
		}
		all[e.Name()] = string(b)
	}
	return all, nil
}
