// Products of a few rows with a large matrix, as decoding has them: C[M,N] = act(A[M,K] W^T + bias) + residual for M up to 16
// and W [N,K], where all time goes into reading W once.
//
// A block keeps its A in shared memory and walks over tiles of 16 columns of C. Its warps share K by slices of 64 and stream
// their own slices through a ring of asynchronous copies that never waits for a product, for the end of a tile or, at the
// start, for the kernel before: weights do not depend on it. What stands around such a product in a block of a model is part
// of it: the RMS normalisation of A (its weight goes onto A, its scale onto the sums) and the causal convolution of one
// position behind it.
#include "quantised.cuh"

namespace {

constexpr int kPartialRow = 20;  // floats between rows of 16 partial sums, so that banks differ

struct Streamed {
  Tensor a, w, c, residual;         // residual, of A's type and as c, may be null
  Blocks q;                         // the matrix in 8 or 4 bits, in place of w
  const float *bias, *norm;         // [N], [K] or null
  const float *conv_w, *conv_b;     // [C,taps] or null: no convolution; [C] or null
  void *conv_in, *conv_out;         // [M,C,width] of A's type
  int64 m, n, k, a_row, w_row, c_row, act;
  int64 conv_first, conv_count, conv_taps, conv_width, conv_silu;  // columns of C that the convolution takes
  float alpha, epsilon;
};

// How a slice of 16 columns and 64 of K lies in the ring, and how it becomes left operands of products.

// Elements of 16 bits: a column's 128 bytes in a row, halves exchanged in every other row for the sake of the banks.
template <class T> struct Wide {
  static constexpr int bytes = 2048;
  __device__ __forceinline__ static void copy(const Streamed &p, uint32_t to, int64 tile, int slice) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const int piece = i * 32 + threadIdx.x % 32, col = piece / 8, c = piece % 8;
      const int64 n = tile * 16 + col, k = (int64)slice * 64 + c * 8;
      const bool in = n < p.n && k < p.k;
      copy16(to + col * 128 + ((c ^ (col & 1) * 4) << 4), static_cast<const T *>(p.w.data) + (in ? n * p.w_row + k : 0), in);
    }
  }
  template <int Groups> __device__ __forceinline__ static void multiply(const Streamed &, const unsigned char *at, int half, const uint4 (&x)[Groups], float (&acc)[Groups][4]) {
    const int g = threadIdx.x % 32 / 4, q = threadIdx.x % 4;
    const unsigned char *from = at + g * 128 + ((half * 4 + q ^ (g & 1) * 4) << 4);
    const uint4 u = *reinterpret_cast<const uint4 *>(from), v = *reinterpret_cast<const uint4 *>(from + 8 * 128);
    const uint32_t low[4] = {u.x, v.x, u.y, v.y}, high[4] = {u.z, v.z, u.w, v.w};
#pragma unroll
    for (int r = 0; r < Groups; r++) {
      mma16816(T(), acc[r], low, x[r].x, x[r].y);
      mma16816(T(), acc[r], high, x[r].z, x[r].w);
    }
  }
};

// Eight elements times the weight of the normalisation and a factor.
template <class T> __device__ __forceinline__ uint4 weighted(const Streamed &p, uint4 v, int k, float by, float &sum) {
  const float4 w0 = load4(p.norm + k), w1 = load4(p.norm + k + 4);
  const float2 a = unpack(T(), v.x), b = unpack(T(), v.y), c = unpack(T(), v.z), d = unpack(T(), v.w);
  sum += a.x * a.x + a.y * a.y + b.x * b.x + b.y * b.y + c.x * c.x + c.y * c.y + d.x * d.x + d.y * d.y;
  v.x = pack(T(), a.x * by * w0.x, a.y * by * w0.y), v.y = pack(T(), b.x * by * w0.z, b.y * by * w0.w);
  v.z = pack(T(), c.x * by * w1.x, c.y * by * w1.y), v.w = pack(T(), d.x * by * w1.z, d.y * by * w1.w);
  return v;
}

__device__ __forceinline__ int warps_of_row(int64 m) { return m > 4 ? 1 : m > 2 ? 2 : m > 1 ? 4 : 8; }
__device__ __forceinline__ float rms_scale(const Streamed &p, const float *squares, int row) {
  float sum = 0.f;
  for (int i = 0; i < warps_of_row(p.m); i++) sum += squares[row * 8 + i];
  return 1.f / sqrtf(sum / (float)p.k + p.epsilon);
}

