// Recurrences in f32, position after position: the state-space scan of Mamba-2 where the tensor-core kernels do
// not serve (f32 operands, odd shapes, resets), the selective scan of Mamba-1, the bare linear scan.
#include "device.cuh"

namespace {

constexpr int kRows = 16, kLanes = 8, kSteps = 32;  // state rows of a block, threads of a row, staged positions

struct Ssd {
  Seq x, dt, A, B, C, z;         // A: per_step is 0 for [H]; data null: omitted (dt, z)
  Tensor D, dt_bias, h0, hT;     // may be null
  Seq y;
  const int *seq;                // [B,L] or null
  int64 batch, length, heads, head_dim, groups, state;
  int64 softplus, d_per_row, log_decay, strips;  // strips: blocks of a head in ssd_one
  float low, high;
};

// Each thread keeps Each states of one row: n = (i/4 * 8 + lane) * 4 + i % 4.
template <int Each> __device__ __forceinline__ void ssd_rows(const Ssd &p) {
  constexpr int N = Each * kLanes;
  SSDC_SHARED(float, shared);
  float *Bs = shared, *Cs = Bs + kSteps * N, *xs = Cs + kSteps * N, *ys = xs + kSteps * kRows, *decay = ys + kSteps * kRows, *step = decay + kSteps;
  const int tiles = (int)((p.head_dim + kRows - 1) / kRows);
  const int tile = blockIdx.x % tiles;
  const int64 h = blockIdx.x / tiles % p.heads, b = blockIdx.x / ((int64)tiles * p.heads), g = h / (p.heads / p.groups);
  const int lane = threadIdx.x % kLanes, row = threadIdx.x / kLanes;
  const int64 pr = (int64)tile * kRows + row;
  const bool live = pr < p.head_dim;
  const int64 state_at = ((b * p.heads + h) * p.head_dim + (live ? pr : 0)) * p.state;
  float S[Each];
#pragma unroll
  for (int i = 0; i < Each; i++) {
    const int n = (i / 4 * kLanes + lane) * 4 + i % 4;
    S[i] = live && p.h0.data && n < p.state ? loadf(p.h0, state_at + n) : 0.f;
  }
  const float bias = p.dt_bias.data ? loadf(p.dt_bias, h) : 0.f;
  const float A = p.log_decay ? 0.f : loadf(p.A.data, p.A.type, h);
  for (int64 t0 = 0; t0 < p.length; t0 += kSteps) {
    const int steps = (int)(p.length - t0 < kSteps ? p.length - t0 : kSteps);
    __syncthreads();
    for (int i = threadIdx.x; i < steps * N; i += blockDim.x) {
      const int t = i / N, n = i % N;
      const bool in = n < p.state;
      Bs[i] = in ? loadf(p.B.data, p.B.type, b * p.B.per_batch + (t0 + t) * p.B.per_step + g * p.state + n) : 0.f;
      Cs[i] = in ? loadf(p.C.data, p.C.type, b * p.C.per_batch + (t0 + t) * p.C.per_step + g * p.state + n) : 0.f;
    }
    for (int i = threadIdx.x; i < steps * kRows; i += blockDim.x) {
      const int64 t = t0 + i / kRows, q = (int64)tile * kRows + i % kRows;
      xs[i] = q < p.head_dim ? loadf(p.x.data, p.x.type, b * p.x.per_batch + t * p.x.per_step + h * p.head_dim + q) : 0.f;
    }
    if (threadIdx.x < steps) {
      const int64 t = t0 + threadIdx.x;
      float d = 1.f;
      if (p.dt.data) {
        d = loadf(p.dt.data, p.dt.type, b * p.dt.per_batch + t * p.dt.per_step + h) + bias;
        if (p.softplus) d = softplus_of(d);
        d = fminf(fmaxf(d, p.low), p.high);
      }
      step[threadIdx.x] = d;
      float a = p.log_decay ? loadf(p.A.data, p.A.type, b * p.A.per_batch + t * p.A.per_step + h) : A * d;
      a = expf(a);
      if (p.seq && t > 0 && p.seq[b * p.length + t] != p.seq[b * p.length + t - 1]) a = -1.f;  // starts anew
      decay[threadIdx.x] = a;
    }
    __syncthreads();
    for (int t = 0; t < steps; t++) {
      const float a = decay[t], in = step[t] * xs[t * kRows + row];
      if (a < 0.f) {
#pragma unroll
        for (int i = 0; i < Each; i++) S[i] = 0.f;
      }
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < Each; i++) {
        const int n = (i / 4 * kLanes + lane) * 4 + i % 4;
        S[i] = a * S[i] + in * Bs[t * N + n];
        sum += S[i] * Cs[t * N + n];
      }
#pragma unroll
      for (int o = kLanes / 2; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      if (lane == 0) ys[t * kRows + row] = sum;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < steps * kRows; i += blockDim.x) {
      const int64 t = t0 + i / kRows, q = (int64)tile * kRows + i % kRows;
      if (q >= p.head_dim) continue;
      float v = ys[i];
      if (p.D.data) v += loadf(p.D, p.d_per_row ? h * p.head_dim + q : h) * xs[i];
      if (p.z.data) v *= silu_of(loadf(p.z.data, p.z.type, b * p.z.per_batch + t * p.z.per_step + h * p.head_dim + q));
      storef(p.y.data, p.y.type, b * p.y.per_batch + t * p.y.per_step + h * p.head_dim + q, v);
    }
  }
  if (!p.hT.data || !live) return;
#pragma unroll
  for (int i = 0; i < Each; i++) {
    const int n = (i / 4 * kLanes + lane) * 4 + i % 4;
    if (n < p.state) storef(p.hT, state_at + n, S[i]);
  }
}

}  // namespace

