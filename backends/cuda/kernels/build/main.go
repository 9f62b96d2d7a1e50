// Build compiles the kernels to ../bin:
//
//	pip install nvidia-cuda-nvrtc-cu12==12.8.93 nvidia-cuda-runtime-cu12==12.8.90
//	SSDC_LIBNVRTC=.../nvidia/cuda_nvrtc/lib/libnvrtc.so.12 go generate ./backends/cuda/kernels
//
// CUDA_INCLUDE names the folder with cuda_bf16.h; without it, that of the runtime package beside NVRTC's. Version 12.8 is
// the oldest that knows sm_100, and drivers load what it makes from CUDA 12.0 on. What was made of the same sources by the same version
// stays as it is.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/ssdc-go/ssdc/backends/cuda/driver"
	"github.com/ssdc-go/ssdc/backends/cuda/kernels"
	"github.com/ssdc-go/ssdc/internal/wholefile"
)

// What the sources want of the C++ library.
const cstdint = `#pragma once
typedef signed char int8_t; typedef short int16_t; typedef int int32_t; typedef long long int64_t;
typedef unsigned char uint8_t; typedef unsigned short uint16_t; typedef unsigned int uint32_t; typedef unsigned long long uint64_t;
typedef unsigned long uintptr_t;
`

func main() {
	if err := build("bin"); err != nil {
		fmt.Fprintln(os.Stderr, "build:", err)
		os.Exit(1)
	}
}

func build(dir string) error {
	major, minor, err := driver.RTCVersion()
	if err != nil {
		return fmt.Errorf("%w; set SSDC_LIBNVRTC", err)
	}
	if major != 12 || minor != 8 {
		return fmt.Errorf("NVRTC is version %d.%d, 12.8 is wanted: set SSDC_LIBNVRTC", major, minor)
	}
	include := os.Getenv("CUDA_INCLUDE")
	if include == "" {
		include = filepath.Join(filepath.Dir(os.Getenv("SSDC_LIBNVRTC")), "../../cuda_runtime/include")
	}
	headers, err := kernels.Headers()
	if err != nil {
		return err
	}
	headers["cstdint"] = cstdint
	sums, err := kernels.Sums()
	if err != nil {
		return err
	}
	before, outputs, err := kernels.Built()
	if err != nil {
		before = "" // everything is made
	}
	unchanged := func(unit string) bool {
		for _, name := range includes(headers, unit+".cu", nil) {
			if line := fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(headers[name])), name); name != "cstdint" && !strings.Contains(before, line) {
				return false
			}
		}
		return strings.HasPrefix(outputs, fmt.Sprintf("NVRTC %d.%d\n", major, minor))
	}
	var made strings.Builder
	fmt.Fprintf(&made, "NVRTC %d.%d\n", major, minor)
	for _, arch := range kernels.Archs {
		if err := os.MkdirAll(filepath.Join(dir, arch), 0o777); err != nil {
			return err
		}
		for _, unit := range kernels.Units {
			path := arch + "/" + unit + ".gz"
			if !kernels.Made(arch, unit) {
				continue
			}
			if packed, err := os.ReadFile(filepath.Join(dir, path)); err == nil && unchanged(unit) {
				if line := fmt.Sprintf("%x  %s\n", sha256.Sum256(packed), path); strings.Contains(outputs, line) {
					made.WriteString(line)
					continue
				}
			}
			start := time.Now()
			ptx := strings.HasPrefix(arch, "compute")
			image, err := driver.Compile(headers[unit+".cu"], unit+".cu", headers,
				[]string{"--gpu-architecture=" + arch, "--std=c++17", "--include-path=" + include, "--extra-device-vectorization", "-DSSDC_RTC"}, ptx)
			if err != nil {
				return err
			}
			if ptx {
				image = bytes.TrimRight(image, "\x00")
			}
			var packed bytes.Buffer
			z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
			if err != nil {
				return err
			}
			if _, err := z.Write(image); err != nil {
				return err
			}
			if err := z.Close(); err != nil {
				return err
			}
			if err := write(filepath.Join(dir, path), packed.Bytes()); err != nil {
				return err
			}
			fmt.Fprintf(&made, "%x  %s\n", sha256.Sum256(packed.Bytes()), path)
			fmt.Printf("%s %s: %d bytes, packed %d, %.1f s\n", arch, unit, len(image), packed.Len(), time.Since(start).Seconds())
		}
	}
	return write(filepath.Join(dir, "SOURCES"), []byte(sums+"\n"+made.String()))
}

// includes adds the name of a source and of all that it includes from here.
func includes(headers map[string]string, name string, seen []string) []string {
	text, ok := headers[name]
	if !ok || slices.Contains(seen, name) {
		return seen
	}
	seen = append(seen, name)
	for _, line := range strings.Split(text, "\n") {
		if rest, ok := strings.CutPrefix(line, "#include \""); ok {
			if end := strings.IndexByte(rest, '"'); end >= 0 {
				seen = includes(headers, rest[:end], seen)
			}
		}
	}
	return seen
}

func write(path string, b []byte) error {
	return wholefile.Write(path, func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	})
}
