// SSD forward for sm_90a: one persistent launch, warpgroups with roles, copies by the bulk tensor engine.
//
// A block works at two strips (64 columns of one head each) of one sequence and group at a time and walks the chunks
// of 64 positions in order. Its four warpgroups:
//   load   one warp issues the copies of C, B and x, two warps sum the decays of the two strips;
//   mask   K = C B^T once for both strips, then M = K o decay o dt for each, as 16-bit tiles in shared memory;
//   state  (two, one a strip) S[64 x N] in registers as f32 for the whole sequence:
//            Y^T = S C^T                columns scaled by exp(cum_l); S rounded to 16 bits is the left operand
//            Y^T += X^T M^T             X^T in registers, for it is (X w)^T before the weights
//            S = exp(cum_last) S + (X w)^T B     w_s = exp(cum_last - cum_s) dt_s; left operand in registers
// Y stands transposed so that the state never passes through shared memory: what an accumulator holds is, packed,
// a left operand. So the chain from chunk to chunk is two products and a rounding; K, decays, masks and copies run ahead.
//
// Cycles of a chunk and strip at N = 128: products 256 + 128 + 256 and half of 256; shared memory 112 KB, 880 at 128
// bytes a cycle; so 40960 chunk-strips of B=8 L=4096 H=80 over 132 multiprocessors take at least 150 us, and device memory 166.
//
// Included by ssd_fwd.cu.
#pragma once

#include "tma.cuh"

