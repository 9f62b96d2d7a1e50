// One position of a run of Mamba-2 blocks as one launch, for up to 8 sequences in bfloat16: all time goes into reading weights and states
// once, and every launch of its own would let the memory rest while it begins and ends.
//
// A block of threads on every multiprocessor owns rows of every matrix and of every state. One of its threads copies these, layer after
// layer, into a ring in shared memory and waits for nothing but room there, and for some of its earlier copies: more under way than the
// memory needs would only keep the others' loads waiting. Eight warps follow:
//
//   in    norm(h) in_w^T: first the rows of B, C and dt that it owns, which go to all others; then those of z and x for the states it
//         owns, which stay here. The convolution takes its columns as they are made
//   scan  state = decay state + dt x B^T, y = silu(z) (state C + D x)
//   out   h' = norm(y) out_w^T + h
//
// Each warp keeps its share of K of the rows of h or y in registers, as right operands. What a phase reads beside matrices and states,
// and does not depend on the one before, comes by copies too, into a place of its own for each phase.
//
// Blocks of threads never meet. What one makes for others is written over kUnwritten, which no rounding gives, and readers look until
// nothing of it is left: no fence before, no counter behind. h and y go out with the weight of their normalisation; the sums of their squares
// follow and are needed only where a product ends. Three warps apart do what need not be waited for: one adds up squares, its own and those
// of others, two read B, C and dt of the others while the products run, and put kUnwritten back. Once a block of threads has all of y,
// everybody has read what went before it; that it is back is certain to whoever has all of the next layer's y.
#define SSDC_DEVICE_ONLY
#include "step_rows.cuh"

#ifdef SSDC_EMULATE
extern "C" __attribute__((visibility("default"))) int step_serves;
int step_serves = 1;
#else
extern "C" __device__ int step_serves =
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
    1;
#else
    0;
#endif
#endif

