// Step sizes and decays, in f32 and base 2. Included by ssd_fwd.cu.
#pragma once

namespace {

// A step size as it stands in memory, and its value: apart, so that a load can be waited for later.
__device__ __forceinline__ uint32_t load_dt_bits(const ssdc_ssd &p, size_t at) {
  return p.dt_type == SSDC_F32 ? static_cast<const uint32_t *>(p.dt)[at] : static_cast<const uint16_t *>(p.dt)[at];
}
__device__ __forceinline__ float dt_value(const ssdc_ssd &p, uint32_t bits) {
  if (p.dt_type == SSDC_F32) return __uint_as_float(bits);
  return p.dt_type == SSDC_BF16 ? unpack(__nv_bfloat16(), bits).x : unpack(__half(), bits).x;
}
__device__ __forceinline__ float load_dt(const ssdc_ssd &p, size_t at) { return dt_value(p, load_dt_bits(p, at)); }

// Step size from its raw value: bias, softplus, clamp, all in f32.
__device__ __forceinline__ float step_size(const ssdc_ssd &p, float raw, float bias) {
  float v = raw + bias;
  if (p.softplus) v = v > 20.f ? v : log1pf(__expf(v));
  return fminf(fmaxf(v, p.dt_low), p.dt_high);
}

__device__ __forceinline__ float silu(float v) { return v / (1.f + __expf(-v)); }

// Decay exponents below exp(-104), which is 0 in f32, would swallow later steps of the
// running sum (SSD.md 1.5); 150 in base 2.
__device__ __forceinline__ float bounded(float a) { return a < -150.f ? -150.f : a; }

// The exponent of a step's decay, base 2. Where a sequence begins anew it is one that exp2 takes to 0.
__device__ __forceinline__ float exponent(const ssdc_ssd &p, float a_scale, float d, int b, int t) {
  if (p.seq_idx && t > 0 && t < p.length) {
    const int *at = p.seq_idx + (size_t)b * p.length + t;
    if (at[0] != at[-1]) return -150.f;
  }
  return bounded(a_scale * d);
}
__device__ __forceinline__ int pitch_of(const ssdc_ssd &p) { return p.pitch ? p.pitch : p.state; }

// Per chunk and head, in shared memory.
struct Decay {
  float cum[kChunk];     // inclusive sum of a, base 2
  float dt[kChunk];      // step sizes, 0 past the end
  float weight[kChunk];  // exp2(cum_last - cum) * dt
};

// One warp fills a chunk's Decay from the raw step sizes of rows 2*lane and 2*lane+1; returns the
// sum of the whole chunk, base 2.
__device__ __forceinline__ float fill_decay(const ssdc_ssd &p, Decay &decay, float2 steps, int b, int t0, float a_scale, float bias, int lane) {
  const int t = t0 + 2 * lane;
  const float d0 = t < p.length ? step_size(p, steps.x, bias) : 0.f;
  const float d1 = t + 1 < p.length ? step_size(p, steps.y, bias) : 0.f;
  const float a0 = exponent(p, a_scale, d0, b, t), a1 = exponent(p, a_scale, d1, b, t + 1);
  float sum = a0 + a1;
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const float v = __shfl_up_sync(0xffffffffu, sum, o);
    if (lane >= o) sum += v;
  }
  const float total = __shfl_sync(0xffffffffu, sum, 31);
  const float c1 = sum, c0 = sum - a1;
  *reinterpret_cast<float2 *>(&decay.cum[2 * lane]) = make_float2(c0, c1);
  *reinterpret_cast<float2 *>(&decay.dt[2 * lane]) = make_float2(d0, d1);
  *reinterpret_cast<float2 *>(&decay.weight[2 * lane]) = make_float2(exp2_fast(total - c0) * d0, exp2_fast(total - c1) * d1);
  return total;
}

}  // namespace
