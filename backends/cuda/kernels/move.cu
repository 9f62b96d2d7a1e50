// Moving memory: copies between strided views, rows named by indices, fills.
#include "device.cuh"

namespace {

constexpr int kCopyRank = 8;

struct StridedCopy {
  int64 count, rank, size;  // size: bytes of an element, when no conversion is asked for
  int64 dims[kCopyRank], from[kCopyRank], to[kCopyRank];
  Tensor src, dst;
};

struct Offsets {
  int64 from, to;
};

__device__ __forceinline__ Offsets offsets(const StridedCopy &p, int64 at) {
  Offsets o = {0, 0};
  const bool small = p.count < (1LL << 31);
  for (int d = p.rank - 1; d >= 0; d--) {
    int64 c;
    if (d == 0) c = at;
    else if (small) {
      const unsigned q = (unsigned)at / (unsigned)p.dims[d];
      c = (unsigned)at - q * (unsigned)p.dims[d], at = q;
    } else {
      c = at % p.dims[d], at /= p.dims[d];
    }
    o.from += c * p.from[d], o.to += c * p.to[d];
  }
  return o;
}

template <class T> __device__ __forceinline__ void copy_elements(const StridedCopy &p) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= p.count) return;
  const Offsets o = offsets(p, at);
  static_cast<T *>(p.dst.data)[o.to] = static_cast<const T *>(p.src.data)[o.from];
}

}  // namespace

SSDC_KERNEL(copy_1, StridedCopy, 256) { copy_elements<unsigned char>(p); }
SSDC_KERNEL(copy_2, StridedCopy, 256) { copy_elements<unsigned short>(p); }
SSDC_KERNEL(copy_4, StridedCopy, 256) { copy_elements<unsigned>(p); }
SSDC_KERNEL(copy_8, StridedCopy, 256) { copy_elements<unsigned long long>(p); }
SSDC_KERNEL(copy_16, StridedCopy, 256) { copy_elements<uint4>(p); }

// Between floating-point types.
SSDC_KERNEL(copy_convert, StridedCopy, 256) {
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= p.count) return;
  const Offsets o = offsets(p, at);
  store_any<float>(p.dst.data, p.dst.type, o.to, load_any<float>(p.src.data, p.src.type, o.from));
}

// dst[c, r] = src[r, c] for every one of `batch` matrices, with a conversion between floating-point types
// where they differ: tiles of 32 x 32, so that both sides are coalesced.
struct Transpose {
  Tensor src, dst;
  int64 rows, cols, row_stride, src_batch, dst_batch, batch;
};
SSDC_KERNEL(transpose_tiles, Transpose, 256) {
  SSDC_SHARED(float, tile);  // [32][33]
  const int64 across = (p.cols + 31) / 32, down = (p.rows + 31) / 32;
  const int64 c0 = blockIdx.x % across * 32, r0 = blockIdx.x / across % down * 32, b = blockIdx.x / (across * down);
  const int x = threadIdx.x % 32, y = threadIdx.x / 32;
  for (int i = y; i < 32; i += 8)
    if (r0 + i < p.rows && c0 + x < p.cols) tile[i * 33 + x] = loadf(p.src, b * p.src_batch + (r0 + i) * p.row_stride + c0 + x);
  __syncthreads();
  for (int i = y; i < 32; i += 8)
    if (c0 + i < p.cols && r0 + x < p.rows) storef(p.dst, b * p.dst_batch + (c0 + i) * p.rows + r0 + x, tile[x * 33 + i]);
}

// out[o, j, :] = data[o, index[j], :]; rows of `inner` elements of `size` bytes. Negative indices count from
// the end; others out of range give zeros and set *bad.
struct GatherRows {
  const unsigned char *data;
  unsigned char *out;
  Tensor index;
  int *bad;
  int64 outer, axis, count, inner_bytes, unit;  // unit: 16, 8, 4, 2 or 1 bytes at a time
};
SSDC_KERNEL(gather_rows, GatherRows, 256) {
  const int64 units = p.inner_bytes / p.unit, total = p.outer * p.count * units;
  const int64 at = (int64)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= total) return;
  const int64 u = at % units, row = at / units, j = row % p.count, o = row / p.count;
  int64 k = load_any<int64>(p.index.data, p.index.type, j);
  if (k < 0) k += p.axis;
  const bool good = k >= 0 && k < p.axis;
  if (!good) *p.bad = 1;
  const unsigned char *from = p.data + (o * p.axis + (good ? k : 0)) * p.inner_bytes + u * p.unit;
  unsigned char *to = p.out + row * p.inner_bytes + u * p.unit;
  switch (p.unit) {
  case 16: *reinterpret_cast<uint4 *>(to) = good ? *reinterpret_cast<const uint4 *>(from) : make_uint4(0, 0, 0, 0); break;
  case 8: *reinterpret_cast<unsigned long long *>(to) = good ? *reinterpret_cast<const unsigned long long *>(from) : 0; break;
  case 4: *reinterpret_cast<unsigned *>(to) = good ? *reinterpret_cast<const unsigned *>(from) : 0; break;
  case 2: *reinterpret_cast<unsigned short *>(to) = good ? *reinterpret_cast<const unsigned short *>(from) : 0; break;
  default: *to = good ? *from : 0;
  }
}
