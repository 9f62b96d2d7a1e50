// Rows: normalisations, softmax, reductions. A block takes a row; sums are in f32.
#include "stream.cuh"

namespace {

struct Norm {
  Tensor x, z, weight, bias, y;  // z, weight and bias may be null
  int64 rows, cols;              // cols: of the group that is normalised
  int64 x_stride, z_stride;      // elements between rows of `width`
  int64 width;                   // elements of a row of x; groups of cols in it
  int64 mean;                    // subtract the mean: layer normalisation
  int64 after;                   // gate after the normalisation
  float epsilon;
  int fours;                     // rows and their parts allow four neighbours at once
};

__device__ __forceinline__ float4 over(float4 a, float4 b) { return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w); }
__device__ __forceinline__ float4 gate(float4 z) { return make_float4(silu_fast(z.x), silu_fast(z.y), silu_fast(z.z), silu_fast(z.w)); }

// norm_rows for rows that allow it.
__device__ __forceinline__ void norm_fours(const Norm &p, float *shared, int64 x0, int64 z0, int64 y0, int64 w0) {
  float4 *row = reinterpret_cast<float4 *>(shared + 32);
  const int fours = (int)p.cols / 4;
  float sum = 0;
#pragma unroll 4
  for (int i = threadIdx.x; i < fours; i += blockDim.x) {
    float4 v = loadf4(p.x, x0 + 4 * i);
    if (p.z.data && !p.after) v = over(v, gate(loadf4(p.z, z0 + 4 * i)));
    row[i] = v;
    sum += p.mean ? v.x + v.y + v.z + v.w : v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
  }
  sum = over_block<false>(sum, shared) / (4 * fours);
  float mean = 0;
  if (p.mean) {
    mean = sum, sum = 0;
    for (int i = threadIdx.x; i < fours; i += blockDim.x) {
      const float4 v = row[i];
      sum += (v.x - mean) * (v.x - mean) + (v.y - mean) * (v.y - mean) + (v.z - mean) * (v.z - mean) + (v.w - mean) * (v.w - mean);
    }
    sum = over_block<false>(sum, shared) / (4 * fours);
  }
  const float scale = 1.f / sqrtf(sum + p.epsilon);
#pragma unroll 4
  for (int i = threadIdx.x; i < fours; i += blockDim.x) {
    float4 v = row[i];
    v = make_float4((v.x - mean) * scale, (v.y - mean) * scale, (v.z - mean) * scale, (v.w - mean) * scale);
    if (p.weight.data) v = over(v, loadf4(p.weight, w0 + 4 * i));
    if (p.bias.data) {
      const float4 b = loadf4(p.bias, w0 + 4 * i);
      v = make_float4(v.x + b.x, v.y + b.y, v.z + b.z, v.w + b.w);
    }
    if (p.z.data && p.after) v = over(v, gate(loadf4(p.z, z0 + 4 * i)));
    storef4(p.y.data, p.y.type, y0 + 4 * i, v);
  }
}

// Many rows of 16-bit x, z and y, gate before and no mean: a thread keeps four or fewer eights of a row in registers, all of
// whose loads, of 16 bytes, are under way at once.
template <class T> __device__ __forceinline__ void norm_eights(const Norm &p) {
  SSDC_SHARED(float, shared);  // 32 floats
  const int64 groups = p.width / p.cols, r = block_from_end() / groups, g = block_from_end() % groups;
  const uint4 *x = reinterpret_cast<const uint4 *>(static_cast<const T *>(p.x.data) + r * p.x_stride + g * p.cols);
  const uint4 *z = reinterpret_cast<const uint4 *>(static_cast<const T *>(p.z.data) + r * p.z_stride + g * p.cols);
  uint4 *y = reinterpret_cast<uint4 *>(static_cast<T *>(p.y.data) + r * p.width + g * p.cols);
  const int n = (int)p.cols / 8;
  uint4 xs[4], zs[4];
#pragma unroll
  for (int e = 0; e < 4; e++) {
    const int i = threadIdx.x + e * blockDim.x;
    if (i >= n) continue;
    xs[e] = load_stream(x + i);
    if (p.z.data) zs[e] = load_stream(z + i);
  }
  float v[4][8], sum = 0;
#pragma unroll
  for (int e = 0; e < 4; e++) {
    if (threadIdx.x + e * blockDim.x >= n) continue;
    const unsigned xw[4] = {xs[e].x, xs[e].y, xs[e].z, xs[e].w}, zw[4] = {zs[e].x, zs[e].y, zs[e].z, zs[e].w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      float2 a = unpack(T(), xw[k]);
      if (p.z.data) {
        const float2 q = unpack(T(), zw[k]);
        a.x *= silu_lean(q.x), a.y *= silu_lean(q.y);
      }
      v[e][2 * k] = a.x, v[e][2 * k + 1] = a.y;
      sum += a.x * a.x + a.y * a.y;
    }
  }
  const float scale = 1.f / sqrtf(over_block<false>(sum, shared) / (8 * n) + p.epsilon);
#pragma unroll
  for (int e = 0; e < 4; e++) {
    const int i = threadIdx.x + e * blockDim.x;
    if (i >= n) continue;
    float4 lo = make_float4(1.f, 1.f, 1.f, 1.f), hi = lo;
    if (p.weight.data) lo = loadf4(p.weight, g * p.cols + 8 * i), hi = loadf4(p.weight, g * p.cols + 8 * i + 4);
    y[i] = make_uint4(pack(T(), v[e][0] * scale * lo.x, v[e][1] * scale * lo.y), pack(T(), v[e][2] * scale * lo.z, v[e][3] * scale * lo.w),
                      pack(T(), v[e][4] * scale * hi.x, v[e][5] * scale * hi.y), pack(T(), v[e][6] * scale * hi.z, v[e][7] * scale * hi.w));
  }
}

