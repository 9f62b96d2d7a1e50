// Products of rows of activations with matrices in 8 and 4 bits, in the blocks of quantised.cuh. Included by step_bits.cu.
//
// Bytes and digits are not made bfloat16: they are left operands of integer products as they lie in memory. What a warp has of a row of
// activations becomes 16-bit fixed point for that, in two planes of bytes, which are two columns of the right operand. Its unit is
// 1/32512 of the largest, which among 640 numbers is at most 25 times their root mean square: the error stays below 1/2000 of it, less
// than the rounding of bfloat16 left.
#pragma once

#ifndef SSDC_EMULATE
// Signed bytes: 16 x 32 times 32 x 8.
__device__ __forceinline__ void mma16832(int *d, const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};\n"
               : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// The normalised rows of h or y as right operands of products, in sets of 4 rows. Slice s of 64 of K is with warp s % kWarps; the thread of
// lane 8 b + 4 s + q has of row b of a set the four elements from 8 q + 4 s on of each half of a slice. `mine` is how many slices its
// warp has.
template <int Slices, int Sets> struct Rows {
  uint2 x[Sets][2 * Slices];

  __device__ __forceinline__ void load(const Element *from, const Element *norm, int k, int mine, int batch, float *squares) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, at = (mine ? warp * 64 : 0) + lane % 4 * 8 + lane / 4 % 2 * 4;
#pragma unroll
    for (int set = 0; set < Sets; set++) {
      const int row = lane / 8 + 4 * set;
      const Element *of = from + (row < batch ? row : 0) * k + at;
#pragma unroll
      for (int i = 0; i < 2 * Slices; i++)
        x[set][i] = load_fresh(reinterpret_cast<const uint2 *>(of + (i / 2 < mine ? i / 2 * kWarps * 64 : 0) + i % 2 * 32));
    }
#pragma unroll
    for (int set = 0; set < Sets; set++) {
      const int row = lane / 8 + 4 * set;
      float sum = 0.f;
#pragma unroll
      for (int i = 0; i < 2 * Slices; i++) {
        const uint32_t live = row < batch && i / 2 < mine ? 0xffffffffu : 0;
        const uint2 w = *reinterpret_cast<const uint2 *>(norm + at + (i / 2 < mine ? i / 2 * kWarps * 64 : 0) + i % 2 * 32);
        x[set][i] = make_uint2(weighted(x[set][i].x & live, w.x, sum), weighted(x[set][i].y & live, w.y, sum));
      }
#pragma unroll
      for (int o = 1; o < 8; o *= 2) sum += __shfl_xor_sync(0xffffffffu, sum, o);
      if (lane % 8 == 0) squares[warp * 8 + row] = sum;
    }
  }

  // Two elements times weights, and their squares.
  __device__ __forceinline__ static uint32_t weighted(uint32_t v, uint32_t w, float &sum) {
    const float2 a = unpack(Element(), v), b = unpack(Element(), w);
    sum += a.x * a.x + a.y * a.y;
    return pack(Element(), a.x * b.x, a.y * b.y);
  }
};

