// Attention on tensor cores: softmax(scale Q K^T + mask) V for 16-bit operands, sums in f32, without the matrix of scores.
//
// Heads share keys in groups (grouped-query attention), so the rows of a product are the queries of all heads of a group, a query's heads
// side by side. A block has 128 rows, 32 to a warp (half of that with masks), and walks over keys in tiles of 64 that arrive through two stages of copies. With few
// rows, as in decoding, every warp takes the same 16 rows and keys of its own. Where keys are split, over warps or over blocks, each part
// leaves its sums, its maximum and its weight, and flash_combine puts them together.
#include "attention.cuh"

namespace {

constexpr float kLog2E = 1.4426950408889634f;

// Where a 16-byte piece of a tile with `rows` rows lies: 128 bytes a row, swizzled, columns from 64 on in a second half.
__device__ __forceinline__ uint32_t piece_at(int rows, int row, int chunk) {
  return (chunk >> 3) * rows * 128 + row * 128 + (((chunk & 7) ^ (row & 7)) << 4);
}

// Rows 0 to Rows - 1 of a tile by `Threads` threads; address gives where a row begins, or null.
template <class T, int D, int Rows, int Threads, class Address>
__device__ __forceinline__ void load_tile(uint32_t to, int dim, int thread, const Address &address) {
  constexpr int Pieces = D / 8;
#pragma unroll 2
  for (int i = thread; i < Rows * Pieces; i += Threads) {
    const int r = i / Pieces, c = i % Pieces;
    const T *from = address(r);
    const bool in = from && c * 8 < dim;
    copy16(to + piece_at(Rows, r, c), in ? from + c * 8 : address(-1), in);
  }
}

// D: the size of a head, filled up; MT: tiles of 16 rows to a warp; KT: keys of a step; Apart: every warp has keys of its own; General:
// with a mask or a soft cap.
template <class T, int D, int MT, int KT, bool Apart, bool General> __device__ __forceinline__ void flash(const Attention &p) {
  constexpr int Threads = Apart ? 32 : 128, Rows = (Apart ? 1 : 4) * 16 * MT, Halves = (D + 63) / 64;
  constexpr int QBytes = Rows * Halves * 128, KBytes = KT * Halves * 128, Stages = Apart ? 3 : 2;
  SSDC_SHARED(unsigned char, shared);
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, thread = Apart ? lane : threadIdx.x;
  const uint32_t base = shared_address(shared) + (Apart ? warp * (QBytes + 2 * Stages * KBytes) : 0), ring = base + QBytes;
  const int group = (int)(p.heads / p.kv_heads), rows = (int)p.queries * group, tiles = (rows + Rows - 1) / Rows;
  const int tile = tiles - 1 - (int)(blockIdx.x % tiles), kh = (int)(blockIdx.x / tiles % p.kv_heads), b = (int)(blockIdx.x / (tiles * p.kv_heads) % p.batch);
  const int split = (int)(blockIdx.x / (tiles * p.kv_heads * p.batch)) * (Apart ? 4 : 1) + (Apart ? warp : 0);
  const int r0 = tile * Rows, keys = (int)p.keys;
  int end = keys;
  if (p.causal) {
    const int64 seen = (r0 + Rows < rows ? r0 + Rows - 1 : rows - 1) / group + p.offset + 1;
    end = seen < 0 ? 0 : seen < end ? (int)seen : end;
  }
  const int steps = (end + KT - 1) / KT, from = (int)((int64)steps * split / p.splits), to = (int)((int64)steps * (split + 1) / p.splits);

  const T *q = static_cast<const T *>(p.q.data) + b * p.q_batch, *k = static_cast<const T *>(p.k.data) + b * p.k_batch + kh * p.k_head,
          *v = static_cast<const T *>(p.v.data) + b * p.v_batch + kh * p.v_head;
  load_tile<T, D, Rows, Threads>(base, (int)p.dim, thread, [&](int r) -> const T * {
    if (r < 0) return q;
    const int row = r0 + r;
    return row < rows ? q + (kh * group + row % group) * p.q_head + row / group * p.q_row : nullptr;
  });
  auto load = [&](int step) {
    const uint32_t at = ring + (step - from) % Stages * 2 * KBytes;
    load_tile<T, D, KT, Threads>(at, (int)p.dim, thread, [&](int r) -> const T * { return r < 0 ? k : step * KT + r < keys ? k + (int64)(step * KT + r) * p.k_row : nullptr; });
    load_tile<T, D, KT, Threads>(at + KBytes, (int)p.v_dim, thread, [&](int r) -> const T * { return r < 0 ? v : step * KT + r < keys ? v + (int64)(step * KT + r) * p.v_row : nullptr; });
  };
  auto meet = [&]() {
    if (Apart) __syncwarp();
    else __syncthreads();
  };
#pragma unroll
  for (int i = 0; i < Stages - 1; i++) {
    if (from + i < to) load(from + i);
    copy_commit();
  }

  const float low = -__int_as_float(0x7f800000);
  const int mine = Apart ? 0 : warp * 16 * MT;  // first row in the tile
  float o[MT][D / 8][4] = {}, most[MT][2], sum[MT][2] = {};
  int limit[MT][2];  // keys that a row sees
#pragma unroll
  for (int t = 0; t < MT; t++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      const int row = r0 + mine + t * 16 + lane / 4 + 8 * i;
      const int64 seen = p.causal ? row / group + p.offset + 1 : keys;
      limit[t][i] = row >= rows || seen < 0 ? 0 : seen < keys ? (int)seen : keys;
      most[t][i] = low;
    }
  const bool plain = !General || !p.mask.data && p.softcap == 0.f && p.scale > 0.f;
  const float fast = p.scale * kLog2E;
  for (int step = from; step < to; step++) {
    if (step + Stages - 1 < to) load(step + Stages - 1);
    copy_commit();
    copy_wait_but<Stages - 1>();
    meet();
    const uint32_t ks = ring + (step - from) % Stages * 2 * KBytes, vs = ks + KBytes;
    float s[MT][KT / 8][4] = {};
    // Operands are loaded one product ahead of their use.
    uint32_t w[2][4];
    auto key_operand = [&](uint32_t (&r)[4], int i) {
      ldmatrix(r, ks + piece_at(KT, i % (KT / 16) * 16 + lane % 8 + lane / 16 * 8, i / (KT / 16) * 2 + lane / 8 % 2));
    };
    key_operand(w[0], 0);
#pragma unroll
    for (int kk = 0; kk < D / 16; kk++) {
      uint32_t a[MT][4];
#pragma unroll
      for (int t = 0; t < MT; t++) ldmatrix(a[t], base + piece_at(Rows, mine + t * 16 + lane % 16, kk * 2 + lane / 16));
#pragma unroll
      for (int n = 0; n < KT / 16; n++) {
        const int i = kk * (KT / 16) + n;
        if (i + 1 < D / 16 * (KT / 16)) key_operand(w[(i + 1) % 2], i + 1);
#pragma unroll
        for (int t = 0; t < MT; t++) {
          mma16816(T(), s[t][2 * n], a[t], w[i % 2][0], w[i % 2][1]);
          mma16816(T(), s[t][2 * n + 1], a[t], w[i % 2][2], w[i % 2][3]);
        }
      }
    }
    float by = fast;  // turns scores into powers of 2
    bool whole = plain;
#pragma unroll
    for (int t = 0; t < MT; t++) whole = whole && limit[t][0] >= step * KT + KT && limit[t][1] >= step * KT + KT;
    if (!whole && General) {
      by = 1.f;
#pragma unroll
      for (int t = 0; t < MT; t++)
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int row = r0 + mine + t * 16 + lane / 4 + 8 * i;
          const int64 mask_row = b * p.m_batch + (kh * group + row % group) * p.m_head + (int64)(row / group) * p.m_query;
#pragma unroll
          for (int n = 0; n < KT / 8; n++)
#pragma unroll
            for (int e = 0; e < 2; e++) {
              const int key = step * KT + n * 8 + lane % 4 * 2 + e;
              float x = s[t][n][2 * i + e] * p.scale;
              if (p.softcap != 0.f) x = p.softcap * (1.f - __fdividef(2.f, exp2_fast(x * (2.f * kLog2E / p.softcap)) + 1.f));  // tanh
              if (key >= limit[t][i]) {
                x = low;
              } else if (p.mask.data) {
                const int64 at = mask_row + key * p.m_key;
                if (p.mask.type == kBool) x = static_cast<const unsigned char *>(p.mask.data)[at] ? x : low;
                else x += loadf(p.mask, at);
              }
              s[t][n][2 * i + e] = x * kLog2E;
            }
        }
    } else if (!whole) {
#pragma unroll
      for (int t = 0; t < MT; t++)
#pragma unroll
        for (int n = 0; n < KT / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++)
            if (step * KT + n * 8 + lane % 4 * 2 + e % 2 >= limit[t][e / 2]) s[t][n][e] = low;
    }
    bool moved = false;
    float keep[MT][2];
#pragma unroll
    for (int t = 0; t < MT; t++)
#pragma unroll
      for (int i = 0; i < 2; i++) {
        float top = low;
#pragma unroll
        for (int n = 0; n < KT / 8; n++) top = fmaxf(top, fmaxf(s[t][n][2 * i], s[t][n][2 * i + 1]));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 1));
        top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, 2)) * by;
        const float now = fmaxf(most[t][i], top), shift = now == low ? 0.f : now;
        keep[t][i] = most[t][i] == low ? 0.f : exp2_fast(most[t][i] - shift);
        moved = moved || keep[t][i] != 1.f;
        most[t][i] = now;
        float part = 0.f;
