// A libcuda.so that runs the kernels on the processor: the driver's functions, as far as package driver calls them,
// over fibres. It lets the whole backend be tested where there is no GPU.
//   g++ -std=c++17 -O2 -w -fPIC -shared -DSSDC_EMULATE driver.cpp -o libcuda_emulated.so -ldl
//
// Memory is filled with NaN and ends at a page that must not be touched. SSDC_EMULATED_MEMORY bounds it, in bytes;
// after SSDC_EMULATED_LAUNCHES launches the device is lost; SSDC_EMULATED_MULTIPROCESSORS says how many it has.
#include <dlfcn.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <mutex>
#include <string>

#include "../attention.cu"
#include "../conv.cu"
#include "../decode.cu"
#include "../elementwise.cu"
#include "../flash.cu"
#include "../move.cu"
#include "../norm.cu"
#include "../matmul.cu"
#include "../quant.cu"
#include "../scan.cu"
#include "../ssd_entry.cu"
#include "../step.cu"
#include "../step_bits.cu"

#include "fibres.h"

namespace {

typedef unsigned long long Pointer;
enum { kOk = 0, kInvalid = 1, kOutOfMemory = 2, kNotFound = 500, kLost = 719, kTooLarge = 720 };

void launch_apart(int blocks, int threads, std::function<void()> f) { launch(blocks, threads, f); }

struct Function {
  void (*run)(const void *);
  int size;
};
struct Graph {
  std::vector<std::function<int()>> steps;
};
struct Stream {
  Graph *capture = nullptr;
};

std::map<Pointer, std::pair<void *, size_t>> allocations;
size_t used;
std::recursive_mutex alone;  // sessions that nobody holds are freed by another thread, beside what others do
bool lost;
void *self;

long long setting(const char *name, long long otherwise) {
  const char *v = getenv(name);
  return v && *v ? atoll(v) : otherwise;
}

unsigned multiprocessors() { return setting("SSDC_EMULATED_MULTIPROCESSORS", 4); }

int submit(Stream *s, std::function<int()> f) {
  if (lost) return kLost;
  if (s && s->capture) {
    s->capture->steps.push_back(f);
    return kOk;
  }
  return f();
}

}  // namespace

#define API extern "C" __attribute__((visibility("default"))) int

