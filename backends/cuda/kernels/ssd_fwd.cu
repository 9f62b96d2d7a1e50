// SSD forward (Mamba-2) in one launch: chunked, state on chip.
//
// One warpgroup (4 warps) owns one head of one sequence, or 64 columns of it when
// P > 64, and walks the chunks of 64 positions in order. Its state S[64 x N] stays in
// registers as f32 for the whole sequence; nothing but the inputs is read from device
// memory and nothing but y (and the last state) is written. A block holds `Heads`
// warpgroups of the same group, which share the chunk's B and C tiles.
//
// Per chunk, with cum = inclusive sum of dt*A inside the chunk (SSD.md 1.4):
//   K = C B^T                                [64 x 64]   shared memory x shared memory
//   Y = C S^T, rows scaled by exp(cum_l)     [64 x 64]   S rounded to 16 bits in shared memory
//   Y += (K o decay o dt) X                  [64 x 64]   left operand in registers
//   S = exp(cum_last) S + (X w)^T B          [64 x N]    left operand in registers,
//                                                        w_s = exp(cum_last - cum_s) dt_s
// C B^T is recomputed for each head: at chunk 64 it is 256 of 896 tensor-core cycles.
//
// Limits, B=8 L=4096 H=80 P=64 N=128 G=1 in bf16: x and y 671 MB, B and C 17 MB, dt (f32)
// 10 MB, last state 21 MB: about 714 MB, 166 us at 4.3 TB/s. Products: 14.7 MFLOP per 4 chunks
// and head, 150 GFLOP with whole 64 x 64 blocks, 190 us at 790 TFLOP/s; sharing C B^T between
// two heads would make it 129 GFLOP. Reads through L2: x once, B and C once per block:
// 1.0 GB with two heads a block, 0.8 GB with three.
//
// Exponentials: off the diagonal blocks of 16 rows the decay factors into a row and a
// column part, both at most 1, so a thread evaluates 22 instead of 32 in a chunk.
#include "ssd.h"
#ifdef SSDC_EMULATE
#include "emulate/device.h"
#else
#include "tensorcore.cuh"
#ifndef SSDC_DEVICE_ONLY  // without the launches below: ssd_entry.cu
#include <algorithm>
#include <cuda_runtime.h>
#endif
#endif

#include "ssd_plan.cuh"

extern __shared__ unsigned char raw_shared[];

namespace {

constexpr int kChunk = 64;
constexpr float kLog2e = 1.4426950408889634f;

}  // namespace

#include "ssd_decay.cuh"

