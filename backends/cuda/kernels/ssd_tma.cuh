// SSD forward for sm_90a: one persistent launch, warpgroups with roles, copies by the bulk tensor engine.
//
// A block works at two strips (64 columns of one head each) of one sequence and group at a time and walks the chunks
// of 64 positions in order. Its four warpgroups:
//   load   one warp issues the copies of C and B, one those of x and y, two sum the decays of the two strips;
//   mask   K = C B^T once for both strips, then M = K o decay o dt for each, as 16-bit tiles in shared memory;
//   state  (two, one a strip) S[64 x N] in registers as f32 for the whole sequence:
//            Y^T = S C^T                columns scaled by exp(cum_l); S rounded to 16 bits is the left operand
//            Y^T += X^T M^T             X^T in registers, for it is (X w)^T before the weights
//            S = exp(cum_last) S + (X w)^T B     w_s = exp(cum_last - cum_s) dt_s; left operand in registers
// Y stands transposed so that the state never passes through shared memory: what an accumulator holds is, packed,
// a left operand. So the chain from chunk to chunk is two products and a rounding; K, decays, masks and copies run ahead.
// x comes from device memory, C and B mostly from the second-level cache, so tiles of x are fetched farther ahead. Y takes the place of
// the x it was made of, from where it is copied out.
//
// Cycles of a chunk and strip at N = 128: products 256 + 128 + 256 and half of 256; shared memory 112 KB, 880 at 128
// bytes a cycle; so 40960 chunk-strips of B=8 L=4096 H=80 over 132 multiprocessors take at least 150 us, and device memory 166.
//
// Included by ssd_fwd.cu.
#pragma once

#include "ssd_tma_chunk.cuh"

namespace {

constexpr int kStateRegisters = 192, kMaskRegisters = 96, kLoadRegisters = 32, kStepsAhead = 2;
constexpr int kTakenAhead = 3;  // chunks of a piece that are left when the next one is taken
constexpr int kTasks = 16;  // pieces that are known at a time; no warp is as many chunks behind another

template <int NT> struct TmaLayout {
  static constexpr int stages = NT == 128 ? 3 : 4;   // of C, B and decays
  static constexpr int slots = NT == 128 ? 5 : 6;  // of x and y
  static constexpr int matrix = NT / 64 * kTile;
  static constexpr int C = 0, B = matrix, stage = 2 * matrix;
  static constexpr int X = stages * stage;         // of two strips
  static constexpr int M = X + slots * 2 * kTile;  // two buffers of two strips
  static constexpr int decay = M + 4 * kTile;
  static constexpr int tasks = decay + stages * 2 * (int)sizeof(TmaDecay);
  static constexpr int full = tasks + kTasks * 16, empty = full + 8 * stages;
  static constexpr int fetched = empty + 8 * stages, written = fetched + 8 * slots;  // x; y by either strip
  static constexpr int masked = written + 16 * slots, unmasked = masked + 32, known = unmasked + 16;
  static constexpr int bytes = known + 8 * kTasks, requested = bytes + 1024;
  static_assert(requested <= 232448);
};

// Tensors [B, L, heads or groups, columns], in boxes of 64 positions and 64 columns.
struct TmaMaps {
  CUtensorMap x, y, B, C;
};

// Strip k of the two that a block works at in one sequence.
struct TmaStrip {
  int b, g, h, p0;
  bool active;
};
__device__ __forceinline__ TmaStrip tma_strip(const ssdc_ssd &p, int sequence, int k) {
  const int strips = (p.head_dim + 63) / 64, per_group = p.heads / p.groups * strips, pairs = (per_group + 1) / 2;
  const int g = sequence / pairs % p.groups, in_group = sequence % pairs * 2 + k;
  const bool active = in_group < per_group;
  const int strip = g * per_group + (active ? in_group : 0);
  return {sequence / (p.groups * pairs), g, strip / strips, strip % strips * 64, active};
}

// Where the i-th chunk of a block stands: its stage, and the parities of the barriers of stages and of pairs of buffers.
template <int Stages> struct Ring {
  int i = 0, stage = 0, phase = 0;
  __device__ __forceinline__ int buffer() const { return i & 1; }
  __device__ __forceinline__ int turn() const { return i >> 1 & 1; }
  __device__ __forceinline__ void next() {
    i++;
    if (++stage == Stages) stage = 0, phase ^= 1;
  }
};

// The pieces of a block one after the other, as a warp learns of them.
template <int NT> struct TmaPieces {
  uint32_t base;
  int n = 0;
  __device__ __forceinline__ TmaPieces(uint32_t base) : base(base) {}
  // The next one; its chain is -1 behind the last.
  __device__ __forceinline__ Piece next() {
    using Place = TmaLayout<NT>;
    const int slot = n % kTasks;
    mbarrier_wait(base + Place::known + 8 * slot, n++ / kTasks & 1);
    Piece p;
    asm volatile("ld.shared.v2.s32 {%0, %1}, [%2];\n" : "=r"(p.chain), "=r"(p.first) : "r"(base + Place::tasks + 16 * slot) : "memory");
    asm volatile("ld.shared.s32 %0, [%1];\n" : "=r"(p.last) : "r"(base + Place::tasks + 16 * slot + 8) : "memory");
    return p;
  }
};

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
  constexpr int Stages = Place::stages, Slots = Place::slots;
  // Through shuffles, so that the compiler keeps these in registers: it would read them anew, at 50 cycles each, where they are used.
  const uint32_t base = __shfl_sync(0xffffffffu, (shared_address(raw_shared) + 1023) & ~1023u, 0);
  unsigned char *shared = static_cast<unsigned char *>(__cvta_shared_to_generic(base));
  TmaDecay *decays = reinterpret_cast<TmaDecay *>(shared + Place::decay);
  const int role = __shfl_sync(0xffffffffu, threadIdx.x >> 7, 0), warp = __shfl_sync(0xffffffffu, threadIdx.x >> 5 & 3, 0);
  const int lane = __shfl_sync(0xffffffffu, threadIdx.x & 31, threadIdx.x & 31), thread = warp * 32 + lane;
  const int quad_row = lane >> 2, quad_lane = lane & 3;

