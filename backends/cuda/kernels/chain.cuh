// What chains of element-wise operators are made of: their arguments and the meaning of every operator, for the interpreter
// (elementwise.cu) and for chains compiled while a model is bound (compiled.cuh).
#pragma once

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

template <class R> __device__ __forceinline__ R apply(int op, R a, R b, double c, double d) {
  switch (op) {
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
  case kBitAnd: case kBitOr: case kBitXor: return bits_op(op, a, b);
  case kPRelu: return a < 0 ? a * b : a;
  case kNeg: return -a;
  case kAbs: return a < 0 ? -a : a == 0 ? R(0) : a;
  case kNot: return a == 0;
  case kReluOp: return a < 0 ? R(0) : a;
  case kSign: return a > 0 ? R(1) : a < 0 ? R(-1) : a;
  case kSquare: return a * a;
  }
  return real_op(op, a, c, d);
}

}  // namespace
