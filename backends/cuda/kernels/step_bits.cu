// The joined launch of step.cu for matrices in 8 and 4 bits: one position of a run of Mamba-2 blocks, for up to 8 sequences. Products are those of
// weights.cuh.
//
// A block of threads on every multiprocessor owns a slice of every matrix, in tiles of 16 rows, and of every state. One of its threads
// copies these slices, layer after layer, into a ring in shared memory and waits for nothing but room there, and for some of its earlier
// copies: more under way than the memory needs would only keep the others' loads waiting. The other warps follow:
//
//   in    mixed = conv(norm(h) in_w^T): each warp keeps its share of K of the rows of h in registers, as right operands
//   scan  state = decay state + dt x B^T, y = silu(z) (state C + D x)
//   out   h' = norm(y) out_w^T + h
//
// with a meeting of all blocks of threads behind each. What a phase reads beside matrices and states, and does not depend on the one
// before, comes by copies too, into a place of its own for each phase.
#define SSDC_DEVICE_ONLY
#include "quantised.cuh"
#ifndef SSDC_EMULATE
#include "tma.cuh"
#endif

#ifdef SSDC_EMULATE
extern "C" __attribute__((visibility("default"))) int step_bits_serves;
int step_bits_serves = 1;
#else
extern "C" __device__ int step_bits_serves =
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    1;
#else
    0;
#endif
#endif

#if defined(SSDC_EMULATE) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
namespace {
namespace step_bits {

typedef __nv_bfloat16 Element;
constexpr int kMaxBlocks = 128, kMaxGrid = 256;
constexpr int kWarps = 8;                      // that compute; a group of four more gives its registers up, and one of its threads copies
constexpr int kColumns = 16;                   // of a tile
constexpr int kInSlices = 5, kOutSlices = 10;  // of 64 of K for a warp, at most
constexpr int kTableBytes = 1024;             // barriers and sums of squares before the work area

struct Block {
  const unsigned char *in_w, *out_w;
  const float *in_scale, *out_scale;  // by column, or null
  const Element *in_norm, *out_norm, *h;
  Element *mixed, *y, *out, *conv_state;
  const float *conv_w, *conv_b, *A, *D, *dt_bias;  // conv_b, D, dt_bias may be null
  float *state;
  float in_epsilon, out_epsilon;
};

struct Step {
  int *arrived;  // 0 at the start
  int blocks, batch, width, columns, inner, heads, head_dim, groups;
  int conv_first, conv_count, conv_taps, conv_width, conv_silu, z, x, b, c, dt;  // where parts of a row of `mixed` begin
  int softplus, slots, ahead, bytes;  // the ring: slots, copies under way at most, bytes of a slot
  int in_part, out_part;                                        // blocks of the matrices in a slot
  int size, scale_type;                                         // of a block (struct Blocks); the type is 0 for bytes
  int area, beside[3];                                   // bytes of the work area and of what the phases read beside
  float low, high;
  int first_in[kMaxGrid + 1], first_out[kMaxGrid + 1];  // tiles of each block of threads, and where the last ends
  Block block[kMaxBlocks];
};

#ifndef SSDC_EMULATE
__device__ __forceinline__ void barrier_of(int id, int threads) { asm volatile("bar.sync %0, %1;\n" ::"r"(id), "r"(threads) : "memory"); }
__device__ __forceinline__ void add_to_count(int *counter) { asm volatile("red.release.gpu.global.add.s32 [%0], 1;\n" ::"l"(counter) : "memory"); }
__device__ __forceinline__ void wait_for_count(const int *counter, int target) {
  int v;
  do asm volatile("ld.acquire.gpu.global.s32 %0, [%1];\n" : "=r"(v) : "l"(counter) : "memory");
  while (v < target);
}
// `bytes`, a multiple of 16 from a multiple of 16.
__device__ __forceinline__ void bulk_load(uint32_t dst, const void *src, int bytes, uint32_t bar, uint64_t hint) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, [%3], %4;\n" ::"r"(dst), "l"(src),
               "r"(bytes), "r"(bar), "l"(hint) : "memory");
}
__device__ __forceinline__ void store_once(float4 *p, float4 v) { __stcs(p, v); }
__device__ __forceinline__ uint2 load_fresh(const uint2 *p) { return __ldcg(p); }
__device__ __forceinline__ float load_fresh(const Element *p) {
  return __uint_as_float((uint32_t)__ldcg(reinterpret_cast<const unsigned short *>(p)) << 16);
}
#endif