// The same as fixed point.
template <int Slices, int Sets> struct FixedRows : Rows<Slices, Sets> {
  float unit[Sets];  // of the sums with row q of a set

  // The elements as two planes of bytes: x is 256 high + low in units. Lanes of even number in a row of eight keep the one plane, the others the
  // other, of the elements of both, in the order in which blocks have them.
  __device__ __forceinline__ void prepare(const Step &p) {
    const int lane = threadIdx.x % 32;
    const bool low = lane & 4;
    const uint32_t first = p.scale_type ? 0x5140 : 0x3120, second = p.scale_type ? 0x7362 : 0x7564;
#pragma unroll
    for (int set = 0; set < Sets; set++) {
      float most = 0.f;
#pragma unroll
      for (int i = 0; i < 2 * Slices; i++) {
        const float2 a = unpack(Element(), this->x[set][i].x), b = unpack(Element(), this->x[set][i].y);
        most = fmaxf(fmaxf(most, fmaxf(fabsf(a.x), fabsf(a.y))), fmaxf(fabsf(b.x), fabsf(b.y)));
      }
#pragma unroll
      for (int o = 1; o < 8; o *= 2) most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, o));
      const float by = most > 1e-34f ? 32512.f / most : 0.f;  // below, the reciprocal would be infinite
      unit[set] = __shfl_sync(0xffffffffu, by > 0.f ? most / 32512.f : most * 0.f, lane % 4 * 8);  // infinite numbers end as NaN
#pragma unroll
      for (int i = 0; i < 2 * Slices; i++) {
        // 1.5 2^23 + 128 + n has n + 128 in its last 16 bits: the high byte is that of n rounded, the low one is the rest and 128.
        constexpr float kAnchor = 12582912.f + 128.f;
        const float2 a = unpack(Element(), this->x[set][i].x), b = unpack(Element(), this->x[set][i].y);
        const uint32_t ab = __byte_perm(__float_as_uint(a.x * by + kAnchor), __float_as_uint(a.y * by + kAnchor), 0x5410);
        const uint32_t cd = __byte_perm(__float_as_uint(b.x * by + kAnchor), __float_as_uint(b.y * by + kAnchor), 0x5410);
        const uint32_t highs = __byte_perm(ab, cd, 0x7531), lows = __byte_perm(ab, cd, 0x6420) ^ 0x80808080u;
        const uint32_t mine = low ? lows : highs, theirs = __shfl_xor_sync(0xffffffffu, low ? highs : lows, 4);
        const uint32_t head = low ? theirs : mine, tail = low ? mine : theirs;
        this->x[set][i] = make_uint2(__byte_perm(head, tail, first), __byte_perm(head, tail, second));
      }
    }
  }

  // Products with columns g and g + 8 of a tile, for the thread of lane 4 g + q.
  __device__ __forceinline__ void multiply(const Step &p, const Ring &ring, int part, int mine, float (&sums)[Sets][2]) const {
    if (p.scale_type) digits(p, ring, part, mine, sums);
    else bytes(ring, part, mine, sums);
  }

  // Where block i of a warp stands: the first and those 8 behind one another, in slots of `part` blocks.
  struct Walk {
    int slot, at;
    __device__ __forceinline__ const unsigned char *next(const Ring &ring, int part, int size) {
      const unsigned char *here = ring.data + slot * ring.bytes + at * size;
      at += kWarps;
      if (at >= part) at -= part, slot = slot + 1 == ring.slots ? 0 : slot + 1;
      return here;
    }
  };

  __device__ __forceinline__ void bytes(const Ring &ring, int part, int mine, float (&sums)[Sets][2]) const {
    int acc[Sets][2][4] = {};
    Walk walk = {ring.slot, (int)threadIdx.x / 32};
#pragma unroll
    for (int i = 0; i < Slices; i++) {
      if (i >= mine) break;
      const unsigned char *block = walk.next(ring, part, kByteBlock) + threadIdx.x % 32 * 16;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint4 v = *reinterpret_cast<const uint4 *>(block + half * 512);
        const uint32_t a[4] = {v.x, v.z, v.y, v.w};
#pragma unroll
        for (int set = 0; set < Sets; set++) mma16832(acc[set][half], a, this->x[set][2 * i + half].x, this->x[set][2 * i + half].y);
      }
    }
#pragma unroll
    for (int set = 0; set < Sets; set++)
#pragma unroll
      for (int r = 0; r < 2; r++)
        sums[set][r] = (256.f * (float)(acc[set][0][2 * r] + acc[set][1][2 * r]) + (float)(acc[set][0][2 * r + 1] + acc[set][1][2 * r + 1])) * unit[set];
  }

  // A digit less 8 is a signed byte when it stands high in it, times 16.
  __device__ __forceinline__ void digits(const Step &p, const Ring &ring, int part, int mine, float (&sums)[Sets][2]) const {
    const int lane = threadIdx.x % 32, g = lane / 4;
    const Blocks form = {nullptr, nullptr, 4, p.size, p.scale_type, 0};
    float acc[Sets][2] = {};
    Walk walk = {ring.slot, (int)threadIdx.x / 32};
#pragma unroll
    for (int i = 0; i < Slices; i++) {
      if (i >= mine) break;
      const unsigned char *block = walk.next(ring, part, p.size);
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const uint2 v = *reinterpret_cast<const uint2 *>(block + p.size - kDigits + half * 256 + lane * 8);
        const float2 scale = scales_of(form, block, half, g);
        const uint32_t a[4] = {((v.x << 4) ^ 0x80808080u) & 0xF0F0F0F0u, ((v.y << 4) ^ 0x80808080u) & 0xF0F0F0F0u, (v.x ^ 0x80808080u) & 0xF0F0F0F0u,
                               (v.y ^ 0x80808080u) & 0xF0F0F0F0u};
#pragma unroll
        for (int set = 0; set < Sets; set++) {
          int of[4] = {};
          mma16832(of, a, this->x[set][2 * i + half].x, this->x[set][2 * i + half].y);
          acc[set][0] += scale.x * (float)(of[0] * 256 + of[1]), acc[set][1] += scale.y * (float)(of[2] * 256 + of[3]);
        }
      }
    }
#pragma unroll
    for (int set = 0; set < Sets; set++)
#pragma unroll
      for (int r = 0; r < 2; r++) sums[set][r] = acc[set][r] * (unit[set] / 16.f);
  }
};
