// Weights in 8 and 4 bits as products read them: blocks of 16 columns and 64 of K, those of a tile of 16 columns one behind the
// other. What a lane of a warp needs of a block lies together: lane 4 g + q has k = 32 h + 8 q ... + 7, h = 0 and 1, of columns g
// and g + 8, which are its part of the left operands of products. N and K are filled up with zeros.
//
//	8 bits: for h, lane, column g then g + 8: eight signed bytes, k 0 2 1 3 4 6 5 7. One scale a column, apart.
//	4 bits: for h and g the scales of columns g and g + 8, in a type of their own; where zeros is not 0 it says where, in the
//	        same order, bytes with the zero points follow, which are 8 otherwise; then for h, lane, column: a word whose
//	        digits are k 0 2 4 6 1 3 5 7. The digits are the last 512 bytes.
#pragma once
#include "device.cuh"

namespace {

constexpr int kByteBlock = 1024, kDigits = 512;

struct Blocks {
  const unsigned char *data;
  const float *scale;  // of bytes, by column
  int64 bits, size, scale_type, zeros;
};

// 128 or 1024, two of them, whose last bits count ones.
__device__ __forceinline__ uint32_t magic(__nv_bfloat16) { return 0x43004300u; }
__device__ __forceinline__ uint32_t magic(__half) { return 0x64006400u; }

// a - b, two at a time; exact for what is made here.
#ifdef SSDC_EMULATE
template <class T> uint32_t difference(T, uint32_t a, uint32_t b) {
  const float2 x = unpack(T(), a), y = unpack(T(), b);
  return pack(T(), x.x - y.x, x.y - y.y);
}
#else
__device__ __forceinline__ uint32_t difference(__nv_bfloat16, uint32_t a, uint32_t b) {
  __nv_bfloat162 v = __hsub2(*reinterpret_cast<__nv_bfloat162 *>(&a), *reinterpret_cast<__nv_bfloat162 *>(&b));
  return *reinterpret_cast<uint32_t *>(&v);
}
__device__ __forceinline__ uint32_t difference(__half, uint32_t a, uint32_t b) {
  __half2 v = __hsub2(*reinterpret_cast<__half2 *>(&a), *reinterpret_cast<__half2 *>(&b));
  return *reinterpret_cast<uint32_t *>(&v);
}
#endif

// a & mask | ones, in one instruction, which the compiler makes two of where mask and ones are both constants.
__device__ __forceinline__ uint32_t merge(uint32_t a, uint32_t mask, uint32_t ones) {
#ifdef SSDC_EMULATE
  return a & mask | ones;
#else
  uint32_t r;
  asm("lop3.b32 %0, %1, %2, %3, 0xEA;\n" : "=r"(r) : "r"(a), "r"(mask), "r"(ones));
  return r;
#endif
}

// The signed bytes 0 and 2 of w. A bfloat16 between 128 and 255 has 7 bits after the first, so the sign is taken off apart.
__device__ __forceinline__ uint32_t pair_of_bytes(__nv_bfloat16 t, uint32_t w) {
  return difference(t, merge(w, 0x007F007Fu, 0x43004300u), merge(w, 0x00800080u, 0x43004300u));
}
__device__ __forceinline__ uint32_t pair_of_bytes(__half t, uint32_t w) { return difference(t, w & 0x00FF00FFu ^ 0x64806480u, 0x64806480u); }

// Of two 16-bit numbers of a type found at run time.
__device__ __forceinline__ float2 pair_of(int64 type, uint32_t w) {
  return type == kBF16 ? unpack(__nv_bfloat16(), w) : unpack(__half(), w);
}
// The scales of columns g and g + 8, and their zero points.
__device__ __forceinline__ float2 scales_of(const Blocks &b, const unsigned char *at, int half, int g) {
  const int i = half * 8 + g;
  if (b.scale_type == kF32) return reinterpret_cast<const float2 *>(at)[i];
  return pair_of(b.scale_type, reinterpret_cast<const uint32_t *>(at)[i]);
}
__device__ __forceinline__ uint2 zeros_of(const Blocks &b, const unsigned char *at, int half, int g) {
  uint2 z;
  z.x = z.y = 8;
  if (b.zeros) {
    const unsigned char *from = at + b.zeros + (half * 8 + g) * 2;
    z.x = from[0], z.y = from[1];
  }
  return z;
}

// How such blocks pass through the ring of a streamed product (decode.cu); P is its struct.
template <class T> struct Bytes {
  static constexpr int bytes = kByteBlock;
  template <class P> __device__ __forceinline__ static void copy(const P &p, uint32_t to, int64 tile, int slice) {
    const unsigned char *from = p.q.data + (tile * ((p.k + 63) / 64) + slice) * kByteBlock + threadIdx.x % 32 * 16;
    copy16(to + threadIdx.x % 32 * 16, from, true);
    copy16(to + threadIdx.x % 32 * 16 + 512, from + 512, true);
  }
  template <class P, int Groups> __device__ __forceinline__ static void multiply(const P &, const unsigned char *at, int half, const uint4 (&x)[Groups], float (&acc)[Groups][4]) {
    const uint4 v = *reinterpret_cast<const uint4 *>(at + half * 512 + threadIdx.x % 32 * 16);
    const uint32_t low[4] = {pair_of_bytes(T(), v.x), pair_of_bytes(T(), v.z), pair_of_bytes(T(), v.x >> 8), pair_of_bytes(T(), v.z >> 8)};
    const uint32_t high[4] = {pair_of_bytes(T(), v.y), pair_of_bytes(T(), v.w), pair_of_bytes(T(), v.y >> 8), pair_of_bytes(T(), v.w >> 8)};
#pragma unroll
    for (int r = 0; r < Groups; r++) {  // apart from acc, so that products do not wait for those of the other half
      float part[4] = {};
      mma16816(T(), part, low, x[r].x, x[r].y);
      mma16816(T(), part, high, x[r].z, x[r].w);
#pragma unroll
      for (int e = 0; e < 4; e++) acc[r][e] += part[e];
    }
  }
};

template <class T> struct Digits {
  static constexpr int bytes = kDigits + 128 + 32;  // at most: scales in 32 bits, zero points
  template <class P> __device__ __forceinline__ static void copy(const P &p, uint32_t to, int64 tile, int slice) {
    const unsigned char *from = p.q.data + (tile * ((p.k + 63) / 64) + slice) * p.q.size;
    const int pieces = (int)p.q.size / 16, lane = threadIdx.x % 32;
    copy16(to + lane * 16, from + lane * 16, true);
    if (lane + 32 < pieces) copy16(to + (lane + 32) * 16, from + (lane + 32) * 16, true);
  }
  template <class P, int Groups> __device__ __forceinline__ static void multiply(const P &p, const unsigned char *at, int half, const uint4 (&x)[Groups], float (&acc)[Groups][4]) {
    const int g = threadIdx.x % 32 / 4;
    const uint2 v = *reinterpret_cast<const uint2 *>(at + p.q.size - kDigits + half * 256 + threadIdx.x % 32 * 8);
    const uint2 z = zeros_of(p.q, at, half, g);
    const uint32_t m = magic(T()), zx = m + z.x * 0x10001u, zy = m + z.y * 0x10001u;
    const float2 s = scales_of(p.q, at, half, g);
    uint32_t low[4], high[4];
#pragma unroll
    for (int j = 0; j < 2; j++) {
      low[2 * j] = difference(T(), merge(v.x >> 4 * j, 0x000F000Fu, m), zx), low[2 * j + 1] = difference(T(), merge(v.y >> 4 * j, 0x000F000Fu, m), zy);
      high[2 * j] = difference(T(), merge(v.x >> 4 * j + 8, 0x000F000Fu, m), zx), high[2 * j + 1] = difference(T(), merge(v.y >> 4 * j + 8, 0x000F000Fu, m), zy);
    }
#pragma unroll
    for (int r = 0; r < Groups; r++) {
      float part[4] = {};
      mma16816(T(), part, low, x[r].x, x[r].y);
      mma16816(T(), part, high, x[r].z, x[r].w);
      acc[r][0] += s.x * part[0], acc[r][1] += s.x * part[1], acc[r][2] += s.y * part[2], acc[r][3] += s.y * part[3];
    }
  }
};

// Eight weights of columns g and g + 8 in f32, without the scale of bytes.
__device__ __forceinline__ void weights_of(const Blocks &b, int64 block, int half, int lane, float (&w)[2][8]) {
  const unsigned char *at = b.data + block * b.size;
  if (b.bits == 8) {
    const uint4 v = *reinterpret_cast<const uint4 *>(at + half * 512 + lane * 16);
    const uint32_t words[2][2] = {{v.x, v.y}, {v.z, v.w}};
#pragma unroll
    for (int i = 0; i < 16; i++) {
      constexpr int place[4] = {0, 2, 1, 3};
      w[i / 8][i % 8] = (float)(signed char)(words[i / 8][i % 8 / 4] >> 8 * place[i % 4]);
    }
    return;
  }
  const uint2 v = *reinterpret_cast<const uint2 *>(at + b.size - kDigits + half * 256 + lane * 8), z = zeros_of(b, at, half, lane / 4);
  const float2 s = scales_of(b, at, half, lane / 4);
#pragma unroll
  for (int j = 0; j < 8; j++) {
    const int shift = j / 2 * 4 + j % 2 * 16;
    w[0][j] = s.x * ((float)(v.x >> shift & 15) - (float)z.x), w[1][j] = s.y * ((float)(v.y >> shift & 15) - (float)z.y);
  }
}

}  // namespace
