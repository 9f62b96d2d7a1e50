//go:build cgo && linux

package driver

// #include "shim.h"
import "C"

import (
	"fmt"
	"sync"
	"unsafe"
)

var openBLAS = sync.OnceValue(func() error {
	return openFirst(candidates("SSDC_LIBCUBLASLT", "libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"), func(p, err *C.char, n C.int) C.int { return C.ssdc_blas_open(p, err, n) })
})

// BLAS is cuBLASLt on a device.
type BLAS struct {
	d       *Device
	h       unsafe.Pointer
	Version int
}

// NewBLAS opens cuBLASLt; the error says why it is not there.
func (d *Device) NewBLAS() (*BLAS, error) {
	if err := openBLAS(); err != nil {
		return nil, err
	}
	b := &BLAS{d: d}
	var v C.size_t
	if code := C.ssdc_blas_create(d.ctx, &b.h, &v); code != 0 {
		return nil, fmt.Errorf("cublasLtCreate: status %d", code)
	}
	b.Version = int(v)
	return b, nil
}

// Close frees the handle.
func (b *BLAS) Close() { C.ssdc_blas_free(b.d.ctx, b.h) }

// MatmulPlan is a product with its algorithm chosen.
type MatmulPlan struct {
	b *BLAS
	p unsafe.Pointer
	a C.struct_ssdc_product
}

var _ = [1]struct{}{}[Choices-C.SSDC_BLAS_CHOICES] // the same number on both sides

// Plan asks for an algorithm that needs at most workspace bytes: the one that cuBLASLt thinks fastest is choice 0.
func (b *BLAS) Plan(p Product, workspace, choice int) (*MatmulPlan, error) {
	if choice < 0 || choice >= Choices {
		return nil, fmt.Errorf("algorithm %d is not among %d", choice, Choices)
	}
	q := &MatmulPlan{b: b, a: C.struct_ssdc_product{
		m: C.int(p.M), n: C.int(p.N), k: C.int(p.K), _type: C.int(p.Type), out_type: C.int(p.OutType), batch: C.int(max(p.Batch, 1)),
		lda: C.longlong(p.LdA), ldb: C.longlong(p.LdB), ldc: C.longlong(p.LdC),
		stride_a: C.longlong(p.StrideA), stride_b: C.longlong(p.StrideB), stride_c: C.longlong(p.StrideC),
		a: C.ssdc_ptr(p.A), b: C.ssdc_ptr(p.B), c: C.ssdc_ptr(p.C), c0: C.ssdc_ptr(p.C0), bias: C.ssdc_ptr(p.Vector), alpha: C.float(p.Alpha),
	}}
	if p.TransB {
		q.a.trans_b = 1
	}
	if p.FastTF32 {
		q.a.fast = 1
	}
	if p.Residual {
		q.a.beta = 1
	}
	if code := C.ssdc_blas_plan(b.d.ctx, b.h, &q.a, C.size_t(workspace), C.int(choice), &q.p); code != 0 {
		return nil, fmt.Errorf("cuBLASLt has no algorithm %d for [%d,%d] x [%d,%d]: status %d", choice, p.M, p.K, p.K, p.N, code)
	}
	return q, nil
}

// Close frees the plan.
func (q *MatmulPlan) Close() { C.ssdc_blas_plan_free(q.p) }

// Run submits the product.
func (q *MatmulPlan) Run(s *Stream, workspace Ptr, bytes int) error {
	if code := C.ssdc_blas_run(q.b.d.ctx, q.b.h, q.p, &q.a, C.ssdc_ptr(workspace), C.size_t(bytes), s.s); code != 0 {
		return fmt.Errorf("cublasLtMatmul: status %d", code)
	}
	return nil
}