namespace {

constexpr int kStateRegisters = 192, kMaskRegisters = 96, kLoadRegisters = 32, kStepsAhead = 2;

// Per chunk and strip, in shared memory; cum is the inclusive sum of dt*A inside the chunk, base 2.
struct TmaDecay {
  float row[kChunk];         // exp2(cum - cum of the first of its 16 rows)
  float column[3][48];       // exp2(cum of row 16 (w+1) - cum) * dt, for rows before 16 (w+1)
  float cum[kChunk], dt[kChunk];
  float weight[kChunk];      // exp2(cum_last - cum) * dt; with bf16, pairs of them in bf16 fill the first half
  float from_state[kChunk];  // exp2(cum)
  float keep, unused[3];     // exp2(cum_last)
};

template <int NT> struct TmaLayout {
  static constexpr int stages = NT == 128 ? 3 : 4;
  static constexpr int matrix = NT / 64 * kTile;
  static constexpr int C = 0, B = matrix, X = 2 * matrix, stage = 2 * matrix + 2 * kTile;
  static constexpr int M = stages * stage;   // two buffers of two strips
  static constexpr int Y = M + 4 * kTile;    // likewise
  static constexpr int decay = Y + 4 * kTile;
  static constexpr int barriers = decay + stages * 2 * (int)sizeof(TmaDecay);
  static constexpr int full = barriers, empty = full + 8 * stages;
  static constexpr int masked = empty + 8 * stages, unmasked = masked + 32, written = unmasked + 16, stored = written + 32;
  static constexpr int bytes = stored + 32, requested = bytes + 1024;
};

// Tensors [B, L, heads or groups, columns], in boxes of 64 positions and 64 columns.
struct TmaMaps {
  CUtensorMap x, y, B, C;
};

// Strip k of the two that a block works at in one piece of its share.
struct TmaStrip {
  int b, g, h, p0;
  bool active;
};
__device__ __forceinline__ TmaStrip tma_strip(const ssdc_ssd &p, const Piece &piece, int k) {
  const int strips = (p.head_dim + 63) / 64, per_group = p.heads / p.groups * strips, pairs = (per_group + 1) / 2;
  const int g = piece.sequence / pairs % p.groups, in_group = piece.sequence % pairs * 2 + k;
  const bool active = in_group < per_group;
  const int strip = g * per_group + (active ? in_group : 0);
  return {piece.sequence / (p.groups * pairs), g, strip / strips, strip % strips * 64, active};
}

// Where chunk i of a share stands: its stage, and the parities of the barriers of stages and of pairs of buffers.
template <int Stages> struct Ring {
  int i = 0, stage = 0, phase = 0;
  __device__ __forceinline__ int buffer() const { return i & 1; }
  __device__ __forceinline__ int turn() const { return i >> 1 & 1; }
  __device__ __forceinline__ void next() {
    i++;
    if (++stage == Stages) stage = 0, phase ^= 1;
  }
};

// Whether x is weighed in its own type, two positions at a time. bf16 has the exponents of f32, so that a weight loses
// no more than x has; in fp16 small steps would vanish.
template <class T> constexpr bool kWeighPairs = false;
template <> constexpr bool kWeighPairs<__nv_bfloat16> = true;

// One warp's part: the decays of one strip, a chunk after the other. They are worked out before `room` for them is waited for.
template <class T, class Room>
__device__ __forceinline__ void tma_fill_decay(const ssdc_ssd &p, TmaDecay &d, float2 steps, int b, int t, float a_scale, float bias, int lane, Room room) {
  const float d0 = t < p.length ? step_size(p, steps.x, bias) : 0.f;
  const float d1 = t + 1 < p.length ? step_size(p, steps.y, bias) : 0.f;
  const float a1 = exponent(p, a_scale, d1, b, t + 1);
  float c1 = exponent(p, a_scale, d0, b, t) + a1;
#pragma unroll
  for (int o = 1; o < 32; o <<= 1) {
    const float v = __shfl_up_sync(0xffffffffu, c1, o);
    if (lane >= o) c1 += v;
  }
  const float c0 = c1 - a1, total = __shfl_sync(0xffffffffu, c1, 31), first = __shfl_sync(0xffffffffu, c0, lane & 24);
  float2 column[3];
#pragma unroll
  for (int w = 0; w < 3; w++) {
    const float origin = __shfl_sync(0xffffffffu, c0, 8 * (w + 1));
    column[w] = make_float2(exp2_fast(origin - c0) * d0, exp2_fast(origin - c1) * d1);
  }
  const float2 row = make_float2(exp2_fast(c0 - first), exp2_fast(c1 - first));
  const float2 weight = make_float2(exp2_fast(total - c0) * d0, exp2_fast(total - c1) * d1);
  const float2 from_state = make_float2(exp2_fast(c0), exp2_fast(c1));
  const float keep = exp2_fast(total);
  room();
  auto put = [&](float *to, float2 v) { *reinterpret_cast<float2 *>(to + 2 * lane) = v; };
  put(d.row, row);
#pragma unroll
  for (int w = 0; w < 3; w++)
    if (lane < 8 * (w + 1)) put(d.column[w], column[w]);
  put(d.cum, make_float2(c0, c1));
  put(d.dt, make_float2(d0, d1));
  if constexpr (kWeighPairs<T>) reinterpret_cast<uint32_t *>(d.weight)[lane] = pack(T(), weight.x, weight.y);
  else put(d.weight, weight);
  put(d.from_state, from_state);
  if (lane == 0) d.keep = keep;
}

// Warp W of the mask's warpgroup: rows 16 W to 16 W + 15 of M, on and below the diagonal, for both strips at once and in
// straight code for each W: a scheduler has no other warp of this role to hide behind.
template <class T, int W>
__device__ __forceinline__ void tma_mask(const float (&K)[32], const TmaDecay *decays, uint32_t M_tile, float skip0, float skip1, bool skips, int lane) {
  const int l0 = lane >> 2, s0 = 2 * (lane & 3);
  auto pair = [](const float *at) { return *reinterpret_cast<const float2 *>(at); };
  // All that is needed first: a load waits for the store in front of it.
  float row[2][2], cum[2][2];
  float2 e[2][W > 0 ? 2 * W : 1], c[2][2], dt[2][2];
#pragma unroll
  for (int head = 0; head < 2; head++) {
    const TmaDecay &d = decays[head];
#pragma unroll
    for (int j = 0; j < 2 * W; j++) e[head][j] = pair(&d.column[W > 0 ? W - 1 : 0][8 * j + s0]);
#pragma unroll
    for (int half = 0; half < 2; half++) {
      c[head][half] = pair(&d.cum[16 * W + 8 * half + s0]), dt[head][half] = pair(&d.dt[16 * W + 8 * half + s0]);
      row[head][half] = d.row[16 * W + 8 * half + l0], cum[head][half] = d.cum[16 * W + 8 * half + l0];
    }
  }
#pragma unroll
  for (int head = 0; head < 2; head++) {
    const float skip = head ? skip1 : skip0;
    uint32_t m[W + 1][4];
#pragma unroll
    for (int k = 0; k < W; k++) {
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const int j = 2 * k + half;
        m[k][2 * half] = pack(T(), K[4 * j] * (row[head][0] * e[head][j].x), K[4 * j + 1] * (row[head][0] * e[head][j].y));
        m[k][2 * half + 1] = pack(T(), K[4 * j + 2] * (row[head][1] * e[head][j].x), K[4 * j + 3] * (row[head][1] * e[head][j].y));
      }
    }
    float v[2][4];
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const int j = 2 * W + half, s = 8 * half + s0;
      const float2 at = c[head][half], step = dt[head][half];
      v[half][0] = s <= l0 ? K[4 * j] * (exp2_fast(cum[head][0] - at.x) * step.x) : 0.f;
      v[half][1] = s + 1 <= l0 ? K[4 * j + 1] * (exp2_fast(cum[head][0] - at.y) * step.y) : 0.f;
      v[half][2] = s <= l0 + 8 ? K[4 * j + 2] * (exp2_fast(cum[head][1] - at.x) * step.x) : 0.f;
      v[half][3] = s + 1 <= l0 + 8 ? K[4 * j + 3] * (exp2_fast(cum[head][1] - at.y) * step.y) : 0.f;
    }
    if (skips) {  // y += D x: rows and columns agree in the first half for rows below 8, else in the second
      v[0][0] += s0 == l0 ? skip : 0.f;
      v[0][1] += s0 + 1 == l0 ? skip : 0.f;
      v[1][2] += s0 == l0 ? skip : 0.f;
      v[1][3] += s0 + 1 == l0 ? skip : 0.f;
    }
    m[W][0] = pack(T(), v[0][0], v[0][1]), m[W][1] = pack(T(), v[0][2], v[0][3]);
    m[W][2] = pack(T(), v[1][0], v[1][1]), m[W][3] = pack(T(), v[1][2], v[1][3]);
#pragma unroll
    for (int k = 0; k <= W; k++)
      stmatrix((M_tile + head * kTile + tile_at(W * 16 + (lane & 15), lane >> 4)) ^ k << 5, m[k][0], m[k][1], m[k][2], m[k][3]);
  }
}

