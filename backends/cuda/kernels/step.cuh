// What kernels/step.cu is made of, but for the work itself: its parameters, what blocks of threads tell each other, the ring and the thread
// that fills it.
#pragma once
#include "device.cuh"
#ifndef SSDC_EMULATE
#include "tma.cuh"
#endif

#if defined(SSDC_EMULATE) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
namespace {

typedef __nv_bfloat16 Element;
constexpr int kMaxBlocks = 128, kMaxGrid = 256;
constexpr int kWarps = 8, kThreads = 32 * kWarps;  // that compute; of four more one copies and three exchange
constexpr int kInSlices = 5, kOutSlices = 10;      // of 64 of K for a warp, at most
constexpr int kTableBytes = 1024;                  // barriers and sums of squares before the work area
constexpr int kUnit = 4;                           // rows of a state, and of z, x, y and h, that are not divided
constexpr uint32_t kUnwritten = 0xffffffff;        // two elements; no conversion gives this NaN

struct alignas(16) Block {
  const Element *in_w, *out_w, *out_norm, *next_norm;  // next_norm: of the first product of the next block, null for the last
  Element *conv_state;
  const float *conv_w, *conv_b, *A, *D, *dt_bias;  // conv_b, D, dt_bias may be null
  float *state;
  float in_epsilon, out_epsilon;
};

struct Step {
  const Element *h, *norm;  // norm: of the first block
  Element *out, *shared;    // shared: what blocks of threads tell each other, kUnwritten at the start; see Exchange
  int blocks, batch, width, inner, heads, head_dim, groups;
  int conv_first, conv_count, conv_taps, conv_width, conv_silu, z, x, side, sides;  // columns of the product; B, C and dt are in `sides` columns from `side` on
  int b, c, dt;                                                                    // where they begin there
  int softplus, slots, ahead, bytes, in_rows, out_rows;  // the ring: slots, copies under way at most, bytes of a slot, rows of the matrices in it
  int area, at_rows, at_y, at_bc, at_steps, at_residual, beside[3];  // bytes of the work area, where its parts begin, bytes of what phases read beside
  float low, high;
  int first_unit[kMaxGrid + 1], first_side[kMaxGrid + 1], first_out[kMaxGrid + 1], unused;  // of each block of threads, and where the last ends; sides in groups of 8
  Block block[kMaxBlocks];
};

#ifndef SSDC_EMULATE
__device__ __forceinline__ void barrier_of(int id, int threads) { asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void arrive_at(int id, int threads) { asm volatile("bar.arrive %0, %1;\n" ::"r"(id), "r"(threads) : "memory"); }
// `bytes`, a multiple of 16 from a multiple of 16.
__device__ __forceinline__ void bulk_load(uint32_t dst, const void *src, int bytes, uint32_t bar, uint64_t hint) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;\n" ::"r"(dst), "l"(src),
               "r"(bytes), "r"(bar), "l"(hint) : "memory");
}
__device__ __forceinline__ void store_once(float4 *p, float4 v) { __stcs(p, v); }
// What other blocks of threads write, past the first-level cache.
__device__ __forceinline__ uint4 load_shared(const uint4 *p) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];\n" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint2 load_shared(const uint2 *p) {
  uint2 v;
  asm volatile("ld.relaxed.gpu.global.v2.u32 {%0, %1}, [%2];\n" : "=r"(v.x), "=r"(v.y) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ uint32_t load_shared(const Element *p) {
  unsigned short v;
  asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];\n" : "=h"(v) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ float4 load_shared(const float4 *p) {
  float4 v;
  asm volatile("ld.relaxed.gpu.global.v4.f32 {%0, %1, %2, %3}, [%4];\n" : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w) : "l"(p) : "memory");
  return v;
}
__device__ __forceinline__ void store_shared(float *p, float v) { asm volatile("st.relaxed.gpu.global.f32 [%0], %1;\n" ::"l"(p), "f"(v) : "memory"); }
__device__ __forceinline__ void store_shared(Element *p, Element v) {
  asm volatile("st.relaxed.gpu.global.u16 [%0], %1;\n" ::"l"(p), "h"(__bfloat16_as_ushort(v)) : "memory");
}
__device__ __forceinline__ uint32_t most_of(uint32_t a, uint32_t b) {
  uint32_t v;
  asm("max.u16x2 %0, %1, %2;\n" : "=r"(v) : "r"(a), "r"(b));
  return v;
}
__device__ __forceinline__ void look_again() {}
__device__ __forceinline__ void look_later() { __nanosleep(100); }
__device__ __forceinline__ void fence_all() { asm volatile("fence.acq_rel.gpu;\n" ::: "memory"); }
__device__ __forceinline__ float from_bits(uint32_t v) { return __uint_as_float(v << 16); }
#endif