SSDC_KERNEL(ssd_scan_32, Ssd, 128) { ssd_rows<4>(p); }
SSDC_KERNEL(ssd_scan_64, Ssd, 128) { ssd_rows<8>(p); }
SSDC_KERNEL(ssd_scan_128, Ssd, 128) { ssd_rows<16>(p); }
SSDC_KERNEL(ssd_scan_256, Ssd, 128) { ssd_rows<32>(p); }

namespace {

// One position of strips of rows of one head of one sequence to a block of 256; a row of the state is N/4 lanes of 16
// bytes, so that nothing but the state's own bytes counts. A strip is what a thread can have under way; the next one is loaded
// while one is computed, and the first before the kernel in front has ended: nothing but this kernel's last launch wrote it. x, B, C,
// z and y are of type T, parameters and states f32, N is 16, 32, 64, 128 or 256.
template <class T, int N> __device__ __forceinline__ void ssd_one(const Ssd &p) {
  constexpr int lanes = N / 4 < 32 ? N / 4 : 32, wide = N / 4 / lanes, rows = 256 / lanes, Rows = 4 / wide;
  const int P = (int)p.head_dim, all = (P + rows * Rows - 1) / (rows * Rows), strips = (int)p.strips, heads = (int)p.heads;
  const int head = blockIdx.x / strips, h = head % heads, b = head / heads, g = h / (heads / (int)p.groups);
  const int lane = threadIdx.x % lanes, mine = threadIdx.x / lanes;
  const float *h0 = p.h0.data ? static_cast<const float *>(p.h0.data) + (int64)head * P * N : nullptr;
  float *hT = static_cast<float *>(p.hT.data) + (int64)head * P * N;
  float4 S[Rows][wide], next[Rows][wide];
  auto load = [&](float4 (&to)[Rows][wide], int strip) {
#pragma unroll
    for (int r = 0; r < Rows; r++)
#pragma unroll
      for (int i = 0; i < wide; i++) {
        const int pr = (strip * Rows + r) * rows + mine;
        to[r][i] = pr < P && h0 ? *reinterpret_cast<const float4 *>(h0 + pr * N + (i * lanes + lane) * 4) : make_float4(0.f, 0.f, 0.f, 0.f);
      }
  };
  load(S, blockIdx.x % strips);
  const float *parameters = static_cast<const float *>(p.A.data);
  const float A = p.log_decay ? 0.f : parameters[h], bias = p.dt_bias.data ? static_cast<const float *>(p.dt_bias.data)[h] : 0.f;
  wait_for_previous();
  float4 Bv[wide], Cv[wide];
#pragma unroll
  for (int i = 0; i < wide; i++) {
    Bv[i] = load4(static_cast<const T *>(p.B.data) + b * p.B.per_batch + g * N + (i * lanes + lane) * 4);
    Cv[i] = load4(static_cast<const T *>(p.C.data) + b * p.C.per_batch + g * N + (i * lanes + lane) * 4);
  }
  const T *xs = static_cast<const T *>(p.x.data) + b * p.x.per_batch + h * P, *zs = static_cast<const T *>(p.z.data) + b * p.z.per_batch + h * P;
  T *ys = static_cast<T *>(p.y.data) + b * p.y.per_batch + h * P;
  const float *ds = static_cast<const float *>(p.D.data);
  float d = 1.f, decay = 0.f;
  bool ready = false;
  for (int strip = blockIdx.x % strips; strip < all; strip += strips) {
    if (strip + strips < all) load(next, strip + strips);
    float x[Rows], D[Rows], z[Rows];
#pragma unroll
    for (int r = 0; r < Rows; r++) {
      const int pr = (strip * Rows + r) * rows + mine, in = pr < P ? pr : P - 1;
      x[r] = to_float(xs[in]);
      D[r] = ds ? ds[p.d_per_row ? h * P + in : h] : 0.f;
      z[r] = p.z.data ? to_float(zs[in]) : 0.f;
    }
    if (!ready) {  // after the loads above are under way
      ready = true;
      if (p.dt.data) {
        d = loadf(p.dt.data, p.dt.type, b * p.dt.per_batch + h) + bias;
        if (p.softplus) d = softplus_of(d);
        d = fminf(fmaxf(d, p.low), p.high);
      }
      decay = expf(p.log_decay ? loadf(p.A.data, p.A.type, b * p.A.per_batch + h) : A * d);
#pragma unroll
      for (int i = 0; i < wide; i++) Bv[i] = make_float4(d * Bv[i].x, d * Bv[i].y, d * Bv[i].z, d * Bv[i].w);
    }
#pragma unroll
    for (int r = 0; r < Rows; r++) {
      const int pr = (strip * Rows + r) * rows + mine;
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < wide; i++) {
        float4 &s = S[r][i];
        s.x = decay * s.x + x[r] * Bv[i].x;
        s.y = decay * s.y + x[r] * Bv[i].y;
        s.z = decay * s.z + x[r] * Bv[i].z;
        s.w = decay * s.w + x[r] * Bv[i].w;
        sum += s.x * Cv[i].x + s.y * Cv[i].y + s.z * Cv[i].z + s.w * Cv[i].w;
        if (pr < P) *reinterpret_cast<float4 *>(hT + pr * N + (i * lanes + lane) * 4) = s;
        s = next[r][i];
      }
#pragma unroll
      for (int o = lanes / 2; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      if (lane || pr >= P) continue;
      sum += D[r] * x[r];
      if (p.z.data) sum *= silu_of(z[r]);
      ys[pr] = from_float<T>(sum);
    }
  }
}

}  // namespace

