// Calls of the driver, cuBLASLt and NVRTC through pointers found at run time. Every function returns 0 or the
// library's error code.
#pragma once
#include <stddef.h>

typedef unsigned long long ssdc_ptr;

// Opens libcuda; on failure `err` says why.
int ssdc_cuda_open(const char *path, char *err, int n);
void ssdc_cuda_error(int code, const char **name, const char **text);
int ssdc_cuda_count(int *n, int *version);
int ssdc_cuda_device(int index, void **ctx, char *name, int n, int *values, long long *memory);
void ssdc_cuda_release(int index);

int ssdc_alloc(void *ctx, ssdc_ptr *p, size_t n);
int ssdc_free(void *ctx, ssdc_ptr p);
int ssdc_alloc_host(void *ctx, void **p, size_t n);
int ssdc_free_host(void *ctx, void *p);
int ssdc_mem_info(void *ctx, size_t *free, size_t *total);
int ssdc_to_device(void *ctx, ssdc_ptr d, const void *s, size_t n, void *stream);
int ssdc_to_host(void *ctx, void *d, ssdc_ptr s, size_t n, void *stream);
int ssdc_copy(void *ctx, ssdc_ptr d, ssdc_ptr s, size_t n, void *stream);
int ssdc_set(void *ctx, ssdc_ptr d, unsigned char v, size_t n, void *stream);

// A descriptor of 128 bytes for bulk copies of boxes of a bf16 or f16 tensor of rank 4, innermost axis first; strides, in
// bytes, of the others.
int ssdc_tensor_map(void *ctx, void *map, int f16, ssdc_ptr p, const unsigned long long *dims, const unsigned long long *strides, const unsigned *box);

int ssdc_module(void *ctx, void **m, const void *image);
int ssdc_unload(void *ctx, void *m);
int ssdc_function(void *ctx, void **f, void *m, const char *name);
int ssdc_global(void *ctx, ssdc_ptr *p, void *m, const char *name);
// Dynamic shared memory that launches of f may take; full: multiprocessors give all they can to shared memory while f runs.
int ssdc_shared(void *ctx, void *f, int bytes, int full);
// Blocks of f that one multiprocessor holds at a time.
int ssdc_fits(void *ctx, void *f, int *n, int threads, int shared);
// how, numbered like the driver's attributes of launches. Early: the kernel waits by itself for the work before it, and may start while
// that drains. Together: its blocks wait for one another, and all run at the same time or none.
enum { SSDC_PLAIN = 0, SSDC_TOGETHER = 2, SSDC_EARLY = 6 };
int ssdc_launch(void *ctx, void *f, unsigned blocks, unsigned threads, unsigned shared, void *stream, int how, void *params);

int ssdc_stream(void *ctx, void **s);
int ssdc_stream_free(void *ctx, void *s);
int ssdc_sync(void *ctx, void *s);
int ssdc_capture(void *ctx, void *s);
int ssdc_capture_end(void *ctx, void *s, void **exec);
int ssdc_graph_launch(void *ctx, void *exec, void *s);
int ssdc_graph_free(void *ctx, void *exec);
int ssdc_event(void *ctx, void **e);
int ssdc_event_free(void *ctx, void *e);
int ssdc_record(void *ctx, void *e, void *s);
int ssdc_elapsed(void *ctx, void *from, void *to, float *ms);

// cuBLASLt.
struct ssdc_product {
  int m, n, k, type, out_type, trans_b, batch, fast;
  long long lda, ldb, ldc, stride_a, stride_b, stride_c;
  ssdc_ptr a, b, c, c0, bias;
  float alpha, beta;
};
int ssdc_blas_open(const char *path, char *err, int n);
int ssdc_blas_create(void *ctx, void **handle, size_t *version);
int ssdc_blas_free(void *ctx, void *handle);
// A plan keeps descriptors and an algorithm: of those that the heuristics give, the best first, number `choice`.
#define SSDC_BLAS_CHOICES 8
int ssdc_blas_plan(void *ctx, void *handle, const struct ssdc_product *p, size_t workspace, int choice, void **plan);
int ssdc_blas_run(void *ctx, void *handle, void *plan, const struct ssdc_product *p, ssdc_ptr workspace, size_t bytes, void *stream);
void ssdc_blas_plan_free(void *plan);

// NVRTC.
int ssdc_rtc_open(const char *path, char *err, int n);
int ssdc_rtc_version(int *major, int *minor);
// Compiles to machine code (arch sm_*) or PTX (compute_*); *out is malloc'ed. On failure *log, malloc'ed, says why.
int ssdc_rtc_compile(const char *source, const char *name, int n_headers, const char **headers, const char **names, int n_options,
                     const char **options, int ptx, char **out, size_t *size, char **log);
