// What warpgroups in roles (ssd_tma.cuh) work out of the steps of a chunk: decays, and the mask of C B^T.
#pragma once

#include "tma.cuh"

namespace {

// Per chunk and strip, in shared memory; cum is the inclusive sum of dt*A inside the chunk, base 2.
struct TmaDecay {
  float row[kChunk];         // exp2(cum - cum of the first of its 16 rows)
  float column[3][48];       // exp2(cum of row 16 (w+1) - cum) * dt, for rows before 16 (w+1)
  float cum[kChunk], dt[kChunk];
  float weight[kChunk];      // exp2(cum_last - cum) * dt, of a state that lags with its lag; with bf16, pairs of them in bf16 fill the first half
  float from_state[kChunk];  // exp2(cum), of a state that lags with its lag
  float keep, unused[3];     // exp2(cum_last), or 1 where the state lags
};

// Whether x is weighed in its own type, two positions at a time. bf16 has the exponents of f32, so that a weight loses
// no more than x has; in fp16 small steps would vanish.
template <class T> constexpr bool kWeighPairs = false;
template <> constexpr bool kWeighPairs<__nv_bfloat16> = true;

// States decay lazily: what is kept is S times 2^-lag, so that a chunk need not touch it as long as the lag, a sum of decays and at most 0,
// is not below this. fp16 has no room for that.
template <class T> constexpr float kLeastLag = kWeighPairs<T> ? -24.f : 1.f;

// One warp's part: the decays of one strip, a chunk after the other. They are worked out before `room` for them is waited for.
// `lag` is that of the state before the chunk, and after it; 0 behind the last chunk of a piece.
template <class T, class Room>
__device__ __forceinline__ void tma_fill_decay(const ssdc_ssd &p, TmaDecay &d, float2 steps, int b, int t, float a_scale, float bias, int lane, float &lag, bool last,
                                               Room room) {
  const float d0 = t < p.length ? step_size(p, steps.x, bias) : 0.f;
  const float d1 = t + 1 < p.length ? step_size(p, steps.y, bias) : 0.f;
  const float a1 = exponent(p, a_scale, d1, b, t + 1);
  float c1 = exponent(p, a_scale, d0, b, t) + a1;
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const float v = __shfl_up_sync(0xffffffffu, c1, o);
    if (lane >= o) c1 += v;
  }
  const float c0 = c1 - a1, total = __shfl_sync(0xffffffffu, c1, 31), first = __shfl_sync(0xffffffffu, c0, lane & 24);
  float2 column[3];
#pragma unroll
  for (int w = 0; w < 3; w++) {
    const float origin = __shfl_sync(0xffffffffu, c0, 8 * (w + 1));
    column[w] = make_float2(exp2_fast(origin - c0) * d0, exp2_fast(origin - c1) * d1);
  }
  const float2 row = make_float2(exp2_fast(c0 - first), exp2_fast(c1 - first));
  const float2 from_state = make_float2(exp2_fast(c0 + lag), exp2_fast(c1 + lag));
  const bool lazy = !last && total + lag >= kLeastLag<T>;
  const float keep = lazy ? 1.f : exp2_fast(total + lag), end = lazy ? -lag : total;
  const float2 weight = make_float2(exp2_fast(end - c0) * d0, exp2_fast(end - c1) * d1);
  lag = lazy ? total + lag : 0.f;
  room();
  auto put = [&](float *to, float2 v) { *reinterpret_cast<float2 *>(to + 2 * lane) = v; };
  put(d.row, row);
#pragma unroll
  for (int w = 0; w < 3; w++)
    if (lane < 8 * (w + 1)) put(d.column[w], column[w]);
  put(d.cum, make_float2(c0, c1));
  put(d.dt, make_float2(d0, d1));
  if constexpr (kWeighPairs<T>) reinterpret_cast<uint32_t *>(d.weight)[lane] = pack(T(), weight.x, weight.y);
  else put(d.weight, weight);
  put(d.from_state, from_state);
  if (lane == 0) d.keep = keep;
}

// Warp W of the mask's warpgroup: rows 16 W to 16 W + 15 of M, on and below the diagonal, for both strips at once and in
// straight code for each W: a scheduler has no other warp of this role to hide behind.
template <class T, int W>
__device__ __forceinline__ void tma_mask(const float (&K)[32], const TmaDecay *decays, uint32_t M_tile, float skip0, float skip1, bool skips, int lane) {
  const int l0 = lane >> 2, s0 = 2 * (lane & 3);
  auto pair = [](const float *at) { return *reinterpret_cast<const float2 *>(at); };
  // All that is needed first: a load waits for the store in front of it.
  float row[2][2], cum[2][2];
  float2 e[2][W > 0 ? 2 * W : 1], c[2][2], dt[2][2];
#pragma unroll
  for (int head = 0; head < 2; head++) {
    const TmaDecay &d = decays[head];
#pragma unroll
    for (int j = 0; j < 2 * W; j++) e[head][j] = pair(&d.column[W > 0 ? W - 1 : 0][8 * j + s0]);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      c[head][half] = pair(&d.cum[16 * W + 8 * half + s0]), dt[head][half] = pair(&d.dt[16 * W + 8 * half + s0]);
      row[head][half] = d.row[16 * W + 8 * half + l0], cum[head][half] = d.cum[16 * W + 8 * half + l0];
    }
  }
#pragma unroll
  for (int head = 0; head < 2; head++) {
    const float skip = head ? skip1 : skip0;
    uint32_t m[W + 1][4];
#pragma unroll
    for (int k = 0; k < W; k++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int j = 2 * k + half;
        m[k][2 * half] = pack(T(), K[4 * j] * (row[head][0] * e[head][j].x), K[4 * j + 1] * (row[head][0] * e[head][j].y));
        m[k][2 * half + 1] = pack(T(), K[4 * j + 2] * (row[head][1] * e[head][j].x), K[4 * j + 3] * (row[head][1] * e[head][j].y));
      }
    }
    float v[2][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int j = 2 * W + half, s = 8 * half + s0;
      const float2 at = c[head][half], step = dt[head][half];
      v[half][0] = s <= l0 ? K[4 * j] * (exp2_fast(cum[head][0] - at.x) * step.x) : 0.f;
      v[half][1] = s + 1 <= l0 ? K[4 * j + 1] * (exp2_fast(cum[head][0] - at.y) * step.y) : 0.f;
      v[half][2] = s <= l0 + 8 ? K[4 * j + 2] * (exp2_fast(cum[head][1] - at.x) * step.x) : 0.f;
      v[half][3] = s + 1 <= l0 + 8 ? K[4 * j + 3] * (exp2_fast(cum[head][1] - at.y) * step.y) : 0.f;
    }
    if (skips) {  // y += D x: rows and columns agree in the first half for rows below 8, else in the second
      v[0][0] += s0 == l0 ? skip : 0.f;
      v[0][1] += s0 + 1 == l0 ? skip : 0.f;
      v[1][2] += s0 == l0 ? skip : 0.f;
      v[1][3] += s0 + 1 == l0 ? skip : 0.f;
    }
    m[W][0] = pack(T(), v[0][0], v[0][1]), m[W][1] = pack(T(), v[0][2], v[0][3]);
    m[W][2] = pack(T(), v[1][0], v[1][1]), m[W][3] = pack(T(), v[1][2], v[1][3]);
#pragma unroll
    for (int k = 0; k <= W; k++)
      stmatrix((M_tile + head * kTile + tile_at(W * 16 + (lane & 15), lane >> 4)) ^ k << 5, m[k][0], m[k][1], m[k][2], m[k][3]);
  }
}

}  // namespace
