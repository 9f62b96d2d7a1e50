package driver

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestNoDriver: without the library, Devices and Open say which file is missing. A process opens one driver, so this one is another.
func TestNoDriver(t *testing.T) {
	if !Built {
		if _, err := Devices(); err == nil || !strings.Contains(err.Error(), "without cgo") {
			t.Errorf("Devices says %v", err)
		}
		return
	}
	if os.Getenv("SSDC_TEST_CHILD") != "" {
		_, err := Devices()
		_, err2 := Open(0)
		os.Stdout.WriteString(err.Error() + "\n" + err2.Error() + "\n")
		return
	}
	c := exec.Command(os.Args[0], "-test.run", "TestNoDriver$")
	c.Env = append(os.Environ(), "SSDC_TEST_CHILD=1", "SSDC_LIBCUDA=/no/such/libcuda.so.1")
	out, err := c.CombinedOutput()
	if err != nil || strings.Count(string(out), "no driver: /no/such/libcuda.so.1") != 2 {
		t.Errorf("%v: %s", err, out)
	}
	// A library that is no driver.
	c = exec.Command(os.Args[0], "-test.run", "TestNoDriver$")
	c.Env = append(os.Environ(), "SSDC_TEST_CHILD=1", "SSDC_LIBCUDA=libc.so.6")
	if out, err := c.CombinedOutput(); err != nil || !strings.Contains(string(out), "too old") {
		t.Errorf("%v: %s", err, out)
	}
}

func TestErrors(t *testing.T) {
	memory, lost := &Error{Code: 2}, &Error{Code: 700}
	if !errors.Is(memory, ErrOutOfMemory) || errors.Is(memory, ErrLost) || !errors.Is(lost, ErrLost) || errors.Is(lost, ErrOutOfMemory) {
		t.Error("errors are not told apart")
	}
}

func TestInfo(t *testing.T) {
	i := Info{Name: "NVIDIA H200", Driver: 13000, Major: 9, Memory: 141e9}
	if got, want := i.String(), "NVIDIA H200 (sm_90, 141 GB), driver for CUDA 13.0"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
