// Matrix products: C[M,N] = act(A[M,K] B + bias) + residual, batched by strides, for when cuBLASLt is not there
// and for thin products in f32, where it is no faster than reading the weights (decode.cu has those of 16 bits).
//
// B is [K,N], or [N,K] with `transposed`. The tensor-core kernel is for bf16 and f16 and wants rows that start on 16 bytes;
// the other one takes every floating-point type and computes in f32.
#include "device.cuh"

namespace {

struct Product {
  Tensor a, b, c, bias, residual;  // bias [N] and residual (as c) may be null
  int64 m, n, k;
  int64 a_row, b_row, c_row;        // elements between rows; residual has c's
  int64 batch, a_batch, b_batch, c_batch;
  int64 batch2, a_batch2, b_batch2, c_batch2;  // an inner batch axis
  int64 transposed, act;
  float alpha, padding;
};

struct Offset {
  int64 a, b, c;
};
__device__ __forceinline__ Offset batch_offset(const Product &p, int64 index) {
  const int64 i = index / p.batch2, j = index % p.batch2;
  return {i * p.a_batch + j * p.a_batch2, i * p.b_batch + j * p.b_batch2, i * p.c_batch + j * p.c_batch2};
}

__device__ __forceinline__ void finish(const Product &p, int64 at, int64 col, float v) {
  v *= p.alpha;
  if (p.bias.data) v += loadf(p.bias, col);
  v = activate((int)p.act, v);
  if (p.residual.data) v += loadf(p.residual, at);
  storef(p.c, at, v);
}

}  // namespace

// f32 on the ordinary units: 64 x 64 of C to a block of 256, 4 x 4 to a thread.
SSDC_KERNEL(gemm_f32, Product, 256) {
  SSDC_SHARED(float, As);           // [16][68], k first
  float *Bs = As + 16 * 68;         // [16][68]
  const int64 across = (p.n + 63) / 64, down = (p.m + 63) / 64;
  const int64 n0 = blockIdx.x % across * 64, m0 = blockIdx.x / across % down * 64;
  const Offset o = batch_offset(p, blockIdx.x / (across * down));
  const int tx = threadIdx.x % 16, ty = threadIdx.x / 16;
  float acc[4][4] = {};
  for (int64 k0 = 0; k0 < p.k; k0 += 16) {
    for (int i = threadIdx.x; i < 1024; i += 256) {
      const int kk = i % 16, r = i / 16;
      As[kk * 68 + r] = m0 + r < p.m && k0 + kk < p.k ? loadf(p.a, o.a + (m0 + r) * p.a_row + k0 + kk) : 0.f;
    }
    for (int i = threadIdx.x; i < 1024; i += 256) {
      const int kk = p.transposed ? i % 16 : i / 64, c = p.transposed ? i / 16 : i % 64;
      const bool in = n0 + c < p.n && k0 + kk < p.k;
      Bs[kk * 68 + c] = !in ? 0.f : loadf(p.b, o.b + (p.transposed ? (n0 + c) * p.b_row + k0 + kk : (k0 + kk) * p.b_row + n0 + c));
    }
    __syncthreads();
#pragma unroll
    for (int kk = 0; kk < 16; kk++) {
      float a[4], b[4];
#pragma unroll
      for (int i = 0; i < 4; i++) a[i] = As[kk * 68 + ty * 4 + i], b[i] = Bs[kk * 68 + tx * 4 + i];
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) acc[i][j] += a[i] * b[j];
    }
    __syncthreads();
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int64 r = m0 + ty * 4 + i, c = n0 + tx * 4 + j;
      if (r < p.m && c < p.n) finish(p, o.c + r * p.c_row + c, c, acc[i][j]);
    }
}