namespace {

template <int NT, int Heads> struct Layout {
  static constexpr int matrix = NT / 64 * kTile;
  static constexpr int C = 0, B = matrix, X = 2 * matrix;
  static constexpr int stage = 2 * matrix + Heads * kTile;
  static constexpr int S = 2 * stage;
  static constexpr int decay = S + Heads * matrix;
  static constexpr int bytes = decay + 2 * Heads * (int)sizeof(Decay);
  static constexpr int requested = bytes + 1024;  // tiles start at a multiple of 1024
};

// d[16 rows of this warp x Cols] += A B^T; both tiles have k contiguous, K = NT.
// Column blocks of 16 beyond `last` are left alone (their result is masked).
template <class T, int Cols, int NT>
__device__ __forceinline__ void mma_shared(float (&d)[Cols / 2], uint32_t A, uint32_t B, int warp, int lane, int last) {
  const int arow = warp * 16 + (lane & 15), achunk = lane >> 4;
  const int brow = (lane & 7) + ((lane >> 4) << 3), bchunk = (lane >> 3) & 1;
#pragma unroll
  for (int k = 0; k < NT / 16; k++) {
    uint32_t a[4];
    ldmatrix(a, A + tile_at(arow, 2 * k + achunk));
#pragma unroll
    for (int j = 0; j < Cols / 16; j++) {
      if (j <= last) {
        uint32_t b[4];
        ldmatrix(b, B + tile_at(j * 16 + brow, 2 * k + bchunk));
        mma16816(T(), d + 8 * j, a, b[0], b[1]);
        mma16816(T(), d + 8 * j + 4, a, b[2], b[3]);
      }
    }
  }
}

// d[16 x Cols] += A B with A in registers and the columns of B contiguous, K = 64.
// Blocks of 16 k beyond `last` are skipped (their A is zero).
template <class T, int Cols>
__device__ __forceinline__ void mma_registers(float (&d)[Cols / 2], const uint32_t (&a)[4][4], uint32_t B, int lane, int last) {
  const int brow = lane & 15, bchunk = lane >> 4;
#pragma unroll
  for (int k = 0; k < 4; k++) {
    if (k <= last) {
#pragma unroll
      for (int j = 0; j < Cols / 16; j++) {
        uint32_t b[4];
        ldmatrix_trans(b, B + tile_at(k * 16 + brow, 2 * j + bchunk));
        mma16816(T(), d + 8 * j, a[k], b[0], b[1]);
        mma16816(T(), d + 8 * j + 4, a[k], b[2], b[3]);
      }
    }
  }
}

// (X w)^T as a left operand: rows are this warp's 16 columns of X, k is the position.
template <class T>
__device__ __forceinline__ void weighted_columns(uint32_t (&Xw)[4][4], uint32_t X_tile, const Decay &decay, int warp, int lane) {
#pragma unroll
  for (int k = 0; k < 4; k++) {
    uint32_t r[4];
    ldmatrix_trans(r, X_tile + tile_at(k * 16 + (lane & 7) + ((lane >> 4) << 3), warp * 2 + ((lane >> 3) & 1)));
    const float2 w0 = *reinterpret_cast<const float2 *>(&decay.weight[k * 16 + 2 * (lane & 3)]);
    const float2 w1 = *reinterpret_cast<const float2 *>(&decay.weight[k * 16 + 8 + 2 * (lane & 3)]);
#pragma unroll
    for (int i = 0; i < 4; i++) {
      const float2 v = unpack(T(), r[i]), w = i < 2 ? w0 : w1;
      Xw[k][i] = pack(T(), v.x * w.x, v.y * w.y);
    }
  }
}

// 4 x 4 words between the 4 lanes of a quad: afterwards v[i] is what lane i held in v[lane % 4].
__device__ __forceinline__ void transpose_quad(uint32_t (&v)[4], int lane) {
  const bool odd = lane & 1, high = lane & 2;
  uint32_t s = odd ? v[0] : v[1], t = odd ? v[2] : v[3];
  s = __shfl_xor_sync(0xffffffffu, s, 1);
  t = __shfl_xor_sync(0xffffffffu, t, 1);
  if (odd) { v[0] = s; v[2] = t; } else { v[1] = s; v[3] = t; }
  s = high ? v[0] : v[2];
  t = high ? v[1] : v[3];
  s = __shfl_xor_sync(0xffffffffu, s, 2);
  t = __shfl_xor_sync(0xffffffffu, t, 2);
  if (high) { v[0] = s; v[1] = t; } else { v[2] = s; v[3] = t; }
}

// T: 16-bit type; NT: N rounded up to 64 or 128; Heads: warpgroups of a block;
// Wg: products by wgmma (sm_90a), else by mma.sync.
template <class T, int NT, int Heads, bool Wg>
__global__ void __launch_bounds__(128 * Heads, 1) ssd_forward(const __grid_constant__ ssdc_ssd p, Handoff handoff, Segments segments) {
#if !SSDC_WGMMA
  if constexpr (Wg) return;
#endif
  using Place = Layout<NT, Heads>;
  unsigned char *shared = raw_shared + ((1024 - (shared_address(raw_shared) & 1023)) & 1023);
  const uint32_t base = shared_address(shared);

  const int thread = threadIdx.x, wg = thread >> 7, warp = (thread >> 5) & 3, lane = thread & 31;
  const int quad_row = lane >> 2, quad_lane = lane & 3;
  const int L = p.length, H = p.heads, P = p.head_dim, G = p.groups, N = p.state, pitch = pitch_of(p);

  // A strip is 64 columns of one head; a block works at `Heads` strips of one sequence and group
  // at a time, and those that share B and C are neighbours.
  const int strips = (P + 63) / 64, per_group = H / G * strips;
  const int blocks = (per_group + Heads - 1) / Heads;
  const size_t row = (size_t)H * P, bc_row = (size_t)G * pitch;
  const uint32_t S_tile = base + Place::S + wg * Place::matrix;
  Decay *decays = reinterpret_cast<Decay *>(shared + Place::decay) + 2 * wg;
  const int state_row = warp * 16 + quad_row;
  const Chains chains(p.batch * G * blocks, (L + kChunk - 1) / kChunk, segments);
  const Share share(chains, blockIdx.x, gridDim.x);

  const int pieces = share.pieces();
  for (int piece_index = 0; piece_index < pieces; piece_index++) {
    const Piece piece = share.piece(piece_index);
    if (piece.first >= piece.last) continue;  // the last front may be shorter
    const int sequence = piece.chain % chains.sequences;
    const int b = sequence / (G * blocks), g = sequence / blocks % G;
    const int in_group = sequence % blocks * Heads + wg;
    const bool active = in_group < per_group;
    const int strip = g * per_group + (active ? in_group : 0);
    const int h = strip / strips, p0 = strip % strips * 64, columns = min(64, P - p0);

    const T *x = static_cast<const T *>(p.x) + ((size_t)b * L * H + h) * P + p0;
    const T *z = p.z ? static_cast<const T *>(p.z) + ((size_t)b * L * H + h) * P + p0 : nullptr;
    T *y = static_cast<T *>(p.y) + ((size_t)b * L * H + h) * P + p0;
    const T *Bm = static_cast<const T *>(p.Bm) + ((size_t)b * L * G + g) * pitch;
    const T *Cm = static_cast<const T *>(p.Cm) + ((size_t)b * L * G + g) * pitch;
    const float a_scale = p.A[h] * kLog2e, bias = p.dt_bias ? p.dt_bias[h] : 0.f, skip = p.D ? p.D[h] : 0.f;

    auto load_chunk = [&](int c) {
      const uint32_t to = base + (c & 1) * Place::stage;
      const int t0 = c * kChunk;
      constexpr int per_row = NT / 8;
      for (int i = thread; i < kChunk * per_row; i += 128 * Heads) {
        const int r = i / per_row, chunk = i % per_row;
        const bool valid = t0 + r < L && chunk * 8 < N;
        const size_t at = valid ? (t0 + r) * bc_row + chunk * 8 : 0;
        const uint32_t off = tile_at(r, chunk);
        copy16(to + Place::C + off, Cm + at, valid);
        copy16(to + Place::B + off, Bm + at, valid);
      }
#pragma unroll
      for (int k = 0; k < 4; k++) {
        const int i = k * 128 + (thread & 127);
        const int r = i >> 3, chunk = i & 7;
        const bool valid = active && t0 + r < L && chunk * 8 < columns;
        const size_t at = valid ? (t0 + r) * row + chunk * 8 : 0;
        copy16(to + Place::X + wg * kTile + tile_at(r, chunk), x + at, valid);
      }
      copy_commit();
    };
    // Raw step sizes of rows 2*lane and 2*lane+1, fetched a chunk ahead by warp 0.
    auto load_steps = [&](int c) {
      float2 v = make_float2(0.f, 0.f);
      const int t = c * kChunk + 2 * lane;
      if (t < L) v.x = load_dt(p, ((size_t)b * L + t) * H + h);
      if (t + 1 < L) v.y = load_dt(p, ((size_t)b * L + t + 1) * H + h);
      return v;
    };

    // The state: thread holds rows warp*16 + quad_row + {0, 8}, columns 8*j + 2*quad_lane + {0, 1}.
    float S[NT / 2];
    __syncthreads();  // the piece before has read its tiles
    load_chunk(piece.first);
    float2 steps = warp == 0 ? load_steps(piece.first) : make_float2(0.f, 0.f);
    if (piece.first > chains.begin(piece.chain)) {
      if (thread == 0) wait_for(handoff.ready + blockIdx.x - 1, piece.first);
      __syncthreads();
      const float *from = handoff.states + (size_t)(blockIdx.x - 1) * (64 * NT * Heads) + thread;
#pragma unroll
      for (int i = 0; i < NT / 2; i++) S[i] = load_fresh(from + i * 128 * Heads);
    } else {
      const int from = segments.count ? N : pitch;
      const float *initial = segments.count ? segments.states + (size_t)(piece.first / segments.chunks) * p.batch * row * N : p.h0;
#pragma unroll
    for (int j = 0; j < NT / 8; j++) {
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int pr = state_row + 8 * i, n = 8 * j + 2 * quad_lane;
        float2 v = make_float2(0.f, 0.f);
        if (initial && active && pr < columns && n < N)
          v = *reinterpret_cast<const float2 *>(initial + (((size_t)b * H + h) * P + p0 + pr) * from + n);
        S[4 * j + 2 * i] = v.x;
        S[4 * j + 2 * i + 1] = v.y;
      }
    }
    }
    auto publish_state = [&]() {
#pragma unroll
      for (int j = 0; j < NT / 8; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const uint32_t at = Place::S + wg * Place::matrix + tile_at(state_row + 8 * i, j) + 4 * quad_lane;
          *reinterpret_cast<uint32_t *>(shared + at) = pack(T(), S[4 * j + 2 * i], S[4 * j + 2 * i + 1]);
        }
      }
    };
    publish_state();

