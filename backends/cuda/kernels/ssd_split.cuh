// SSD forward of few long sequences: each is cut in time into fronts, so that strips that are fewer than the multiprocessors still fill
// them. Only the state that a front begins with must be known beforehand. It is summed over segments, of which a front has several.
// Five launches:
//   1. ssd_segment_decays: the sum of the decays of every segment; reads dt.
//   2. ssd_segment_behind: the same from each segment's end to the end of its front.
//   3. ssd_segment_states: U_i, the state that segment i leaves when it begins with zeros; one of the four products of
//      the forward pass, reads x and B. Left out in the last front, and where what lies between a segment and the end of its front takes
//      everything to 0 in f32: of most heads little is read twice.
//   4. ssd_segment_scan: S_0 = h0, S_{f+1} = exp(decay of f) S_f + sum of exp(behind_i) U_i over the front (SSD.md 1.4, step 3, on fronts).
//   5. ssd_forward_tma, or ssd_forward.
//
// Included by ssd_fwd.cu.
#pragma once

namespace {

// Waits for this thread's copies but those of its last group.
__device__ __forceinline__ void copy_wait_but_last() {
#ifdef SSDC_EMULATE
  copy_wait_but<1>();
#else
  asm volatile("cp.async.wait_group 1;\n" ::: "memory");
#endif
}

template <int NT, int Heads> struct SegmentLayout {
  static constexpr int matrix = NT / 64 * kTile;
  static constexpr int X = matrix, stage = matrix + Heads * kTile, stages = 3;
  static constexpr int decay = stages * stage;
  static constexpr int bytes = decay + 8 * Heads * (int)sizeof(Decay);
  static constexpr int requested = bytes + 1024;
};

// A block takes 32 heads of one segment of one sequence.
__global__ void __launch_bounds__(256) ssd_segment_decays(const __grid_constant__ ssdc_ssd p, Segments segments) {
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31, tiles = (p.heads + 31) / 32;
  const int h = blockIdx.x % tiles * 32 + lane, b = blockIdx.x / tiles % p.batch, i = blockIdx.x / tiles / p.batch;
  float *room = reinterpret_cast<float *>(raw_shared);
  float sum = 0.f;
  if (h < p.heads) {
    const float a_scale = p.A[h] * kLog2e, bias = p.dt_bias ? p.dt_bias[h] : 0.f;
    const int last = min(p.length, (i + 1) * segments.chunks * kChunk);
    for (int t0 = i * segments.chunks * kChunk + warp; t0 < last; t0 += 128) {
      uint32_t raw[16];  // under way together
#pragma unroll
      for (int k = 0; k < 16; k++) raw[k] = t0 + 8 * k < last ? load_dt_bits(p, ((size_t)b * p.length + t0 + 8 * k) * p.heads + h) : 0;
#pragma unroll
      for (int k = 0; k < 16; k++)
        if (t0 + 8 * k < last) sum += exponent(p, a_scale, step_size(p, dt_value(p, raw[k]), bias), b, t0 + 8 * k);
    }
  }
  room[thread] = sum;
  __syncthreads();
  if (warp > 0 || h >= p.heads) return;
  for (int w = 1; w < 8; w++) sum += room[w * 32 + lane];
  segments.decay[((size_t)i * p.batch + b) * p.heads + h] = sum;
}

// Whether a state of a segment that far before the beginning of a share is not 0 there.
__device__ __forceinline__ bool lasts(float behind) { return behind >= -150.f; }

constexpr int kSplitHeads = 2;  // strips of a group that are one sequence of the forward pass

// A warp takes a front of a head: sums of decays from its end, 32 segments at a time.
__global__ void __launch_bounds__(128) ssd_segment_behind(const __grid_constant__ ssdc_ssd p, Segments segments) {
  const int heads = p.batch * p.heads, lane = threadIdx.x & 31;
  const int at = blockIdx.x * 4 + (threadIdx.x >> 5), head = at % heads, front = at / heads;
  const int first = front * segments.per_front, next = min(segments.count, first + segments.per_front);
  if (next == segments.count) return;  // behind the last front nothing begins
  float sum = 0.f;  // of the segments behind these
  for (int last = next - 1; last >= first; last -= 32) {
    const int i = last - lane;
    float to = i >= first ? segments.decay[(size_t)i * heads + head] : 0.f;  // of this segment and those behind it
#pragma unroll
    for (int o = 1; o < 32; o <<= 1) {
      const float v = __shfl_up_sync(0xffffffffu, to, o);
      if (lane >= o) to += v;
    }
    const float before = __shfl_up_sync(0xffffffffu, to, 1);
    if (i >= first) segments.behind[(size_t)i * heads + head] = lane ? sum + before : sum;
    sum += __shfl_sync(0xffffffffu, to, 31);
  }
}

// Writes U_i to states[i + 1]; grid: sequences * segments before the last front.
// Two blocks fit a multiprocessor (109 KB of shared memory and 128 registers at NT = 128, two heads). Copies run two chunks ahead;
// the decays of four chunks are summed at once, a chunk by each warp, while the four before are worked at.
template <class T, int NT, int Heads, bool Wg>
__global__ void __launch_bounds__(128 * Heads, 2) ssd_segment_states(const __grid_constant__ ssdc_ssd p, Segments segments) {
#if !SSDC_WGMMA
  if constexpr (Wg) return;
#endif
  using Place = SegmentLayout<NT, Heads>;
  unsigned char *shared = raw_shared + ((1024 - (shared_address(raw_shared) & 1023)) & 1023);
  const uint32_t base = shared_address(shared);

  const int thread = threadIdx.x, wg = thread >> 7, warp = (thread >> 5) & 3, lane = thread & 31;
  const int L = p.length, H = p.heads, P = p.head_dim, G = p.groups, N = p.state, pitch = pitch_of(p);
  const int strips = (P + 63) / 64, per_group = H / G * strips;
  const int blocks = (per_group + Heads - 1) / Heads;
  const size_t row = (size_t)H * P, bc_row = (size_t)G * pitch;
  Decay *decays = reinterpret_cast<Decay *>(shared + Place::decay) + 8 * wg;

  const int sequences = p.batch * G * blocks, sequence = blockIdx.x % sequences, segment = blockIdx.x / sequences;
  const int first = segment * segments.chunks, end = min((L + kChunk - 1) / kChunk, first + segments.chunks);
  const int b = sequence / (G * blocks), g = sequence / blocks % G;
  const int in_group = sequence % blocks * Heads + wg;
  auto wanted = [&](int in) { return in < per_group && lasts(segments.behind[((size_t)segment * p.batch + b) * H + (g * per_group + in) / strips]); };
  bool some = false;  // the same in all threads
  for (int k = 0; k < Heads; k++) some |= wanted(sequence % blocks * Heads + k);
  if (!some) return;
  const bool active = wanted(in_group);  // x of a strip that is not wanted is not read
  const int strip = g * per_group + (in_group < per_group ? in_group : 0);
  const int h = strip / strips, p0 = strip % strips * 64, columns = min(64, P - p0);
  const T *x = static_cast<const T *>(p.x) + ((size_t)b * L * H + h) * P + p0;
  const T *Bm = static_cast<const T *>(p.Bm) + ((size_t)b * L * G + g) * pitch;
  const float a_scale = p.A[h] * kLog2e, bias = p.dt_bias ? p.dt_bias[h] : 0.f;

  auto load_chunk = [&](int c) {
    const uint32_t to = base + (c - first) % Place::stages * Place::stage;
    const int t0 = c * kChunk;
    constexpr int per_row = NT / 8;
    for (int i = thread; i < kChunk * per_row; i += 128 * Heads) {
      const int r = i / per_row, chunk = i % per_row;
      const bool valid = t0 + r < L && chunk * 8 < N;
      copy16(to + tile_at(r, chunk), Bm + (valid ? (t0 + r) * bc_row + chunk * 8 : 0), valid);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const int i = k * 128 + (thread & 127), r = i >> 3, chunk = i & 7;
      const bool valid = active && t0 + r < L && chunk * 8 < columns;
      copy16(to + Place::X + wg * kTile + tile_at(r, chunk), x + (valid ? (t0 + r) * row + chunk * 8 : 0), valid);
    }
    copy_commit();
  };
  auto load_steps = [&](int c) {
    float2 v = make_float2(0.f, 0.f);
    const int t = c * kChunk + 2 * lane;
    if (t < L) v.x = load_dt(p, ((size_t)b * L + t) * H + h);
    if (t + 1 < L) v.y = load_dt(p, ((size_t)b * L + t + 1) * H + h);
    return v;
  };

  float S[NT / 2];
#pragma unroll
  for (int i = 0; i < NT / 2; i++) S[i] = 0.f;
  load_chunk(first);
  if (first + 1 < end) load_chunk(first + 1);
  else copy_commit();
  float2 steps = load_steps(first + warp);
  fill_decay(p, decays[warp], steps, b, (first + warp) * kChunk, a_scale, bias, lane);

  for (int c = first; c < end; c++) {
    const int i = c - first, next = c - (i & 3) + 4 + warp;
    const uint32_t B_tile = base + i % Place::stages * Place::stage, X_tile = B_tile + Place::X + wg * kTile;
    Decay &decay = decays[i & 7];
    if ((i & 3) == 0) steps = load_steps(next);
    if ((i & 3) == 2) fill_decay(p, decays[(next - first) & 7], steps, b, next * kChunk, a_scale, bias, lane);
    // Publishes this chunk's tiles and decays; every warp is done with the stage of the chunk before.
    copy_wait_but_last();
    if constexpr (Wg) fence_for_wgmma();
    __syncthreads();
    if (c + 2 < end) load_chunk(c + 2);
    else copy_commit();
    uint32_t Xw[4][4];
    weighted_columns<T>(Xw, X_tile, decay, warp, lane);
    const float keep = exp2_fast(decay.cum[kChunk - 1]);
#pragma unroll
    for (int i = 0; i < NT / 2; i++) S[i] *= keep;
    if constexpr (Wg) {
#if SSDC_WGMMA
      const uint64_t dB = tile_descriptor(B_tile, kTile);
      pin(S);
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < 4; k++) Wgmma<NT, true>::mma(T(), S, Xw[k], dB + k * (2048 >> 4), 1);
      wgmma_commit();
      wgmma_wait<0>();
      pin(S);
#endif
    } else {
      mma_registers<T, NT>(S, Xw, B_tile, lane, 3);
    }
  }

