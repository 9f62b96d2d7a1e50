// Attention without the matrix of scores: softmax(scale Q K^T + mask) V in f32, for operands and sizes that flash.cu does not take.
#include "attention.cuh"

namespace {

constexpr int kQueries = 16, kKeys = 32;  // of a block, of a step

}  // namespace

// 128 threads: 16 queries of 8 lanes. A lane keeps v_dim/8 sums, and scores keys lane, lane + 8, ... of a step.
SSDC_KERNEL(attention, Attention, 128) {
  SSDC_SHARED(float, shared);
  const int D = (int)p.dim, E = (int)p.v_dim, Dp = D + 1, Ep = E + 1;
  float *Q = shared, *K = Q + kQueries * Dp, *V = K + kKeys * Dp, *S = V + kKeys * Ep;  // S: [kQueries][kKeys]
  const int64 tiles = (p.queries + kQueries - 1) / kQueries, q0 = blockIdx.x % tiles * kQueries, h = blockIdx.x / tiles % p.heads,
              b = blockIdx.x / (tiles * p.heads), kh = h / (p.heads / p.kv_heads);
  const int lane = threadIdx.x % 8, mine = threadIdx.x / 8;
  const int64 query = q0 + mine;
  for (int i = threadIdx.x; i < kQueries * D; i += 128)
    Q[i / D * Dp + i % D] = q0 + i / D < p.queries ? loadf(p.q, b * p.q_batch + h * p.q_head + (q0 + i / D) * p.q_row + i % D) * p.scale : 0.f;
  float acc[32] = {};  // v_dim at most 256
  const float low = -__int_as_float(0x7f800000);
  float most = low, sum = 0.f;
  int64 end = p.keys;
  if (p.causal && q0 + kQueries + p.offset < end) end = q0 + kQueries + p.offset;
  for (int64 k0 = 0; k0 < end; k0 += kKeys) {
    __syncthreads();
    for (int i = threadIdx.x; i < kKeys * D; i += 128)
      K[i / D * Dp + i % D] = k0 + i / D < p.keys ? loadf(p.k, b * p.k_batch + kh * p.k_head + (k0 + i / D) * p.k_row + i % D) : 0.f;
    for (int i = threadIdx.x; i < kKeys * E; i += 128)
      V[i / E * Ep + i % E] = k0 + i / E < p.keys ? loadf(p.v, b * p.v_batch + kh * p.v_head + (k0 + i / E) * p.v_row + i % E) : 0.f;
    __syncthreads();
    float score[kKeys / 8], top = low;
#pragma unroll
    for (int j = 0; j < kKeys / 8; j++) {
      const int k = j * 8 + lane;
      const int64 key = k0 + k;
      float s = 0.f;
      for (int d = 0; d < D; d++) s += Q[mine * Dp + d] * K[k * Dp + d];
      if (p.softcap != 0.f) s = p.softcap * tanhf(s / p.softcap);
      if (p.mask.data && key < p.keys && query < p.queries) {
        const int64 at = b * p.m_batch + h * p.m_head + query * p.m_query + key * p.m_key;
        if (p.mask.type == kBool) s = static_cast<const unsigned char *>(p.mask.data)[at] ? s : low;
        else s += loadf(p.mask, at);
      }
      if (key >= p.keys || query >= p.queries || (p.causal && key > query + p.offset)) s = low;
      score[j] = s;
      top = fmaxf(top, s);
    }
#pragma unroll
    for (int o = 4; o; o >>= 1) top = fmaxf(top, __shfl_xor_sync(0xffffffffu, top, o));
    const float now = fmaxf(most, top), shift = now == low ? 0.f : now, keep = most == low ? 0.f : expf(most - shift);
    float part = 0.f;
#pragma unroll
    for (int j = 0; j < kKeys / 8; j++) {
      const float e = score[j] == low ? 0.f : expf(score[j] - shift);
      S[mine * kKeys + j * 8 + lane] = e;
      part += e;
    }
#pragma unroll
    for (int o = 4; o; o >>= 1) part += __shfl_xor_sync(0xffffffffu, part, o);
    sum = sum * keep + part;
    most = now;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 32; i++) {
      const int e = i * 8 + lane;
      if (e >= E) break;
      float v = acc[i] * keep;
      for (int k = 0; k < kKeys; k++) v += S[mine * kKeys + k] * V[k * Ep + e];
      acc[i] = v;
    }
  }
  if (query >= p.queries) return;
  const float scale = sum == 0.f ? 0.f : 1.f / sum;  // nothing seen: zeros
#pragma unroll
  for (int i = 0; i < 32; i++) {
    const int e = i * 8 + lane;
    if (e < E) storef(p.y, b * p.y_batch + h * p.y_head + query * p.y_row + e, acc[i] * scale);
  }
}