  int first_task = blockIdx.x;
  if (threadIdx.x == 0) {
    if (handoff.ready) first_task = atomicAdd(handoff.ready, 1);
    for (int s = 0; s < Stages; s++) {
      mbarrier_init(base + Place::full + 8 * s, 3);  // the copies, and the decays of either strip
      mbarrier_init(base + Place::empty + 8 * s, 12);  // one from each warp of mask and state
    }
    for (int s = 0; s < Slots; s++) {
      mbarrier_init(base + Place::fetched + 8 * s, 1);
      for (int k = 0; k < 2; k++) mbarrier_init(base + Place::written + 16 * s + 8 * k, 4);
    }
    for (int i = 0; i < 4; i++) {
      mbarrier_init(base + Place::masked + 8 * i, 4);
      if (i < 2) mbarrier_init(base + Place::unmasked + 8 * i, 8);  // of a buffer, by both strips
    }
    for (int i = 0; i < kTasks; i++) mbarrier_init(base + Place::known + 8 * i, 1);
    mbarrier_init_fence();
  }
  // The blocks above the diagonal of every mask stay zero; only those on and below it are written.
  for (int i = threadIdx.x; i < 4 * kTile / 16; i += 512) *reinterpret_cast<uint4 *>(shared + Place::M + 16 * i) = make_uint4(0, 0, 0, 0);
  fence_for_wgmma();
  __syncthreads();

  const int strips = (p.head_dim + 63) / 64, pairs = (p.heads / p.groups * strips + 1) / 2;
  const Chains chains(p.batch * p.groups * pairs, (p.length + kChunk - 1) / kChunk, segments);
  TmaPieces<NT> pieces(base);

