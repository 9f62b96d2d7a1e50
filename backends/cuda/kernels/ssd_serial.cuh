// The scan position after position, for shapes that the tensor cores do not serve, and one step of it. Included by ssd_fwd.cu.
#pragma once

namespace {

// Any shape with N <= 512, one warp for each (b, h, p), position after position.
template <class T> __global__ void ssd_serial(const ssdc_ssd p) {
  const long long id = ((long long)blockIdx.x * blockDim.x + threadIdx.x) >> 5;
  const int lane = threadIdx.x & 31;
  const int L = p.length, H = p.heads, P = p.head_dim, G = p.groups, N = p.state;
  if (id >= (long long)p.batch * H * P) return;
  const int b = id / ((long long)H * P), h = id / P % H, pr = id % P, g = h / (H / G);
  const float bias = p.dt_bias ? p.dt_bias[h] : 0.f, skip = p.D ? p.D[h] : 0.f, A = p.A[h];
  const T *x = static_cast<const T *>(p.x), *z = static_cast<const T *>(p.z);
  const T *Bm = static_cast<const T *>(p.Bm), *Cm = static_cast<const T *>(p.Cm);
  T *y = static_cast<T *>(p.y);
  float S[16];
#pragma unroll
  for (int i = 0; i < 16; i++) {
    const int n = lane + 32 * i;
    S[i] = p.h0 && n < N ? p.h0[(size_t)id * N + n] : 0.f;
  }
  for (int t = 0; t < L; t++) {
    const size_t at = ((size_t)b * L + t) * H + h, bc = (((size_t)b * L + t) * G + g) * N;
    const float dt = step_size(p, load_dt(p, at), bias), xv = to_float(x[at * P + pr]);
    const float decay = exp2_fast(exponent(p, A * kLog2e, dt, b, t));
    float sum = 0.f;
#pragma unroll
    for (int i = 0; i < 16; i++) {
      const int n = lane + 32 * i;
      if (n < N) {
        S[i] = decay * S[i] + dt * xv * to_float(Bm[bc + n]);
        sum += S[i] * to_float(Cm[bc + n]);
      }
    }
#pragma unroll
    for (int o = 16; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
    if (lane == 0) {
      float v = sum + skip * xv;
      if (z) v *= silu(to_float(z[at * P + pr]));
      y[at * P + pr] = from_float<T>(v);
    }
  }
  if (p.hT) {
#pragma unroll
    for (int i = 0; i < 16; i++) {
      const int n = lane + 32 * i;
      if (n < N) p.hT[(size_t)id * N + n] = S[i];
    }
  }
}

// One step. A block of 8 warps takes one head of one sequence; a row of the state is
// N/4 lanes of 16 bytes, Rows loads are under way at once in every thread. Bytes: the
// state read and written, 2*4*B*H*P*N (335 MB at B=64 H=80 P=64 N=128, 78 us at 4.3 TB/s), all else is small.
template <class T, int N> __global__ void __launch_bounds__(256) ssd_step(const ssdc_ssd p) {
  constexpr int lanes = N / 4 < 32 ? N / 4 : 32, wide = N / 4 / lanes, rows_at_once = 256 / lanes, Rows = 4 / wide;
  const int H = p.heads, P = p.head_dim, G = p.groups;
  const int b = blockIdx.x / H, h = blockIdx.x % H, g = h / (H / G);
  const int lane = threadIdx.x % lanes, first = threadIdx.x / lanes;
  const size_t at = (size_t)b * H + h;
  const float *h0 = p.h0 ? p.h0 + at * P * N : nullptr;
  float *hT = p.hT + at * P * N;
  const T *x = static_cast<const T *>(p.x) + at * P, *z = p.z ? static_cast<const T *>(p.z) + at * P : nullptr;
  const T *Bm = static_cast<const T *>(p.Bm) + ((size_t)b * G + g) * N, *Cm = static_cast<const T *>(p.Cm) + ((size_t)b * G + g) * N;
  T *y = static_cast<T *>(p.y) + at * P;

  const float dt = step_size(p, load_dt(p, at), p.dt_bias ? p.dt_bias[h] : 0.f);
  const float decay = __expf(p.A[h] * dt), skip = p.D ? p.D[h] : 0.f;
  float Bv[4 * wide], Cv[4 * wide];
#pragma unroll
  for (int i = 0; i < 4 * wide; i++) {
    const int n = (i / 4 * lanes + lane) * 4 + i % 4;
    Bv[i] = dt * to_float(Bm[n]);
    Cv[i] = to_float(Cm[n]);
  }
  for (int r0 = 0; r0 < P; r0 += rows_at_once * Rows) {
    float4 S[Rows][wide];
    float xs[Rows];
#pragma unroll
    for (int r = 0; r < Rows; r++) {
      const int pr = r0 + r * rows_at_once + first;
      xs[r] = pr < P ? to_float(x[pr]) : 0.f;
#pragma unroll
      for (int i = 0; i < wide; i++)
        S[r][i] = pr < P && h0 ? *reinterpret_cast<const float4 *>(h0 + (size_t)pr * N + (i * lanes + lane) * 4)
                               : make_float4(0.f, 0.f, 0.f, 0.f);
    }
#pragma unroll
    for (int r = 0; r < Rows; r++) {
      const int pr = r0 + r * rows_at_once + first;
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < wide; i++) {
        float4 &s = S[r][i];
        s.x = decay * s.x + xs[r] * Bv[4 * i];
        s.y = decay * s.y + xs[r] * Bv[4 * i + 1];
        s.z = decay * s.z + xs[r] * Bv[4 * i + 2];
        s.w = decay * s.w + xs[r] * Bv[4 * i + 3];
        sum += s.x * Cv[4 * i] + s.y * Cv[4 * i + 1] + s.z * Cv[4 * i + 2] + s.w * Cv[4 * i + 3];
        if (pr < P) *reinterpret_cast<float4 *>(hT + (size_t)pr * N + (i * lanes + lane) * 4) = s;
      }
#pragma unroll
      for (int o = lanes / 2; o; o >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      if (lane == 0 && pr < P) {
        float v = sum + skip * xs[r];
        if (z) v *= silu(to_float(z[pr]));
        y[pr] = from_float<T>(v);
      }
    }
  }
}

}  // namespace
