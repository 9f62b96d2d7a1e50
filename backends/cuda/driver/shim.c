//go:build cgo && linux

#define _GNU_SOURCE
#include "shim.h"

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// One line a function: name, versioned symbol, arguments. Handles are void *, devices int.
#define CUDA_FUNCTIONS(X)                                                                                   \
  X(Init, "cuInit", (unsigned))                                                                             \
  X(DriverGetVersion, "cuDriverGetVersion", (int *))                                                        \
  X(DeviceGetCount, "cuDeviceGetCount", (int *))                                                            \
  X(DeviceGet, "cuDeviceGet", (int *, int))                                                                 \
  X(DeviceGetName, "cuDeviceGetName", (char *, int, int))                                                   \
  X(DeviceGetAttribute, "cuDeviceGetAttribute", (int *, int, int))                                          \
  X(DeviceTotalMem, "cuDeviceTotalMem_v2", (size_t *, int))                                                 \
  X(PrimaryCtxRetain, "cuDevicePrimaryCtxRetain", (void **, int))                                           \
  X(PrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (int))                                               \
  X(CtxSetCurrent, "cuCtxSetCurrent", (void *))                                                             \
  X(ModuleLoadData, "cuModuleLoadData", (void **, const void *))                                            \
  X(ModuleUnload, "cuModuleUnload", (void *))                                                               \
  X(ModuleGetFunction, "cuModuleGetFunction", (void **, void *, const char *))                              \
  X(ModuleGetGlobal, "cuModuleGetGlobal_v2", (ssdc_ptr *, size_t *, void *, const char *))                  \
  X(FuncSetAttribute, "cuFuncSetAttribute", (void *, int, int))                                             \
  X(Occupancy, "cuOccupancyMaxActiveBlocksPerMultiprocessor", (int *, void *, int, size_t))                 \
  X(MemAlloc, "cuMemAlloc_v2", (ssdc_ptr *, size_t))                                                        \
  X(MemFree, "cuMemFree_v2", (ssdc_ptr))                                                                    \
  X(MemAllocHost, "cuMemAllocHost_v2", (void **, size_t))                                                   \
  X(MemFreeHost, "cuMemFreeHost", (void *))                                                                 \
  X(MemGetInfo, "cuMemGetInfo_v2", (size_t *, size_t *))                                                    \
  X(MemcpyHtoD, "cuMemcpyHtoDAsync_v2", (ssdc_ptr, const void *, size_t, void *))                           \
  X(MemcpyDtoH, "cuMemcpyDtoHAsync_v2", (void *, ssdc_ptr, size_t, void *))                                 \
  X(MemcpyDtoD, "cuMemcpyDtoDAsync_v2", (ssdc_ptr, ssdc_ptr, size_t, void *))                               \
  X(MemsetD8, "cuMemsetD8Async", (ssdc_ptr, unsigned char, size_t, void *))                                 \
  X(StreamCreate, "cuStreamCreate", (void **, unsigned))                                                    \
  X(StreamDestroy, "cuStreamDestroy_v2", (void *))                                                          \
  X(StreamSynchronize, "cuStreamSynchronize", (void *))                                                     \
  X(StreamBeginCapture, "cuStreamBeginCapture_v2", (void *, int))                                           \
  X(StreamEndCapture, "cuStreamEndCapture", (void *, void **))                                              \
  X(GraphInstantiate, "cuGraphInstantiateWithFlags", (void **, void *, unsigned long long))                 \
  X(GraphLaunch, "cuGraphLaunch", (void *, void *))                                                         \
  X(GraphDestroy, "cuGraphDestroy", (void *))                                                               \
  X(GraphExecDestroy, "cuGraphExecDestroy", (void *))                                                       \
  X(EventCreate, "cuEventCreate", (void **, unsigned))                                                      \
  X(EventDestroy, "cuEventDestroy_v2", (void *))                                                            \
  X(EventRecord, "cuEventRecord", (void *, void *))                                                         \
  X(EventSynchronize, "cuEventSynchronize", (void *))                                                       \
  X(EventElapsedTime, "cuEventElapsedTime", (float *, void *, void *))                                      \
  X(LaunchKernel, "cuLaunchKernel",                                                                         \
    (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *, void **, void **)) \
  X(GetErrorName, "cuGetErrorName", (int, const char **))                                                   \
  X(GetErrorString, "cuGetErrorString", (int, const char **))

