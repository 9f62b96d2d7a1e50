// What all kernels but the SSD forward pass share: how a kernel is declared, operands of any
// element type, sums over a block.
//
// Every kernel is a C function of one struct, which the host fills in byte by byte (package
// cuda, params.go): no mangled names, and the same source runs under kernels/emulate.
#pragma once

#ifdef SSDC_EMULATE
#include "emulate/device.h"
#define SSDC_KERNEL(name, Params, threads)                                         \
  static void name##_body(const Params &p);                                        \
  extern "C" __attribute__((visibility("default"))) int name##_size;               \
  int name##_size = sizeof(Params);                                                \
  extern "C" __attribute__((visibility("default"))) void name(const void *params) { \
    name##_body(*static_cast<const Params *>(params));                             \
  }                                                                                \
  static void name##_body(const Params &p)
#define SSDC_SHARED(type, name) type *name = reinterpret_cast<type *>(raw_shared)
#define SSDC_KERNEL_EARLY SSDC_KERNEL
inline void wait_for_previous() {}
inline uint4 load_once(const uint4 *p) { return *p; }
#else
#include "tensorcore.cuh"
template <> __device__ __forceinline__ float from_float<float>(float v) { return v; }

// From sm_90 on the host lets a kernel start while the one before it drains (programmatic dependent launch, package
// driver). It touches no memory before it has waited for that one to end; SSDC_KERNEL waits at once, SSDC_KERNEL_EARLY leaves
// that to the kernel, which may read weights before.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void let_next_start() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}
#define SSDC_KERNEL_EARLY(name, Params, threads)                                                   \
  __device__ __forceinline__ void name##_body(const Params &p);                                    \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p) {   \
    let_next_start();                                                                              \
    name##_body(p);                                                                                \
  }                                                                                                \
  __device__ __forceinline__ void name##_body(const Params &p)
#define SSDC_KERNEL(name, Params, threads)                                                         \
  __device__ __forceinline__ void name##_body(const Params &p);                                    \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p) {   \
    let_next_start();                                                                              \
    wait_for_previous();                                                                           \
    name##_body(p);                                                                                \
  }                                                                                                \
  __device__ __forceinline__ void name##_body(const Params &p)

// 16 bytes that nobody reads again.
__device__ __forceinline__ uint4 load_once(const uint4 *p) {
  uint4 v;
  asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p));
  return v;
}
template <int Pending> __device__ __forceinline__ void copy_wait_but() { asm volatile("cp.async.wait_group %0;\n" ::"n"(Pending) : "memory"); }
extern __shared__ __align__(16) unsigned char block_shared[];
#define SSDC_SHARED(type, name) type *name = reinterpret_cast<type *>(block_shared)
#endif

typedef long long int64;

// Element types, by their numbers in ONNX's TensorProto.
enum {
  kF32 = 1, kU8 = 2, kI8 = 3, kU16 = 4, kI16 = 5, kI32 = 6, kI64 = 7, kBool = 9, kF16 = 10, kF64 = 11, kU32 = 12, kU64 = 13,
  kBF16 = 16
};

struct Tensor {
  void *data;
  int64 type;
};

// A [B,L,...] operand whose rows may lie apart.
struct Seq {
  void *data;
  int64 type, per_batch, per_step;  // strides in elements
};

template <class R> __device__ __forceinline__ R load_any(const void *data, int64 type, int64 i) {
  switch ((int)type) {
  case kF32: return (R) static_cast<const float *>(data)[i];
  case kBF16: return (R)to_float(static_cast<const __nv_bfloat16 *>(data)[i]);
  case kF16: return (R)to_float(static_cast<const __half *>(data)[i]);
  case kF64: return (R) static_cast<const double *>(data)[i];
  case kI64: case kU64: return (R) static_cast<const int64 *>(data)[i];
  case kI32: return (R) static_cast<const int *>(data)[i];
  case kU32: return (R) static_cast<const unsigned *>(data)[i];
  case kI16: return (R) static_cast<const short *>(data)[i];
  case kU16: return (R) static_cast<const unsigned short *>(data)[i];
  case kI8: return (R) static_cast<const signed char *>(data)[i];
  default: return (R) static_cast<const unsigned char *>(data)[i];
  }
}

template <class R> __device__ __forceinline__ void store_any(void *data, int64 type, int64 i, R v) {
  switch ((int)type) {
  case kF32: static_cast<float *>(data)[i] = (float)v; break;
  case kBF16: static_cast<__nv_bfloat16 *>(data)[i] = from_float<__nv_bfloat16>((float)v); break;
  case kF16: static_cast<__half *>(data)[i] = from_float<__half>((float)v); break;
  case kF64: static_cast<double *>(data)[i] = (double)v; break;
  case kI64: case kU64: static_cast<int64 *>(data)[i] = (int64)v; break;
  case kI32: static_cast<int *>(data)[i] = (int)v; break;
  case kU32: static_cast<unsigned *>(data)[i] = (unsigned)v; break;
  case kI16: static_cast<short *>(data)[i] = (short)v; break;
  case kU16: static_cast<unsigned short *>(data)[i] = (unsigned short)v; break;
  case kI8: static_cast<signed char *>(data)[i] = (signed char)v; break;
  case kBool: static_cast<unsigned char *>(data)[i] = v != (R)0; break;
  default: static_cast<unsigned char *>(data)[i] = (unsigned char)v; break;
  }
}