// The ring: slots of blocks of a matrix, or of strips of states.
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

// What a phase reads beside: in: weights of the norm, scales of columns, taps, biases and states of the convolution; scan: A, D, biases;
// out: weights of the norm, scales of columns. Its barriers: filled, emptied.
struct Aside {
  uint32_t bars;
  unsigned char *data;
};

#include "weights.cuh"

constexpr int kStripBytes = 4096;  // of a state: what blocks of threads divide among themselves

struct Slices {
  int in, in_end, out, out_end, strip, strip_end;
  __device__ __forceinline__ explicit Slices(const Step &p, int rows_of_strip) {
    const int c = blockIdx.x;
    const int64 strips = (int64)p.batch * p.inner / rows_of_strip;
    in = p.first_in[c], in_end = p.first_in[c + 1], out = p.first_out[c], out_end = p.first_out[c + 1];
    strip = (int)(c * strips / gridDim.x), strip_end = (int)((c + 1) * strips / gridDim.x);
  }
};

// The columns of the convolution that a block of threads has.
struct Taps {
  int first, count;
  __device__ __forceinline__ Taps(const Step &p, const Slices &s) {
    const int a = s.in * kColumns - p.conv_first, b = s.in_end * kColumns - p.conv_first;
    first = a > 0 ? a : 0, count = (b < p.conv_count ? b : p.conv_count) - first;
    if (count < 0) count = 0;
  }
};