#if defined(SSDC_EMULATE) || !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
namespace {

// Barriers: of the threads that compute; and where these and the warps that exchange tell each other of something, the others arrive and
// do not wait.
enum { kAmong = 1, kHaveH, kInScale, kHaveSide, kHaveYs, kHaveY, kOutScale, kHaveHs };
constexpr int kAndAll = kThreads + 96, kAndOne = kThreads + 32, kAndTwo = kThreads + 64;

// The parts of the work area, and what lies in the table.
struct Area {
  float *partial;
  float4 *of_row;   // [batch][rows]: decay, dt x, D x, silu(z)
  float *y;         // [batch][rows]
  float *bc;        // [batch][groups that occur here][B, C]
  float2 *of_head;  // [batch][heads that occur here]: dt, decay
  float *residual;  // [batch][columns of h]
  float *scale;     // [2][8]: of rows of h and y
  Block *blocks;    // two in turn
};

// Divides by a small number.
struct Divider {
  float by;
  __device__ __forceinline__ explicit Divider(int d) : by(1.f / (float)d) {}
  __device__ __forceinline__ int operator()(int v) const { return (int)(((float)v + 0.5f) * by); }
};

// The warp that adds up squares. Four lanes for a sequence add up those made here.
__device__ __forceinline__ void publish_squares(const float *v, int count, int batch, int padded, float *to) {
  const int lane = threadIdx.x % 32, row = lane / 4;
  float sum = 0.f;
  if (row < batch)
#pragma unroll 1
    for (int i = lane % 4; i < count; i += 4) sum += v[row * count + i] * v[row * count + i];
  sum += __shfl_xor_sync(0xffffffffu, sum, 1);
  sum += __shfl_xor_sync(0xffffffffu, sum, 2);
  if (lane % 4 == 0 && row < padded) store_shared(to + blockIdx.x * padded + row, sum);
}
template <int Sets> __device__ __forceinline__ void scale_of(const float *from, int width, float epsilon, float *scale) {
  const int lane = threadIdx.x % 32;
  const float4 *at = reinterpret_cast<const float4 *>(from);
  constexpr int AtOnce = Sets == 1 ? 5 : 3;
  float4 sum[Sets];
#pragma unroll
  for (int set = 0; set < Sets; set++) sum[set] = make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll 1
  for (int c = lane; c - lane < gridDim.x; c += 32 * AtOnce) {
    float4 v[AtOnce][Sets];
#pragma unroll
    for (int u = 0; u < AtOnce; u++)
#pragma unroll
      for (int set = 0; set < Sets; set++) {
        v[u][set] = make_float4(0.f, 0.f, 0.f, 0.f);
        if (c + 32 * u < gridDim.x) v[u][set] = load_shared(at + (c + 32 * u) * Sets + set);
      }
#pragma unroll
    for (int u = 0; u < AtOnce; u++)
#pragma unroll
      for (int set = 0; set < Sets; set++) {
        float4 &w = v[u][set];
        while (unwritten(w.x) || unwritten(w.y) || unwritten(w.z) || unwritten(w.w)) {
          look_again();
          w = load_shared(at + (c + 32 * u) * Sets + set);
        }
        sum[set].x += w.x, sum[set].y += w.y, sum[set].z += w.z, sum[set].w += w.w;
      }
  }
#pragma unroll
  for (int set = 0; set < Sets; set++) {
    float4 &v = sum[set];
#pragma unroll
    for (int o = 16; o; o >>= 1) {
      v.x += __shfl_xor_sync(0xffffffffu, v.x, o), v.y += __shfl_xor_sync(0xffffffffu, v.y, o);
      v.z += __shfl_xor_sync(0xffffffffu, v.z, o), v.w += __shfl_xor_sync(0xffffffffu, v.w, o);
    }
    const float mine = lane == 0 ? v.x : lane == 1 ? v.y : lane == 2 ? v.z : v.w;
    if (lane < 4) scale[4 * set + lane] = rsqrtf(mine / (float)width + epsilon);
  }
}
template <int Sets> __device__ __forceinline__ void add_squares(const Step &p, const Slices &s, const Exchange &e, const Area &area) {
#pragma unroll 1
  for (int l = 0; l < p.blocks; l++) {
    barrier_of(kHaveHs, kAndOne);
    publish_squares(area.residual, (s.out_end - s.out) * kUnit, p.batch, 4 * Sets, e.squares_of_h(l));
    barrier_of(kHaveH, kAndAll);
    scale_of<Sets>(e.squares_of_h(l), p.width, area.blocks[l & 1].in_epsilon, area.scale);
    arrive_at(kInScale, kAndOne);
    barrier_of(kHaveYs, kAndOne);
    publish_squares(area.y, s.units() * kUnit, p.batch, 4 * Sets, e.squares_of_y(l));
    barrier_of(kHaveY, kAndAll);
    scale_of<Sets>(e.squares_of_y(l), p.inner, area.blocks[l & 1].out_epsilon, area.scale + 8);
    arrive_at(kOutScale, kAndOne);
  }
}

// The two warps that read B, C and dt and put kUnwritten back.
template <int N> __device__ __forceinline__ void read_side(const Step &p, const Slices &s, const Exchange &e, const Area &area, const Aside &beside) {
  constexpr int threads = 64, AtOnce = 4;
  const int t = threadIdx.x - kThreads - 64, batch = p.batch, padded = e.padded, rows = s.units() * kUnit, first = s.unit * kUnit, P = p.head_dim;
  const int span = P * (p.heads / p.groups), first_group = first / span, groups = (first + rows - 1) / span - first_group + 1;
  const int first_head = first / P, heads = (first + rows - 1) / P - first_head + 1;
  const float *A = reinterpret_cast<const float *>(beside.data);
#pragma unroll 1
  for (int l = 0; l < p.blocks; l++) {
    const Block &b = area.blocks[l & 1];
    const Element *side = e.side(l);
    const float *bias = A + (b.D ? 2 : 1) * p.heads;
    barrier_of(kHaveH, kAndAll);
    if (l + 1 < p.blocks && t < (int)sizeof(Block) / 16)
      reinterpret_cast<uint4 *>(area.blocks + ((l + 1) & 1))[t] = reinterpret_cast<const uint4 *>(p.block + l + 1)[t];
    mbarrier_wait(beside.bars, l & 1);
#pragma unroll 1
    for (int i = t; i < batch * heads; i += threads) {
      const int row = i / heads, h = first_head + i % heads;
      uint32_t bits;
      while ((bits = load_shared(side + row * p.sides + p.dt + h)) == 0xffff) look_later();
      float d = from_bits(bits);
      if (b.dt_bias) d += bias[h];
      if (p.softplus) d = softplus_of(d);
      d = fminf(fmaxf(d, p.low), p.high);
      float2 v;
      v.x = d, v.y = expf(A[h] * d);
      area.of_head[i] = v;
    }
    const int count = batch * groups * (N / 4);  // eights of B and C
#pragma unroll 1
    for (int i = t; i < count; i += AtOnce * threads) {
      uint4 v[AtOnce];
      uint32_t most;
      while (true) {
        most = 0;
#pragma unroll
        for (int u = 0; u < AtOnce; u++) {
          const int j = i + u * threads < count ? i + u * threads : i, of = j / (N / 4), in = j % (N / 4), row = of / groups, g = first_group + of % groups;
          v[u] = load_shared(reinterpret_cast<const uint4 *>(side + row * p.sides + (in < N / 8 ? p.b : p.c - N) + g * N + in * 8));
        }
#pragma unroll
        for (int u = 0; u < AtOnce; u++) most = most_of(most, most_of(most_of(v[u].x, v[u].y), most_of(v[u].z, v[u].w)));
        if (!unwritten(most)) break;
        look_later();
      }
#pragma unroll
      for (int u = 0; u < AtOnce; u++) {
        const int j = i + u * threads;
        if (j >= count) continue;
        float4 *to = reinterpret_cast<float4 *>(area.bc + j * 8);
        const float2 v0 = unpack(Element(), v[u].x), v1 = unpack(Element(), v[u].y), v2 = unpack(Element(), v[u].z), v3 = unpack(Element(), v[u].w);
        to[0] = make_float4(v0.x, v0.y, v1.x, v1.y), to[1] = make_float4(v2.x, v2.y, v3.x, v3.y);
      }
    }
    arrive_at(kHaveSide, kAndTwo);

    barrier_of(kHaveY, kAndAll);
    if (l + 2 >= p.blocks) continue;  // nobody looks again
    const uint4 four = {kUnwritten, kUnwritten, kUnwritten, kUnwritten};
    const uint2 two = {kUnwritten, kUnwritten};
    const int sides = s.side_end - s.side, units = s.units(), outs = s.out_end - s.out;
#pragma unroll 1
    for (int i = t; i < batch * sides; i += threads) *reinterpret_cast<uint4 *>(e.side(l) + i / sides * p.sides + (s.side + i % sides) * 8) = four;
#pragma unroll 1
    for (int i = t; i < batch * units; i += threads) *reinterpret_cast<uint2 *>(e.y(l + 2) + i / units * p.inner + (s.unit + i % units) * kUnit) = two;
#pragma unroll 1
    for (int i = t; i < batch * outs; i += threads) *reinterpret_cast<uint2 *>(e.h(l) + i / outs * p.width + (s.out + i % outs) * kUnit) = two;
    if (t < padded) reinterpret_cast<uint32_t *>(e.squares_of_h(l))[blockIdx.x * padded + t] = kUnwritten;
    if (t < padded) reinterpret_cast<uint32_t *>(e.squares_of_y(l + 2))[blockIdx.x * padded + t] = kUnwritten;
    fence_all();
  }
}

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

// What the convolution reads beside for some columns, in shared memory.
struct Filters {
  const float *taps, *bias;
  const Element *state;
  __device__ __forceinline__ Filters(const Step &p, const unsigned char *at, const Taps &of, bool biased) {
    taps = reinterpret_cast<const float *>(at), bias = taps + of.count * p.conv_taps;
    state = reinterpret_cast<const Element *>(bias + (biased ? of.count : 0));
  }
  // A column of the product, of sequence `row`, past the convolution where it takes it.
  __device__ __forceinline__ float operator()(const Step &p, const Block &b, const Taps &of, int row, int col, float v) const {
    const int c = col - p.conv_first, local = c - of.first;
    if (c < 0 || c >= p.conv_count || local >= of.count) return v;
    return convolve(p, state + (row * of.count + local) * p.conv_width, taps + local * p.conv_taps, b.conv_b ? bias[local] : 0.f,
                    b.conv_state + ((int64)row * p.conv_count + c) * p.conv_width, v);
  }
};

// The sum of row `row` of h or y with row j of a group.
__device__ __forceinline__ float total(const Area &area, int group, int row, int j, int batch) {
  const float *sums = area.partial + group * kWarps * 8 * batch + row * 8 + j;
  float v = 0.f;
#pragma unroll
  for (int u = 0; u < kWarps; u++) v += sums[u * 8 * batch];
  return v;
}
__device__ __forceinline__ float rounded(float v) { return to_float(from_float<Element>(v)); }

// The first product: B, C and dt go to all, z and x are prepared for the scan.
template <int Sets>
__device__ __forceinline__ void product_in(const Step &p, int l, const Slices &s, const Exchange &e, Ring &ring, const Aside &beside, const Aside &of_scan, const Area &area) {
  const Block &b = area.blocks[l & 1];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, batch = p.batch, k = p.width, sides = s.side_end - s.side, units = s.units();
  const Taps of_x = taps_of_x(p, s), of_side = taps_of_side(p, s);
  const Divider by_group(8 * batch), by_head(p.head_dim);
  const int mine = (k / 64 - warp + kWarps - 1) / kWarps;
  Rows<kInSlices, Sets> rows;
  rows.load(e.h(l), k, mine, batch);
  arrive_at(kHaveH, kAndAll);
  if (sides) {
    rows.stream(ring, sides * 8, k, p.in_rows, mine, batch, area.partial);
    mbarrier_wait(beside.bars, l & 1);
    const Filters filters(p, beside.data, of_side, b.conv_b);
    barrier_of(kAmong, kThreads);
    barrier_of(kInScale, kAndOne);
#pragma unroll 1
    for (int i = threadIdx.x; i < sides * 8 * batch; i += kThreads) {
      const int group = by_group(i), row = i / 8 - group * batch, at = (s.side + group) * 8 + i % 8;
      const float v = total(area, group, row, i % 8, batch) * area.scale[row];
      store_shared(e.side(l) + row * p.sides + at, from_float<Element>(filters(p, b, of_side, row, p.side + at, v)));
    }
  }
  rows.stream(ring, units * 8, k, p.in_rows, mine, batch, area.partial + sides * kWarps * 8 * batch);
  mbarrier_wait(beside.bars, l & 1);
  mbarrier_wait(of_scan.bars, l & 1);
  const Filters filters(p, beside.data + of_side.bytes(p, b.conv_b), of_x, b.conv_b);
  const float *D = reinterpret_cast<const float *>(of_scan.data) + p.heads;
  const int first_head = by_head(s.unit * kUnit), heads = by_head(s.unit_end * kUnit - 1) - first_head + 1;
  if (!sides) barrier_of(kInScale, kAndOne);
  barrier_of(kHaveSide, kAndTwo);
#pragma unroll 1
  for (int from = warp * 32; from < units * 8 * batch; from += kThreads) {  // four of z, four of x in turn
    const int i = from + lane < units * 8 * batch ? from + lane : lane % 8, group = by_group(i), row = i / 8 - group * batch, j = i % 8;
    const int in = (s.unit + group) * kUnit + j % kUnit;
    float v = total(area, sides + group, row, j, batch) * area.scale[row];
    if (j >= kUnit && i == from + lane) v = filters(p, b, of_x, row, p.x + in, v);
    v = rounded(v);
    const float x = __shfl_xor_sync(0xffffffffu, v, kUnit);
    if (j >= kUnit || i != from + lane) continue;
    const int h = by_head(in);
    const float2 step = area.of_head[row * heads + h - first_head];
    area.of_row[row * units * kUnit + group * kUnit + j] = make_float4(step.y, step.x * x, b.D ? D[h] * x : 0.f, silu_fast(v));
  }
  __syncwarp();  // all lanes have read what came beside
  if (lane == 0) mbarrier_arrive(beside.bars + 8);
  barrier_of(kAmong, kThreads);
}

// What leaves h: with the weight of the next block's normalisation to all others, or where the caller wants it.
__device__ __forceinline__ void publish_h(const Step &p, const Exchange &e, int l, int row, int col, float v, float weight) {
  if (l < p.blocks) store_shared(e.h(l) + row * p.width + col, from_float<Element>(v * weight));
  else p.out[row * p.width + col] = from_float<Element>(v);
}

// The second product.
template <int Sets> __device__ __forceinline__ void product_out(const Step &p, int l, const Slices &s, const Exchange &e, Ring &ring, const Aside &beside, const Area &area) {
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, batch = p.batch, k = p.inner, count = (s.out_end - s.out) * kUnit;
  const int mine = (k / 64 - warp + kWarps - 1) / kWarps;
  const Divider by_count(count);
  Rows<kOutSlices, Sets> rows;
  rows.load(e.y(l), k, mine, batch);
  arrive_at(kHaveY, kAndAll);
  rows.stream(ring, count, k, p.out_rows, mine, batch, area.partial);
  const Element *weights = reinterpret_cast<const Element *>(beside.data) + s.out * kUnit % 8;
  if (l + 1 < p.blocks) mbarrier_wait(beside.bars, l & 1);
  barrier_of(kAmong, kThreads);
  barrier_of(kOutScale, kAndOne);
#pragma unroll 1
  for (int i = threadIdx.x; i < count * batch; i += kThreads) {
    const int row = by_count(i), at = i - row * count;
    const float v = rounded(total(area, at / 8, row, at % 8, batch) * area.scale[8 + row] + area.residual[i]);
    publish_h(p, e, l + 1, row, s.out * kUnit + at, v, to_float(weights[at]));
    area.residual[i] = v;
  }
  if (l + 1 == p.blocks) return;
  arrive_at(kHaveHs, kAndOne);
  __syncwarp();
  if (lane == 0) mbarrier_arrive(beside.bars + 8);
}

// The scan of the rows of states that this block of threads owns.
template <int N> __device__ __forceinline__ void scan(const Step &p, int l, const Slices &s, const Exchange &e, Ring &ring, const Aside &beside, const Area &area) {
  constexpr int lanes = N / 4 < 32 ? N / 4 : 32, per = 32 / lanes, Unroll = 5;
  static_assert(lanes * 4 == N, "a row of a state in one access");
  const int warp = threadIdx.x / 32, lane = threadIdx.x % lanes, sub = threadIdx.x % 32 / lanes;
  const Block &block = area.blocks[l & 1];
  const int rows = s.units() * kUnit, first = s.unit * kUnit, span = p.head_dim * (p.heads / p.groups);
  const Divider by_span(span);
  const int first_group = by_span(first), groups = by_span(first + rows - 1) - first_group + 1;
  const int at_once = ring.bytes / (N * 4) / kUnit * kUnit;
  const Element *weights = reinterpret_cast<const Element *>(beside.data + p.heads * 4 * (1 + (block.D ? 1 : 0) + (block.dt_bias ? 1 : 0))) + first % 8;
  Element *y = e.y(l);
#pragma unroll 1
  for (int b = 0; b < p.batch; b++) {
    const float4 *bc = reinterpret_cast<const float4 *>(area.bc) + b * groups * (N / 2);
#pragma unroll 1
    for (int r0 = 0; r0 < rows; r0 += at_once) {
      const int here = rows - r0 < at_once ? rows - r0 : at_once;
      int group = by_span(first + r0) - first_group, change = (first_group + group + 1) * span - first - r0;
      float4 Bv = bc[group * (N / 2) + lane], Cv = bc[group * (N / 2) + N / 4 + lane];
      mbarrier_wait(ring.filled(), ring.parity);
      const float4 *states = reinterpret_cast<const float4 *>(ring.data + ring.slot * ring.bytes);
      const float4 *of_row = area.of_row + b * rows + r0;
      float4 *to = reinterpret_cast<float4 *>(block.state) + ((int64)b * p.inner + first + r0) * (N / 4) + lane;
#pragma unroll 1
      for (int at = warp * per + sub; at - sub < here; at += Unroll * kWarps * per) {
        float4 S[Unroll], of[Unroll];
        float sum[Unroll];
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
          const int r = at + u * kWarps * per;
          if (r >= here) continue;
          of[u] = of_row[r];
          S[u] = states[r * (N / 4) + lane];
        }
#pragma unroll
        for (int u = 0; u < Unroll; u++) {
          const int r = at + u * kWarps * per;
          sum[u] = 0.f;
          if (r >= here) continue;
          while (r >= change) {
            group++, change += span;
            Bv = bc[group * (N / 2) + lane], Cv = bc[group * (N / 2) + N / 4 + lane];
          }
          float4 &h = S[u];
          h.x = of[u].x * h.x + of[u].y * Bv.x;
          h.y = of[u].x * h.y + of[u].y * Bv.y;
          h.z = of[u].x * h.z + of[u].y * Bv.z;
          h.w = of[u].x * h.w + of[u].y * Bv.w;
          sum[u] = h.x * Cv.x + h.y * Cv.y + h.z * Cv.z + h.w * Cv.w;
        }
#pragma unroll
        for (int o = lanes / 2; o; o >>= 1)
#pragma unroll
          for (int u = 0; u < Unroll; u++) sum[u] += __shfl_xor_sync(0xffffffffu, sum[u], o);
        float v = 0.f;  // lane u has the result of row u
#pragma unroll
        for (int u = 0; u < Unroll; u++)
          if (lane == u) v = (sum[u] + of[u].z) * of[u].w;
        const int r = at + lane * kWarps * per;
        if (lane < Unroll && r < here) {
          store_shared(y + b * p.inner + first + r0 + r, from_float<Element>(v * to_float(weights[r0 + r])));
          area.y[b * rows + r0 + r] = v;
        }
#pragma unroll
        for (int u = 0; u < Unroll; u++)
          if (at + u * kWarps * per < here) store_once(to + (at + u * kWarps * per) * (N / 4), S[u]);
      }
      __syncwarp();
      if (threadIdx.x % 32 == 0) mbarrier_arrive(ring.emptied());
      ring.next();
    }
  }
  arrive_at(kHaveYs, kAndOne);
  __syncwarp();
  if (threadIdx.x % 32 == 0) mbarrier_arrive(beside.bars + 8);
}