// Floating-point operands in f32.
__device__ __forceinline__ float loadf(const void *data, int64 type, int64 i) {
  if (type == kF32) return static_cast<const float *>(data)[i];
  if (type == kBF16) return to_float(static_cast<const __nv_bfloat16 *>(data)[i]);
  return to_float(static_cast<const __half *>(data)[i]);
}
__device__ __forceinline__ void storef(void *data, int64 type, int64 i, float v) {
  if (type == kF32) static_cast<float *>(data)[i] = v;
  else if (type == kBF16) static_cast<__nv_bfloat16 *>(data)[i] = from_float<__nv_bfloat16>(v);
  else static_cast<__half *>(data)[i] = from_float<__half>(v);
}
__device__ __forceinline__ float loadf(const Tensor &t, int64 i) { return loadf(t.data, t.type, i); }
__device__ __forceinline__ void storef(const Tensor &t, int64 i, float v) { storef(t.data, t.type, i, v); }

// Four neighbours at once; i is a multiple of 4 and the tensor starts on 16 bytes.
__device__ __forceinline__ float4 loadf4(const void *data, int64 type, int64 i) {
  if (type == kF32) return *reinterpret_cast<const float4 *>(static_cast<const float *>(data) + i);
  const uint2 w = *reinterpret_cast<const uint2 *>(static_cast<const unsigned short *>(data) + i);
  float2 lo, hi;
  if (type == kBF16) lo = unpack(__nv_bfloat16(), w.x), hi = unpack(__nv_bfloat16(), w.y);
  else lo = unpack(__half(), w.x), hi = unpack(__half(), w.y);
  return make_float4(lo.x, lo.y, hi.x, hi.y);
}
__device__ __forceinline__ float4 loadf4(const Tensor &t, int64 i) { return loadf4(t.data, t.type, i); }
__device__ __forceinline__ void storef4(void *data, int64 type, int64 i, float4 v) {
  if (type == kF32) {
    *reinterpret_cast<float4 *>(static_cast<float *>(data) + i) = v;
    return;
  }
  uint2 w;
  if (type == kBF16) w.x = pack(__nv_bfloat16(), v.x, v.y), w.y = pack(__nv_bfloat16(), v.z, v.w);
  else w.x = pack(__half(), v.x, v.y), w.y = pack(__half(), v.z, v.w);
  *reinterpret_cast<uint2 *>(static_cast<unsigned short *>(data) + i) = w;
}

// Four neighbours of a type known beforehand: loads of types found at run time wait for one another, for each is converted where
// it is loaded.
template <class T> __device__ __forceinline__ float4 load4(const T *p) {
  const uint2 w = *reinterpret_cast<const uint2 *>(p);
  const float2 lo = unpack(T(), w.x), hi = unpack(T(), w.y);
  return make_float4(lo.x, lo.y, hi.x, hi.y);
}
template <> __device__ __forceinline__ float4 load4<float>(const float *p) { return *reinterpret_cast<const float4 *>(p); }

__device__ __forceinline__ float silu_of(float v) { return v / (1.f + expf(-v)); }
// The same to about 2 units of the last place in f32: for kernels where the exact division shows.
__device__ __forceinline__ float silu_fast(float v) { return __fdividef(v, 1.f + __expf(-v)); }
__device__ __forceinline__ float softplus_of(float v) { return v > 20.f ? v : log1pf(expf(v)); }

// What Linear may apply to its sums.
enum { kNone, kRelu, kSilu, kGelu, kGeluTanh, kSigmoid, kSoftplus };
__device__ __noinline__ static float activation(int act, float v) {  // one copy of it all is enough
  switch (act) {
  case kRelu: return fmaxf(v, 0.f);
  case kSilu: return silu_of(v);
  case kGelu: return v * 0.5f * erfcf(-v * 0.70710678f);
  case kGeluTanh: return 0.5f * v * (1.f + tanhf(0.79788456f * (v + 0.044715f * v * v * v)));
  case kSigmoid: return 1.f / (1.f + expf(-v));
  case kSoftplus: return softplus_of(v);
  }
  return v;
}
__device__ __forceinline__ float activate(int act, float v) { return act == kNone ? v : activation(act, v); }

// Sum (or maximum) over the threads of a block, at most 1024; `room` has 32 floats of shared memory.
template <bool Max> __device__ __forceinline__ float over_block(float v, float *room) {
#pragma unroll
  for (int o = 16; o; o >>= 1) {
    const float w = __shfl_xor_sync(0xffffffffu, v, o);
    v = Max ? fmaxf(v, w) : v + w;
  }
  const int warps = blockDim.x / 32;
  if (warps == 1) return v;
  __syncthreads();  // the last use of room is over
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
  __syncthreads();
  v = room[0];
  for (int w = 1; w < warps; w++) v = Max ? fmaxf(v, room[w]) : v + room[w];
  return v;
}
