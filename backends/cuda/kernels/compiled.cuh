// What a chain of element-wise operators compiled by NVRTC includes (package cuda, chains.go): loads and stores of types known
// beforehand. It stands on its own, for NVRTC comes without CUDA's headers.
#pragma once

#ifdef SSDC_EMULATE
#include "device.cuh"
inline float from_bf16(unsigned short w) { return to_float(__nv_bfloat16{w}); }
inline float from_f16(unsigned short w) { return to_float(__half{w}); }
inline unsigned short to_bf16(float v) { return from_float<__nv_bfloat16>(v).bits; }
inline unsigned short to_f16(float v) { return from_float<__half>(v).bits; }
#else
typedef long long int64;
enum { kF32 = 1, kU8 = 2, kI8 = 3, kU16 = 4, kI16 = 5, kI32 = 6, kI64 = 7, kBool = 9, kF16 = 10, kF64 = 11, kU32 = 12, kU64 = 13, kBF16 = 16 };
struct Tensor {
  void *data;
  int64 type;
};
__device__ __forceinline__ float from_bf16(unsigned short w) { return __uint_as_float((unsigned)w << 16); }
__device__ __forceinline__ float from_f16(unsigned short w) {
  float v;
  asm("cvt.f32.f16 %0, %1;\n" : "=f"(v) : "h"(w));
  return v;
}
__device__ __forceinline__ unsigned short to_bf16(float v) {
  unsigned short w;
  asm("cvt.rn.bf16.f32 %0, %1;\n" : "=h"(w) : "f"(v));
  return w;
}
__device__ __forceinline__ unsigned short to_f16(float v) {
  unsigned short w;
  asm("cvt.rn.f16.f32 %0, %1;\n" : "=h"(w) : "f"(v));
  return w;
}
#define SSDC_KERNEL(name, Params, threads)                                                         \
  __device__ __forceinline__ void name##_body(const Params &p);                                    \
  extern "C" __global__ void __launch_bounds__(threads) name(const __grid_constant__ Params p) {   \
    name##_body(p);                                                                                \
  }                                                                                                \
  __device__ __forceinline__ void name##_body(const Params &p)
#endif

#include "chain.cuh"

namespace {

template <int Type> struct Element { typedef unsigned char raw; };
template <> struct Element<kF32> { typedef float raw; };
template <> struct Element<kF64> { typedef double raw; };
template <> struct Element<kBF16> { typedef unsigned short raw; };
template <> struct Element<kF16> { typedef unsigned short raw; };
template <> struct Element<kI64> { typedef int64 raw; };
template <> struct Element<kU64> { typedef int64 raw; };
template <> struct Element<kI32> { typedef int raw; };
template <> struct Element<kU32> { typedef unsigned raw; };
template <> struct Element<kI16> { typedef short raw; };
template <> struct Element<kU16> { typedef unsigned short raw; };
template <> struct Element<kI8> { typedef signed char raw; };

template <class R, int Type> __device__ __forceinline__ R value_of(typename Element<Type>::raw w) {
  if (Type == kBF16) return (R)from_bf16((unsigned short)w);
  if (Type == kF16) return (R)from_f16((unsigned short)w);
  return (R)w;
}
template <int Type, class R> __device__ __forceinline__ typename Element<Type>::raw raw_of(R v) {
  typedef typename Element<Type>::raw raw;
  if (Type == kBF16) return (raw)to_bf16((float)v);
  if (Type == kF16) return (raw)to_f16((float)v);
  if (Type == kBool) return (raw)(v != (R)0);
  return (raw)v;
}

template <class W, int Width> struct alignas(sizeof(W) * Width) Group {
  W v[Width];
};

// Width neighbours from element `at` on. Step: 1, 0 for one element for all, -1 for a stride found at run time.
template <int Type, int Step, class R, int Width> __device__ __forceinline__ void load(const ChainOperand &in, int64 at, int64 step, R (&v)[Width]) {
  typedef typename Element<Type>::raw raw;
  const raw *from = static_cast<const raw *>(in.data) + at;
  if (Step == 1) {
    const Group<raw, Width> g = *reinterpret_cast<const Group<raw, Width> *>(from);
#pragma unroll
    for (int j = 0; j < Width; j++) v[j] = value_of<R, Type>(g.v[j]);
    return;
  }
#pragma unroll
  for (int j = 0; j < Width; j++) v[j] = Step == 0 && j > 0 ? v[0] : value_of<R, Type>(from[Step == 0 ? 0 : j * step]);
}

template <int Type, class R, int Width> __device__ __forceinline__ void store(const Tensor &out, int64 at, const R (&v)[Width]) {
  typedef typename Element<Type>::raw raw;
  Group<raw, Width> g;
#pragma unroll
  for (int j = 0; j < Width; j++) g.v[j] = raw_of<Type>(v[j]);
  *reinterpret_cast<Group<raw, Width> *>(static_cast<raw *>(out.data) + at) = g;
}

// Where the operands have element `at` of the result.
template <int Rank, int Inputs> __device__ __forceinline__ void places(const Chain &p, int64 at, int64 (&place)[Inputs]) {
#pragma unroll
  for (int k = 0; k < Inputs; k++) place[k] = 0;
#pragma unroll
  for (int d = Rank - 1; d >= 0; d--) {
    int64 c = at;
    if (d > 0 && p.count < (1LL << 31)) {
      const unsigned q = (unsigned)at / (unsigned)p.dims[d];
      c = (unsigned)at - q * (unsigned)p.dims[d], at = q;
    } else if (d > 0) {
      c = at % p.dims[d], at /= p.dims[d];
    }
#pragma unroll
    for (int k = 0; k < Inputs; k++) place[k] += c * p.in[k].stride[d];
  }
}

template <int Op, bool Swap, class R, int Width> __device__ __forceinline__ void operate(R (&acc)[Width], const R (&other)[Width], double c = 0, double d = 0) {
#pragma unroll
  for (int j = 0; j < Width; j++) acc[j] = Swap ? apply<R>(Op, other[j], acc[j], c, d) : apply<R>(Op, acc[j], other[j], c, d);
}
template <int Op, bool Swap, class R, int Width> __device__ __forceinline__ void operate(R (&acc)[Width], R other, double c = 0, double d = 0) {
#pragma unroll
  for (int j = 0; j < Width; j++) acc[j] = Swap ? apply<R>(Op, other, acc[j], c, d) : apply<R>(Op, acc[j], other, c, d);
}
template <class R, int Width> __device__ __forceinline__ void choose(R (&acc)[Width], const R (&yes)[Width], const R (&no)[Width]) {
#pragma unroll
  for (int j = 0; j < Width; j++) acc[j] = acc[j] != 0 ? yes[j] : no[j];
}

}  // namespace
