package kernels

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"
)

// TestBuilt: the machine code in bin is that of the sources beside it.
func TestBuilt(t *testing.T) {
	want, err := Sums()
	if err != nil {
		t.Fatal(err)
	}
	got, made, err := Built()
	if err != nil {
		t.Fatal(err)
	}
	if got != want {
		t.Errorf("bin was made of other sources; run go generate ./backends/cuda/kernels\nsources:\n%sbin:\n%s", want, got)
	}
	total := 0
	for _, arch := range Archs {
		for _, unit := range Units {
			if !Made(arch, unit) {
				continue
			}
			b, err := bin.ReadFile("bin/" + arch + "/" + unit + ".gz")
			if err != nil {
				t.Fatal(err)
			}
			if line := fmt.Sprintf("%x  %s/%s.gz", sha256.Sum256(b), arch, unit); !strings.Contains(made, line) {
				t.Errorf("bin/SOURCES does not list %s/%s.gz as it is", arch, unit)
			}
			total += len(b)
			image, err := Image(arch, unit)
			if err != nil {
				t.Fatal(err)
			}
			if ptx := strings.HasPrefix(arch, "compute"); ptx != strings.Contains(string(image), ".visible .entry") || !ptx && string(image[:4]) != "\x7fELF" {
				t.Errorf("%s/%s is neither PTX nor ELF as it should be", arch, unit)
			}
		}
	}
	if total > 4<<20 {
		t.Errorf("the machine code has %d bytes, more than 4 MiB", total)
	}
}

// TestHopper: on sm_90a the SSD kernels use wgmma, and every kernel waits for the one before it: the host lets them overlap.
func TestHopper(t *testing.T) {
	for _, unit := range Units {
		src, err := Source(unit + ".cu")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(src, `extern "C" __global__`) {
			t.Errorf("%s.cu declares a kernel without SSDC_KERNEL, which makes it wait for the one before it", unit)
		}
	}
}

func TestArchFor(t *testing.T) {
	for _, c := range []struct {
		major, minor int
		want         string
	}{{7, 5, ""}, {8, 0, "sm_80"}, {8, 9, "sm_80"}, {9, 0, "sm_90a"}, {10, 0, "sm_100"}, {10, 3, "compute_80"}, {12, 0, "compute_80"}} {
		if got, err := ArchFor(c.major, c.minor); got != c.want || (err != nil) != (c.want == "") {
			t.Errorf("%d.%d: %q, %v; want %q", c.major, c.minor, got, err, c.want)
		}
	}
}