namespace {

// A tile of 64 elements a row in shared memory, swizzled as tensorcore.cuh says: 128 rows of A (two tiles), and of
// B either 128 rows n of 64 k (transposed) or 64 rows k of 128 n.
constexpr int kBlockM = 128, kBlockN = 128, kBlockK = 64, kStages = 3;
constexpr int kStageBytes = 4 * kTile;

// What a thread copies: 4 pieces of 16 bytes of either operand, a fixed number of rows apart.
template <class T, bool Transposed> struct Loader {
  const T *a[4], *b[4];
  uint32_t a_to[4], b_to[4];
  int a_k, b_k[4];    // k of the first piece
  bool a_in[4], b_in[4];
  int64 b_step;
  __device__ __forceinline__ Loader(const Product &p, const Offset &o, int64 m0, int64 n0) {
    const T *a0 = static_cast<const T *>(p.a.data) + o.a, *b0 = static_cast<const T *>(p.b.data) + o.b;
    a_k = threadIdx.x % 8 * 8;
    b_step = Transposed ? kBlockK : kBlockK * p.b_row;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      const int i = threadIdx.x + 256 * j, r = i / 8, ch = i % 8;
      a_in[j] = m0 + r < p.m;
      a[j] = a0 + (a_in[j] ? (m0 + r) * p.a_row : 0) + ch * 8;
      a_to[j] = r / 64 * kTile + tile_at(r % 64, ch);
      if (Transposed) {
        b_in[j] = n0 + r < p.n;
        b[j] = b0 + (b_in[j] ? (n0 + r) * p.b_row : 0) + ch * 8;
        b_to[j] = 2 * kTile + a_to[j], b_k[j] = ch * 8;
      } else {
        const int kr = i / 16, c = i % 16;
        b_in[j] = n0 + c * 8 < p.n;
        b[j] = b0 + kr * p.b_row + (b_in[j] ? n0 + c * 8 : 0);
        b_to[j] = 2 * kTile + tile_at(kr, c), b_k[j] = kr;
      }
    }
  }
  __device__ __forceinline__ void load(const Product &p, uint32_t base, int k0) {
    const int left = (int)p.k - k0;
#pragma unroll
    for (int j = 0; j < 4; j++) {
      copy16(base + a_to[j], a_k < left ? a[j] : static_cast<const T *>(p.a.data), a_in[j] && a_k < left);
      a[j] += kBlockK;
    }
#pragma unroll
    for (int j = 0; j < 4; j++) {
      copy16(base + b_to[j], b_k[j] < left ? b[j] : static_cast<const T *>(p.b.data), b_in[j] && b_k[j] < left);
      b[j] += b_step;
    }
    copy_commit();
  }
};

