//go:build cu

package gorgoniacu

import (
	"fmt"
	"math"
	"unsafe"

	"gorgonia.org/cu"

	"github.com/ssdc-go/ssdc/backends/cuda/kernels"
)

// Kernels are loaded in the context that was current.
type Kernels struct{ scan cu.Module }

// Load loads the kernels for a device into the current context.
func Load(d cu.Device) (*Kernels, error) {
	major, err := d.Attribute(cu.ComputeCapabilityMajor)
	if err != nil {
		return nil, err
	}
	minor, err := d.Attribute(cu.ComputeCapabilityMinor)
	if err != nil {
		return nil, err
	}
	arch, err := kernels.ArchFor(major, minor)
	if err != nil {
		return nil, err
	}
	image, err := kernels.Image(arch, "scan")
	if err != nil {
		return nil, err
	}
	m, err := cu.LoadData(string(image))
	if err != nil {
		return nil, fmt.Errorf("loading the scan kernels for %s: %w", arch, err)
	}
	return &Kernels{m}, nil
}

// Scan is one call of the Mamba-2 recurrence on dense float32 operands: X and Y [Batch,Length,Heads,HeadDim], Dt [Batch,Length,Heads], A
// [Heads], B and C [Batch,Length,Groups,State]; D and DtBias [Heads] and the states [Batch,Heads,HeadDim,State] may be 0.
type Scan struct {
	X, Dt, A, B, C, D, DtBias, InitialState, Y, FinalState cu.DevicePtr
	Batch, Length, Heads, HeadDim, Groups, State           int
	Softplus                                               bool
}

// maxState is what fits the 48 KB of shared memory that cu's launches can have.
const maxState = 128

// SSD submits a scan to a stream.
func (k *Kernels) SSD(s Scan, stream cu.Stream) error {
	for name, n := range map[string]int{"Batch": s.Batch, "Length": s.Length, "Heads": s.Heads, "HeadDim": s.HeadDim, "Groups": s.Groups, "State": s.State} {
		if n < 1 || n > math.MaxInt32 {
			return fmt.Errorf("gorgoniacu: %s is %d; a positive number is wanted", name, n)
		}
	}
	if s.State > maxState || s.Heads%s.Groups != 0 {
		return fmt.Errorf("gorgoniacu: State %d, %d heads in %d groups; State is at most %d, and groups divide heads", s.State, s.Heads, s.Groups, maxState)
	}
	for name, p := range map[string]cu.DevicePtr{"X": s.X, "Dt": s.Dt, "A": s.A, "B": s.B, "C": s.C, "Y": s.Y} {
		if p == 0 {
			return fmt.Errorf("gorgoniacu: %s is missing", name)
		}
	}
	size := 32
	for size < s.State {
		size *= 2
	}
	f, err := k.scan.Function(fmt.Sprint("ssd_scan_", size))
	if err != nil {
		return err
	}
	// struct Ssd of kernels/scan.cu, in words of 8 bytes.
	const float = 1
	var words []uint64
	add := func(v ...int) {
		for _, n := range v {
			words = append(words, uint64(n))
		}
	}
	seq := func(p cu.DevicePtr, row int) { add(int(p), float, s.Length*row, row) }
	tensor := func(p cu.DevicePtr) { add(int(p), float) }
	seq(s.X, s.Heads*s.HeadDim)
	seq(s.Dt, s.Heads)
	add(int(s.A), float, 0, 0)
	seq(s.B, s.Groups*s.State)
	seq(s.C, s.Groups*s.State)
	add(0, 0, 0, 0) // no gate
	tensor(s.D)
	tensor(s.DtBias)
	tensor(s.InitialState)
	tensor(s.FinalState)
	seq(s.Y, s.Heads*s.HeadDim)
	softplus := 0
	if s.Softplus {
		softplus = 1
	}
	add(0, s.Batch, s.Length, s.Heads, s.HeadDim, s.Groups, s.State, softplus, 0, 0, 1)
	words = append(words, uint64(math.Float32bits(float32(math.Inf(-1))))|uint64(math.Float32bits(float32(math.Inf(1))))<<32)
	// cu copies parameters of 8 bytes side by side, and the kernel reads its one struct from where the first lies.
	args := make([]unsafe.Pointer, len(words))
	for i := range words {
		args[i] = unsafe.Pointer(&words[i])
	}
	const rows, steps = 16, 32
	blocks := s.Batch * s.Heads * ((s.HeadDim + rows - 1) / rows)
	return f.Launch(blocks, 1, 1, 128, 1, 1, (2*steps*size+2*steps*rows+2*steps)*4, stream, args)
}