  if (role == 0) {
    registers_give<kLoadRegisters>();
    Ring<Stages> ring;
    if (warp == 0) {
      if (lane == 0) {
        tma_prefetch(&maps.B), tma_prefetch(&maps.C);
        // This warp takes the tasks and tells the others of them, a task when the copies of the one before end.
        const Tasks tasks(chains, gridDim.x, handoff.ready);
        int told = 0;
        auto take = [&] {
          Piece piece;
          do {
            if (told > 0 && !handoff.ready) piece = {-1, 0, 0};
            else piece = tasks.piece(told > 0 || first_task < 0 ? atomicAdd(handoff.ready, 1) : first_task);
            first_task = -1;
          } while (piece.chain >= 0 && piece.first >= piece.last);
          const int slot = told++ % kTasks;
          asm volatile("st.shared.v2.s32 [%0], {%1, %2};\n" ::"r"(base + Place::tasks + 16 * slot), "r"(piece.chain), "r"(piece.first) : "memory");
          asm volatile("st.shared.s32 [%0], %1;\n" ::"r"(base + Place::tasks + 16 * slot + 8), "r"(piece.last) : "memory");
          mbarrier_arrive(base + Place::known + 8 * slot);
          return piece;
        };
        Piece piece = take(), following = piece;
        for (; piece.chain >= 0; piece = following) {
          const TmaStrip w = tma_strip(p, piece.chain % chains.sequences, 0);
#pragma unroll 1
          for (int c = piece.first; c < piece.last; c++, ring.next()) {
            if (c == max(piece.first, piece.last - kTakenAhead)) following = take();
            const uint32_t to = base + ring.stage * Place::stage, bar = base + Place::full + 8 * ring.stage;
            mbarrier_wait(base + Place::empty + 8 * ring.stage, ring.phase ^ 1);
            mbarrier_expect(bar, 2 * Place::matrix);
#pragma unroll
            for (int k = 0; k < NT / 64; k++) {
              tma_load(to + Place::C + k * kTile, &maps.C, bar, 64 * k, w.g, c * kChunk, w.b, kShared);
              tma_load(to + Place::B + k * kTile, &maps.B, bar, 64 * k, w.g, c * kChunk, w.b, kShared);
            }
          }
        }
      }
    } else if (warp < 3) {
      const int k = warp - 1;
      for (Piece piece = pieces.next(); piece.chain >= 0; piece = pieces.next()) {
        const TmaStrip w = tma_strip(p, piece.chain % chains.sequences, k);
        const int h = w.h;
        const float a_scale = p.A[h] * kLog2e, bias = p.dt_bias ? p.dt_bias[h] : 0.f;
        // Step sizes as they stand in memory, fetched some chunks ahead: a warp alone waits long for them.
        auto load_steps = [&](int c) {
          const int t = c * kChunk + 2 * lane;
          const size_t at = ((size_t)w.b * p.length + t) * p.heads + h;
          return make_uint2(t < p.length ? load_dt_bits(p, at) : 0, t + 1 < p.length ? load_dt_bits(p, at + p.heads) : 0);
        };
        float lag = 0.f;
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
              tma_fill_decay<T>(p, decays[2 * ring.stage + k], steps, w.b, c * kChunk + 2 * lane, a_scale, bias, lane, lag, c + 1 == piece.last,
                                [&] { mbarrier_wait(base + Place::empty + 8 * ring.stage, ring.phase ^ 1); });
              __syncwarp();
              if (lane == 0) mbarrier_arrive(base + Place::full + 8 * ring.stage);
              ring.next();
            }
          }
        }
      }
    }
    else if (lane == 0) {
      // y goes out; as soon as it has been read, x of a later chunk comes in its place.
      tma_prefetch(&maps.x), tma_prefetch(&maps.y);
      TmaPieces<NT> ahead(base);
      Ring<Slots> to, from;
      Piece in = ahead.next();
      TmaStrip v[2] = {tma_strip(p, in.chain % chains.sequences, 0), tma_strip(p, in.chain % chains.sequences, 1)};
      auto fetch = [&] {
        if (in.chain >= 0 && in.first == in.last) {
          in = ahead.next();
          if (in.chain >= 0) v[0] = tma_strip(p, in.chain % chains.sequences, 0), v[1] = tma_strip(p, in.chain % chains.sequences, 1);
        }
        if (in.chain < 0) return;
        const uint32_t at = base + Place::X + to.stage * 2 * kTile, bar = base + Place::fetched + 8 * to.stage;
        mbarrier_expect(bar, (1 + v[1].active) * kTile);
        tma_load(at, &maps.x, bar, v[0].p0, v[0].h, in.first * kChunk, v[0].b, kStream);
        if (v[1].active) tma_load(at + kTile, &maps.x, bar, v[1].p0, v[1].h, in.first * kChunk, v[1].b, kStream);
        in.first++;
        to.next();
      };
      for (int i = 0; i < Slots; i++) fetch();
      for (Piece piece = pieces.next(); piece.chain >= 0; piece = pieces.next()) {
        const int sequence = piece.chain % chains.sequences;
        const TmaStrip w[2] = {tma_strip(p, sequence, 0), tma_strip(p, sequence, 1)};
#pragma unroll 1
        for (int c = piece.first; c < piece.last; c++, from.next()) {
#pragma unroll
          for (int k = 0; k < 2; k++) {
            mbarrier_wait(base + Place::written + 16 * from.stage + 8 * k, from.phase);
            if (w[k].active) tma_store(&maps.y, base + Place::X + (2 * from.stage + k) * kTile, w[k].p0, w[k].h, c * kChunk, w[k].b, kStream);
            tma_store_commit();
          }
          tma_store_wait_read<0>();
          fetch();
        }
      }
      tma_store_wait();
    }
  } else if (role == 1) {
    registers_give<kMaskRegisters>();
    Ring<Stages> ring;
    Piece piece = {0, 0, 0};
    float skip0 = 0.f, skip1 = 0.f;
    for (;; ring.next()) {
      if (piece.first == piece.last) {
        piece = pieces.next();
        if (piece.chain < 0) break;
        auto skip_of = [&](int k) { return p.D ? p.D[tma_strip(p, piece.chain % chains.sequences, k).h] : 0.f; };
        skip0 = skip_of(0), skip1 = skip_of(1);
      }
      piece.first++;
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
    Ring<Slots> place, place_ahead;
    auto fetch = [&](uint32_t (&X)[4][4]) {
      const uint32_t X_at = base + Place::X + place_ahead.stage * 2 * kTile + at;
      mbarrier_wait(base + Place::full + 8 * ahead.stage, ahead.phase);
      keep = decays[2 * ahead.stage + k].keep;
      ahead.next();
      mbarrier_wait(base + Place::fetched + 8 * place_ahead.stage, place_ahead.phase);
      place_ahead.next();
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
    auto publish = [&](int stage) {
      fence_for_wgmma();
      __syncwarp();
      if (lane == 0) mbarrier_arrive(base + Place::written + 16 * stage + 8 * k);
    };
    // Where this thread's first pair of a state [B,H,P,N] stands.
    auto state_at = [&](const TmaStrip &w, int pitch) { return (((size_t)w.b * p.heads + w.h) * P + w.p0 + state_row) * pitch + 2 * quad_lane; };
    for (Piece piece = pieces.next(); piece.chain >= 0; piece = pieces.next()) {
      const TmaStrip w = tma_strip(p, piece.chain % chains.sequences, k);
      const bool active = w.active;
      const int columns = min(64, P - w.p0);
      float S[NT / 2];  // rows state_row + {0, 8}, columns 8*j + 2*quad_lane + {0, 1}
      float *const slot = handoff.states + (size_t)(2 * piece.chain + k) * (64 * NT) + 4 * thread;
      int *const ready = handoff.ready + 1 + 2 * piece.chain + k;  // behind the number of tasks taken
      if (piece.first > chains.begin(piece.chain)) {
        if (thread == 0) wait_for(ready, piece.first);
        barrier_128(barrier);
#pragma unroll
        for (int j = 0; j < NT / 8; j++) {
          const float4 v = load_fresh(reinterpret_cast<const float4 *>(slot + j * 512));
          S[4 * j] = v.x, S[4 * j + 1] = v.y, S[4 * j + 2] = v.z, S[4 * j + 3] = v.w;
        }
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

      fetch(X);
      int unpublished = -1;
      for (int c = piece.first; c < piece.last; c++, ring.next(), place.next()) {
        const int s = ring.stage, buffer = ring.buffer();
        const uint32_t stage = base + s * Place::stage;
        const TmaDecay &d = decays[2 * s + k];
        const uint32_t pair = 8 * (2 * buffer + k);  // of the barrier of masks
        float Y[32];
        uint32_t left[NT / 16][4], Xw[4][4], next[4][4];
        weigh(Xw, d);
#pragma unroll
        for (int j = 0; j < NT / 16; j++) {
#pragma unroll
          for (int q = 0; q < 4; q++) left[j][q] = pack(T(), S[8 * j + 2 * q], S[8 * j + 2 * q + 1]);
        }
        // Before the products start: the compiler lets no accumulator be touched while one is under way.
        if (keep != 1.f) {
#pragma unroll
          for (int j = 0; j < NT / 2; j++) S[j] *= keep;
        }
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
        if (unpublished >= 0) publish(unpublished);
        unpublished = place.stage;
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
        __syncwarp();  // all lanes have read the decays; here, where the product is under way, it costs nothing
        if (c + 1 < piece.last) fetch(next);
        wgmma_wait<0>();
        pin(Y);
        pin(S);
        hold(Xw, base == 1, base);
        hold(X, base == 1, base);
        if (lane == 0) {
          mbarrier_arrive(base + Place::empty + 8 * s);
          mbarrier_arrive(base + Place::unmasked + 8 * buffer);
        }
#pragma unroll
        for (int j = 0; j < 4; j++) {
          uint32_t v[4];
#pragma unroll
          for (int q = 0; q < 4; q++) {
            v[q] = pack(T(), Y[8 * j + 2 * q], Y[8 * j + 2 * q + 1]);
            X[j][q] = next[j][q];
          }
          stmatrix_trans(base + Place::X + place.stage * 2 * kTile + at + 2048 * j, v[0], v[1], v[2], v[3]);
        }
      }
      publish(unpublished);

      if (piece.last < chains.end(piece.chain)) {
#pragma unroll
        for (int j = 0; j < NT / 8; j++) *reinterpret_cast<float4 *>(slot + j * 512) = make_float4(S[4 * j], S[4 * j + 1], S[4 * j + 2], S[4 * j + 3]);
        barrier_128(barrier);
        if (thread == 0) announce(ready, piece.last);
      } else if (piece.last == chains.chunks && p.hT && active) {
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
  }
#endif
}

}  // namespace
