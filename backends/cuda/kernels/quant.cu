// Products with weights in 8 and 4 bits, as quantised.cuh lays them out, where they are not streamed (decode.cu): thin ones in f32,
// the weights written out for products of many rows, rows of a table; and how the stored forms become blocks.
#include "quantised.cuh"

namespace {

struct QuantProduct {
  Tensor a, c, bias, residual;
  Blocks q;
  int64 m, n, k, a_row, c_row, act;
  float alpha, padding;
};

// A block of 8 warps takes a tile of 16 columns; warps share K by slices of 64. Products and sums are in f32.
template <int Rows> __device__ __forceinline__ void quant_thin(const QuantProduct &p) {
  SSDC_SHARED(float, sums);  // [8][Rows][16]
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
  const int64 slices = (p.k + 63) / 64, tile = blockIdx.x;
  const bool even = p.a_row % 4 == 0 && p.k % 8 == 0 && (size_t)p.a.data % 16 == 0;
  float acc[Rows][2] = {};
  for (int64 slice = warp; slice < slices; slice += 8) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int64 k = slice * 64 + half * 32 + q * 8;
      float w[2][8];
      weights_of(p.q, tile * slices + slice, half, lane, w);
      if (k >= p.k) continue;
#pragma unroll
      for (int r = 0; r < Rows; r++) {
        if (r >= p.m) break;
        float x[8];
        if (even) {
          const float4 lo = loadf4(p.a, r * p.a_row + k), hi = loadf4(p.a, r * p.a_row + k + 4);
          x[0] = lo.x, x[1] = lo.y, x[2] = lo.z, x[3] = lo.w, x[4] = hi.x, x[5] = hi.y, x[6] = hi.z, x[7] = hi.w;
        } else {
#pragma unroll
          for (int j = 0; j < 8; j++) x[j] = k + j < p.k ? loadf(p.a, r * p.a_row + k + j) : 0.f;
        }
#pragma unroll
        for (int j = 0; j < 8; j++) acc[r][0] += x[j] * w[0][j], acc[r][1] += x[j] * w[1][j];
      }
    }
  }
#pragma unroll
  for (int r = 0; r < Rows; r++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float v = acc[r][i];
      v += __shfl_xor_sync(0xffffffffu, v, 1);
      v += __shfl_xor_sync(0xffffffffu, v, 2);
      if (q == 0) sums[(warp * Rows + r) * 16 + i * 8 + g] = v;
    }
  __syncthreads();
  const int64 row = threadIdx.x / 16, col = tile * 16 + threadIdx.x % 16;
  if (threadIdx.x >= Rows * 16 || row >= p.m || col >= p.n) return;
  float v = 0.f;
#pragma unroll
  for (int w = 0; w < 8; w++) v += sums[(w * Rows + row) * 16 + threadIdx.x % 16];
  v *= p.alpha;
  if (p.q.bits == 8) v *= p.q.scale[col];
  if (p.bias.data) v += loadf(p.bias, col);
  v = activate((int)p.act, v);
  if (p.residual.data) v += loadf(p.residual, row * p.c_row + col);
  storef(p.c, row * p.c_row + col, v);
}

// What a thread of the kernels below has: a lane of half a block.
struct Place {
  int64 block, tile, k;
  int half, lane;
};
__device__ __forceinline__ Place place_of(int64 k) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x, slices = (k + 63) / 64, block = at / 64;
  const int half = (int)(at / 32 % 2), lane = (int)(at % 32);
  return {block, block / slices, block % slices * 64 + half * 32 + lane % 4 * 8, half, lane};
}

struct Spread {
  Blocks q;
  Tensor out;  // [n,k]
  int64 n, k;
};

struct QuantRows {
  Blocks q;
  Tensor ids, out;     // [count], [count,k]
  int64 count, n, k;   // n: rows of the table
  int *bad;            // set to 1 by an index out of range
};

