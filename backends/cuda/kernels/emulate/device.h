// The instructions of tensorcore.cuh and the built-ins of CUDA on a CPU, so that the kernels'
// indexing, masks and barriers can be checked where there is no GPU. A thread is a fibre that
// runs until its next collective operation. The tensor-core instructions follow the fragment and
// descriptor layouts of the PTX manual, written apart from the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <math.h>

#include "types.h"

#define __device__
#define __global__
#define __launch_bounds__(...)
#define __grid_constant__
#define __shared__
#define __forceinline__ inline
#define __noinline__
#define SSDC_WGMMA 1

constexpr int kMaxThreads = 512;
constexpr uint32_t kSharedOrigin = 400;  // not a multiple of 1024, as on a device
constexpr unsigned kSharedBytes = 240 * 1024;
extern unsigned char raw_shared[kSharedBytes];
struct Index { int x; };
extern Index threadIdx, blockIdx, blockDim, gridDim;
void arrive_and_wait(int barrier, int threads);  // 0..15 named barriers, 16.. one for each warp
extern unsigned char (*exchange)[64];

inline int lane_of() { return threadIdx.x & 31; }
inline void warp_sync() { arrive_and_wait(16 + threadIdx.x / 32, 32); }
inline void __syncwarp() { warp_sync(); }
inline void __syncthreads() { arrive_and_wait(0, blockDim.x); }
inline void barrier_128(int id) { arrive_and_wait(id, 128); }
using std::min;