#pragma unroll
        for (int n = 0; n < KT / 8; n++)
#pragma unroll
          for (int e = 0; e < 2; e++) {
            const float w = exp2_fast(s[t][n][2 * i + e] * by - shift);
            s[t][n][2 * i + e] = w;
            part += w;
          }
        sum[t][i] = sum[t][i] * keep[t][i] + part;
      }
    if (moved) {
#pragma unroll
      for (int t = 0; t < MT; t++)
#pragma unroll
        for (int n = 0; n < D / 8; n++)
#pragma unroll
          for (int e = 0; e < 4; e++) o[t][n][e] *= keep[t][e / 2];
    }
    auto value_operand = [&](uint32_t (&r)[4], int i) { ldmatrix_trans(r, vs + piece_at(KT, i / (D / 16) * 16 + lane % 16, i % (D / 16) * 2 + lane / 16)); };
    value_operand(w[0], 0);
#pragma unroll
    for (int kk = 0; kk < KT / 16; kk++) {
      uint32_t a[MT][4];
#pragma unroll
      for (int t = 0; t < MT; t++)
#pragma unroll
        for (int i = 0; i < 4; i++) a[t][i] = pack(T(), s[t][2 * kk + i / 2][i % 2 * 2], s[t][2 * kk + i / 2][i % 2 * 2 + 1]);
#pragma unroll
      for (int n = 0; n < D / 16; n++) {
        const int i = kk * (D / 16) + n;
        if (i + 1 < KT / 16 * (D / 16)) value_operand(w[(i + 1) % 2], i + 1);
#pragma unroll
        for (int t = 0; t < MT; t++) {
          mma16816(T(), o[t][2 * n], a[t], w[i % 2][0], w[i % 2][1]);
          mma16816(T(), o[t][2 * n + 1], a[t], w[i % 2][2], w[i % 2][3]);
        }
      }
    }
    meet();
  }
  copy_wait_all();