// Whether an element is not written yet, in the maximum of pairs; a sum of squares.
__device__ __forceinline__ bool unwritten(float v) { return __float_as_uint(v) == kUnwritten; }
__device__ __forceinline__ bool unwritten(uint32_t most) { return most >= 0xffff0000u || (most & 0xffff) == 0xffff; }

// The ring: slots of whole rows of a matrix, or of states.
struct Ring {
  uint32_t bars;  // of each slot: filled, emptied
  unsigned char *data;
  int slots, bytes, slot, parity;
  __device__ __forceinline__ uint32_t filled() const { return bars + 16 * slot; }
  __device__ __forceinline__ uint32_t emptied() const { return bars + 16 * slot + 8; }
  __device__ __forceinline__ void next() {
    if (++slot == slots) slot = 0, parity ^= 1;
  }
};

// What a phase reads beside: in: taps, biases and states of the convolution; scan: A, D, biases, weights for y; out: weights for h. Its
// barriers: filled, emptied.
struct Aside {
  uint32_t bars;
  unsigned char *data;
};

// What a block of threads owns: units of the states, groups of 8 of the columns that have B, C and dt, units of h.
struct Slices {
  int unit, unit_end, side, side_end, out, out_end;
  __device__ __forceinline__ explicit Slices(const Step &p) {
    const int c = blockIdx.x;
    unit = p.first_unit[c], unit_end = p.first_unit[c + 1], side = p.first_side[c], side_end = p.first_side[c + 1];
    out = p.first_out[c], out_end = p.first_out[c + 1];
  }
  __device__ __forceinline__ int units() const { return unit_end - unit; }
};

// `count` of something from `first` on, in eights.
struct Eights {
  int first, count;
  __device__ __forceinline__ Eights(int from, int to) { first = from & ~7, count = (to - first + 7) & ~7; }
};

// Columns of the convolution, in eights, among those from `from` to `to` of the product.
struct Taps {
  int first, count;
  __device__ __forceinline__ Taps(const Step &p, int from, int to) {
    const int a = from - p.conv_first, b = to - p.conv_first;
    first = (a > 0 ? a : 0) & ~7, count = ((b < p.conv_count ? b : p.conv_count) - first + 7) & ~7;
    if (count < 0) count = 0;
  }
  __device__ __forceinline__ int bytes(const Step &p, bool biased) const { return count * ((p.conv_taps + biased) * 4 + p.batch * p.conv_width * 2); }
};
__device__ __forceinline__ Taps taps_of_x(const Step &p, const Slices &s) { return Taps(p, p.x + s.unit * kUnit, p.x + s.unit_end * kUnit); }
__device__ __forceinline__ Taps taps_of_side(const Step &p, const Slices &s) { return Taps(p, p.side + s.side * 8, p.side + s.side_end * 8); }