struct FormPanels {
  const unsigned char *panels;
  unsigned char *blocks;
  float *scale;
  int64 n, k;
};

struct FormDigits {  // of DequantizeLinear: two digits a byte, a scale and a zero point for `group` of them along k
  const unsigned char *digits, *zero;
  Tensor scale;
  Blocks to;
  unsigned char *blocks;
  int64 n, k, group, flip, none;  // flip: 8 for signed digits; none: the zero point when there are none
  int64 by_n, by_k, groups_by_n, groups_by_k;
};

__device__ __forceinline__ uint32_t digit(const unsigned char *p, int64 i) { return p[i / 2] >> i % 2 * 4 & 15; }

__device__ __forceinline__ int digit_shift(int j) { return j / 2 * 4 + j % 2 * 16; }

// Eight numbers side by side, as far as there are so many.
__device__ __forceinline__ void store_eight(const Tensor &t, int64 at, int64 count, const float *v, float by) {
  for (int j = 0; j < 8; j++)
    if (j < count) storef(t, at + j, v[j] * by);
}

}  // namespace

SSDC_KERNEL(quant_thin_1, QuantProduct, 256) { quant_thin<1>(p); }
SSDC_KERNEL(quant_thin_4, QuantProduct, 256) { quant_thin<4>(p); }
SSDC_KERNEL(quant_thin_8, QuantProduct, 256) { quant_thin<8>(p); }

SSDC_KERNEL(quant_spread, Spread, 256) {
  const Place o = place_of(p.k);
  if (o.tile * 16 >= p.n || o.k >= p.k) return;
  float w[2][8];
  weights_of(p.q, o.block, o.half, o.lane, w);
#pragma unroll
  for (int i = 0; i < 2; i++) {
    const int64 col = o.tile * 16 + o.lane / 4 + 8 * i;
    if (col >= p.n) continue;
    const float by = p.q.bits == 8 ? p.q.scale[col] : 1.f;
    if (p.k % 8) {
      store_eight(p.out, col * p.k + o.k, p.k - o.k, w[i], by);
    } else {
      storef4(p.out.data, p.out.type, col * p.k + o.k, make_float4(w[i][0] * by, w[i][1] * by, w[i][2] * by, w[i][3] * by));
      storef4(p.out.data, p.out.type, col * p.k + o.k + 4, make_float4(w[i][4] * by, w[i][5] * by, w[i][6] * by, w[i][7] * by));
    }
  }
}

// Rows of a table whose transpose is the matrix: row r is column r.
SSDC_KERNEL(quant_rows, QuantRows, 256) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x, eights = (p.k + 7) / 8, i = at / eights, k = at % eights * 8;
  if (i >= p.count) return;
  int64 row = load_any<int64>(p.ids.data, p.ids.type, i);
  if (row < 0) row += p.n;
  if (row < 0 || row >= p.n) {
    *p.bad = 1;
    return;
  }
  float w[2][8];
  weights_of(p.q, row / 16 * ((p.k + 63) / 64) + k / 64, (int)(k % 64 / 32), (int)(row % 8 * 4 + k % 32 / 8), w);
  const bool second = row % 16 >= 8;
  float v[8];
#pragma unroll
  for (int j = 0; j < 8; j++) v[j] = second ? w[1][j] : w[0][j];
  store_eight(p.out, i * p.k + k, p.k - k, v, p.q.bits == 8 ? p.q.scale[row] : 1.f);
}

