package gemm

import "fmt"

// Activation is the function between the bias and the residual.
type Activation uint8

const (
	None Activation = iota
	ReLU
	SiLU
	GELUErf // exact GELU
	GELUTanh
	Sigmoid
	Softplus
	activations // their number
)

// Args describes C[M,N] = act(Alpha * A[M,K] @ B[K,N] + Bias) + Residual.
// Rows of A, C and Residual are contiguous and start Lda, Ldc and Ldr elements
// apart. C overlaps no input, except that Residual may be C
// itself (x += ...) when Act is None.
type Args struct {
	M, N, K  int
	A        []float32
	Lda      int
	B        []float32 // packed, PackedSize(K, N); nil when Format is not F32
	Format   Format
	Q        []byte // B in another format, Format.Size(K, N)
	C        []float32
	Ldc      int
	Bias     []float32 // N, or nil
	Residual []float32 // as C, or nil
	Ldr      int
	Act      Activation
	Alpha    float32 // 0 means 1
	calls    uint    // of Run, see share.go
}

// Check says what is wrong with the sizes, if anything. Run panics with that
// error, since its kernels do not check bounds again.
func (a *Args) Check() error {
	if a.M < 0 || a.N < 0 || a.K < 0 {
		return fmt.Errorf("gemm: negative size in C[%d,%d] = A[%d,%d] @ B[%d,%d]", a.M, a.N, a.M, a.K, a.K, a.N)
	}
	if a.Act >= activations {
		return fmt.Errorf("gemm: unknown activation %d", a.Act)
	}
	if a.Format >= formats {
		return fmt.Errorf("gemm: unknown format %d", a.Format)
	}
	if a.M == 0 || a.N == 0 {
		return nil
	}
	if err := checkRows("A", len(a.A), a.M, a.K, a.Lda); err != nil {
		return err
	}
	if err := checkRows("C", len(a.C), a.M, a.N, a.Ldc); err != nil {
		return err
	}
	if a.Residual != nil {
		if err := checkRows("Residual", len(a.Residual), a.M, a.N, a.Ldr); err != nil {
			return err
		}
	}
	if err := checkInPlace(a.C, a.Residual, a.Act); err != nil {
		return err
	}
	if a.Format != F32 {
		if want := a.Format.Size(a.K, a.N); len(a.Q) < want {
			return fmt.Errorf("gemm: %s B[%d,%d] has %d bytes: expected %d, see Format.Size", a.Format, a.K, a.N, len(a.Q), want)
		}
	} else if want := PackedSize(a.K, a.N); len(a.B) < want {
		return fmt.Errorf("gemm: packed B[%d,%d] has %d elements: expected %d, see PackedSize", a.K, a.N, len(a.B), want)
	}
	return checkBias(a.Bias, a.N)
}

func checkRows(name string, have, rows, cols, ld int) error {
	if cols == 0 {
		return nil
	}
	if ld < cols && rows > 1 {
		return fmt.Errorf("gemm: rows of %s[%d,%d] are %d apart: expected at least %d", name, rows, cols, ld, cols)
	}
	if want := (rows-1)*ld + cols; have < want {
		return fmt.Errorf("gemm: %s[%d,%d] with rows %d apart has %d elements: expected %d", name, rows, cols, ld, have, want)
	}
	return nil
}

func checkBias(bias []float32, n int) error {
	if bias != nil && len(bias) < n {
		return fmt.Errorf("gemm: bias has %d elements: expected %d", len(bias), n)
	}
	return nil
}

// checkInPlace refuses a residual that the activation would overwrite.
func checkInPlace(c, residual []float32, act Activation) error {
	if act != None && len(c) > 0 && len(residual) > 0 && &c[0] == &residual[0] {
		return fmt.Errorf("gemm: Residual is C with an activation between: give it memory of its own")
	}
	return nil
}