template <class V> inline V from_lane(V v, int lane) {
  memcpy(exchange[threadIdx.x], &v, sizeof v);
  warp_sync();
  V r;
  memcpy(&r, exchange[(threadIdx.x & ~31) + lane], sizeof r);
  warp_sync();
  return r;
}
template <class V> inline V __shfl_sync(unsigned, V v, int lane) { return from_lane(v, lane); }
template <class V> inline V __shfl_xor_sync(unsigned, V v, int mask) { return from_lane(v, lane_of() ^ mask); }
template <class V> inline V __shfl_up_sync(unsigned, V v, int by) { return from_lane(v, lane_of() < by ? lane_of() : lane_of() - by); }
inline uint32_t __byte_perm(uint32_t a, uint32_t b, uint32_t order) {
  const uint64_t bytes = (uint64_t)b << 32 | a;
  uint32_t r = 0;
  for (int i = 0; i < 4; i++) r |= (uint32_t)(bytes >> (order >> 4 * i & 7) * 8 & 255) << 8 * i;
  return r;
}
inline uint32_t __float_as_uint(float v) { uint32_t r; memcpy(&r, &v, 4); return r; }
inline float __int_as_float(int v) { float r; memcpy(&r, &v, 4); return r; }
inline float rsqrtf(float v) { return 1 / std::sqrt(v); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __expf(float v) { return std::exp(v); }
inline float exp2_fast(float v) { return std::exp2(v); }
inline float __uint_as_float(uint32_t bits) {
  float v;
  std::memcpy(&v, &bits, 4);
  return v;
}

constexpr int kTile = 8192;
inline uint32_t tile_at(int row, int chunk) {
  return (chunk >> 3) * kTile + row * 128 + (((chunk & 7) ^ (row & 7)) << 4);
}
inline uint32_t shared_address(const void *p) { return (uint32_t)((const unsigned char *)p - raw_shared) + kSharedOrigin; }
inline unsigned char *at_shared(uint32_t a) { return raw_shared + a - kSharedOrigin; }

// Copies land only when they are waited for, as late as a device may deliver them.
struct Copy { uint32_t dst; const void *src; bool valid; int group; };
struct Copies { Copy list[512]; int n, group; };
extern Copies *copies;
inline void copy16(uint32_t dst, const void *src, bool valid) {
  if (dst % 16 || (uintptr_t)src % 16) { fprintf(stderr, "misaligned copy\n"); abort(); }
  Copies &c = copies[threadIdx.x];
  c.list[c.n++] = {dst, src, valid, c.group};
}
inline void copy_commit() { copies[threadIdx.x].group++; }
inline void copy_land(int groups) {  // those of groups before this one
  Copies &c = copies[threadIdx.x];
  int kept = 0;
  for (int i = 0; i < c.n; i++) {
    const Copy &x = c.list[i];
    if (x.group >= groups) c.list[kept++] = x;
    else if (x.valid) memcpy(at_shared(x.dst), x.src, 16);
    else memset(at_shared(x.dst), 0, 16);
  }
  c.n = kept;
}
inline void copy_wait_all() { copy_land(1 << 30); }
template <int Pending> inline void copy_wait_but() { copy_land(copies[threadIdx.x].group - Pending); }
inline void fence_for_wgmma() {}

// Barriers in shared memory that count arrivals and bytes, and bulk copies (tma.cuh).
struct BulkCopy { uint32_t dst; const void *src; int bytes; uint32_t bar; };
void mbarrier_init(uint32_t bar, int arrivals);
inline void mbarrier_init_fence() {}
void mbarrier_arrive(uint32_t bar);
void mbarrier_expect(uint32_t bar, int bytes);
void mbarrier_wait(uint32_t bar, int parity);
constexpr uint64_t kStream = 0, kShared = 0;
void bulk_load(uint32_t dst, const void *src, int bytes, uint32_t bar, uint64_t hint);
inline void barrier_of(int id, int threads) { arrive_and_wait(id, threads); }

// A meeting of all blocks of a launch.
inline void add_to_count(int *counter) { ++*counter; }
void wait_for_count(const int *counter, int target);
void arrive_at(int id, int threads);  // without waiting

// What blocks of a launch tell each other.
template <class V> inline V load_shared(const V *p) { return *p; }
inline uint32_t load_shared(const __nv_bfloat16 *p) { return p->bits; }
template <class V> inline void store_shared(V *p, V v) { *p = v; }
inline uint32_t most_of(uint32_t a, uint32_t b) { return std::max(a & 0xffff0000, b & 0xffff0000) | std::max(a & 0xffff, b & 0xffff); }
void look_again();
inline void look_later() { look_again(); }
inline void fence_all() {}
inline float from_bits(uint32_t v) { return __uint_as_float(v << 16); }
inline void __threadfence() {}
inline void announce(int *flag, int value) { *flag = value; }
inline void wait_for(const int *flag, int value) {
  if (*flag != value) { fprintf(stderr, "waits for a block that comes later\n"); abort(); }
}
inline float load_fresh(const float *p) { return *p; }
inline float4 load_fresh(const float4 *p) { return *p; }
inline uint2 load_fresh(const uint2 *p) { return *p; }
inline float load_fresh(const __nv_bfloat16 *p) { return __bfloat162float(*p); }
template <int Count> inline void registers_take() {}
template <int Count> inline void registers_give() {}
inline void store_once(float4 *p, float4 v) { *p = v; }

inline float to_float(__nv_bfloat16 v) { return __bfloat162float(v); }
inline float to_float(__half v) { return __half2float(v); }
inline float to_float(float v) { return v; }
template <class T> inline T from_float(float v);
template <> inline __nv_bfloat16 from_float<__nv_bfloat16>(float v) { return __float2bfloat16(v); }
template <> inline __half from_float<__half>(float v) { return __float2half(v); }
template <> inline float from_float<float>(float v) { return v; }
template <class T> inline uint32_t pack(T, float lo, float hi) {
  T v[2] = {from_float<T>(lo), from_float<T>(hi)};
  uint32_t r;
  memcpy(&r, v, 4);
  return r;
}
template <class T> inline float2 unpack(T, uint32_t w) {
  T v[2];
  memcpy(v, &w, 4);
  return make_float2(to_float(v[0]), to_float(v[1]));
}

// Matrix m of 8 x 8 has the 16-byte rows that lanes 8m .. 8m+7 name.
inline void ldmatrix_any(uint32_t (&r)[4], uint32_t a, bool trans) {
  memcpy(exchange[threadIdx.x], &a, 4);
  warp_sync();
  for (int m = 0; m < 4; m++) {
    uint16_t v[2];
    for (int e = 0; e < 2; e++) {
      const int major = lane_of() / 4, minor = 2 * (lane_of() % 4) + e;
      const int row = trans ? minor : major, col = trans ? major : minor;
      uint32_t address;
      memcpy(&address, exchange[(threadIdx.x & ~31) + 8 * m + row], 4);
      memcpy(&v[e], at_shared(address) + 2 * col, 2);
    }
    memcpy(&r[m], v, 4);
  }
  warp_sync();
}
inline void ldmatrix(uint32_t (&r)[4], uint32_t a) { ldmatrix_any(r, a, false); }
inline void ldmatrix_trans(uint32_t (&r)[4], uint32_t a) { ldmatrix_any(r, a, true); }

// Element (row, k) of a 16 x 16 left operand whose registers the lanes have put in `exchange`.
template <class T> inline float left_element(int row, int k) {
  uint32_t w;
  memcpy(&w, exchange[(threadIdx.x & ~31) + row % 8 * 4 + k % 8 / 2] + 4 * (row / 8 + k / 8 * 2), 4);
  const float2 v = unpack(T(), w);
  return k % 2 ? v.y : v.x;
}

template <class T> inline void mma16816(T, float *d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  memcpy(exchange[threadIdx.x], a, 16);
  memcpy(exchange[threadIdx.x] + 16, &b0, 4);
  memcpy(exchange[threadIdx.x] + 20, &b1, 4);
  warp_sync();
  for (int i = 0; i < 4; i++) {
    const int row = lane_of() / 4 + i / 2 * 8, col = 2 * (lane_of() % 4) + i % 2;
    float sum = 0;
    for (int k = 0; k < 16; k++) {
      uint32_t w;
      memcpy(&w, exchange[(threadIdx.x & ~31) + col * 4 + k % 8 / 2] + 16 + 4 * (k / 8), 4);
      const float2 v = unpack(T(), w);
      sum += left_element<T>(row, k) * (k % 2 ? v.y : v.x);
    }
    d[i] += sum;
  }
  warp_sync();
}

// Signed bytes: a 16 x 32 left operand, four of k in a word; the right operand likewise by columns.
inline void mma16832(int *d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  memcpy(exchange[threadIdx.x], a, 16);
  memcpy(exchange[threadIdx.x] + 16, &b0, 4);
  memcpy(exchange[threadIdx.x] + 20, &b1, 4);
  warp_sync();
  for (int i = 0; i < 4; i++) {
    const int row = lane_of() / 4 + i / 2 * 8, col = 2 * (lane_of() % 4) + i % 2;
    for (int k = 0; k < 32; k++) {
      const unsigned char *left = exchange[(threadIdx.x & ~31) + row % 8 * 4 + k % 16 / 4] + 4 * (row / 8 + k / 16 * 2) + k % 4;
      const unsigned char *right = exchange[(threadIdx.x & ~31) + col * 4 + k % 16 / 4] + 16 + 4 * (k / 16) + k % 4;
      d[i] += (int)(signed char)*left * (int)(signed char)*right;
    }
  }
  warp_sync();
}

inline uint64_t tile_descriptor(uint32_t address, uint32_t leading) {
  return (uint64_t)((address & 0x3FFFF) >> 4) | ((uint64_t)(leading >> 4) << 16) | ((uint64_t)(1024 >> 4) << 32) | ((uint64_t)1 << 62);
}
// Element of an operand in shared memory. `outer` is its row (left) or column (right).
template <class T> inline float described(uint64_t desc, int outer, int k, bool k_contiguous) {
  if (desc >> 62 != 1) { fprintf(stderr, "not the 128-byte swizzle\n"); abort(); }
  const uint32_t start = (desc & 0x3FFF) << 4, leading = (desc >> 16 & 0x3FFF) << 4, stride = (desc >> 32 & 0x3FFF) << 4;
  uint32_t a = k_contiguous ? start + outer / 8 * stride + outer % 8 * 128 + k * 2
                            : start + outer / 64 * leading + k / 8 * stride + k % 8 * 128 + outer % 64 * 2;
  a ^= (a >> 7 & 7) << 4;
  T v;
  memcpy(&v, at_shared(a), 2);
  return to_float(v);
}
template <int Cols, bool RegisterA> struct Wgmma {
  template <class T, class A> static void mma(T, float (&d)[Cols / 2], const A &a, uint64_t db, int acc) {
    if constexpr (RegisterA) memcpy(exchange[threadIdx.x], &a, 16);
    warp_sync();
    const int warp = threadIdx.x / 32 % 4;
    for (int i = 0; i < Cols / 2; i++) {
      const int row = lane_of() / 4 + (i / 2 % 2) * 8, col = i / 4 * 8 + 2 * (lane_of() % 4) + i % 2;
      float sum = 0;
      for (int k = 0; k < 16; k++) {
        float l;
        if constexpr (RegisterA) l = left_element<T>(row, k);
        else l = described<T>(a, warp * 16 + row, k, true);
        sum += l * described<T>(db, col, k, !RegisterA);
      }
      d[i] = (acc ? d[i] : 0) + sum;
    }
    warp_sync();
  }
};
inline void wgmma_begin() {}
inline void wgmma_commit() {}
template <int Pending> inline void wgmma_wait() {}
template <int R> inline void pin(float (&)[R]) {}