// The thread that copies.
struct Copier {
  Ring ring, tail;  // tail: the oldest copy that is under way
  int issued, ahead;
  __device__ __forceinline__ void copy(const void *from, int bytes) {
    if (issued++ >= ahead) {
      mbarrier_wait(tail.filled(), tail.parity);
      tail.next();
    }
    mbarrier_wait(ring.emptied(), ring.parity ^ 1);
    mbarrier_expect(ring.filled(), bytes);
    bulk_load(shared_address(ring.data + ring.slot * ring.bytes), from, bytes, ring.filled(), kStream);
    ring.next();
  }
  // Tiles [first, end) of a matrix, by parts.
  __device__ __forceinline__ void tiles(const Step &p, const unsigned char *w, int first, int end, int k, int part) {
    const int slices = k / 64;
#pragma unroll 1
    for (int tile = first; tile < end; tile++)
#pragma unroll 1
      for (int s = 0; s < slices; s += part) copy(w + ((int64)tile * slices + s) * p.size, (slices - s < part ? slices - s : part) * p.size);
  }
};
__device__ __forceinline__ int aside(const Aside &a, int at, const void *from, int bytes) {
  if (from && bytes > 0) bulk_load(shared_address(a.data + at), from, bytes, a.bars, kShared);
  return at + (from && bytes > 0 ? bytes : 0);
}
__device__ __forceinline__ void fill(const Step &p, const Slices &s, const Ring &ring, const Aside (&beside)[3]) {
  Copier copier = {ring, ring, 0, p.ahead};
  const Taps taps(p, s);
  const int strips = p.bytes / kStripBytes;
  const int of_state = taps.count * p.conv_width * 2;
  const int of_scale[2] = {(s.in_end - s.in) * kColumns * 4, (s.out_end - s.out) * kColumns * 4};
#pragma unroll 1
  for (int l = 0; l < p.blocks; l++) {
    const Block &b = p.block[l];
    const int parity = l & 1;
    mbarrier_wait(beside[0].bars + 8, parity ^ 1);
    mbarrier_expect(beside[0].bars, p.width * 2 + (b.in_scale ? of_scale[0] : 0) + taps.count * (p.conv_taps + (b.conv_b ? 1 : 0)) * 4 + p.batch * of_state);
    int at = aside(beside[0], 0, b.in_norm, p.width * 2);
    at = aside(beside[0], at, b.in_scale ? b.in_scale + s.in * kColumns : nullptr, of_scale[0]);
    at = aside(beside[0], at, b.conv_w + taps.first * p.conv_taps, taps.count * p.conv_taps * 4);
    at = aside(beside[0], at, b.conv_b ? b.conv_b + taps.first : nullptr, taps.count * 4);
#pragma unroll 1
    for (int row = 0; row < p.batch; row++) at = aside(beside[0], at, b.conv_state + ((int64)row * p.conv_count + taps.first) * p.conv_width, of_state);
    copier.tiles(p, b.in_w, s.in, s.in_end, p.width, p.in_part);

    mbarrier_wait(beside[1].bars + 8, parity ^ 1);
    mbarrier_expect(beside[1].bars, p.heads * 4 * (1 + (b.D ? 1 : 0) + (b.dt_bias ? 1 : 0)));
    at = aside(beside[1], 0, b.A, p.heads * 4);
    at = aside(beside[1], at, b.D, p.heads * 4);
    aside(beside[1], at, b.dt_bias, p.heads * 4);
#pragma unroll 1
    for (int strip = s.strip; strip < s.strip_end; strip += strips)
      copier.copy(b.state + (int64)strip * (kStripBytes / 4), (s.strip_end - strip < strips ? s.strip_end - strip : strips) * kStripBytes);

    mbarrier_wait(beside[2].bars + 8, parity ^ 1);
    mbarrier_expect(beside[2].bars, p.inner * 2 + (b.out_scale ? of_scale[1] : 0));
    at = aside(beside[2], 0, b.out_norm, p.inner * 2);
    aside(beside[2], at, b.out_scale ? b.out_scale + s.out * kColumns : nullptr, of_scale[1]);
    copier.tiles(p, b.out_w, s.out, s.out_end, p.inner, p.out_part);
  }
}

// Meetings of all blocks of threads. What was written before meet() is seen after await().
constexpr int kThreads = 32 * kWarps;  // that compute
struct Meetings {
  int *arrived, passed;
  __device__ __forceinline__ void meet() {
    barrier_of(1, kThreads);
    passed++;
    if (threadIdx.x != 0) return;
    add_to_count(arrived);
  }
  __device__ __forceinline__ void await() {
    if (!passed) return;
    if (threadIdx.x == 0) wait_for_count(arrived, passed * gridDim.x);
    barrier_of(1, kThreads);
  }
};

// The convolution of one position in a column, whose new state it stores; o is its state, taps its filter.
__device__ __forceinline__ float convolve(const Step &p, const Element *o, const float *taps, float bias, Element *state, float x) {
  x = to_float(from_float<Element>(x));
  const int width = p.conv_width, last = p.conv_taps - 1;
  float v = bias + taps[last] * x;
#pragma unroll
  for (int t = 0; t < 3; t++)
    if (t < last) v += taps[t] * to_float(o[width - last + t]);
#pragma unroll
  for (int j = 0; j < 4; j++)
    if (j < width) state[j] = j + 1 < width ? o[j + 1] : from_float<Element>(x);
  return p.conv_silu ? silu_fast(v) : v;
}

