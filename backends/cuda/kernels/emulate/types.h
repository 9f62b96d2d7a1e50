// CUDA's vector and 16-bit types, as far as the kernels use them.
#pragma once

#include <cstdint>
#include <cstring>

struct float2 { float x, y; };
struct alignas(16) float4 { float x, y, z, w; };
struct alignas(8) uint2 { unsigned x, y; };
struct alignas(16) uint4 { unsigned x, y, z, w; };
inline float2 make_float2(float x, float y) { return {x, y}; }
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

struct __nv_bfloat16 { uint16_t bits; };
struct __half { uint16_t bits; };

inline float __bfloat162float(__nv_bfloat16 v) {
  const uint32_t w = (uint32_t)v.bits << 16;
  float f;
  memcpy(&f, &w, 4);
  return f;
}
inline __nv_bfloat16 __float2bfloat16(float f) {
  uint32_t w;
  memcpy(&w, &f, 4);
  if (f != f) return {0x7FFF};
  return {(uint16_t)((w + 0x7FFF + (w >> 16 & 1)) >> 16)};
}
inline float __half2float(__half v) {
  const int exponent = v.bits >> 10 & 31, fraction = v.bits & 1023;
  const float sign = v.bits >> 15 ? -1.f : 1.f;
  if (exponent == 31) return fraction ? NAN : sign * INFINITY;
  return sign * (exponent ? ldexpf(1024 + fraction, exponent - 25) : ldexpf(fraction, -24));
}
inline __half __float2half(float f) {  // to the nearest, ties to even
  uint32_t w;
  memcpy(&w, &f, 4);
  const uint16_t sign = w >> 16 & 0x8000;
  const float a = fabsf(f);
  if (f != f) return {0x7FFF};
  if (a >= 65520.f) return {(uint16_t)(sign | 0x7C00)};
  if (a < 6.103515625e-5f) return {(uint16_t)(sign | (int)rintf(a * 16777216.f))};
  w &= 0x7FFFFFFF;
  w += 0xFFF + (w >> 13 & 1);
  return {(uint16_t)(sign | ((w >> 13) - (112 << 10)))};
}