template <int N, int Sets> __device__ __forceinline__ void step(const Step &p) {
  SSDC_SHARED(unsigned char, shared);
  const Slices s(p);
  const uint32_t bars = shared_address(shared);
  unsigned char *work = shared + kTableBytes, *at = work + p.area;
  const Area area = {reinterpret_cast<float *>(work),
                     reinterpret_cast<float4 *>(work + p.at_rows),
                     reinterpret_cast<float *>(work + p.at_y),
                     reinterpret_cast<float *>(work + p.at_bc),
                     reinterpret_cast<float2 *>(work + p.at_steps),
                     reinterpret_cast<float *>(work + p.at_residual),
                     reinterpret_cast<float *>(shared + 512),
                     reinterpret_cast<Block *>(shared + 576)};
  static_assert(576 + 2 * sizeof(Block) <= kTableBytes, "blocks in the table");
  const Exchange e(p, 4 * Sets);
  Aside beside[3];
#pragma unroll
  for (int i = 0; i < 3; i++) beside[i] = {bars + 16 * i, at}, at += p.beside[i];
  Ring ring = {bars + 48, at, p.slots, p.bytes, 0, 0};
  if (threadIdx.x == 0) {
    for (int i = 0; i < p.slots + 3; i++) mbarrier_init(bars + 16 * i, 1), mbarrier_init(bars + 16 * i + 8, kWarps);
    mbarrier_init_fence();
    area.blocks[0] = p.block[0];
  }
  __syncthreads();
  const int warp = threadIdx.x / 32;
  if (warp >= kWarps) {
    registers_give<56>();
    if (threadIdx.x == kThreads) fill(p, s, ring, beside, area.blocks, N);
    else if (warp == kWarps + 1) add_squares<Sets>(p, s, e, area);
    else if (warp > kWarps + 1) read_side<N>(p, s, e, area, beside[1]);
  } else {
    registers_take<224>();
    const int count = (s.out_end - s.out) * kUnit;
#pragma unroll 1
    for (int i = threadIdx.x; i < count * p.batch; i += kThreads) {
      const int row = i / count, col = s.out * kUnit + i % count;
      const float v = to_float(p.h[row * p.width + col]);
      publish_h(p, e, 0, row, col, v, to_float(p.norm[col]));
      area.residual[i] = v;
    }
    arrive_at(kHaveHs, kAndOne);
#pragma unroll 1
    for (int l = 0; l < p.blocks; l++) {
      product_in<Sets>(p, l, s, e, ring, beside[0], beside[1], area);
      scan<N>(p, l, s, e, ring, beside[1], area);
      product_out<Sets>(p, l, s, e, ring, beside[2], area);
    }
  }
}

}  // namespace

// The one block a multiprocessor tells the compiler how many registers there are to be moved.
#define SSDC_STEP_BOUNDS 384, 1
SSDC_KERNEL(step_bf16_64_4, Step, SSDC_STEP_BOUNDS) { step<64, 1>(p); }
SSDC_KERNEL(step_bf16_64_8, Step, SSDC_STEP_BOUNDS) { step<64, 2>(p); }
SSDC_KERNEL(step_bf16_128_4, Step, SSDC_STEP_BOUNDS) { step<128, 1>(p); }
SSDC_KERNEL(step_bf16_128_8, Step, SSDC_STEP_BOUNDS) { step<128, 2>(p); }
#else
namespace {
struct Nothing {
  int64 unused;
};
}
SSDC_KERNEL(step_none, Nothing, 32) {}
#endif