// Rows of no more than 8 * 32 * kNormLane elements, without a gate: a warp takes one, so that nobody waits for others.
constexpr int kNormLane = 12;
template <class T> __device__ __forceinline__ void norm_warps(const Norm &p) {
  const int64 r = block_from_end() * (blockDim.x / 32) + threadIdx.x / 32;
  if (r >= p.rows) return;
  const int lane = threadIdx.x % 32, n = (int)p.cols / 8;
  const uint4 *x = reinterpret_cast<const uint4 *>(static_cast<const T *>(p.x.data) + r * p.x_stride);
  uint4 *y = reinterpret_cast<uint4 *>(static_cast<T *>(p.y.data) + r * p.cols);
  uint4 xs[kNormLane];
#pragma unroll
  for (int e = 0; e < kNormLane; e++)
    if (lane + 32 * e < n) xs[e] = load_stream(x + lane + 32 * e);
  float sum = 0;
#pragma unroll
  for (int e = 0; e < kNormLane; e++) {
    if (lane + 32 * e >= n) continue;
    const unsigned words[4] = {xs[e].x, xs[e].y, xs[e].z, xs[e].w};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const float2 a = unpack(T(), words[k]);
      sum += a.x * a.x + a.y * a.y;
    }
  }
#pragma unroll
  for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
  const float scale = 1.f / sqrtf(sum / (8 * n) + p.epsilon);
#pragma unroll
  for (int e = 0; e < kNormLane; e++) {
    const int i = lane + 32 * e;
    if (i >= n) continue;
    float4 lo = make_float4(1.f, 1.f, 1.f, 1.f), hi = lo;
    if (p.weight.data) lo = loadf4(p.weight, 8 * i), hi = loadf4(p.weight, 8 * i + 4);
    const float2 a = unpack(T(), xs[e].x), b = unpack(T(), xs[e].y), c = unpack(T(), xs[e].z), d = unpack(T(), xs[e].w);
    y[i] = make_uint4(pack(T(), a.x * scale * lo.x, a.y * scale * lo.y), pack(T(), b.x * scale * lo.z, b.y * scale * lo.w),
                      pack(T(), c.x * scale * hi.x, c.y * scale * hi.y), pack(T(), d.x * scale * hi.z, d.y * scale * hi.w));
  }
}

}  // namespace

SSDC_KERNEL(norm_eights_bf16, Norm, 256) { norm_eights<__nv_bfloat16>(p); }
SSDC_KERNEL(norm_eights_f16, Norm, 256) { norm_eights<__half>(p); }
SSDC_KERNEL(norm_warps_bf16, Norm, 128) { norm_warps<__nv_bfloat16>(p); }
SSDC_KERNEL(norm_warps_f16, Norm, 128) { norm_warps<__half>(p); }
SSDC_KERNEL(norm_rows, Norm, 512) {
  SSDC_SHARED(float, shared);  // 32 + cols floats
  float *row = shared + 32;
  const int64 groups = p.width / p.cols, r = blockIdx.x / groups, g = blockIdx.x % groups;
  const int64 x0 = r * p.x_stride + g * p.cols, z0 = r * p.z_stride + g * p.cols, y0 = r * p.width + g * p.cols, w0 = g * p.cols;
  if (p.fours) return norm_fours(p, shared, x0, z0, y0, w0);
  const int cols = (int)p.cols;
  float sum = 0;
  for (int i = threadIdx.x; i < cols; i += blockDim.x) {
    float v = loadf(p.x, x0 + i);
    if (p.z.data && !p.after) v *= silu_of(loadf(p.z, z0 + i));
    row[i] = v;
    sum += p.mean ? v : v * v;
  }
  sum = over_block<false>(sum, shared) / cols;
  float mean = 0;
  if (p.mean) {
    mean = sum, sum = 0;
    for (int i = threadIdx.x; i < cols; i += blockDim.x) sum += (row[i] - mean) * (row[i] - mean);
    sum = over_block<false>(sum, shared) / cols;
  }
  const float scale = 1.f / sqrtf(sum + p.epsilon);
  for (int i = threadIdx.x; i < cols; i += blockDim.x) {
    float v = (row[i] - mean) * scale;
    if (p.weight.data) v *= loadf(p.weight, w0 + i);
    if (p.bias.data) v += loadf(p.bias, w0 + i);
    if (p.z.data && p.after) v *= silu_of(loadf(p.z, z0 + i));
    storef(p.y, y0 + i, v);
  }
}