// A product of the normalised rows of h or y with the block of threads' rows of a matrix.
template <bool In, int Sets>
__device__ __forceinline__ void product(const Step &p, const Block &b, const Slices &s, Ring &ring, Meetings &meetings, const Aside &beside, int parity, float *partial, float *squares) {
  constexpr int kSlices = In ? kInSlices : kOutSlices;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, q = lane % 4, batch = p.batch;
  const int first = In ? s.in : s.out, end = In ? s.in_end : s.out_end, k = In ? p.width : p.inner, count = (end - first) * kColumns * batch, columns = In ? p.columns : p.width;
  // Results of a thread: i, i + threads, ... of [group][row of h or y][row of the group].
  auto column = [&](int i, int &row) {
    const int group = i / (kColumns * batch), in = i - group * kColumns * batch;
    row = in / kColumns;
    return (first + group) * kColumns + in % kColumns;
  };
  float residual = 0.f;  // of the first result
  if (!In && threadIdx.x < count) {
    int row;
    const int col = column(threadIdx.x, row);
    residual = load_fresh(b.h + row * p.width + col);
  }
  meetings.await();
  mbarrier_wait(beside.bars, parity);
  const int mine = (k / 64 - warp + kWarps - 1) / kWarps;
  FixedRows<kSlices, Sets> rows;
  const Element *from = In ? b.h : b.y, *norm = reinterpret_cast<const Element *>(beside.data);
  rows.load(from, norm, k, mine, batch, squares);

  rows.prepare(p);

  const int part = In ? p.in_part : p.out_part, parts = (k / 64 + part - 1) / part;
  float *sum = partial + warp * kColumns * batch + q * kColumns + g;
#pragma unroll 1
  for (int group = first; group < end; group++, sum += kWarps * kColumns * batch) {
    Ring done = ring;
#pragma unroll 1
    for (int j = 0; j < parts; j++) {
      mbarrier_wait(ring.filled(), ring.parity);
      ring.next();
    }
    float sums[Sets][2];
    rows.multiply(p, done, part, mine, sums);
    __syncwarp();
#pragma unroll 1
    for (int j = 0; j < parts; j++) {
      if (lane == 0) mbarrier_arrive(done.emptied());
      done.next();
    }
#pragma unroll
    for (int set = 0; set < Sets; set++)
#pragma unroll
      for (int r = 0; r < 2; r++)
        if (q + 4 * set < batch) sum[4 * kColumns * set + 8 * r] = sums[set][r];
  }
  barrier_of(1, kThreads);
  const Taps taps(p, s);
  const float *scales = reinterpret_cast<const float *>(beside.data + k * 2), *filter = scales + (b.in_scale ? (end - first) * kColumns : 0), *bias = filter + taps.count * p.conv_taps;
  const Element *state = reinterpret_cast<const Element *>(bias + (b.conv_b ? taps.count : 0));
#pragma unroll 1
  for (int i = threadIdx.x; i < count; i += kThreads) {
    int row;
    const int col = column(i, row), group = col / kColumns - first;
    if (col >= columns) continue;  // a tile is filled up with zeros
    const float *sums = partial + group * kWarps * kColumns * batch + row * kColumns + col % kColumns;
    float v = 0.f, all = 0.f;
#pragma unroll
    for (int u = 0; u < kWarps; u++) v += sums[u * kColumns * batch], all += squares[u * 8 + row];
    v *= rsqrtf(all / (float)k + (In ? b.in_epsilon : b.out_epsilon));
    if (In ? b.in_scale : b.out_scale) v *= scales[col - first * kColumns];
    if (In) {
      const int c = col - p.conv_first, local = c - taps.first;
      if (local >= 0 && local < taps.count)
        v = convolve(p, state + (row * taps.count + local) * p.conv_width, filter + local * p.conv_taps, b.conv_b ? bias[local] : 0.f,
                     b.conv_state + ((int64)row * p.conv_count + c) * p.conv_width, v);
      b.mixed[row * p.columns + col] = from_float<Element>(v);
    } else {
      if (i >= kThreads) residual = load_fresh(b.h + row * p.width + col);
      b.out[row * p.width + col] = from_float<Element>(v + residual);
    }
  }
  __syncwarp();  // all lanes have read what came beside
  if (lane == 0) mbarrier_arrive(beside.bars + 8);
}

