// Element-wise operators and chains of them: out = f(in0, in1, ...), with broadcasting by strides.
//
// A chain is a program for one accumulator: it starts as input 0, and every instruction combines it
// with another input, a constant or one of two saved values. The program is the same for all threads, so
// its branches cost little beside the memory traffic, which is what bounds these kernels.
#include "device.cuh"
#include "chain.cuh"

namespace {

// Elements at the coordinates of element `at`, Width neighbours along the last axis.
struct ChainPlace {
  int64 offset[kMaxInputs];
};

template <class R, int Width> __device__ __forceinline__ void fetch(const Chain &p, const ChainPlace &place, int k, R (&v)[Width]) {
  const ChainOperand &in = p.in[k];
  const int64 step = in.stride[p.rank - 1];
  if constexpr (Width == 4) {
    if (step == 1 && (in.type == kF32 || in.type == kBF16 || in.type == kF16)) {
      const float4 w = loadf4(in.data, in.type, place.offset[k]);
      v[0] = w.x, v[1] = w.y, v[2] = w.z, v[3] = w.w;
      return;
    }
  }
  if (step == 0) {
    const R w = load_any<R>(in.data, in.type, place.offset[k]);
#pragma unroll
    for (int j = 0; j < Width; j++) v[j] = w;
    return;
  }
#pragma unroll
  for (int j = 0; j < Width; j++) v[j] = load_any<R>(in.data, in.type, place.offset[k] + j * step);
}

template <class R, int Width> __device__ __forceinline__ void run_chain(const Chain &p) {
  const int64 at = ((int64)blockIdx.x * blockDim.x + threadIdx.x) * Width;
  if (at >= p.count) return;
  ChainPlace place;
#pragma unroll
  for (int k = 0; k < kMaxInputs; k++) place.offset[k] = 0;
  int64 rest = at;
  for (int d = p.rank - 1; d >= 0; d--) {
    int64 c;
    if (d == 0) c = rest;
    else if (p.count < (1LL << 31)) {
      const unsigned q = (unsigned)rest / (unsigned)p.dims[d];
      c = (unsigned)rest - q * (unsigned)p.dims[d], rest = q;
    } else {
      c = rest % p.dims[d], rest /= p.dims[d];
    }
#pragma unroll
    for (int k = 0; k < kMaxInputs; k++)
      if (k < p.inputs) place.offset[k] += c * p.in[k].stride[d];
  }
  R acc[Width], other[Width], saved1[Width] = {}, saved2[Width] = {};
  fetch<R, Width>(p, place, 0, acc);
  for (int n = 0; n < p.length; n++) {
    const Instruction &i = p.code[n];
    if (i.op == kWhere) {
      R yes[Width], no[Width];
      fetch<R, Width>(p, place, i.index, yes);
      fetch<R, Width>(p, place, i.index2, no);
#pragma unroll
      for (int j = 0; j < Width; j++) acc[j] = acc[j] != 0 ? yes[j] : no[j];
      continue;
    }
    if (i.op < kNeg) {
      if (i.from == kFromInput) fetch<R, Width>(p, place, i.index, other);
#pragma unroll
      for (int j = 0; j < Width; j++) {
        if (i.from == kFromConstant) other[j] = (R)i.constant;
        else if (i.from == kFromSaved) other[j] = i.index == 1 ? saved1[j] : saved2[j];
        else if (i.from == kFromAcc) other[j] = acc[j];
      }
    }
#pragma unroll
    for (int j = 0; j < Width; j++) {
      acc[j] = i.swap ? apply<R>(i.op, other[j], acc[j], i.constant, i.constant2) : apply<R>(i.op, acc[j], other[j], i.constant, i.constant2);
      if (i.save == 1) saved1[j] = acc[j];
      if (i.save == 2) saved2[j] = acc[j];
    }
  }
  if constexpr (Width == 4) {
    if (p.out.type == kF32 || p.out.type == kBF16 || p.out.type == kF16) {
      storef4(p.out.data, p.out.type, at, make_float4(acc[0], acc[1], acc[2], acc[3]));
      return;
    }
  }
#pragma unroll
  for (int j = 0; j < Width; j++) store_any<R>(p.out.data, p.out.type, at + j, acc[j]);
}

}  // namespace

SSDC_KERNEL(chain_f32x4, Chain, 256) { run_chain<float, 4>(p); }
SSDC_KERNEL(chain_f32, Chain, 256) { run_chain<float, 1>(p); }
SSDC_KERNEL(chain_f64, Chain, 256) { run_chain<double, 1>(p); }
SSDC_KERNEL(chain_i64, Chain, 256) { run_chain<int64, 1>(p); }