// The thread that copies.
struct Copier {
  Ring ring, tail;  // tail: the oldest copy that is under way
  int issued, ahead;
  __device__ __forceinline__ void begin(int bytes) {
    if (issued++ >= ahead) {
      mbarrier_wait(tail.filled(), tail.parity);
      tail.next();
    }
    mbarrier_wait(ring.emptied(), ring.parity ^ 1);
    mbarrier_expect(ring.filled(), bytes);
  }
  __device__ __forceinline__ void piece(int at, const void *from, int bytes) {
    bulk_load(shared_address(ring.data + ring.slot * ring.bytes + at), from, bytes, ring.filled(), kStream);
  }
  __device__ __forceinline__ void copy(const void *from, int bytes) {
    begin(bytes);
    piece(0, from, bytes);
    ring.next();
  }
  __device__ __forceinline__ void rows(const Element *w, int first, int count, int k, int at_once) {
#pragma unroll 1
    for (int row = 0; row < count; row += at_once) copy(w + (int64)(first + row) * k, (count - row < at_once ? count - row : at_once) * k * 2);
  }
};
__device__ __forceinline__ int aside(const Aside &a, int at, const void *from, int bytes) {
  if (from && bytes > 0) bulk_load(shared_address(a.data + at), from, bytes, a.bars, kShared);
  return at + (from && bytes > 0 ? bytes : 0);
}
__device__ __forceinline__ int aside_taps(const Step &p, const Block &b, const Aside &a, int at, const Taps &taps) {
  at = aside(a, at, b.conv_w + taps.first * p.conv_taps, taps.count * p.conv_taps * 4);
  at = aside(a, at, b.conv_b ? b.conv_b + taps.first : nullptr, taps.count * 4);
#pragma unroll 1
  for (int row = 0; row < p.batch; row++)
    at = aside(a, at, b.conv_state + ((int64)row * p.conv_count + taps.first) * p.conv_width, taps.count * p.conv_width * 2);
  return at;
}
__device__ __forceinline__ void fill(const Step &p, const Slices &s, const Ring &ring, const Aside (&beside)[3], const Block *blocks, int N) {
  Copier copier = {ring, ring, 0, p.ahead};
  const Taps of_x = taps_of_x(p, s), of_side = taps_of_side(p, s);
  const Eights of_y(s.unit * kUnit, s.unit_end * kUnit), of_h(s.out * kUnit, s.out_end * kUnit);
  const int rows = s.units() * kUnit, at_once = p.bytes / (N * 4) / kUnit * kUnit;
#pragma unroll 1
  for (int l = 0; l < p.blocks; l++) {
    const int parity = l & 1;
    mbarrier_wait(beside[0].bars + 8, parity ^ 1);  // then blocks[parity] is this one, too
    const Block &b = blocks[parity];
    mbarrier_expect(beside[0].bars, of_x.bytes(p, b.conv_b) + of_side.bytes(p, b.conv_b));
    aside_taps(p, b, beside[0], aside_taps(p, b, beside[0], 0, of_side), of_x);
    mbarrier_wait(beside[1].bars + 8, parity ^ 1);
    mbarrier_expect(beside[1].bars, p.heads * 4 * (1 + (b.D ? 1 : 0) + (b.dt_bias ? 1 : 0)) + of_y.count * 2);
    int at = aside(beside[1], 0, b.A, p.heads * 4);
    at = aside(beside[1], at, b.D, p.heads * 4);
    at = aside(beside[1], at, b.dt_bias, p.heads * 4);
    aside(beside[1], at, b.out_norm + of_y.first, of_y.count * 2);
    copier.rows(b.in_w, p.side + s.side * 8, (s.side_end - s.side) * 8, p.width, p.in_rows);
#pragma unroll 1
    for (int unit = s.unit; unit < s.unit_end; unit++) {
      const Element *z = b.in_w + (int64)(p.z + unit * kUnit) * p.width, *x = b.in_w + (int64)(p.x + unit * kUnit) * p.width;
      if (p.in_rows > kUnit) {
        const int bytes = kUnit * p.width * 2;
        copier.begin(2 * bytes);
        copier.piece(0, z, bytes);
        copier.piece(bytes, x, bytes);
        copier.ring.next();
      } else {
        copier.rows(z, 0, kUnit, p.width, p.in_rows);
        copier.rows(x, 0, kUnit, p.width, p.in_rows);
      }
    }

#pragma unroll 1
    for (int row = 0; row < p.batch; row++) {
      const float *state = b.state + ((int64)row * p.inner + s.unit * kUnit) * N;
#pragma unroll 1
      for (int r = 0; r < rows; r += at_once) copier.copy(state + (int64)r * N, (rows - r < at_once ? rows - r : at_once) * N * 4);
    }

    if (b.next_norm) {
      mbarrier_wait(beside[2].bars + 8, parity ^ 1);
      mbarrier_expect(beside[2].bars, of_h.count * 2);
      aside(beside[2], 0, b.next_norm + of_h.first, of_h.count * 2);
    }
    copier.rows(b.out_w, s.out * kUnit, (s.out_end - s.out) * kUnit, p.inner, p.out_rows);
  }
}

// Where blocks of threads find what others have made: h of two layers, y of three, B, C and dt of two; and sums of squares of h and y, of
// each block of threads one for every sequence, or 0.
struct Exchange {
  Element *at;
  int batch, width, inner, sides, padded;
  __device__ __forceinline__ Exchange(const Step &p, int padded) : at(p.shared), batch(p.batch), width(p.width), inner(p.inner), sides(p.sides), padded(padded) {}
  __device__ __forceinline__ Element *h(int l) const { return at + (l & 1) * batch * width; }
  __device__ __forceinline__ Element *y(int l) const { return at + batch * (2 * width + l % 3 * inner); }
  __device__ __forceinline__ Element *side(int l) const { return at + batch * (2 * width + 3 * inner + (l & 1) * sides); }
  __device__ __forceinline__ float *squares(int which) const {
    return reinterpret_cast<float *>(at + batch * (2 * width + 3 * inner + 2 * sides)) + which * gridDim.x * padded;
  }
  __device__ __forceinline__ float *squares_of_h(int l) const { return squares(l & 1); }
  __device__ __forceinline__ float *squares_of_y(int l) const { return squares(2 + l % 3); }
};

}  // namespace
#endif