  if (!active) return;
  float *to = segments.states + ((size_t)(segment + 1) * p.batch * H + (size_t)b * H + h) * P * N;
#pragma unroll
  for (int j = 0; j < NT / 8; j++) {
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int pr = warp * 16 + (lane >> 2) + 8 * half, n = 8 * j + 2 * (lane & 3);
      if (pr < columns && n < N)
        *reinterpret_cast<float2 *>(to + (size_t)(p0 + pr) * N + n) = make_float2(S[4 * j + 2 * half], S[4 * j + 2 * half + 1]);
    }
  }
}

// A thread takes 4 elements of the states, which are of one head as N is a multiple of 8, and works out what every front begins
// with. states[0] is a copy of h0, as the last front may write hT over h0 before the first has read it.
__global__ void __launch_bounds__(128) ssd_segment_scan(const __grid_constant__ ssdc_ssd p, Segments segments) {
  const size_t all = (size_t)p.batch * p.heads * p.head_dim * p.state, at = ((size_t)blockIdx.x * 128 + threadIdx.x) * 4;
  if (at >= all) return;
  const size_t heads = (size_t)p.batch * p.heads, row = at / p.state, head = row / p.head_dim;
  const float *h0 = p.h0 ? p.h0 + row * pitch_of(p) + at % p.state : nullptr;
  float4 S = h0 ? *reinterpret_cast<const float4 *>(h0) : make_float4(0.f, 0.f, 0.f, 0.f);
  *reinterpret_cast<float4 *>(segments.states + at) = S;
  for (int next = segments.per_front; next < segments.count; next += segments.per_front) {
    const int first = next - segments.per_front;
    // 0 stays 0 where steps below 0 let states grow beyond all limits.
    auto times = [](float f, float v) { return v == 0.f ? 0.f : f * v; };
    const float keep = exp2_fast(segments.decay[first * heads + head] + segments.behind[first * heads + head]);
    S = make_float4(times(keep, S.x), times(keep, S.y), times(keep, S.z), times(keep, S.w));
    for (int i = first; i < next; i += 8) {  // loads are under way together
      float behind[8];
      float4 u[8];
#pragma unroll
      for (int k = 0; k < 8; k++) behind[k] = i + k < next ? segments.behind[(i + k) * heads + head] : -1e30f;
#pragma unroll
      for (int k = 0; k < 8; k++)
        u[k] = lasts(behind[k]) ? *reinterpret_cast<const float4 *>(segments.states + (i + k + 1) * all + at) : make_float4(0.f, 0.f, 0.f, 0.f);
#pragma unroll
      for (int k = 0; k < 8; k++) {
        const float f = exp2_fast(behind[k]);
        S.x += times(f, u[k].x), S.y += times(f, u[k].y), S.z += times(f, u[k].z), S.w += times(f, u[k].w);
      }
    }
    *reinterpret_cast<float4 *>(segments.states + next * all + at) = S;
  }
}

}  // namespace
