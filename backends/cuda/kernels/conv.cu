// Depthwise causal convolution, channels last, with bias, SiLU and the carried state [B,C,W].
// y[t,c] = act(bias[c] + sum over j of weight[c,j] x[t-(K-1)+j, c]); x before the call is in the state.
#include "device.cuh"

namespace {

constexpr int kTimes = 16;  // positions of a thread

// Channels [first, first + count) of y go to their own dense tensor, so that a Split behind costs nothing.
struct Part {
  void *data;
  int64 type, first, count;
};

struct Conv {
  Seq x;
  Tensor weight, bias, state, state_out;  // bias and state may be null
  Part parts[4];
  int64 n_parts, batch, length, channels, width, silu;
  int64 state_in, state_width;  // columns of state and of state_out
};

__device__ __forceinline__ float before(const Conv &p, int64 b, int64 t, int64 c) {  // x at t, maybe before the call
  if (t >= 0) return loadf(p.x.data, p.x.type, b * p.x.per_batch + t * p.x.per_step + c);
  return p.state.data && -t <= p.state_in ? loadf(p.state, (b * p.channels + c) * p.state_in + p.state_in + t) : 0.f;
}

__device__ __forceinline__ void emit(const Conv &p, int64 b, int64 t, int64 c, float v) {
  if (p.silu) v = silu_of(v);
  for (int k = 0; k < p.n_parts; k++) {
    const Part &part = p.parts[k];
    if (c >= part.first && c < part.first + part.count)
      storef(part.data, part.type, (b * p.length + t) * part.count + c - part.first, v);
  }
}

template <int K> __device__ __forceinline__ void convolve(const Conv &p) {
  const int64 blocks_c = (p.channels + 255) / 256, blocks_t = (p.length + kTimes - 1) / kTimes;
  const int64 c = blockIdx.x % blocks_c * 256 + threadIdx.x, t0 = blockIdx.x / blocks_c % blocks_t * kTimes, b = blockIdx.x / (blocks_c * blocks_t);
  if (c >= p.channels) return;
  float w[K], window[K];
#pragma unroll
  for (int j = 0; j < K; j++) w[j] = loadf(p.weight, c * K + j);
  const float bias = p.bias.data ? loadf(p.bias, c) : 0.f;
#pragma unroll
  for (int j = 1; j < K; j++) window[j] = before(p, b, t0 - K + j, c);
  const int64 end = t0 + kTimes < p.length ? t0 + kTimes : p.length;
  for (int64 t = t0; t < end; t++) {
#pragma unroll
    for (int j = 0; j + 1 < K; j++) window[j] = window[j + 1];
    window[K - 1] = loadf(p.x.data, p.x.type, b * p.x.per_batch + t * p.x.per_step + c);
    float sum = bias;
#pragma unroll
    for (int j = 0; j < K; j++) sum += w[j] * window[j];
    emit(p, b, t, c, sum);
  }
}

// K = 4 and channels in fours: a thread takes four neighbours, so that loads are of 8 or 16 bytes.
__device__ __forceinline__ float4 four(const Conv &p, int64 at) { return loadf4(p.x.data, p.x.type, at); }
__device__ __forceinline__ void convolve_fours(const Conv &p) {
  const int64 fours = p.channels / 4, blocks_c = (fours + 127) / 128, blocks_t = (p.length + kTimes - 1) / kTimes;
  const int64 c = (blockIdx.x % blocks_c * 128 + threadIdx.x) * 4, t0 = blockIdx.x / blocks_c % blocks_t * kTimes, b = blockIdx.x / (blocks_c * blocks_t);
  if (c >= p.channels) return;
  float w[4][4];  // [channel][tap]
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float4 v = loadf4(p.weight.data, p.weight.type, (c + i) * 4);
    w[i][0] = v.x, w[i][1] = v.y, w[i][2] = v.z, w[i][3] = v.w;
  }
  const float4 bias = p.bias.data ? loadf4(p.bias.data, p.bias.type, c) : make_float4(0.f, 0.f, 0.f, 0.f);
  const Part *part = &p.parts[0];
  for (int k = 1; k < p.n_parts; k++)
    if (c >= p.parts[k].first) part = &p.parts[k];
  const int64 x0 = b * p.x.per_batch + c, step = p.x.per_step, count = part->count;
  int64 to = (b * p.length + t0) * count + c - part->first;
  const int64 type = part->type;
  void *data = part->data;
  float4 window[4];
#pragma unroll
  for (int j = 1; j < 4; j++) {
    const int64 t = t0 - 4 + j;
    if (t >= 0) window[j] = four(p, x0 + t * step);
    else window[j] = make_float4(before(p, b, t, c), before(p, b, t, c + 1), before(p, b, t, c + 2), before(p, b, t, c + 3));
  }
  const int n = (int)(p.length - t0 < kTimes ? p.length - t0 : kTimes);
  float4 ahead[4];
  for (int t = 0; t < n; t += 4) {
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (t + j < n) ahead[j] = four(p, x0 + (t0 + t + j) * step);
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (t + j >= n) break;
      window[0] = window[1], window[1] = window[2], window[2] = window[3], window[3] = ahead[j];
      float4 y = bias;
#pragma unroll
      for (int k = 0; k < 4; k++) {
        y.x += w[0][k] * window[k].x, y.y += w[1][k] * window[k].y;
        y.z += w[2][k] * window[k].z, y.w += w[3][k] * window[k].w;
      }
      if (p.silu) y = make_float4(silu_fast(y.x), silu_fast(y.y), silu_fast(y.z), silu_fast(y.w));
      storef4(data, type, to, y);
      to += count;
    }
  }
}