// Descriptors are read where they stand, in the parameters of the kernel: a function of another kernel gets them by reference.
#ifdef SSDC_DEVICE_ONLY
#define SSDC_IN_PLACE(type) const type &
#else
#define SSDC_IN_PLACE(type) const __grid_constant__ type
#endif

template <class T, int NT>
__global__ void __launch_bounds__(512, 1) ssd_forward_tma(SSDC_IN_PLACE(ssdc_ssd) p, SSDC_IN_PLACE(TmaMaps) maps, Handoff handoff, Segments segments) {
#if SSDC_WGMMA
  using Place = TmaLayout<NT>;
  constexpr int Stages = Place::stages;
  // Through shuffles, so that the compiler keeps these in registers: it would read them anew, at 50 cycles each, where they are used.
  const uint32_t base = __shfl_sync(0xffffffffu, (shared_address(raw_shared) + 1023) & ~1023u, 0);
  unsigned char *shared = static_cast<unsigned char *>(__cvta_shared_to_generic(base));
  TmaDecay *decays = reinterpret_cast<TmaDecay *>(shared + Place::decay);
  const int role = __shfl_sync(0xffffffffu, threadIdx.x >> 7, 0), warp = __shfl_sync(0xffffffffu, threadIdx.x >> 5 & 3, 0);
  const int lane = __shfl_sync(0xffffffffu, threadIdx.x & 31, threadIdx.x & 31), thread = warp * 32 + lane;
  const int quad_row = lane >> 2, quad_lane = lane & 3;

  if (threadIdx.x == 0) {
    for (int s = 0; s < Stages; s++) {
      mbarrier_init(base + Place::full + 8 * s, 3);  // the copies, and the decays of either strip
      mbarrier_init(base + Place::empty + 8 * s, 12);  // one from each warp of mask and state
    }
    for (int i = 0; i < 4; i++) {
      mbarrier_init(base + Place::masked + 8 * i, 4);
      if (i < 2) mbarrier_init(base + Place::unmasked + 8 * i, 8);  // of a buffer, by both strips
      mbarrier_init(base + Place::written + 8 * i, 4);
      mbarrier_init(base + Place::stored + 8 * i, 1);
    }
    mbarrier_init_fence();
  }
  // The blocks above the diagonal of every mask stay zero; only those on and below it are written.
  for (int i = threadIdx.x; i < 4 * kTile / 16; i += 512) *reinterpret_cast<uint4 *>(shared + Place::M + 16 * i) = make_uint4(0, 0, 0, 0);
  fence_for_wgmma();
  __syncthreads();

  const int strips = (p.head_dim + 63) / 64, pairs = (p.heads / p.groups * strips + 1) / 2;
  const int chunks = (p.length + kChunk - 1) / kChunk;
  const Share share((long long)p.batch * p.groups * pairs, chunks, blockIdx.x, gridDim.x, segments.count ? segments.chunks : 1);

  if (role == 0) {
    registers_give<kLoadRegisters>();
    Ring<Stages> ring;
    if (warp == 0) {
      if (lane == 0) {
        tma_prefetch(&maps.x), tma_prefetch(&maps.y), tma_prefetch(&maps.B), tma_prefetch(&maps.C);
        for (int n = 0; n < share.pieces(); n++) {
          const Piece piece = share.piece(n);
          const TmaStrip w = tma_strip(p, piece, 0), v = tma_strip(p, piece, 1);
#pragma unroll 1
          for (int c = piece.first; c < piece.last; c++, ring.next()) {
            const int t0 = c * kChunk;
            const uint32_t to = base + ring.stage * Place::stage, bar = base + Place::full + 8 * ring.stage;
            mbarrier_wait(base + Place::empty + 8 * ring.stage, ring.phase ^ 1);
            mbarrier_expect(bar, 2 * Place::matrix + (1 + v.active) * kTile);
#pragma unroll
            for (int k = 0; k < NT / 64; k++) {
              tma_load(to + Place::C + k * kTile, &maps.C, bar, 64 * k, w.g, t0, w.b, kShared);
              tma_load(to + Place::B + k * kTile, &maps.B, bar, 64 * k, w.g, t0, w.b, kShared);
            }
            tma_load(to + Place::X, &maps.x, bar, w.p0, w.h, t0, w.b, kStream);
            if (v.active) tma_load(to + Place::X + kTile, &maps.x, bar, v.p0, v.h, t0, v.b, kStream);
          }
        }
      }
    } else if (warp < 3) {
      const int k = warp - 1;
      for (int n = 0; n < share.pieces(); n++) {
        const Piece piece = share.piece(n);
        const TmaStrip w = tma_strip(p, piece, k);
        const int h = w.h;
        const float a_scale = p.A[h] * kLog2e, bias = p.dt_bias ? p.dt_bias[h] : 0.f;
        // Step sizes as they stand in memory, fetched some chunks ahead: a warp alone waits long for them.
        auto load_steps = [&](int c) {
          const int t = c * kChunk + 2 * lane;
          const size_t at = ((size_t)w.b * p.length + t) * p.heads + h;
          return make_uint2(t < p.length ? load_dt_bits(p, at) : 0, t + 1 < p.length ? load_dt_bits(p, at + p.heads) : 0);
        };
        uint2 ahead[kStepsAhead];
#pragma unroll
        for (int a = 0; a < kStepsAhead; a++) ahead[a] = load_steps(piece.first + a);
        for (int c0 = piece.first; c0 < piece.last; c0 += kStepsAhead) {
#pragma unroll
          for (int a = 0; a < kStepsAhead; a++) {
            const int c = c0 + a;
            if (c < piece.last) {
              const float2 steps = make_float2(dt_value(p, ahead[a].x), dt_value(p, ahead[a].y));
              ahead[a] = load_steps(c + kStepsAhead);
              tma_fill_decay<T>(p, decays[2 * ring.stage + k], steps, w.b, c * kChunk + 2 * lane, a_scale, bias, lane,
                                [&] { mbarrier_wait(base + Place::empty + 8 * ring.stage, ring.phase ^ 1); });
              __syncwarp();
              if (lane == 0) mbarrier_arrive(base + Place::full + 8 * ring.stage);
              ring.next();
            }
          }
        }
      }
    }
    else if (lane == 0) {  // outputs; a buffer is free once the store behind it has been issued and it has been read
      uint32_t before = 0;
      for (int n = 0; n < share.pieces(); n++) {
        const Piece piece = share.piece(n);
        const TmaStrip w[2] = {tma_strip(p, piece, 0), tma_strip(p, piece, 1)};
#pragma unroll 1
        for (int c = piece.first; c < piece.last; c++, ring.next()) {
#pragma unroll
          for (int k = 0; k < 2; k++) {
            const int buffer = 2 * ring.buffer() + k;
            mbarrier_wait(base + Place::written + 8 * buffer, ring.turn());
            if (w[k].active) tma_store(&maps.y, base + Place::Y + buffer * kTile, w[k].p0, w[k].h, c * kChunk, w[k].b, kStream);
            tma_store_commit();
            tma_store_wait_read<1>();
            if (before) mbarrier_arrive(before);
            before = base + Place::stored + 8 * buffer;
          }
        }
      }
      tma_store_wait();
    }
  } else if (role == 1) {
    registers_give<kMaskRegisters>();
    const int total = share.total();
    Ring<Stages> ring;
    int n = 0;
    Piece piece = share.piece(0);
    int c = piece.first;
    auto skip_of = [&](int k) { return p.D ? p.D[tma_strip(p, piece, k).h] : 0.f; };
    float skip0 = skip_of(0), skip1 = skip_of(1);
    for (; ring.i < total; ring.next()) {
      // The same in all lanes, and known to be: descriptors are then made by the uniform datapath.
      const int s = __shfl_sync(0xffffffffu, ring.stage, 0), buffer = ring.buffer();
      const uint32_t stage = base + s * Place::stage;
      mbarrier_wait(base + Place::full + 8 * s, ring.phase);
      float K[32];
      const uint64_t dC = tile_descriptor(stage + Place::C, 16), dB = tile_descriptor(stage + Place::B, 16);
      wgmma_begin();
#pragma unroll
      for (int k = 0; k < NT / 16; k++) {
        const int off = (k >> 2) * (kTile >> 4) + (k & 3) * 2;  // 16 columns are 32 bytes
        Wgmma<64, false>::mma(T(), K, dC + off, dB + off, k > 0);
      }
      wgmma_commit();
      mbarrier_wait(base + Place::unmasked + 8 * buffer, ring.turn() ^ 1);
      wgmma_wait<0>();
      pin(K);
      const TmaDecay *d = decays + 2 * s;
      const uint32_t M_tile = base + Place::M + 2 * buffer * kTile;
      switch (warp) {
      case 0: tma_mask<T, 0>(K, d, M_tile, skip0, skip1, p.D, lane); break;
      case 1: tma_mask<T, 1>(K, d, M_tile, skip0, skip1, p.D, lane); break;
      case 2: tma_mask<T, 2>(K, d, M_tile, skip0, skip1, p.D, lane); break;
      default: tma_mask<T, 3>(K, d, M_tile, skip0, skip1, p.D, lane);
      }
      fence_for_wgmma();
      __syncwarp();
      if (lane < 2) mbarrier_arrive(base + Place::masked + 16 * buffer + 8 * lane);
      __syncwarp();
      if (lane == 0) mbarrier_arrive(base + Place::empty + 8 * s);
      if (++c == piece.last && ring.i + 1 < total) {
        piece = share.piece(++n);
        c = piece.first;
        skip0 = skip_of(0), skip1 = skip_of(1);
      }
    }
  } else {
    registers_take<kStateRegisters>();
    const int k = role - 2;  // which strip
    const int state_row = warp * 16 + quad_row;
    // Where this lane's rows of a tile of x or y stand, 16 positions after the other at 2048 bytes.
    const uint32_t at = k * kTile + tile_at((lane & 7) + ((lane >> 4) << 3), 2 * warp + ((lane >> 3) & 1));
    const int barrier = 1 + k;
    const int N = p.state, P = p.head_dim;
    uint32_t X[4][4];  // X^T of a chunk, as a left operand
    float keep = 0.f;
    Ring<Stages> ring, ahead;  // of the state and of what is fetched
    auto fetch = [&](uint32_t (&X)[4][4]) {
      const uint32_t X_at = base + ahead.stage * Place::stage + Place::X + at;
      mbarrier_wait(base + Place::full + 8 * ahead.stage, ahead.phase);
      keep = decays[2 * ahead.stage + k].keep;
      ahead.next();
#pragma unroll
      for (int j = 0; j < 4; j++) ldmatrix_trans(X[j], X_at + 2048 * j);
    };
    auto weigh = [&](uint32_t (&Xw)[4][4], const TmaDecay &d) {
#pragma unroll
      for (int j = 0; j < 4; j++) {
        if constexpr (kWeighPairs<T>) {
          const uint32_t *w = reinterpret_cast<const uint32_t *>(d.weight) + 8 * j + quad_lane;
#pragma unroll
          for (int q = 0; q < 4; q++) Xw[j][q] = product_of_pairs(X[j][q], w[q < 2 ? 0 : 4]);
        } else {
          const float2 w0 = *reinterpret_cast<const float2 *>(&d.weight[j * 16 + 2 * quad_lane]);
          const float2 w1 = *reinterpret_cast<const float2 *>(&d.weight[j * 16 + 8 + 2 * quad_lane]);
#pragma unroll
          for (int q = 0; q < 4; q++) {
            const float2 v = unpack(T(), X[j][q]), f = q < 2 ? w0 : w1;
            Xw[j][q] = pack(T(), v.x * f.x, v.y * f.y);
          }
        }
      }
    };
    auto publish = [&](int buffer) {
      fence_for_wgmma();
      __syncwarp();
      if (lane == 0) mbarrier_arrive(base + Place::written + 8 * (2 * buffer + k));
    };
    // Where this thread's first pair of a state [B,H,P,N] stands.
    auto state_at = [&](const TmaStrip &w, int pitch) { return (((size_t)w.b * p.heads + w.h) * P + w.p0 + state_row) * pitch + 2 * quad_lane; };
    const int total = share.total();
    if (total > 0) fetch(X);
    for (int n = 0; n < share.pieces(); n++) {
      const Piece piece = share.piece(n);
      const TmaStrip w = tma_strip(p, piece, k);
      const bool active = w.active;
      const int columns = min(64, P - w.p0);
      float S[NT / 2];  // rows state_row + {0, 8}, columns 8*j + 2*quad_lane + {0, 1}
      if (piece.first > 0 && !segments.count) {
        if (thread == 0) wait_for(handoff.ready + 2 * (blockIdx.x - 1) + k);
        barrier_128(barrier);
        const float *from = handoff.states + (size_t)(2 * (blockIdx.x - 1) + k) * (64 * NT) + thread;
#pragma unroll
        for (int j = 0; j < NT / 2; j++) S[j] = load_fresh(from + j * 128);
      } else {
        const int pitch = segments.count ? N : pitch_of(p);
        const float *all = segments.count ? segments.states + (size_t)(piece.first / segments.chunks) * p.batch * p.heads * P * N : p.h0;
        const bool given = all && active;
        const float *from = given ? all + state_at(w, pitch) : nullptr;
#pragma unroll
        for (int j = 0; j < NT / 8; j++) {
#pragma unroll
          for (int q = 0; q < 2; q++) {
            float2 v = make_float2(0.f, 0.f);
            if (given && 8 * j < N && state_row + 8 * q < columns) v = *reinterpret_cast<const float2 *>(from + 8 * q * pitch + 8 * j);
            S[4 * j + 2 * q] = v.x;
            S[4 * j + 2 * q + 1] = v.y;
          }
        }
      }

      for (int c = piece.first; c < piece.last; c++, ring.next()) {
        const int s = ring.stage, buffer = ring.buffer();
        const uint32_t stage = base + s * Place::stage;
        const TmaDecay &d = decays[2 * s + k];
        const uint32_t pair = 8 * (2 * buffer + k);  // of the barriers of masks and outputs
        float Y[32];
        uint32_t left[NT / 16][4], Xw[4][4], next[4][4];
        weigh(Xw, d);
#pragma unroll
        for (int j = 0; j < NT / 16; j++) {
#pragma unroll
          for (int q = 0; q < 4; q++) left[j][q] = pack(T(), S[8 * j + 2 * q], S[8 * j + 2 * q + 1]);
        }
        // Before the products start: the compiler lets no accumulator be touched while one is under way.
#pragma unroll
        for (int j = 0; j < NT / 2; j++) S[j] *= keep;
        const uint64_t dC = tile_descriptor(stage + Place::C, 16), dB = tile_descriptor(stage + Place::B, kTile);
        pin(S);
        wgmma_begin();
#pragma unroll
        for (int j = 0; j < NT / 16; j++) Wgmma<64, true, false>::mma(T(), Y, left[j], dC + (j >> 2) * (kTile >> 4) + (j & 3) * 2, j > 0);
        wgmma_commit();
#pragma unroll
        for (int j = 0; j < 4; j++) Wgmma<NT, true>::mma(T(), S, Xw[j], dB + j * (2048 >> 4), 1);
        wgmma_commit();

        // Behind the products: the output of the chunk before goes out, which was written before them.
        if (ring.i > 0) publish(ring.buffer() ^ 1);
        wgmma_wait<1>();
        pin(Y);
        hold(left, base == 1, base);
        float2 f[8];
#pragma unroll
        for (int j = 0; j < 8; j++) f[j] = *reinterpret_cast<const float2 *>(&d.from_state[8 * j + 2 * quad_lane]);
#pragma unroll
        for (int j = 0; j < 8; j++) {
          Y[4 * j] *= f[j].x;
          Y[4 * j + 1] *= f[j].y;
          Y[4 * j + 2] *= f[j].x;
          Y[4 * j + 3] *= f[j].y;
        }
        mbarrier_wait(base + Place::masked + pair, ring.turn());
        const uint64_t dM = tile_descriptor(base + Place::M + (2 * buffer + k) * kTile, 16);
        pin(Y);
        wgmma_begin();
#pragma unroll
        for (int j = 0; j < 4; j++) Wgmma<64, true, false>::mma(T(), Y, X[j], dM + j * 2, 1);
        wgmma_commit();
        if (ahead.i < total) fetch(next);
        wgmma_wait<0>();
        pin(Y);
        pin(S);
        hold(Xw, base == 1, base);
        hold(X, base == 1, base);
        if (lane == 0) {
          mbarrier_arrive(base + Place::empty + 8 * s);
          mbarrier_arrive(base + Place::unmasked + 8 * buffer);
        }
        mbarrier_wait(base + Place::stored + pair, ring.turn() ^ 1);
#pragma unroll
        for (int j = 0; j < 4; j++) {
          uint32_t v[4];
#pragma unroll
          for (int q = 0; q < 4; q++) {
            v[q] = pack(T(), Y[8 * j + 2 * q], Y[8 * j + 2 * q + 1]);
            X[j][q] = next[j][q];
          }
          stmatrix_trans(base + Place::Y + 2 * buffer * kTile + at + 2048 * j, v[0], v[1], v[2], v[3]);
        }
      }

      if (piece.last < chunks) {
        if (segments.count) continue;
        float *to = handoff.states + (size_t)(2 * blockIdx.x + k) * (64 * NT) + thread;
#pragma unroll
        for (int j = 0; j < NT / 2; j++) to[j * 128] = S[j];
        __threadfence();
        barrier_128(barrier);
        if (thread == 0) announce(handoff.ready + 2 * blockIdx.x + k);
      } else if (p.hT && active) {
        const int pitch = pitch_of(p);
        float *to = p.hT + state_at(w, pitch);
#pragma unroll
        for (int j = 0; j < NT / 8; j++) {
#pragma unroll
          for (int q = 0; q < 2; q++) {
            if (8 * j < N && state_row + 8 * q < columns)
              *reinterpret_cast<float2 *>(to + 8 * q * pitch + 8 * j) = make_float2(S[4 * j + 2 * q], S[4 * j + 2 * q + 1]);
          }
        }
      }
    }
    if (total > 0) publish(total - 1 & 1);
  }
#endif
}

}  // namespace