// The rows of A in shared memory, times the weight of a normalisation, and the sums of squares by warp. The scale is left to the
// sums, but where the range of T is too small for that.
template <class T> constexpr bool kScaleFirst = sizeof(T) == 0;
template <> constexpr bool kScaleFirst<__half> = true;
template <class T> __device__ __forceinline__ void load_rows(const Streamed &p, unsigned char *xs, int pitch, float *squares, int slices) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, m = (int)p.m;
  const int share = warps_of_row(m);
  for (int r = warp / share; r < m; r += 8 / share) {
    float sum = 0.f;
    const T *from = static_cast<const T *>(p.a.data) + r * p.a_row;
    unsigned char *to = xs + r * pitch;
    const int whole = (int)p.k / 8;
    if (p.norm) {
#pragma unroll 4
      for (int i = warp % share * 32 + lane; i < whole; i += share * 32) {
        const uint4 v = *reinterpret_cast<const uint4 *>(from + i * 8), w = weighted<T>(p, v, i * 8, 1.f, sum);
        *reinterpret_cast<uint4 *>(to + i * 16) = kScaleFirst<T> ? v : w;
      }
    } else {
#pragma unroll 4
      for (int i = warp % share * 32 + lane; i < whole; i += share * 32) *reinterpret_cast<uint4 *>(to + i * 16) = *reinterpret_cast<const uint4 *>(from + i * 8);
    }
    if (warp % share == 0 && whole + lane < slices * 8) *reinterpret_cast<uint4 *>(to + (whole + lane) * 16) = make_uint4(0, 0, 0, 0);
    if (!p.norm) continue;
#pragma unroll
    for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    if (lane == 0) squares[r * 8 + warp % share] = sum;
  }
  if (!kScaleFirst<T> || !p.norm) return;
  __syncthreads();
  for (int r = warp / share; r < m; r += 8 / share) {
    const float scale = rms_scale(p, squares, r);
    float none = 0.f;
    for (int i = warp % share * 32 + lane; i * 8 < p.k; i += share * 32) {
      uint4 *at = reinterpret_cast<uint4 *>(xs + r * pitch + i * 16);
      *at = weighted<T>(p, *at, i * 8, scale, none);
    }
  }
}

// What the end of a tile needs of memory for one element of C, loaded while the products run.
struct Around {
  float residual, bias, scale, state[4], tap[4], tap_bias;
};
template <class T> __device__ __forceinline__ void load_around(const Streamed &p, Around &o, int64 row, int64 col) {
  o.residual = p.residual.data ? to_float(static_cast<const T *>(p.residual.data)[row * p.c_row + col]) : 0.f;
  o.bias = p.bias ? p.bias[col] : 0.f;
  o.scale = p.q.scale ? p.q.scale[col] : 1.f;
  const int64 c = col - p.conv_first, at = row * p.conv_count + c;
  if (!p.conv_w || c < 0 || c >= p.conv_count) return;
#pragma unroll
  for (int j = 0; j < 4; j++) {
    o.state[j] = j < p.conv_width ? to_float(static_cast<const T *>(p.conv_in)[at * p.conv_width + j]) : 0.f;
    o.tap[j] = j < p.conv_taps ? p.conv_w[c * p.conv_taps + j] : 0.f;
  }
  o.tap_bias = p.conv_b ? p.conv_b[c] : 0.f;
}
template <class T> __device__ __forceinline__ void finish(const Streamed &p, Around o, int64 row, int64 col, float v) {
  v = v * o.scale + o.bias;
  if (p.act != kNone) {
    v = activation((int)p.act, v);
    load_around<T>(p, o, row, col);  // again: what lives across a call would go to memory as soon as it is loaded, and wait for it
  }
  v += o.residual;
  const int64 c = col - p.conv_first, at = row * p.conv_count + c;
  if (p.conv_w && c >= 0 && c < p.conv_count) {
    const int taps = (int)p.conv_taps, width = (int)p.conv_width;
    const float x = to_float(from_float<T>(v));
    v = o.tap_bias;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int tap = j - (width - (taps - 1));  // of state column j
      if (j < width) {
#pragma unroll
        for (int t = 0; t < 3; t++) v += tap == t ? o.tap[t] * o.state[j] : 0.f;
        static_cast<T *>(p.conv_out)[at * width + j] = from_float<T>(j + 1 < width ? o.state[j + 1 < 4 ? j + 1 : 3] : x);
      }
      if (j == taps - 1) v += o.tap[j] * x;
    }
    if (p.conv_silu) v = silu_fast(v);
  }
  storef(p.c, row * p.c_row + col, v);
}