#pragma unroll
  for (int t = 0; t < MT; t++)
#pragma unroll
    for (int i = 0; i < 2; i++) {
      float total = sum[t][i];
      total += __shfl_xor_sync(0xffffffffu, total, 1);
      total += __shfl_xor_sync(0xffffffffu, total, 2);
      const int row = r0 + mine + t * 16 + lane / 4 + 8 * i, E = (int)p.v_dim;
      if (row >= rows) continue;
      const int h = kh * group + row % group, query = row / group;
      const float scale = total == 0.f ? 0.f : 1.f / total;  // nothing seen: zeros
      float *part = p.partial + (((int64)split * p.batch + b) * p.heads + h) * p.queries * (E + 2) + (int64)query * (E + 2);
      T *y = static_cast<T *>(p.y.data) + b * p.y_batch + h * p.y_head + query * p.y_row;
#pragma unroll
      for (int n = 0; n < D / 8; n++) {
        const int e = n * 8 + lane % 4 * 2;
        if (e >= E) continue;
        if (p.splits > 1) *reinterpret_cast<float2 *>(part + 2 + e) = make_float2(o[t][n][2 * i], o[t][n][2 * i + 1]);
        else *reinterpret_cast<uint32_t *>(y + e) = pack(T(), o[t][n][2 * i] * scale, o[t][n][2 * i + 1] * scale);
      }
      if (p.splits > 1 && lane % 4 == 0) part[0] = most[t][i], part[1] = total;
    }
}

}  // namespace