#define SSDC_STEP(N)                                                                 \
  SSDC_KERNEL_EARLY(ssd_step_f32_##N, Ssd, 256) { ssd_one<float, N>(p); }             \
  SSDC_KERNEL_EARLY(ssd_step_bf16_##N, Ssd, 256) { ssd_one<__nv_bfloat16, N>(p); }    \
  SSDC_KERNEL_EARLY(ssd_step_f16_##N, Ssd, 256) { ssd_one<__half, N>(p); }
SSDC_STEP(16)
SSDC_STEP(32)
SSDC_STEP(64)
SSDC_STEP(128)
SSDC_STEP(256)

namespace {

struct Selective {
  Seq u, dt, B, C, z, y;
  Tensor A, D, dt_bias, h0, hT;  // D, dt_bias, h0, hT may be null
  int64 batch, length, channels, state, softplus;
};

// Lanes threads share a channel; each keeps Each states. A block of 128 has 128 / Lanes channels and stages Steps positions, a
// multiple of Lanes: the sums of as many positions as lanes are added up together, and each lane ends with one of them. What
// counts is an exponential a state and position, 16 a cycle and multiprocessor.
template <int Lanes, int Each, int Steps> __device__ __forceinline__ void selective(const Selective &p) {
  constexpr int channels = 128 / Lanes, N = Lanes * Each, wide = Each < 4 ? Each : 4;
  SSDC_SHARED(float, shared);
  float *Bs = shared, *Cs = Bs + Steps * N, *us = Cs + Steps * N, *ds = us + Steps * channels, *ys = ds + Steps * channels;
  const int64 tiles = (p.channels + channels - 1) / channels, b = blockIdx.x / tiles, c0 = blockIdx.x % tiles * channels;
  const int lane = threadIdx.x % Lanes, mine = threadIdx.x / Lanes;
  const int64 c = c0 + mine;
  const bool live = c < p.channels;
  auto column = [&](int i) { return (i / wide * Lanes + lane) * wide + i % wide; };
  float A[Each], S[Each];
#pragma unroll
  for (int i = 0; i < Each; i++) {
    const int n = column(i);
    const bool in = live && n < p.state;
    A[i] = in ? loadf(p.A, c * p.state + n) * 1.4426950408889634f : 0.f;
    S[i] = in && p.h0.data ? loadf(p.h0, (b * p.channels + c) * p.state + n) : 0.f;
  }
  for (int64 t0 = 0; t0 < p.length; t0 += Steps) {
    const int steps = (int)(p.length - t0 < Steps ? p.length - t0 : Steps), padded = (steps + Lanes - 1) / Lanes * Lanes;
    __syncthreads();
    for (int i = threadIdx.x; i < padded * N; i += 128) {
      const int t = i / N, n = i % N;
      const bool in = t < steps && n < p.state;
      Bs[i] = in ? loadf(p.B.data, p.B.type, b * p.B.per_batch + (t0 + t) * p.B.per_step + n) : 0.f;
      Cs[i] = in ? loadf(p.C.data, p.C.type, b * p.C.per_batch + (t0 + t) * p.C.per_step + n) : 0.f;
    }
    for (int i = threadIdx.x; i < padded * channels; i += 128) {  // a step of 0 past the end leaves the state as it is
      const int64 t = t0 + i / channels, q = c0 + i % channels;
      float u = 0.f, d = 0.f;
      if (t < p.length && q < p.channels) {
        u = loadf(p.u.data, p.u.type, b * p.u.per_batch + t * p.u.per_step + q);
        d = loadf(p.dt.data, p.dt.type, b * p.dt.per_batch + t * p.dt.per_step + q) + (p.dt_bias.data ? loadf(p.dt_bias, q) : 0.f);
        if (p.softplus) d = softplus_of(d);
      }
      us[i] = u, ds[i] = d;
    }
    __syncthreads();
    for (int t = 0; t < padded; t += Lanes) {
      float sum[Lanes];
#pragma unroll
      for (int k = 0; k < Lanes; k++) {
        const float d = ds[(t + k) * channels + mine], in = d * us[(t + k) * channels + mine];
        const float *Bt = Bs + (t + k) * N, *Ct = Cs + (t + k) * N;
        sum[k] = 0.f;
#pragma unroll
        for (int i = 0; i < Each; i += wide) {
          float bv[wide], cv[wide];
#pragma unroll
          for (int j = 0; j < wide; j++) bv[j] = Bt[column(i + j)], cv[j] = Ct[column(i + j)];
#pragma unroll
          for (int j = 0; j < wide; j++) {
            S[i + j] = exp2_fast(A[i + j] * d) * S[i + j] + in * bv[j];
            sum[k] += S[i + j] * cv[j];
          }
        }
      }
#pragma unroll
      for (int o = Lanes / 2; o; o >>= 1) {
#pragma unroll
        for (int k = 0; k < o; k++) {
          const float give = lane & o ? sum[k] : sum[k + o], keep = lane & o ? sum[k + o] : sum[k];
          sum[k] = keep + __shfl_xor_sync(0xffffffffu, give, o);
        }
      }
      ys[(t + lane) * channels + mine] = sum[0];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < steps * channels; i += 128) {
      const int64 t = t0 + i / channels, q = c0 + i % channels;
      if (q >= p.channels) continue;
      float v = ys[i];
      if (p.D.data) v += loadf(p.D, q) * us[i];
      if (p.z.data) v *= silu_of(loadf(p.z.data, p.z.type, b * p.z.per_batch + t * p.z.per_step + q));
      storef(p.y.data, p.y.type, b * p.y.per_batch + t * p.y.per_step + q, v);
    }
  }
  if (!p.hT.data || !live) return;
#pragma unroll
  for (int i = 0; i < Each; i++) {
    const int n = column(i);
    if (n < p.state) storef(p.hT, (b * p.channels + c) * p.state + n, S[i]);
  }
}

}  // namespace

SSDC_KERNEL(selective_8, Selective, 128) { selective<4, 2, 64>(p); }
SSDC_KERNEL(selective_16, Selective, 128) { selective<4, 4, 64>(p); }
SSDC_KERNEL(selective_32, Selective, 128) { selective<4, 8, 32>(p); }
SSDC_KERNEL(selective_64, Selective, 128) { selective<8, 8, 32>(p); }
SSDC_KERNEL(selective_128, Selective, 128) { selective<8, 16, 16>(p); }
SSDC_KERNEL(selective_256, Selective, 128) { selective<16, 16, 16>(p); }

namespace {

struct Linear {
  Seq a, u, y;
  Tensor h0, hT;  // may be null
  int64 batch, length, channels;
};

}  // namespace

// h_t = a_t h_{t-1} + u_t; a thread takes a channel.
SSDC_KERNEL(linear_scan, Linear, 128) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= p.batch * p.channels) return;
  const int64 b = at / p.channels, c = at % p.channels;
  float h = p.h0.data ? loadf(p.h0, at) : 0.f;
#pragma unroll 4
  for (int64 t = 0; t < p.length; t++) {
    const float a = loadf(p.a.data, p.a.type, b * p.a.per_batch + t * p.a.per_step + c);
    h = a * h + loadf(p.u.data, p.u.type, b * p.u.per_batch + t * p.u.per_step + c);
    storef(p.y.data, p.y.type, b * p.y.per_batch + t * p.y.per_step + c, h);
  }
  if (p.hT.data) storef(p.hT, at, h);
}
