// The products of kernels/step.cu with rows of matrices that come through its ring.
#pragma once
#include "step.cuh"

#if defined(SSDC_EMULATE) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
namespace {

// Rows of h or y as right operands of products, in sets of 4. Slice s of 64 of K is with warp s % kWarps; the thread of lane 8 b + 4 s + q
// has of row b of a set the four elements from 8 q + 4 s on of each half of a slice. `mine` is how many slices its warp has. Rows and slices
// that are not there repeat others. Threads look at a small part before they look at all: whoever looks keeps those waiting who write.
template <int Slices, int Sets> struct Rows {
  uint2 x[Sets][2 * Slices];

  __device__ __forceinline__ void load(const Element *from, int k, int mine, int batch) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, at = (mine ? warp * 64 : 0) + lane % 4 * 8 + lane / 4 % 2 * 4;
    const int last = lane / 8 + 4 * (Sets - 1);
    while (unwritten(load_shared(reinterpret_cast<const uint2 *>(from + (last < batch ? last : 0) * k + at)).x)) look_again();
    while (true) {
#pragma unroll
      for (int set = 0; set < Sets; set++) {
        const int row = lane / 8 + 4 * set;
        const Element *of = from + (row < batch ? row : 0) * k + at;
#pragma unroll
        for (int i = 0; i < 2 * Slices; i++)
          x[set][i] = load_shared(reinterpret_cast<const uint2 *>(of + (i / 2 < mine ? i / 2 * kWarps * 64 : 0) + i % 2 * 32));
      }
      uint32_t most = 0;
#pragma unroll
      for (int set = 0; set < Sets; set++)
#pragma unroll
        for (int i = 0; i < 2 * Slices; i++) most = most_of(most, most_of(x[set][i].x, x[set][i].y));
      if (!unwritten(most)) break;
      look_again();
    }
  }

  // Products with row g of 8 rows of a matrix, for the thread of lane 4 g + q, of which `row` has this thread's part: sums[set] is that with
  // row q of the set. What a thread reads at once is a left operand of 16 rows: row g has the first four of its elements, row g + 8 the
  // others, and columns of the right operand belong to the ones or the others. Rows of the matrix lie on the same banks, so that those of
  // odd number are read the other half first.
  __device__ __forceinline__ void multiply(const unsigned char *row, int mine, float (&sums)[Sets]) const {
    const int odd = threadIdx.x / 4 % 2;
    const unsigned char *one = row + odd * 64, *other = row + 64 - odd * 64;
    float acc[Sets][2][4] = {};
#pragma unroll
    for (int i = 0; i < Slices; i++) {
      if (i >= mine) break;
      const uint4 u = *reinterpret_cast<const uint4 *>(one + i * kWarps * 128), v = *reinterpret_cast<const uint4 *>(other + i * kWarps * 128);
      const uint32_t a[4] = {odd ? v.x : u.x, odd ? v.z : u.z, odd ? v.y : u.y, odd ? v.w : u.w};
      const uint32_t c[4] = {odd ? u.x : v.x, odd ? u.z : v.z, odd ? u.y : v.y, odd ? u.w : v.w};
#pragma unroll
      for (int set = 0; set < Sets; set++) {
        mma16816(Element(), acc[set][0], a, x[set][2 * i].x, x[set][2 * i].y);
        mma16816(Element(), acc[set][1], c, x[set][2 * i + 1].x, x[set][2 * i + 1].y);
      }
    }
#pragma unroll
    for (int set = 0; set < Sets; set++) sums[set] = acc[set][0][0] + acc[set][0][3] + acc[set][1][0] + acc[set][1][3];
  }

  // Products with `count` rows of a matrix, units of them, that come through the ring: sums of this warp's part of K go to
  // partial [group of 8 rows][warp][row of h or y][row].
  __device__ __forceinline__ void stream(Ring &ring, int count, int k, int at_once, int mine, int batch, float *partial) const {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4;
    float *sum = partial + warp * 8 * batch + q * 8 + g;
#pragma unroll 1
    for (int first = 0; first < count; first += 8, sum += kWarps * 8 * batch) {
      const int of = g < count - first ? g : g - kUnit;
      int slot = ring.slot + of / at_once;
      if (slot >= ring.slots) slot -= ring.slots;
      const unsigned char *row = ring.data + slot * ring.bytes + of % at_once * k * 2 + warp * 128 + q * 16;
      const int end = count - first < 8 ? count - first : 8;
      Ring done = ring;
#pragma unroll 1
      for (int j = 0; j < end; j += at_once) {
        mbarrier_wait(ring.filled(), ring.parity);
        ring.next();
      }
      float sums[Sets];
      multiply(row, mine, sums);
      __syncwarp();
#pragma unroll 1
      for (int j = 0; j < end; j += at_once) {
        if (lane == 0) mbarrier_arrive(done.emptied());
        done.next();
      }
#pragma unroll
      for (int set = 0; set < Sets; set++)
        if (q + 4 * set < batch) sum[32 * set] = sums[set];
    }
  }
};

}  // namespace
#endif