    for (int c = piece.first; c < piece.last; c++) {
      const int t0 = c * kChunk;
      const uint32_t stage = base + (c & 1) * Place::stage;
      const uint32_t C_tile = stage + Place::C, B_tile = stage + Place::B, X_tile = stage + Place::X + wg * kTile;
      Decay &decay = decays[c & 1];

      if (warp == 0) fill_decay(p, decay, steps, b, t0, a_scale, bias, lane);
      // Publishes this chunk's tiles, the state's tile and the decays; and every warp is
      // done with the other stage, which the next load overwrites.
      copy_wait_all();
      if constexpr (Wg) fence_for_wgmma();
      __syncthreads();
      if (c + 1 < piece.last) {
        load_chunk(c + 1);
        if (warp == 0) steps = load_steps(c + 1);
      }

      float K[32], Y[32];
      if constexpr (Wg) {
#if SSDC_WGMMA
        const uint64_t dC = tile_descriptor(C_tile, 16), dB = tile_descriptor(B_tile, 16), dS = tile_descriptor(S_tile, 16);
        wgmma_begin();
#pragma unroll
        for (int k = 0; k < NT / 16; k++) {
          const int off = (k >> 2) * (kTile >> 4) + (k & 3) * 2;  // 16 columns are 32 bytes
          Wgmma<64, false>::mma(T(), K, dC + off, dB + off, k > 0);
        }
        wgmma_commit();
#pragma unroll
        for (int k = 0; k < NT / 16; k++) {
          const int off = (k >> 2) * (kTile >> 4) + (k & 3) * 2;
          Wgmma<64, false>::mma(T(), Y, dC + off, dS + off, k > 0);
        }
        wgmma_commit();
#endif
      } else {
#pragma unroll
        for (int i = 0; i < 32; i++) K[i] = Y[i] = 0.f;
        mma_shared<T, 64, NT>(K, C_tile, B_tile, warp, lane, warp);
        mma_shared<T, 64, NT>(Y, C_tile, S_tile, warp, lane, 3);
      }

      const int l0 = warp * 16 + quad_row;
      const float cum0 = decay.cum[l0], cum1 = decay.cum[l0 + 8], origin = decay.cum[warp * 16];
      const float keep = exp2_fast(decay.cum[kChunk - 1]);
      const float row0 = exp2_fast(cum0 - origin), row1 = exp2_fast(cum1 - origin);

#if SSDC_WGMMA
      if constexpr (Wg) {
        wgmma_wait<1>();
        pin(K);
      }
#endif
      // K o decay o dt, rounded, in the layout of a left operand.
      uint32_t M[4][4];
#pragma unroll
      for (int k = 0; k < 4; k++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const int j = 2 * k + half, s = 8 * j + 2 * quad_lane;
          float v0 = 0.f, v1 = 0.f, v2 = 0.f, v3 = 0.f;
          if (k <= warp) {
            const float2 cs = *reinterpret_cast<const float2 *>(&decay.cum[s]);
            const float2 ds = *reinterpret_cast<const float2 *>(&decay.dt[s]);
            if (k < warp) {
              const float e0 = exp2_fast(origin - cs.x) * ds.x, e1 = exp2_fast(origin - cs.y) * ds.y;
              v0 = K[4 * j] * (row0 * e0);
              v1 = K[4 * j + 1] * (row0 * e1);
              v2 = K[4 * j + 2] * (row1 * e0);
              v3 = K[4 * j + 3] * (row1 * e1);
            } else {
              if (s <= l0) v0 = K[4 * j] * (exp2_fast(cum0 - cs.x) * ds.x);
              if (s + 1 <= l0) v1 = K[4 * j + 1] * (exp2_fast(cum0 - cs.y) * ds.y);
              if (s <= l0 + 8) v2 = K[4 * j + 2] * (exp2_fast(cum1 - cs.x) * ds.x);
              if (s + 1 <= l0 + 8) v3 = K[4 * j + 3] * (exp2_fast(cum1 - cs.y) * ds.y);
            }
          }
          M[k][2 * half] = pack(T(), v0, v1);
          M[k][2 * half + 1] = pack(T(), v2, v3);
        }
      }