static struct {
#define X(name, symbol, args) int(*name) args;
  CUDA_FUNCTIONS(X)
#undef X
} cu;

// Optional: cuLaunchKernelEx, for launches with an attribute.
struct attribute { int id; int padding; union { int on; char room[64]; } value; };
struct config { unsigned grid[3], block[3], shared; void *stream; struct attribute *attributes; unsigned n; };
static int (*launch_ex)(const struct config *, void *, void **, void **);
// Optional: descriptors for the bulk tensor copies of sm_90.
static int (*encode_tiled)(void *, int, unsigned, void *, const unsigned long long *, const unsigned long long *, const unsigned *, const unsigned *, int, int,
                           int, int);

static void *open_any(const char *path, char *err, int n) {
  void *lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
  if (!lib) snprintf(err, n, "%s", dlerror());
  return lib;
}

int ssdc_cuda_open(const char *path, char *err, int n) {
  void *lib = open_any(path, err, n);
  if (!lib) return -1;
#define X(name, symbol, args)                                                     \
  if (!(*(void **)&cu.name = dlsym(lib, symbol))) {                               \
    snprintf(err, n, "%s has no %s: the driver is too old, 12.0 or newer is wanted", path, symbol); \
    return -1;                                                                    \
  }
  CUDA_FUNCTIONS(X)
#undef X
  *(void **)&launch_ex = dlsym(lib, "cuLaunchKernelEx");
  *(void **)&encode_tiled = dlsym(lib, "cuTensorMapEncodeTiled");
  return cu.Init(0);
}

void ssdc_cuda_error(int code, const char **name, const char **text) {
  *name = *text = NULL;
  if (cu.GetErrorName) cu.GetErrorName(code, name), cu.GetErrorString(code, text);
}

int ssdc_cuda_count(int *n, int *version) {
  int e = cu.DeviceGetCount(n);
  return e ? e : cu.DriverGetVersion(version);
}

// values: capability major and minor, multiprocessors, shared memory of a block.
int ssdc_cuda_device(int index, void **ctx, char *name, int n, int *values, long long *memory) {
  static const int which[4] = {75, 76, 16, 97};
  int device, e = cu.DeviceGet(&device, index);
  size_t total = 0;
  if (!e) e = cu.DeviceGetName(name, n, device);
  for (int i = 0; i < 4 && !e; i++) e = cu.DeviceGetAttribute(&values[i], which[i], device);
  if (!e) e = cu.DeviceTotalMem(&total, device);
  *memory = total;
  return e || !ctx ? e : cu.PrimaryCtxRetain(ctx, device);
}
void ssdc_cuda_release(int index) {
  int device;
  if (!cu.DeviceGet(&device, index)) cu.PrimaryCtxRelease(device);
}

#define WITH(ctx)                       \
  do {                                  \
    int e_ = cu.CtxSetCurrent(ctx);     \
    if (e_) return e_;                  \
  } while (0)

int ssdc_tensor_map(void *c, void *map, int f16, ssdc_ptr p, const unsigned long long *dims, const unsigned long long *strides, const unsigned *box) {
  static const unsigned steps[4] = {1, 1, 1, 1};
  _Alignas(64) char aligned[128];
  WITH(c);
  if (!encode_tiled) return 801;  // CUDA_ERROR_NOT_SUPPORTED
  // Rank 4; no interleaving, swizzle of 128 bytes, promotion to 256 bytes in the L2, zeros outside.
  const int e = encode_tiled(aligned, f16 ? 6 : 9, 4, (void *)(uintptr_t)p, dims, strides, box, steps, 0, 3, 3, 0);
  if (!e) memcpy(map, aligned, sizeof aligned);
  return e;
}

