// SSD forward of few long sequences: each is cut in time into segments, so that B*H strips that are
// fewer than the multiprocessors still fill them. Three launches:
//   1. ssd_segment_states: U_i, the state that segment i leaves when it begins with zeros, and the sum of
//      its decays; one of the four products of the forward pass, reads x, B and dt. The last segment is not needed.
//   2. ssd_segment_scan: S_0 = h0, S_{i+1} = exp(decay_i) S_i + U_i, in place (SSD.md 1.4, step 3, on segments).
//   3. ssd_forward, where a block takes one segment and begins with S_i.
// x, B and dt are read twice; states add 16 bytes a segment and element.
//
// Included by ssd_fwd.cu.
#pragma once

namespace {

template <int NT, int Heads> struct SegmentLayout {
  static constexpr int matrix = NT / 64 * kTile;
  static constexpr int X = matrix, stage = matrix + Heads * kTile;
  static constexpr int decay = 2 * stage;
  static constexpr int bytes = decay + 2 * Heads * (int)sizeof(Decay);
  static constexpr int requested = bytes + 1024;
};

// Writes U_i to states[i + 1] and the sums to decay[i]; grid: sequences * (count - 1).
// Two blocks fit a multiprocessor (68 KB of shared memory and 128 registers at NT = 128, two heads).
template <class T, int NT, int Heads, bool Wg>
__global__ void __launch_bounds__(128 * Heads, 2) ssd_segment_states(const __grid_constant__ ssdc_ssd p, Segments segments) {
#if !SSDC_WGMMA
  if constexpr (Wg) return;
#endif
  using Place = SegmentLayout<NT, Heads>;
  unsigned char *shared = raw_shared + ((1024 - (shared_address(raw_shared) & 1023)) & 1023);
  const uint32_t base = shared_address(shared);

  const int thread = threadIdx.x, wg = thread >> 7, warp = (thread >> 5) & 3, lane = thread & 31;
  const int L = p.length, H = p.heads, P = p.head_dim, G = p.groups, N = p.state;
  const int strips = (P + 63) / 64, per_group = H / G * strips;
  const int blocks = (per_group + Heads - 1) / Heads;
  const size_t row = (size_t)H * P, bc_row = (size_t)G * N;
  Decay *decays = reinterpret_cast<Decay *>(shared + Place::decay) + 2 * wg;

  const Piece piece = segments.piece(blockIdx.x, p.batch * G * blocks, (L + kChunk - 1) / kChunk);
  const int b = piece.sequence / (G * blocks), g = piece.sequence / blocks % G;
  const int in_group = piece.sequence % blocks * Heads + wg;
  const bool active = in_group < per_group;
  const int strip = g * per_group + (active ? in_group : 0);
  const int h = strip / strips, p0 = strip % strips * 64, columns = min(64, P - p0);
  const T *x = static_cast<const T *>(p.x) + ((size_t)b * L * H + h) * P + p0;
  const T *Bm = static_cast<const T *>(p.Bm) + ((size_t)b * L * G + g) * N;
  const float a_scale = p.A[h] * kLog2e, bias = p.dt_bias ? p.dt_bias[h] : 0.f;

  auto load_chunk = [&](int c) {
    const uint32_t to = base + (c & 1) * Place::stage;
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
  float sum = 0.f;  // warp 0
  load_chunk(piece.first);
  float2 steps = warp == 0 ? load_steps(piece.first) : make_float2(0.f, 0.f);

  for (int c = piece.first; c < piece.last; c++) {
    const uint32_t B_tile = base + (c & 1) * Place::stage, X_tile = B_tile + Place::X + wg * kTile;
    Decay &decay = decays[c & 1];
    if (warp == 0) sum += fill_decay(p, decay, steps, c * kChunk, a_scale, bias, lane);
    // Publishes this chunk's tiles and decays; every warp is done with the other stage.
    copy_wait_all();
    if constexpr (Wg) fence_for_wgmma();
    __syncthreads();
    if (c + 1 < piece.last) {
      load_chunk(c + 1);
      if (warp == 0) steps = load_steps(c + 1);
    }
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
  const int i = piece.first / segments.chunks;
  if (warp == 0 && lane == 0 && p0 == 0) segments.decay[((size_t)i * p.batch + b) * H + h] = sum;
  float *to = segments.states + ((size_t)(i + 1) * p.batch * H + (size_t)b * H + h) * P * N;
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

// A thread takes 4 elements of the states, which are of one head as N is a multiple of 8.
// states[0] is a copy of h0, as the last segment may write hT over h0 before the first has read it.
__global__ void __launch_bounds__(128) ssd_segment_scan(const __grid_constant__ ssdc_ssd p, Segments segments) {
  const size_t all = (size_t)p.batch * p.heads * p.head_dim * p.state, at = ((size_t)blockIdx.x * 128 + threadIdx.x) * 4;
  if (at >= all) return;
  const size_t heads = (size_t)p.batch * p.heads, head = at / ((size_t)p.head_dim * p.state);
  float4 S = p.h0 ? *reinterpret_cast<const float4 *>(p.h0 + at) : make_float4(0.f, 0.f, 0.f, 0.f);
  *reinterpret_cast<float4 *>(segments.states + at) = S;
#pragma unroll 4
  for (int i = 1; i < segments.count; i++) {
    float4 *U = reinterpret_cast<float4 *>(segments.states + i * all + at);
    const float4 u = *U;
    const float keep = exp2_fast(segments.decay[(i - 1) * heads + head]);
    S.x = keep * S.x + u.x;
    S.y = keep * S.y + u.y;
    S.z = keep * S.z + u.z;
    S.w = keep * S.w + u.w;
    *U = S;
  }
}

}  // namespace