      const float from_state0 = exp2_fast(cum0), from_state1 = exp2_fast(cum1);
#if SSDC_WGMMA
      if constexpr (Wg) {
        wgmma_wait<0>();
        pin(Y);
      }
#endif
#pragma unroll
      for (int j = 0; j < 8; j++) {
        Y[4 * j] *= from_state0;
        Y[4 * j + 1] *= from_state0;
        Y[4 * j + 2] *= from_state1;
        Y[4 * j + 3] *= from_state1;
      }
      if constexpr (Wg) {
#if SSDC_WGMMA
        const uint64_t dX = tile_descriptor(X_tile, kTile);
        pin(Y);
        wgmma_begin();
#pragma unroll
        for (int k = 0; k < 4; k++) Wgmma<64, true>::mma(T(), Y, M[k], dX + k * (2048 >> 4), 1);
        wgmma_commit();
#endif
      } else {
        mma_registers<T, 64>(Y, M, X_tile, lane, warp);
      }

      uint32_t Xw[4][4];
      weighted_columns<T>(Xw, X_tile, decay, warp, lane);
#pragma unroll
      for (int i = 0; i < NT / 2; i++) S[i] *= keep;
      if constexpr (Wg) {
#if SSDC_WGMMA
        const uint64_t dBn = tile_descriptor(B_tile, kTile);
        pin(S);
        wgmma_begin();
#pragma unroll
        for (int k = 0; k < 4; k++) Wgmma<NT, true>::mma(T(), S, Xw[k], dBn + k * (2048 >> 4), 1);
        wgmma_commit();
        wgmma_wait<1>();
        pin(Y);
#endif
      } else {
        mma_registers<T, NT>(S, Xw, B_tile, lane, 3);
      }