// The scan of strips [strip, end) of the states of one layer: rows of N, which are those of y.
template <int N>
__device__ __forceinline__ void scan(const Step &p, const Block &b, const Slices &s, Ring &ring, Meetings &meetings, const Aside &beside, int parity, float4 *of_row) {
  constexpr int lanes = N / 4 < 32 ? N / 4 : 32, wide = N / 4 / lanes, per = 32 / lanes, R = kStripBytes / 4 / N, Unroll = 4 / wide;
  constexpr int threads = kThreads, warps = kWarps;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % lanes, sub = threadIdx.x % 32 / lanes;
  const int P = p.head_dim, first = s.strip * R, rows = (s.strip_end - s.strip) * R, span = P * (p.heads / p.groups), first_span = first / span;
  float *bc = reinterpret_cast<float *>(of_row + rows);  // of each group that occurs: B, C
  // What a row needs beside B and C: decay, dt x, D x, silu(z).
  const float *A = reinterpret_cast<const float *>(beside.data), *D = A + p.heads, *bias = b.D ? D + p.heads : D;
  meetings.await();
  mbarrier_wait(beside.bars, parity);
#pragma unroll 1
  for (int r = threadIdx.x; r < rows; r += threads) {
    const int row = first + r, head = row / P, h = head % p.heads;
    const Element *mixed = b.mixed + (int64)(head / p.heads) * p.columns;
    const float x = load_fresh(mixed + p.x + h * P + row % P), z = load_fresh(mixed + p.z + h * P + row % P);
    float d = load_fresh(mixed + p.dt + h);
    if (b.dt_bias) d += bias[h];
    if (p.softplus) d = softplus_of(d);
    d = fminf(fmaxf(d, p.low), p.high);
    float4 v;
    v.x = expf(A[h] * d), v.y = d * x, v.z = b.D ? D[h] * x : 0.f, v.w = silu_of(z);
    of_row[r] = v;
  }
  if (rows) {
    const int spans = (first + rows - 1) / span - first_span + 1;
#pragma unroll 1
    for (int i = threadIdx.x; i < spans * 2 * N; i += threads) {
      const int of = first_span + i / (2 * N), n = i % N;
      bc[i] = load_fresh(b.mixed + (int64)(of / p.groups) * p.columns + (i % (2 * N) < N ? p.b : p.c) + of % p.groups * N + n);
    }
  }
  barrier_of(1, kThreads);
  if (threadIdx.x % 32 == 0) mbarrier_arrive(beside.bars + 8);
  float4 Bv[wide], Cv[wide];
  int next_span = 0, change = -1;  // the local row from which B and C are others
  const int rows_of_slot = ring.bytes / kStripBytes * R;
#pragma unroll 1
  for (int r0 = 0; r0 < rows; r0 += rows_of_slot) {
    const int here = rows - r0 < rows_of_slot ? rows - r0 : rows_of_slot;
    mbarrier_wait(ring.filled(), ring.parity);
    const float4 *states = reinterpret_cast<const float4 *>(ring.data + ring.slot * ring.bytes);
#pragma unroll 1
    for (int at = warp * per + sub; at - sub < here; at += Unroll * warps * per) {
      float4 S[Unroll][wide], of[Unroll];
      float sum[Unroll];
#pragma unroll
      for (int u = 0; u < Unroll; u++) {
        const int r = at + u * warps * per;
        if (r >= here) continue;
        of[u] = of_row[r0 + r];
#pragma unroll
        for (int i = 0; i < wide; i++) S[u][i] = states[r * (N / 4) + i * lanes + lane];
      }
#pragma unroll
      for (int u = 0; u < Unroll; u++) {
        const int r = at + u * warps * per;
        sum[u] = 0.f;
        if (r >= here) continue;
        while (r0 + r >= change) {
          const float4 *of_span = reinterpret_cast<const float4 *>(bc + next_span * 2 * N);
#pragma unroll
          for (int i = 0; i < wide; i++) Bv[i] = of_span[i * lanes + lane], Cv[i] = of_span[N / 4 + i * lanes + lane];
          next_span++;
          change = (first_span + next_span) * span - first;
        }
        float4 *to = reinterpret_cast<float4 *>(b.state) + (int64)(first + r0 + r) * (N / 4) + lane;
#pragma unroll
        for (int i = 0; i < wide; i++) {
          float4 &h = S[u][i];
          h.x = of[u].x * h.x + of[u].y * Bv[i].x;
          h.y = of[u].x * h.y + of[u].y * Bv[i].y;
          h.z = of[u].x * h.z + of[u].y * Bv[i].z;
          h.w = of[u].x * h.w + of[u].y * Bv[i].w;
          sum[u] += h.x * Cv[i].x + h.y * Cv[i].y + h.z * Cv[i].z + h.w * Cv[i].w;
          store_once(to + i * lanes, h);
        }
      }
#pragma unroll
      for (int o = lanes / 2; o; o >>= 1)
#pragma unroll
        for (int u = 0; u < Unroll; u++) sum[u] += __shfl_xor_sync(0xffffffffu, sum[u], o);
#pragma unroll
      for (int u = 0; u < Unroll; u++) {
        const int r = at + u * warps * per;
        if (lane == 0 && r < here) b.y[first + r0 + r] = from_float<Element>((sum[u] + of[u].z) * of[u].w);
      }
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(ring.emptied());
    ring.next();
  }
}

template <int N, int Sets> __device__ __forceinline__ void step(const Step &p) {
  SSDC_SHARED(unsigned char, shared);
  const Slices s(p, kStripBytes / 4 / N);
  const uint32_t bars = shared_address(shared);
  unsigned char *at = shared + kTableBytes + p.area;
  Aside beside[3];
#pragma unroll
  for (int i = 0; i < 3; i++) beside[i] = {bars + 16 * i, at}, at += p.beside[i];
  Ring ring = {bars + 48, at, p.slots, p.bytes, 0, 0};
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.slots + 3; i++) mbarrier_init(bars + 16 * i, 1), mbarrier_init(bars + 16 * i + 8, kWarps);
    mbarrier_init_fence();
  }
  __syncthreads();
  if (threadIdx.x >= kThreads) {
    registers_give<24>();
    if (threadIdx.x == kThreads) fill(p, s, ring, beside);
  } else {
    registers_take<232>();
    float *squares = reinterpret_cast<float *>(shared + 512), *area = reinterpret_cast<float *>(shared + kTableBytes);
    Meetings meetings = {p.arrived, 0};
#pragma unroll 1
    for (int l = 0; l < p.blocks; l++) {
      const Block &b = p.block[l];
      product<true, Sets>(p, b, s, ring, meetings, beside[0], l & 1, area, squares);
      meetings.meet();
      scan<N>(p, b, s, ring, meetings, beside[1], l & 1, reinterpret_cast<float4 *>(area));
      meetings.meet();
      product<false, Sets>(p, b, s, ring, meetings, beside[2], l & 1, area, squares);
      if (l + 1 < p.blocks) meetings.meet();
    }
  }
}

}  // namespace step_bits
}  // namespace

// The one block a multiprocessor tells the compiler how many registers there are to be moved.
#define SSDC_STEP_BITS(N, Rows, Sets) \
  SSDC_KERNEL(step_bits_##N##_##Rows, step_bits::Step, SSDC_STEP_BITS_BOUNDS) { step_bits::step<N, Sets>(p); }
#define SSDC_STEP_BITS_BOUNDS 384, 1
SSDC_STEP_BITS(64, 4, 1)
SSDC_STEP_BITS(64, 8, 2)
SSDC_STEP_BITS(128, 4, 1)
SSDC_STEP_BITS(128, 8, 2)
#else
namespace {
struct NoBits {
  int64 unused;
};
}
SSDC_KERNEL(step_bits_none, NoBits, 32) {}
#endif