int ssdc_alloc(void *c, ssdc_ptr *p, size_t n) { WITH(c); return cu.MemAlloc(p, n); }
int ssdc_free(void *c, ssdc_ptr p) { WITH(c); return cu.MemFree(p); }
int ssdc_alloc_host(void *c, void **p, size_t n) { WITH(c); return cu.MemAllocHost(p, n); }
int ssdc_free_host(void *c, void *p) { WITH(c); return cu.MemFreeHost(p); }
int ssdc_mem_info(void *c, size_t *f, size_t *t) { WITH(c); return cu.MemGetInfo(f, t); }
int ssdc_to_device(void *c, ssdc_ptr d, const void *s, size_t n, void *st) { WITH(c); return cu.MemcpyHtoD(d, s, n, st); }
int ssdc_to_host(void *c, void *d, ssdc_ptr s, size_t n, void *st) { WITH(c); return cu.MemcpyDtoH(d, s, n, st); }
int ssdc_copy(void *c, ssdc_ptr d, ssdc_ptr s, size_t n, void *st) { WITH(c); return cu.MemcpyDtoD(d, s, n, st); }
int ssdc_set(void *c, ssdc_ptr d, unsigned char v, size_t n, void *st) { WITH(c); return cu.MemsetD8(d, v, n, st); }
int ssdc_module(void *c, void **m, const void *image) { WITH(c); return cu.ModuleLoadData(m, image); }
int ssdc_unload(void *c, void *m) { WITH(c); return cu.ModuleUnload(m); }
int ssdc_function(void *c, void **f, void *m, const char *name) { WITH(c); return cu.ModuleGetFunction(f, m, name); }
int ssdc_global(void *c, ssdc_ptr *p, void *m, const char *name) { size_t n; WITH(c); return cu.ModuleGetGlobal(p, &n, m, name); }
int ssdc_shared(void *c, void *f, int bytes, int full) {
  WITH(c);
  int e = bytes > 48 << 10 ? cu.FuncSetAttribute(f, 8, bytes) : 0;
  return e || !full ? e : cu.FuncSetAttribute(f, 9, 100);
}
int ssdc_fits(void *c, void *f, int *n, int threads, int shared) { WITH(c); return cu.Occupancy(n, f, threads, shared); }
int ssdc_launch(void *c, void *f, unsigned blocks, unsigned threads, unsigned shared, void *st, int how, void *params) {
  void *list[1] = {params};
  WITH(c);
  if (how && launch_ex) {
    struct attribute a = {how, 0, {1}};
    struct config all = {{blocks, 1, 1}, {threads, 1, 1}, shared, st, &a, 1};
    return launch_ex(&all, f, list, NULL);
  }
  if (how == SSDC_TOGETHER) return 801;  // not supported
  return cu.LaunchKernel(f, blocks, 1, 1, threads, 1, 1, shared, st, list, NULL);
}
int ssdc_stream(void *c, void **s) { WITH(c); return cu.StreamCreate(s, 1); }
int ssdc_stream_free(void *c, void *s) { WITH(c); return cu.StreamDestroy(s); }
int ssdc_sync(void *c, void *s) { WITH(c); return cu.StreamSynchronize(s); }
int ssdc_capture(void *c, void *s) { WITH(c); return cu.StreamBeginCapture(s, 2); }  // relaxed: other goroutines go on
int ssdc_capture_end(void *c, void *s, void **exec) {
  void *graph = NULL;
  WITH(c);
  int e = cu.StreamEndCapture(s, &graph);
  if (!e && exec) e = cu.GraphInstantiate(exec, graph, 0);
  if (graph) cu.GraphDestroy(graph);
  return e;
}
int ssdc_graph_launch(void *c, void *exec, void *s) { WITH(c); return cu.GraphLaunch(exec, s); }
int ssdc_graph_free(void *c, void *exec) { WITH(c); return cu.GraphExecDestroy(exec); }
int ssdc_event(void *c, void **e) { WITH(c); return cu.EventCreate(e, 0); }
int ssdc_event_free(void *c, void *e) { WITH(c); return cu.EventDestroy(e); }
int ssdc_record(void *c, void *e, void *s) { WITH(c); return cu.EventRecord(e, s); }
int ssdc_elapsed(void *c, void *from, void *to, float *ms) {
  WITH(c);
  int e = cu.EventSynchronize(to);
  return e ? e : cu.EventElapsedTime(ms, from, to);
}