#define SSDC_FLASH_SIZE(name, T, D)                                                         \
  SSDC_KERNEL(name##_##D, Attention, 128) { flash<T, D, 2, 64, false, false>(p); }          \
  SSDC_KERNEL(name##_##D##_general, Attention, 128) { flash<T, D, 1, 32, false, true>(p); } \
  SSDC_KERNEL(name##_##D##_apart, Attention, 128) { flash<T, D, 1, 32, true, true>(p); }
#define SSDC_FLASH(name, T)   \
  SSDC_FLASH_SIZE(name, T, 64) \
  SSDC_FLASH_SIZE(name, T, 96) \
  SSDC_FLASH_SIZE(name, T, 128)
SSDC_FLASH(flash_bf16, __nv_bfloat16)
SSDC_FLASH(flash_f16, __half)

// The parts of a row by a block: four quarters of the parts at a time, then one.
SSDC_KERNEL(flash_combine, Attention, 512) {
  SSDC_SHARED(float, weights);  // [splits], then [4][128]
  float *quarters = weights + p.splits, *room = quarters + 512;
  const int64 at = blockIdx.x, all = p.batch * p.heads * p.queries;
  const int E = (int)p.v_dim, splits = (int)p.splits, e = threadIdx.x % 128, quarter = threadIdx.x / 128;
  const float low = -__int_as_float(0x7f800000);
  float most = low;
  for (int s = threadIdx.x; s < splits; s += 512) most = fmaxf(most, p.partial[(s * all + at) * (E + 2)]);
  most = over_block<true>(most, room);
  float sum = 0.f;
  for (int s = threadIdx.x; s < splits; s += 512) {
    const float *part = p.partial + (s * all + at) * (E + 2);
    const float by = part[0] == low ? 0.f : exp2_fast(part[0] - most);
    weights[s] = by;
    sum += by * part[1];
  }
  sum = over_block<false>(sum, room);
  __syncthreads();
  float acc = 0.f;
  if (e < E) {
#pragma unroll 8
    for (int s = quarter; s < splits; s += 4) acc += weights[s] * p.partial[(s * all + at) * (E + 2) + 2 + e];
  }
  quarters[threadIdx.x] = acc;
  __syncthreads();
  if (quarter || e >= E) return;
  acc = quarters[e] + quarters[128 + e] + quarters[256 + e] + quarters[384 + e];
  const int64 query = at % p.queries, h = at / p.queries % p.heads, b = at / (p.queries * p.heads);
  storef(p.y, b * p.y_batch + h * p.y_head + query * p.y_row + e, sum == 0.f ? 0.f : acc / sum);
}