API cuInit(unsigned) { return kOk; }
API cuDriverGetVersion(int *v) { *v = 13000; return kOk; }
API cuDeviceGetCount(int *n) { *n = 1; return kOk; }
API cuDeviceGet(int *d, int) { *d = 0; return kOk; }
API cuDeviceGetName(char *s, int n, int) { snprintf(s, n, "emulated"); return kOk; }
API cuDeviceGetAttribute(int *v, int which, int) {
  *v = which == 75 ? 8 : which == 76 ? 0 : which == 16 ? multiprocessors() : which == 97 ? 166912 : 0;
  return kOk;
}
API cuDeviceTotalMem_v2(size_t *n, int) { *n = setting("SSDC_EMULATED_MEMORY", 8LL << 30); return kOk; }
API cuMemGetInfo_v2(size_t *free, size_t *total) {
  std::lock_guard<std::recursive_mutex> here(alone);
  cuDeviceTotalMem_v2(total, 0);
  *free = *total > used ? *total - used : 0;
  return kOk;
}
API cuDevicePrimaryCtxRetain(void **c, int) {
  *c = &allocations;
  lost = false;
  Dl_info info;
  if (!self && dladdr((void *)cuInit, &info)) self = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  return kOk;
}
API cuDevicePrimaryCtxRelease_v2(int) { return kOk; }
API cuCtxSetCurrent(void *) { return kOk; }
API cuModuleLoadData(void **m, const void *image) {
  *m = self;
  if (strncmp((const char *)image, "/tmp/ssdc-chain-", 16)) return kOk;  // else the path of a library that nvrtc.cpp has made, which uses what is in this one
  Dl_info info;
  if (dladdr((void *)cuInit, &info)) dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD | RTLD_GLOBAL);
  *m = dlopen((const char *)image, RTLD_NOW);
  if (!*m) fprintf(stderr, "%s\n", dlerror());
  unlink((const char *)image);
  return *m ? kOk : kInvalid;
}
API cuModuleUnload(void *) { return kOk; }
API cuModuleGetFunction(void **f, void *module, const char *name) {
  std::lock_guard<std::recursive_mutex> here(alone);
  static std::map<std::pair<void *, std::string>, Function> known;
  Function &k = known[{module, name}];
  if (!k.run) {
    k.run = (void (*)(const void *))dlsym(module, name);
    int *size = (int *)dlsym(module, (std::string(name) + "_size").c_str());
    if (!k.run || !size) { known.erase({module, name}); return kNotFound; }
    k.size = *size;
  }
  *f = &k;
  return kOk;
}
API cuModuleGetGlobal_v2(Pointer *p, size_t *n, void *, const char *name) {
  void *v = dlsym(self, name);
  if (!v) return kNotFound;
  *p = (Pointer)v, *n = 4;
  return kOk;
}
API cuFuncSetAttribute(void *, int, int) { return kOk; }
API cuMemAlloc_v2(Pointer *p, size_t n) {
  std::lock_guard<std::recursive_mutex> here(alone);
  if (lost) return kLost;
  size_t total;
  cuDeviceTotalMem_v2(&total, 0);
  if (used + n > total) return kOutOfMemory;
  const size_t page = sysconf(_SC_PAGESIZE), kept = (n + 15) & ~15ULL, size = (kept + page - 1) / page * page + page;
  char *base = (char *)mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return kOutOfMemory;
  mprotect(base + size - page, page, PROT_NONE);
  *p = (Pointer)(base + size - page - kept);
  memset((void *)*p, 0xFF, kept);
  allocations[*p] = {base, size};
  used += n;
  return kOk;
}
API cuMemFree_v2(Pointer p) {
  std::lock_guard<std::recursive_mutex> here(alone);
  auto it = allocations.find(p);
  if (it == allocations.end()) return kInvalid;
  munmap(it->second.first, it->second.second);
  used -= std::min(used, it->second.second);
  allocations.erase(it);
  return kOk;
}
API cuMemAllocHost_v2(void **p, size_t n) { *p = malloc(n); return kOk; }
API cuMemFreeHost(void *p) { free(p); return kOk; }
API cuMemcpyHtoDAsync_v2(Pointer d, const void *s, size_t n, Stream *stream) {
  return submit(stream, [=] { memcpy((void *)d, s, n); return 0; });
}
API cuMemcpyDtoHAsync_v2(void *d, Pointer s, size_t n, Stream *stream) {
  return submit(stream, [=] { memcpy(d, (void *)s, n); return 0; });
}
API cuMemcpyDtoDAsync_v2(Pointer d, Pointer s, size_t n, Stream *stream) {
  return submit(stream, [=] { memcpy((void *)d, (void *)s, n); return 0; });
}
API cuMemsetD8Async(Pointer d, unsigned char v, size_t n, Stream *stream) {
  return submit(stream, [=] { memset((void *)d, v, n); return 0; });
}
API cuStreamCreate(Stream **s, unsigned) { *s = new Stream; return kOk; }
API cuStreamDestroy_v2(Stream *s) { delete s; return kOk; }
API cuStreamSynchronize(Stream *) { return lost ? kLost : kOk; }
API cuStreamBeginCapture_v2(Stream *s, int) { s->capture = new Graph; return kOk; }
API cuStreamEndCapture(Stream *s, Graph **g) { *g = s->capture; s->capture = nullptr; return kOk; }
API cuGraphInstantiateWithFlags(Graph **e, Graph *g, unsigned long long) { *e = new Graph(*g); return kOk; }
API cuGraphLaunch(Graph *g, Stream *) {
  for (auto &f : g->steps)
    if (int e = lost ? kLost : f()) return e;
  return kOk;
}
API cuGraphDestroy(Graph *g) { delete g; return kOk; }
API cuGraphExecDestroy(Graph *g) { delete g; return kOk; }
API cuEventCreate(int **e, unsigned) { *e = new int; return kOk; }
API cuEventDestroy_v2(int *e) { delete e; return kOk; }
API cuEventRecord(int *, Stream *) { return kOk; }
API cuEventSynchronize(int *) { return kOk; }
API cuEventElapsedTime(float *ms, int *, int *) { *ms = 0; return kOk; }
static int launch_function(Function *f, unsigned blocks, unsigned threads, unsigned shared, Stream *s, void **params, bool together) {
  if (!blocks || threads > kMaxThreads || shared + kSharedOrigin > kSharedBytes) return kInvalid;
  if (together && blocks > multiprocessors()) return kTooLarge;
  static long long launches;
  const long long most = setting("SSDC_EMULATED_LAUNCHES", -1);
  if (most >= 0 && launches++ >= most) lost = true;
  if (most < 0) launches = 0;
  std::string bytes((const char *)params[0], f->size);
  return submit(s, [=] {
    std::lock_guard<std::recursive_mutex> here(alone);  // blocks and threads are kept in variables
    alignas(64) unsigned char copy[32768];
    memcpy(copy, bytes.data(), bytes.size());
    (together ? launch_together : launch_apart)(blocks, threads, [&] { f->run(copy); });
    return 0;
  });
}
API cuLaunchKernel(Function *f, unsigned x, unsigned, unsigned, unsigned threads, unsigned, unsigned, unsigned shared, Stream *s, void **params, void **) {
  return launch_function(f, x, threads, shared, s, params, false);
}
struct Attribute { int id, padding, value, room[15]; };
struct Config { unsigned grid[3], block[3], shared; Stream *stream; Attribute *attributes; unsigned n; };
API cuLaunchKernelEx(const Config *c, Function *f, void **params, void **) {
  bool together = false;
  for (unsigned i = 0; i < c->n; i++) together |= c->attributes[i].id == 2 && c->attributes[i].value;
  return launch_function(f, c->grid[0], c->block[0], c->shared, c->stream, params, together);
}
API cuOccupancyMaxActiveBlocksPerMultiprocessor(int *n, Function *, int, size_t) { *n = 1; return kOk; }
API cuGetErrorName(int e, const char **s) {
  *s = e == kOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : e == kLost ? "CUDA_ERROR_LAUNCH_FAILED" : e == kNotFound ? "CUDA_ERROR_NOT_FOUND" : "CUDA_ERROR_INVALID_VALUE";
  return kOk;
}
API cuGetErrorString(int e, const char **s) {
  *s = e == kOutOfMemory ? "out of memory" : e == kLost ? "unspecified launch failure" : "invalid argument";
  return kOk;
}