// cuBLASLt. Its interface is column-major; C^T = B^T A^T makes rows of it.
#define BLAS_FUNCTIONS(X)                                                                                         \
  X(Create, "cublasLtCreate", (void **))                                                                          \
  X(Destroy, "cublasLtDestroy", (void *))                                                                         \
  X(DescCreate, "cublasLtMatmulDescCreate", (void **, int, int))                                                  \
  X(DescDestroy, "cublasLtMatmulDescDestroy", (void *))                                                           \
  X(DescSet, "cublasLtMatmulDescSetAttribute", (void *, int, const void *, size_t))                               \
  X(LayoutCreate, "cublasLtMatrixLayoutCreate", (void **, int, uint64_t, uint64_t, int64_t))                      \
  X(LayoutDestroy, "cublasLtMatrixLayoutDestroy", (void *))                                                       \
  X(LayoutSet, "cublasLtMatrixLayoutSetAttribute", (void *, int, const void *, size_t))                           \
  X(PrefCreate, "cublasLtMatmulPreferenceCreate", (void **))                                                      \
  X(PrefDestroy, "cublasLtMatmulPreferenceDestroy", (void *))                                                     \
  X(PrefSet, "cublasLtMatmulPreferenceSetAttribute", (void *, int, const void *, size_t))                         \
  X(Heuristic, "cublasLtMatmulAlgoGetHeuristic", (void *, void *, void *, void *, void *, void *, void *, int, void *, int *)) \
  X(Matmul, "cublasLtMatmul",                                                                                     \
    (void *, void *, const void *, const void *, void *, const void *, void *, const void *, const void *, void *, void *, void *, const void *, void *, size_t, void *))

static struct {
#define X(name, symbol, args) int(*name) args;
  BLAS_FUNCTIONS(X)
#undef X
  size_t (*version)(void);
} blas;

int ssdc_blas_open(const char *path, char *err, int n) {
  void *lib = open_any(path, err, n);
  if (!lib) return -1;
#define X(name, symbol, args)                              \
  if (!(*(void **)&blas.name = dlsym(lib, symbol))) {      \
    snprintf(err, n, "%s has no %s", path, symbol);        \
    return -1;                                             \
  }
  BLAS_FUNCTIONS(X)
#undef X
  *(void **)&blas.version = dlsym(lib, "cublasLtGetVersion");
  return 0;
}
int ssdc_blas_create(void *c, void **handle, size_t *version) {
  WITH(c);
  *version = blas.version ? blas.version() : 0;
  return blas.Create(handle);
}
int ssdc_blas_free(void *c, void *handle) { WITH(c); return blas.Destroy(handle); }

struct heuristic { uint64_t algo[8]; size_t workspace; int state; float waves; int reserved[4]; };
struct plan { void *desc, *a, *b, *c, *pref; struct heuristic best; };

void ssdc_blas_plan_free(void *v) {
  struct plan *p = v;
  if (!p) return;
  if (p->desc) blas.DescDestroy(p->desc);
  if (p->a) blas.LayoutDestroy(p->a);
  if (p->b) blas.LayoutDestroy(p->b);
  if (p->c) blas.LayoutDestroy(p->c);
  if (p->pref) blas.PrefDestroy(p->pref);
  free(p);
}

static int layout(void **l, int type, int rows, int cols, int64_t ld, int batch, int64_t stride) {
  int e = blas.LayoutCreate(l, type, rows, cols, ld);
  if (batch > 1 && !e) e = blas.LayoutSet(*l, 5, &batch, sizeof batch);
  if (batch > 1 && !e) e = blas.LayoutSet(*l, 6, &stride, sizeof stride);
  return e;
}

int ssdc_blas_plan(void *c, void *handle, const struct ssdc_product *p, size_t workspace, int choice, void **out) {
  struct heuristic found[SSDC_BLAS_CHOICES];
  WITH(c);
  struct plan *q = calloc(1, sizeof *q);
  const int32_t yes = 1, epilogue = 4;
  int n = 0;
  // 68: f32 sums; 77: f32 operands rounded to TF32.
  int e = blas.DescCreate(&q->desc, p->fast ? 77 : 68, 0);
  if (!e && p->trans_b) e = blas.DescSet(q->desc, 3, &yes, sizeof yes);
  if (!e && p->bias) {
    e = blas.DescSet(q->desc, 7, &epilogue, sizeof epilogue);
    const void *at = (const void *)(uintptr_t)p->bias;
    if (!e) e = blas.DescSet(q->desc, 8, &at, sizeof at);
  }
  // The left operand of the column-major product is B, the right one A.
  if (!e) e = p->trans_b ? layout(&q->a, p->type, p->k, p->n, p->ldb, p->batch, p->stride_b)
                         : layout(&q->a, p->type, p->n, p->k, p->ldb, p->batch, p->stride_b);
  if (!e) e = layout(&q->b, p->type, p->k, p->m, p->lda, p->batch, p->stride_a);
  if (!e) e = layout(&q->c, p->out_type, p->n, p->m, p->ldc, p->batch, p->stride_c);
  if (!e) e = blas.PrefCreate(&q->pref);
  if (!e) e = blas.PrefSet(q->pref, 1, &workspace, sizeof workspace);
  // The heuristics take every matrix to start on 256 bytes unless told otherwise; views of others do not.
  const ssdc_ptr starts[4] = {p->b, p->a, p->c0 | p->c, p->c};
  for (int i = 0; i < 4 && !e; i++) {
    uint32_t bytes = 256;
    while (starts[i] % bytes) bytes /= 2;
    e = blas.PrefSet(q->pref, 5 + i, &bytes, sizeof bytes);
  }
  if (!e) e = blas.Heuristic(handle, q->desc, q->a, q->b, q->c, q->c, q->pref, choice + 1, found, &n);
  if (!e && (n <= choice || found[choice].state)) e = 15;  // not supported
  if (e) {
    ssdc_blas_plan_free(q);
    return e;
  }
  q->best = found[choice];
  *out = q;
  return 0;
}