namespace {

struct Softmax {
  Tensor x, y;
  int64 cols, log;
};

}  // namespace

SSDC_KERNEL(softmax_rows, Softmax, 256) {
  SSDC_SHARED(float, shared);
  const int64 at = blockIdx.x * p.cols;
  const float low = -__int_as_float(0x7f800000);
  float most = low;
  for (int64 i = threadIdx.x; i < p.cols; i += blockDim.x) most = fmaxf(most, loadf(p.x, at + i));
  most = over_block<true>(most, shared);
  float sum = 0;
  for (int64 i = threadIdx.x; i < p.cols; i += blockDim.x) sum += expf(loadf(p.x, at + i) - most);
  sum = over_block<false>(sum, shared);
  const float shift = logf(sum), scale = 1.f / sum;
  for (int64 i = threadIdx.x; i < p.cols; i += blockDim.x) {
    const float v = loadf(p.x, at + i) - most;
    storef(p.y, at + i, p.log ? v - shift : expf(v) * scale);
  }
}

namespace {

enum { kSum, kMean, kMaxOf, kMinOf, kProd, kSumSquare, kL2, kL1, kLogSum, kLogSumExp };

// y[o, i] = over k of x[o, k, i]
struct Reduce {
  Tensor x, y;
  int64 outer, length, inner, kind;
};

__device__ __forceinline__ float reduce_start(int kind) {
  const float inf = __int_as_float(0x7f800000);
  return kind == kMaxOf || kind == kLogSumExp ? -inf : kind == kMinOf ? inf : kind == kProd ? 1.f : 0.f;
}
__device__ __forceinline__ float reduce_join(int kind, float a, float b) {
  switch (kind) {
  case kMaxOf: return a != a || a > b ? a : b;
  case kMinOf: return a != a || a < b ? a : b;
  case kProd: return a * b;
  case kLogSumExp: {
    const float m = fmaxf(a, b);
    return m - m != 0.f ? m : m + logf(expf(a - m) + expf(b - m));  // infinite or NaN as it is
  }
  }
  return a + b;
}
__device__ __forceinline__ float reduce_term(int kind, float v) {
  return kind == kSumSquare || kind == kL2 ? v * v : kind == kL1 ? fabsf(v) : v;
}
__device__ __forceinline__ float reduce_end(int kind, float v, int64 n) {
  return kind == kMean ? v / n : kind == kL2 ? sqrtf(v) : kind == kLogSum ? logf(v) : v;
}

}  // namespace

// The reduced axes are the last ones: a block takes a row.
SSDC_KERNEL(reduce_rows, Reduce, 256) {
  SSDC_SHARED(float, room);
  const int kind = (int)p.kind;
  const int64 at = blockIdx.x * p.length;
  float v = reduce_start(kind);
  for (int64 i = threadIdx.x; i < p.length; i += blockDim.x) v = reduce_join(kind, v, reduce_term(kind, loadf(p.x, at + i)));
  for (int o = 16; o; o >>= 1) v = reduce_join(kind, v, __shfl_xor_sync(0xffffffffu, v, o));
  if (threadIdx.x % 32 == 0) room[threadIdx.x / 32] = v;
  __syncthreads();
  if (threadIdx.x) return;
  v = room[0];
  for (int w = 1; w < (int)blockDim.x / 32; w++) v = reduce_join(kind, v, room[w]);
  storef(p.y, blockIdx.x, reduce_end(kind, v, p.length));
}

// Axes behind the reduced ones: a thread takes one of their elements.
SSDC_KERNEL(reduce_columns, Reduce, 256) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= p.outer * p.inner) return;
  const int kind = (int)p.kind;
  const int64 o = at / p.inner, i = at % p.inner;
  float v = reduce_start(kind);
  for (int64 k = 0; k < p.length; k++) v = reduce_join(kind, v, reduce_term(kind, loadf(p.x, (o * p.length + k) * p.inner + i)));
  storef(p.y, at, reduce_end(kind, v, p.length));
}
