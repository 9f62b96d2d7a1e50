// Package driver is a thin way to NVIDIA's driver, opened at run time.
//
// Nothing of CUDA is needed to build: a C shim (shim.c) opens libcuda.so.1 and asks it for versioned symbols that every
// driver from CUDA 11.4 on has, so one binary starts anywhere and works with CUDA 12 and 13. cuBLASLt (matrix
// products) and NVRTC (compiling kernels) are opened in the same way when they are there. Built without cgo, or
// on another system than Linux, Open says so.
//
// The shim makes the device's primary context current before each call, so any goroutine may use a Device; what is
// submitted to one Stream runs in order.
package driver

import (
	"errors"
	"fmt"
	"os"
)

// Ptr is an address of device memory.
type Ptr uint64

// Info describes a device.
type Info struct {
	Name            string
	Driver          int // CUDA version of the driver: 13000
	Major, Minor    int // compute capability
	Multiprocessors int
	SharedBytes     int // most that a block may ask for
	Memory          int64
}

// String is one line for people: "NVIDIA H200 (sm_90, 141 GB), driver for CUDA 13.0".
func (i Info) String() string {
	return fmt.Sprintf("%s (sm_%d%d, %.0f GB), driver for CUDA %d.%d", i.Name, i.Major, i.Minor, float64(i.Memory)/1e9, i.Driver/1000, i.Driver%1000/10)
}

// Error is a driver call that failed.
type Error struct {
	Call string
	Code int
	Name string // CUDA_ERROR_OUT_OF_MEMORY
	Text string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s (%s)", e.Call, e.Text, e.Name) }

// ErrOutOfMemory and ErrLost classify errors of the driver, for errors.Is.
var (
	ErrOutOfMemory = errors.New("the device has no memory left")
	ErrLost        = errors.New("the device is lost: a kernel failed or the device was reset; open the model again")
)

// Is implements errors.Is.
func (e *Error) Is(target error) bool {
	switch target {
	case ErrOutOfMemory:
		return e.Code == 2
	case ErrLost:
		switch e.Code {
		// Errors after which the context stays unusable: illegal address, hardware and launch failures, assertions.
		case 46, 214, 219, 220, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 999:
			return true
		}
	}
	return false
}

// libcuda names the driver's library; SSDC_LIBCUDA overrides it.
func libcuda() string {
	if p := os.Getenv("SSDC_LIBCUDA"); p != "" {
		return p
	}
	return "libcuda.so.1"
}

// candidates are the names that a library is looked for under; env comes first.
func candidates(env string, names ...string) []string {
	if p := os.Getenv(env); p != "" {
		return []string{p}
	}
	return names
}

// Choices is how many algorithms cuBLASLt is asked for at most.
const Choices = 8

// BLASType numbers cuBLASLt's element types.
type BLASType int

// Element types of products.
const (
	BLASF32  BLASType = 0
	BLASF16  BLASType = 2
	BLASBF16 BLASType = 14
)

// Product describes C[M,N] = A[M,K] B + beta C0, row-major, as cuBLASLt is asked for it.
type Product struct {
	M, N, K             int
	Type                BLASType // of A and B
	OutType             BLASType // of C
	TransB              bool     // B is [N,K]
	LdA, LdB, LdC       int      // elements between rows
	Batch               int
	StrideA, StrideB    int64
	StrideC             int64
	Bias                bool // a vector [N] of OutType is added
	Residual            bool // C0 is added
	FastTF32            bool // f32 operands may be rounded to TF32
	A, B, C, C0, Vector Ptr
	Alpha               float32
}
