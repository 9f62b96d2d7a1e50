// For kernels that go once over more than the second-level cache holds.
#pragma once

#include "device.cuh"

// Such kernels begin with the last block: the one in front has just written the end of its output, which is still in the cache, and the
// one behind begins where they end.
__device__ __forceinline__ int64 block_from_end() { return (int64)gridDim.x - 1 - blockIdx.x; }

#ifdef SSDC_EMULATE
inline uint4 load_stream(const uint4 *p) { return *p; }
inline float silu_lean(float v) { return v / (1.f + std::exp2(v * -1.44269504f)); }
#else
// 16 bytes that nobody reads again: they make room in the second-level cache first.
__device__ __forceinline__ uint4 load_stream(const uint4 *p) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.L2::cache_hint.v4.u32 {%0,%1,%2,%3}, [%4], %5;\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p), "l"(0x12F0000000000000ull));
  return v;
}
// silu_fast in 5 instructions instead of 12: what it does for denominators beyond 2^126 is not needed, for 1 / infinity is 0.
__device__ __forceinline__ float silu_lean(float v) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;\n" : "=f"(r) : "f"(1.f + exp2_fast(v * -1.44269504f)));
  return v * r;
}
#endif