int ssdc_blas_run(void *c, void *handle, void *plan, const struct ssdc_product *p, ssdc_ptr workspace, size_t bytes, void *stream) {
  WITH(c);
  struct plan *q = plan;
  const void *c0 = (const void *)(uintptr_t)(p->c0 ? p->c0 : p->c);
  return blas.Matmul(handle, q->desc, &p->alpha, (const void *)(uintptr_t)p->b, q->a, (const void *)(uintptr_t)p->a, q->b, &p->beta, c0, q->c,
                     (void *)(uintptr_t)p->c, q->c, q->best.algo, (void *)(uintptr_t)workspace, bytes, stream);
}

// NVRTC.
static struct {
  int (*version)(int *, int *);
  int (*create)(void **, const char *, const char *, int, const char **, const char **);
  int (*destroy)(void **);
  int (*compile)(void *, int, const char **);
  int (*cubin_size)(void *, size_t *);
  int (*cubin)(void *, char *);
  int (*ptx_size)(void *, size_t *);
  int (*ptx)(void *, char *);
  int (*log_size)(void *, size_t *);
  int (*log)(void *, char *);
} rtc;

int ssdc_rtc_open(const char *path, char *err, int n) {
  void *lib = open_any(path, err, n);
  if (!lib) return -1;
  const struct { void **at; const char *symbol; } all[] = {
      {(void **)&rtc.version, "nvrtcVersion"}, {(void **)&rtc.create, "nvrtcCreateProgram"}, {(void **)&rtc.destroy, "nvrtcDestroyProgram"},
      {(void **)&rtc.compile, "nvrtcCompileProgram"}, {(void **)&rtc.cubin_size, "nvrtcGetCUBINSize"}, {(void **)&rtc.cubin, "nvrtcGetCUBIN"},
      {(void **)&rtc.ptx_size, "nvrtcGetPTXSize"}, {(void **)&rtc.ptx, "nvrtcGetPTX"}, {(void **)&rtc.log_size, "nvrtcGetProgramLogSize"},
      {(void **)&rtc.log, "nvrtcGetProgramLog"}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if (!(*all[i].at = dlsym(lib, all[i].symbol))) {
      snprintf(err, n, "%s has no %s", path, all[i].symbol);
      return -1;
    }
  return 0;
}
int ssdc_rtc_version(int *major, int *minor) { return rtc.version(major, minor); }

int ssdc_rtc_compile(const char *source, const char *name, int n_headers, const char **headers, const char **names, int n_options,
                     const char **options, int ptx, char **out, size_t *size, char **log) {
  void *program;
  *out = *log = NULL;
  int e = rtc.create(&program, source, name, n_headers, headers, names);
  if (e) return e;
  e = rtc.compile(program, n_options, options);
  if (e) {
    size_t n = 0;
    if (!rtc.log_size(program, &n) && (*log = malloc(n + 1))) rtc.log(program, *log), (*log)[n] = 0;
  } else {
    e = ptx ? rtc.ptx_size(program, size) : rtc.cubin_size(program, size);
    if (!e && (*out = malloc(*size))) e = ptx ? rtc.ptx(program, *out) : rtc.cubin(program, *out);
  }
  rtc.destroy(&program);
  return e;
}