// 8 warps, 2 down and 4 across: 64 x 32 of C to a warp.
template <class T, bool Transposed> __device__ __forceinline__ void gemm_tensor(const Product &p) {
  SSDC_SHARED(unsigned char, shared);
  const uint32_t base = (shared_address(shared) + 1023) & ~1023u;
  const int64 across = (p.n + kBlockN - 1) / kBlockN, down = (p.m + kBlockM - 1) / kBlockM;
  // Blocks that run together share rows of A and columns of B: groups of 8 down.
  const int64 tile = blockIdx.x % (across * down), group = tile / (8 * across), first = group * 8, tall = down - first < 8 ? down - first : 8;
  const int64 m0 = (first + tile % (8 * across) % tall) * kBlockM, n0 = tile % (8 * across) / tall * kBlockN;
  const Offset o = batch_offset(p, blockIdx.x / (across * down));
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, wm = warp / 4 * 64, wn = warp % 4 * 32;
  float acc[4][4][4] = {};
  const int chunks = (int)((p.k + kBlockK - 1) / kBlockK);
  Loader<T, Transposed> loader(p, o, m0, n0);
  for (int s = 0; s < kStages - 1; s++) {
    if (s < chunks) loader.load(p, base + s * kStageBytes, s * kBlockK);
    else copy_commit();
  }
  int stage = 0, next = kStages - 1;
  for (int c = 0; c < chunks; c++) {
    copy_wait_but<kStages - 2>();
    __syncthreads();
    if (c + kStages - 1 < chunks) loader.load(p, base + next * kStageBytes, (c + kStages - 1) * kBlockK);
    else copy_commit();
    const uint32_t a_at = base + stage * kStageBytes, b_at = a_at + 2 * kTile;
    if (++stage == kStages) stage = 0;
    if (++next == kStages) next = 0;
#pragma unroll
    for (int kk = 0; kk < 4; kk++) {
      uint32_t a[4][4], b[2][4];
#pragma unroll
      for (int i = 0; i < 4; i++) {
        const int r = wm + i * 16 + lane % 16;
        ldmatrix(a[i], a_at + r / 64 * kTile + tile_at(r % 64, kk * 2 + lane / 16));
      }
#pragma unroll
      for (int j = 0; j < 2; j++) {  // 16 columns: b[j] = {k low, k high} of the first 8, then of the others
        if (Transposed) {
          const int r = wn + j * 16 + lane % 8 + lane / 16 * 8;
          ldmatrix(b[j], b_at + r / 64 * kTile + tile_at(r % 64, kk * 2 + lane / 8 % 2));
        } else {
          const int r = kk * 16 + lane % 16;
          ldmatrix_trans(b[j], b_at + tile_at(r, (wn + j * 16) / 8 + lane / 16));
        }
      }
#pragma unroll
      for (int i = 0; i < 4; i++)
#pragma unroll
        for (int j = 0; j < 4; j++) mma16816(T(), acc[i][j], a[i], b[j / 2][j % 2 * 2], b[j / 2][j % 2 * 2 + 1]);
    }
  }
#pragma unroll
  for (int i = 0; i < 4; i++)
#pragma unroll
    for (int j = 0; j < 4; j++)
#pragma unroll
      for (int e = 0; e < 4; e++) {
        const int64 r = m0 + wm + i * 16 + lane / 4 + e / 2 * 8, col = n0 + wn + j * 8 + lane % 4 * 2 + e % 2;
        if (r < p.m && col < p.n) finish(p, o.c + r * p.c_row + col, col, acc[i][j][e]);
      }
}

}  // namespace

#define kTwoBlocks 256, 2  // on a multiprocessor
SSDC_KERNEL(gemm_bf16, Product, kTwoBlocks) { gemm_tensor<__nv_bfloat16, false>(p); }
SSDC_KERNEL(gemm_bf16_t, Product, kTwoBlocks) { gemm_tensor<__nv_bfloat16, true>(p); }
SSDC_KERNEL(gemm_f16, Product, kTwoBlocks) { gemm_tensor<__half, false>(p); }
SSDC_KERNEL(gemm_f16_t, Product, kTwoBlocks) { gemm_tensor<__half, true>(p); }

namespace {

// Thin products, B transposed: a warp takes a column of C for all Rows rows and reads its K weights once, 16 bytes
// a lane. k is a multiple of 8 (4 for f32) and rows start on 16 bytes.
template <int Rows> __device__ __forceinline__ void thin(const Product &p) {
  const int64 col = ((int64)blockIdx.x * blockDim.x + threadIdx.x) / 32;
  const int lane = threadIdx.x % 32;
  if (col >= p.n) return;
  float sum[Rows] = {};
#pragma unroll 4
  for (int64 k = lane * 4; k < p.k; k += 128) {
    const float4 w = loadf4(p.b.data, p.b.type, col * p.b_row + k);
#pragma unroll
    for (int r = 0; r < Rows; r++) {
      if (r >= p.m) break;
      const float4 v = loadf4(p.a.data, p.a.type, r * p.a_row + k);
      sum[r] += v.x * w.x + v.y * w.y + v.z * w.z + v.w * w.w;
    }
  }
#pragma unroll
  for (int r = 0; r < Rows; r++) {
#pragma unroll
    for (int o = 16; o; o >>= 1) sum[r] += __shfl_xor_sync(0xffffffffu, sum[r], o);
    if (lane == 0 && r < p.m) finish(p, r * p.c_row + col, col, sum[r]);
  }
}

}  // namespace

SSDC_KERNEL(thin_1, Product, 256) { thin<1>(p); }
SSDC_KERNEL(thin_4, Product, 256) { thin<4>(p); }
SSDC_KERNEL(thin_8, Product, 256) { thin<8>(p); }