// K = 4, 16-bit x and y, channels in eights: a thread takes eight neighbours over kSpan positions, so that every access is of 16
// bytes; the next four positions are under way while four are computed. A slot of the window is a position modulo 4.
constexpr int kSpan = 32;

template <class T> __device__ __forceinline__ void widen(uint4 raw, float (&v)[8]) {
  const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; i++) {
    const float2 two = unpack(T(), words[i]);
    v[2 * i] = two.x, v[2 * i + 1] = two.y;
  }
}

template <class T> __device__ __forceinline__ void convolve_eights(const Conv &p) {
  const int64 eights = p.channels / 8, spans = (p.length + kSpan - 1) / kSpan, at = (int64)blockIdx.x * 128 + threadIdx.x;
  const int64 c = at % eights * 8, t0 = at / eights % spans * kSpan, b = at / (eights * spans);
  if (b >= p.batch) return;
  float w[4][8], bias[8], window[4][8];  // w: [tap][channel]
#pragma unroll
  for (int i = 0; i < 8; i++) {
    const float4 v = loadf4(p.weight.data, p.weight.type, (c + i) * 4);
    w[0][i] = v.x, w[1][i] = v.y, w[2][i] = v.z, w[3][i] = v.w;
    bias[i] = p.bias.data ? loadf(p.bias, c + i) : 0.f;
  }
  const Part *part = &p.parts[0];
  for (int k = 1; k < p.n_parts; k++)
    if (c >= p.parts[k].first) part = &p.parts[k];
  const int64 step = p.x.per_step / 8, count = part->count / 8;
  const uint4 *x = reinterpret_cast<const uint4 *>(static_cast<const T *>(p.x.data) + b * p.x.per_batch + t0 * p.x.per_step + c);
  uint4 *y = reinterpret_cast<uint4 *>(static_cast<T *>(part->data) + (b * p.length + t0) * part->count + c - part->first);
#pragma unroll
  for (int j = 1; j < 4; j++) {
    if (t0) widen<T>(*(x - (4 - j) * step), window[j]);
    else {
#pragma unroll
      for (int i = 0; i < 8; i++) window[j][i] = before(p, b, j - 4, c + i);
    }
  }
  const int n = (int)(p.length - t0 < kSpan ? p.length - t0 : kSpan);
  uint4 now[4], next[4];
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < n) now[j] = x[j * step];
  for (int t = 0; t < n; t += 4) {
#pragma unroll
    for (int j = 0; j < 4; j++)
      if (t + 4 + j < n) next[j] = x[(t + 4 + j) * step];
#pragma unroll
    for (int j = 0; j < 4; j++) {
      if (t + j >= n) break;
      widen<T>(now[j], window[j]);
      unsigned out[4];
#pragma unroll
      for (int i = 0; i < 8; i += 2) {
        float a = bias[i], d = bias[i + 1];
#pragma unroll
        for (int k = 0; k < 4; k++) a += w[k][i] * window[(j + 1 + k) % 4][i], d += w[k][i + 1] * window[(j + 1 + k) % 4][i + 1];
        if (p.silu) a = silu_fast(a), d = silu_fast(d);
        out[i / 2] = pack(T(), a, d);
      }
      y[(t + j) * count] = make_uint4(out[0], out[1], out[2], out[3]);
    }
#pragma unroll
    for (int j = 0; j < 4; j++) now[j] = next[j];
  }
}

}  // namespace

SSDC_KERNEL(conv_4x8_bf16, Conv, 128) { convolve_eights<__nv_bfloat16>(p); }
SSDC_KERNEL(conv_4x8_f16, Conv, 128) { convolve_eights<__half>(p); }
SSDC_KERNEL(conv_4x4, Conv, 128) { convolve_fours(p); }
SSDC_KERNEL(conv_2, Conv, 256) { convolve<2>(p); }
SSDC_KERNEL(conv_3, Conv, 256) { convolve<3>(p); }
SSDC_KERNEL(conv_4, Conv, 256) { convolve<4>(p); }

// Any width: a thread takes one position.
SSDC_KERNEL(conv_any, Conv, 256) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= p.batch * p.length * p.channels) return;
  const int64 c = at % p.channels, t = at / p.channels % p.length, b = at / (p.channels * p.length);
  float sum = p.bias.data ? loadf(p.bias, c) : 0.f;
  for (int64 j = 0; j < p.width; j++) sum += loadf(p.weight, c * p.width + j) * before(p, b, t - (p.width - 1) + j, c);
  emit(p, b, t, c, sum);
}

// state_out, which may be state: column j moves to the left, so the order of the loop lets it be done in place.
SSDC_KERNEL(conv_state, Conv, 256) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= p.batch * p.channels) return;
  const int64 b = at / p.channels, c = at % p.channels;
  for (int64 j = 0; j < p.state_width; j++) storef(p.state_out, at * p.state_width + j, before(p, b, p.length - p.state_width + j, c));
}

// One position: y and the state in one pass.
SSDC_KERNEL(conv_step, Conv, 256) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= p.batch * p.channels) return;
  const int64 b = at / p.channels, c = at % p.channels;
  float sum = p.bias.data ? loadf(p.bias, c) : 0.f;
  for (int64 j = 0; j < p.width; j++) sum += loadf(p.weight, c * p.width + j) * before(p, b, j - (p.width - 1), c);
  for (int64 j = 0; j < p.state_width; j++) storef(p.state_out, at * p.state_width + j, before(p, b, 1 - p.state_width + j, c));
  emit(p, b, 0, c, sum);
}