      // y: skip connection, gate, then 16-byte stores.
#pragma unroll
      for (int i = 0; i < 2; i++) {
        const int t = t0 + l0 + 8 * i;
        const bool inside = active && t < L;
        if (p.D) {
#pragma unroll
          for (int j = 0; j < 8; j++) {
            const uint32_t at = X_tile - base + tile_at(l0 + 8 * i, j) + 4 * quad_lane;
            const float2 v = unpack(T(), *reinterpret_cast<const uint32_t *>(shared + at));
            Y[4 * j + 2 * i] += skip * v.x;
            Y[4 * j + 2 * i + 1] += skip * v.y;
          }
        }
        if (p.add && inside) {
#pragma unroll
          for (int j = 0; j < 8; j++) {
            if (8 * j < columns) {
              const float2 v = unpack(T(), *reinterpret_cast<const uint32_t *>(y + t * row + 8 * j + 2 * quad_lane));
              Y[4 * j + 2 * i] += v.x;
              Y[4 * j + 2 * i + 1] += v.y;
            }
          }
        }
        if (z && inside) {
#pragma unroll
          for (int j = 0; j < 8; j++) {
            if (8 * j < columns) {
              const float2 v = unpack(T(), *reinterpret_cast<const uint32_t *>(z + t * row + 8 * j + 2 * quad_lane));
              Y[4 * j + 2 * i] *= silu(v.x);
              Y[4 * j + 2 * i + 1] *= silu(v.y);
            }
          }
        }
#pragma unroll
        for (int q = 0; q < 2; q++) {
          uint32_t v[4];
#pragma unroll
          for (int k = 0; k < 4; k++) v[k] = pack(T(), Y[16 * q + 4 * k + 2 * i], Y[16 * q + 4 * k + 2 * i + 1]);
          transpose_quad(v, lane);
          const int column = 32 * q + 8 * quad_lane;
          if (inside && column < columns) *reinterpret_cast<uint4 *>(y + t * row + column) = make_uint4(v[0], v[1], v[2], v[3]);
        }
      }

#if SSDC_WGMMA
      if constexpr (Wg) {
        wgmma_wait<0>();
        pin(S);
      }
#endif
      // The four warps have read the state's tile; the next chunk needs the new one.
      barrier_128(1 + wg);
      publish_state();
    }

    if (piece.last < chains.end(piece.chain)) {
      float *to = handoff.states + (size_t)blockIdx.x * (64 * NT * Heads) + thread;
#pragma unroll
      for (int i = 0; i < NT / 2; i++) to[i * 128 * Heads] = S[i];
      __threadfence();
      __syncthreads();
      if (thread == 0) announce(handoff.ready + blockIdx.x, piece.last);
    } else if (piece.last == chains.chunks && p.hT && active) {
#pragma unroll
      for (int j = 0; j < NT / 8; j++) {
#pragma unroll
        for (int i = 0; i < 2; i++) {
          const int pr = state_row + 8 * i, n = 8 * j + 2 * quad_lane;
          if (pr < columns && n < N)
            *reinterpret_cast<float2 *>(p.hT + (((size_t)b * H + h) * P + p0 + pr) * pitch + n) =
                make_float2(S[4 * j + 2 * i], S[4 * j + 2 * i + 1]);
        }
      }
    }
  }  // pieces
}

}  // namespace

#include "ssd_serial.cuh"
#include "ssd_split.cuh"

#ifndef SSDC_EMULATE
#include "ssd_tma.cuh"
#endif

#if !defined(SSDC_EMULATE) && !defined(SSDC_DEVICE_ONLY)
#include "ssd_host.cuh"
#endif