// From panels of 32 columns (the CPU's, package gemm) in int8: the scale of each column, then [k/4][column][k%4], 128 too much.
SSDC_KERNEL(quant_form_int8, FormPanels, 256) {
  const Place o = place_of(p.k);
  if (o.tile * 16 >= p.n) return;
  const int64 deep = (p.k + 31) / 32 * 32, panel = 128 + deep * 32;
  unsigned char *to = p.blocks + o.block * kByteBlock + o.half * 512 + o.lane * 16;
  for (int i = 0; i < 16; i++) {
    constexpr int place[4] = {0, 2, 1, 3};
    const int64 col = o.tile * 16 + o.lane / 4 + i / 8 * 8, k = o.k + i % 8;
    const unsigned char *from = p.panels + col / 32 * panel;
    to[i / 4 * 4 + place[i % 4]] = k < deep ? from[128 + (k / 4 * 32 + col % 32) * 4 + k % 4] ^ 128 : 0;
    if (o.k == 0 && i % 8 == 0) p.scale[col] = reinterpret_cast<const float *>(from)[col % 32];
  }
}

// In int4: for 32 of k the scales in bfloat16 and [k%16/4][column][k%4], the first 16 in the low digits.
SSDC_KERNEL(quant_form_int4, FormPanels, 256) {
  const Place o = place_of(p.k);
  if (o.tile * 16 >= p.n) return;
  const int64 groups = (p.k + 31) / 32, group = o.k / 32;
  const int g = o.lane / 4, head = 64;
  unsigned char *block = p.blocks + o.block * (kDigits + head);
  for (int i = 0; i < 2; i++) {
    const int64 col = o.tile * 16 + g + 8 * i;
    const unsigned char *from = p.panels + (col / 32 * groups + group) * 576;
    uint32_t word = 0;
    for (int j = 0; j < 8; j++) {
      const int k = (int)(o.k + j) % 32;
      const uint32_t d = group < groups ? from[64 + (k % 16 / 4 * 32 + col % 32) * 4 + k % 4] >> k / 16 * 4 & 15 : 8;
      word |= d << digit_shift(j);
    }
    reinterpret_cast<uint32_t *>(block + head + o.half * 256 + o.lane * 8)[i] = word;
    if (o.lane % 4 == 0)
      reinterpret_cast<unsigned short *>(block)[(o.half * 8 + g) * 2 + i] = group < groups ? reinterpret_cast<const unsigned short *>(from)[col % 32] : 0;
  }
}

// bfloat16 panels [k/2][column][k%2] to [n,k].
SSDC_KERNEL(quant_form_bf16, FormPanels, 256) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x, col = at / p.k, k = at % p.k;
  if (col >= p.n) return;
  const int64 panel = (p.k + 31) / 32 * 32 * 64;
  reinterpret_cast<unsigned short *>(p.blocks)[at] = reinterpret_cast<const unsigned short *>(p.panels + col / 32 * panel)[(k / 2 * 32 + col % 32) * 2 + k % 2];
}

SSDC_KERNEL(quant_form_digits, FormDigits, 256) {
  const Place o = place_of(p.k);
  if (o.tile * 16 >= p.n) return;
  const int g = o.lane / 4;
  unsigned char *block = p.blocks + o.block * p.to.size;
  for (int i = 0; i < 2; i++) {
    const int64 col = o.tile * 16 + g + 8 * i, at = col * p.groups_by_n + o.k / p.group * p.groups_by_k;
    const bool in = col < p.n && o.k < p.k;
    const uint32_t zero = in && p.zero ? digit(p.zero, at) ^ (uint32_t)p.flip : (uint32_t)p.none;
    uint32_t word = 0;
    for (int j = 0; j < 8; j++) word |= (in && o.k + j < p.k ? digit(p.digits, col * p.by_n + (o.k + j) * p.by_k) ^ (uint32_t)p.flip : zero) << digit_shift(j);
    reinterpret_cast<uint32_t *>(block + p.to.size - kDigits + o.half * 256 + o.lane * 8)[i] = word;
    if (o.lane % 4) continue;
    const int slot = (o.half * 8 + g) * 2 + i;
    store_any<float>(block, p.to.scale_type, slot, in ? loadf(p.scale, at) : 0.f);
    if (p.to.zeros) block[p.to.zeros + slot] = (unsigned char)zero;
  }
}