template <class T, class Format, int Groups, int Depth> __device__ __forceinline__ void stream(const Streamed &p) {
  constexpr int Rows = 8 * Groups, PartialBytes = 8 * Rows * kPartialRow * 4;
  SSDC_SHARED(unsigned char, shared);
  float *squares = reinterpret_cast<float *>(shared + 2 * PartialBytes);  // [Rows][8]
  unsigned char *ring = shared + 2 * PartialBytes + Rows * 32;
  unsigned char *xs = ring + 8 * Depth * Format::bytes;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const int slices = (int)((p.k + 63) / 64), pitch = slices * 128 + 64;
  const int64 tiles = (p.n + 15) / 16;
  unsigned char *mine = ring + warp * Depth * Format::bytes;
  const uint32_t to = shared_address(mine);

  int64 ahead_tile = warp < slices ? blockIdx.x : tiles;
  int ahead_slice = warp, filled = 0;
  auto issue = [&]() {
    if (ahead_tile < tiles) {
      Format::copy(p, to + filled * Format::bytes, ahead_tile, ahead_slice);
      ahead_slice += 8;
      if (ahead_slice >= slices) ahead_slice = warp, ahead_tile += gridDim.x;
    }
    copy_commit();
    filled = filled + 1 == Depth ? 0 : filled + 1;
  };
  for (int d = 0; d < Depth; d++) issue();
  wait_for_previous();
  load_rows<T>(p, xs, pitch, squares, slices);
  __syncthreads();
  const int row = threadIdx.x / 16, column = threadIdx.x % 16;
  const bool writes = threadIdx.x < 16 * Rows && row < p.m;
  float scale = p.alpha;
  if (p.norm && writes && !kScaleFirst<T>) scale *= rms_scale(p, squares, row);
  int slot = 0, side = 0;
  for (int64 tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const int64 col = tile * 16 + column;
    Around around;
    if (writes && col < p.n) load_around<T>(p, around, row, col);
    float acc[Groups][4] = {};
    for (int slice = warp; slice < slices; slice += 8) {
      copy_wait_but<Depth - 1>();
      __syncwarp();
#pragma unroll
      for (int half = 0; half < 2; half++) {
        uint4 x[Groups];
#pragma unroll
        for (int r = 0; r < Groups; r++)
          x[r] = g + 8 * r < p.m ? *reinterpret_cast<const uint4 *>(xs + (g + 8 * r) * pitch + slice * 128 + half * 64 + q * 16) : make_uint4(0, 0, 0, 0);
        Format::multiply(p, mine + slot * Format::bytes, half, x, acc);
      }
      __syncwarp();
      slot = slot + 1 == Depth ? 0 : slot + 1;
      issue();
    }
    float *partial = reinterpret_cast<float *>(shared + side * PartialBytes);
    side ^= 1;  // the other half may still be read
#pragma unroll
    for (int r = 0; r < Groups; r++)
#pragma unroll
      for (int e = 0; e < 4; e++) partial[(warp * Rows + r * 8 + q * 2 + e % 2) * kPartialRow + g + e / 2 * 8] = acc[r][e];
    __syncthreads();
    if (!writes || col >= p.n) continue;
    float sum = 0.f;
#pragma unroll
    for (int w = 0; w < 8; w++) sum += partial[(w * Rows + row) * kPartialRow + column];
    finish<T>(p, around, row, col, sum * scale);
  }
}

}  // namespace

// Depth of the rings: of several blocks on a multiprocessor, of one.
#define SSDC_STREAM(name, T, Format, Many, One)                                                    \
  SSDC_KERNEL_EARLY(name##_8_deep, Streamed, 256) { stream<T, Format, 1, Many>(p); }                   \
  SSDC_KERNEL_EARLY(name##_8, Streamed, 256) { stream<T, Format, 1, One>(p); }                     \
  SSDC_KERNEL_EARLY(name##_16, Streamed, 256) { stream<T, Format, 2, One>(p); }
SSDC_STREAM(stream_bf16, __nv_bfloat16, Wide<__nv_bfloat16>, 5, 3)
SSDC_STREAM(stream_f16, __half, Wide<__half>, 5, 3)
SSDC_STREAM(stream_int8_bf16, __nv_bfloat16, Bytes<__nv_bfloat16>, 5, 8)
SSDC_STREAM(stream_int8_f16, __half, Bytes<__half>, 5, 8)
SSDC_STREAM(stream_int4_bf16, __nv_bfloat16, Digits<__nv_bfloat16>, 6, 10)
SSDC_STREAM(stream_int4_f16, __half, Digits<__half>, 6, 10)
