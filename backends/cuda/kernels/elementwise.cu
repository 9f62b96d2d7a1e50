// Element-wise operators and chains of them: out = f(in0, in1, ...), with broadcasting by strides.
//
// A chain is a program for one accumulator: it starts as input 0, and every instruction combines it
// with another input, a constant or one of two saved values. The program is the same for all threads, so
// its branches cost little beside the memory traffic, which is what bounds these kernels.
#include "device.cuh"

namespace {

enum Op {
  kMove, kAdd, kSub, kMul, kDiv, kPow, kMod, kFMod, kMin, kMax, kEqual, kLess, kLessEqual, kGreater, kGreaterEqual, kAnd, kOr, kXor,
  kBitAnd, kBitOr, kBitXor, kPRelu,
  // of the accumulator alone
  kNeg = 32, kAbs, kExp, kLog, kSqrt, kReciprocal, kSigmoidOp, kTanh, kErf, kSoftplusOp, kReluOp, kSiluOp, kGeluOp, kGeluTanhOp, kFloor,
  kCeil, kRound, kSign, kSin, kCos, kTan, kAsin, kAcos, kAtan, kSinh, kCosh, kAsinh, kAcosh, kAtanh, kNot, kIsNaN, kIsInf,
  kSoftsign, kLeaky, kElu, kHardSigmoid, kTruncate, kBitNot, kSquare,
  // of the accumulator and two inputs, a and b
  kWhere = 96,
};

enum { kFromInput, kFromConstant, kFromSaved, kFromAcc };

struct Instruction {
  int op;
  int from, index;    // the other operand
  int swap;           // other op acc
  int save;           // 1 or 2: put the result in this slot too
  int index2;         // kWhere: the other input
  double constant, constant2;
};

constexpr int kMaxInputs = 8, kChainRank = 6, kMaxCode = 24;

struct ChainOperand {
  void *data;
  int64 type;
  int64 stride[kChainRank];
};

struct Chain {
  int64 count;
  int64 rank, inputs, length;
  int64 dims[kChainRank];
  Tensor out;  // dense
  ChainOperand in[kMaxInputs];
  Instruction code[kMaxCode];
};

__device__ __forceinline__ float power(float a, float b) { return powf(a, b); }
__device__ __forceinline__ double power(double a, double b) { return pow(a, b); }
__device__ __forceinline__ int64 power(int64 a, int64 b) {
  int64 r = 1;
  if (b < 0) return a == 1 ? 1 : a == -1 ? (b & 1 ? -1 : 1) : 0;
  for (; b; b >>= 1, a *= a)
    if (b & 1) r *= a;
  return r;
}
template <class R> __device__ __forceinline__ R remainder_of(R a, R b) {  // sign of the divisor
  R r = fmod(a, b);
  return r != 0 && (r < 0) != (b < 0) ? r + b : r;
}
template <> __device__ __forceinline__ int64 remainder_of<int64>(int64 a, int64 b) {
  if (!b) return 0;
  int64 r = a % b;
  return r && (r < 0) != (b < 0) ? r + b : r;
}

// Operators that only floating-point types have.
template <class R> __device__ __forceinline__ R real_op(int op, R v, double c, double d) {
  switch (op) {
  case kExp: return exp(v);
  case kLog: return log(v);
  case kSqrt: return sqrt(v);
  case kReciprocal: return R(1) / v;
  case kSigmoidOp: return R(1) / (R(1) + exp(-v));
  case kTanh: return tanh(v);
  case kErf: return erf(v);
  case kSoftplusOp: return v > R(20) ? v : log1p(exp(v));
  case kSiluOp: return v / (R(1) + exp(-(c == 0 ? v : R(c) * v)));
  case kGeluOp: return v * R(0.5) * erfc(-v * R(0.70710678118654752));
  case kGeluTanhOp: return R(0.5) * v * (R(1) + tanh(R(0.79788456080286536) * (v + R(0.044715) * v * v * v)));
  case kFloor: return floor(v);
  case kCeil: return ceil(v);
  case kRound: return rint(v);
  case kSin: return sin(v);
  case kCos: return cos(v);
  case kTan: return tan(v);
  case kAsin: return asin(v);
  case kAcos: return acos(v);
  case kAtan: return atan(v);
  case kSinh: return sinh(v);
  case kCosh: return cosh(v);
  case kAsinh: return asinh(v);
  case kAcosh: return acosh(v);
  case kAtanh: return atanh(v);
  case kIsNaN: return v != v;
  case kIsInf: return v - v != v - v && v == v ? R(v > 0 ? c != 0 : d != 0) : R(0);
  case kSoftsign: return v / (R(1) + (v < 0 ? -v : v));
  case kLeaky: return v < 0 ? R(c) * v : v;
  case kElu: return v < 0 ? R(c) * (exp(v) - R(1)) : v;
  case kHardSigmoid: {
    const R w = R(c) * v + R(d);
    return w < 0 ? R(0) : w > 1 ? R(1) : w;
  }
  case kTruncate: return trunc(v);
  }
  return v;
}
template <> __device__ __forceinline__ int64 real_op<int64>(int op, int64 v, double, double) {
  return op == kBitNot ? ~v : op == kReciprocal && v ? 1 / v : v;
}

template <class R> __device__ __forceinline__ R bits_op(int, R a, R) { return a; }
template <> __device__ __forceinline__ int64 bits_op<int64>(int op, int64 a, int64 b) {
  return op == kBitAnd ? a & b : op == kBitOr ? (a | b) : a ^ b;
}

template <class R> __device__ __forceinline__ R divide(R a, R b) { return a / b; }
template <> __device__ __forceinline__ int64 divide<int64>(int64 a, int64 b) { return b ? a / b : 0; }
template <class R> __device__ __forceinline__ R fmod_of(R a, R b) { return fmod(a, b); }
template <> __device__ __forceinline__ int64 fmod_of<int64>(int64 a, int64 b) { return b ? a % b : 0; }

template <class R> __device__ __forceinline__ R apply(const Instruction &i, R a, R b) {
  switch (i.op) {
  case kMove: return b;
  case kAdd: return a + b;
  case kSub: return a - b;
  case kMul: return a * b;
  case kDiv: return divide(a, b);
  case kPow: return power(a, b);
  case kMod: return remainder_of(a, b);
  case kFMod: return fmod_of(a, b);
  case kMin: return a != a || a < b ? a : b;  // NaN wins
  case kMax: return a != a || a > b ? a : b;
  case kEqual: return a == b;
  case kLess: return a < b;
  case kLessEqual: return a <= b;
  case kGreater: return a > b;
  case kGreaterEqual: return a >= b;
  case kAnd: return a != 0 && b != 0;
  case kOr: return a != 0 || b != 0;
  case kXor: return (a != 0) != (b != 0);
  case kBitAnd: case kBitOr: case kBitXor: return bits_op(i.op, a, b);
  case kPRelu: return a < 0 ? a * b : a;
  case kNeg: return -a;
  case kAbs: return a < 0 ? -a : a == 0 ? R(0) : a;
  case kNot: return a == 0;
  case kReluOp: return a < 0 ? R(0) : a;
  case kSign: return a > 0 ? R(1) : a < 0 ? R(-1) : a;
  case kSquare: return a * a;
  }
  return real_op(i.op, a, i.constant, i.constant2);
}

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
      acc[j] = i.swap ? apply<R>(i, other[j], acc[j]) : apply<R>(i, acc[j], other[j]);
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
