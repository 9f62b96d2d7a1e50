// How the forward pass is shared out among blocks. Included by ssd_fwd.cu.
#pragma once

#ifndef SSDC_EMULATE
// Flags of a slot: what the block wrote before a barrier and announce(value) is seen after wait_for(value), when read past the first-level cache.
__device__ __forceinline__ void announce(int *flag, int value) { asm volatile("st.release.gpu.global.s32 [%0], %1;\n" ::"l"(flag), "r"(value) : "memory"); }
__device__ __forceinline__ void wait_for(const int *flag, int value) {
  int v;
  do asm volatile("ld.acquire.gpu.global.s32 %0, [%1];\n" : "=r"(v) : "l"(flag) : "memory");
  while (v != value);
}
__device__ __forceinline__ float4 load_fresh(const float4 *p) { return __ldcg(p); }
#endif

namespace {

// Sequences cut in time, for a batch with fewer of them than multiprocessors (ssd_split.cuh): segments, of which `per_front`
// make a front. All fronts are worked off at once; what a front begins with is known beforehand.
struct Segments {
  float *states;  // [count, B, H, P, N], of segments that a front begins with
  float *decay;   // [count, B, H]: sum of a over the segment, base 2
  float *behind;  // [count, B, H]: such a sum from a segment's end to that of its front
  int count;      // 0: sequences are whole
  int chunks;     // of a segment; the last may have fewer
  int per_front;
};

// Where a block leaves the state of a chain that another continues. Null without sharing.
struct Handoff {
  float *states;  // [slots, 64 * N rounded up * Heads], in the order of the threads
  int *ready;     // what is ready in each slot; all 0 at launch
};

// What is worked off chunk after chunk: a front of a sequence, or all of it. Chains of one front are neighbours.
struct Chains {
  int sequences, chunks, per;  // chunks of a sequence, of a front
  __device__ __forceinline__ Chains(int sequences, int chunks, const Segments &s) : sequences(sequences), chunks(chunks), per(s.count ? s.chunks * s.per_front : chunks) {}
  __device__ __forceinline__ int count() const { return (chunks + per - 1) / per * sequences; }
  __device__ __forceinline__ int begin(int chain) const { return chain / sequences * per; }
  __device__ __forceinline__ int end(int chain) const { return min(chunks, begin(chain) + per); }
};

// Chunks first <= c < last of a chain, as they are counted in its sequence.
struct Piece {
  int chain, first, last;
};

// Equal shares: blocks take as many chunks of all chains, in order. A share is worked off from its end: first the beginning of a chain
// that the next block continues, whose state is handed over; then whole chains; last the rest of the chain that the previous block began,
// whose state has long been ready. A block never waits before it has handed over, unless its whole share lies inside one chain.
struct Share {
  const Chains &chains;
  int s0, c0, s1, c1;
  __device__ __forceinline__ Share(const Chains &chains, int block, int blocks) : chains(chains) {
    const long long all = (long long)chains.count() * chains.per, from = all * block / blocks, to = all * (block + 1) / blocks;
    s0 = from / chains.per, c0 = from % chains.per, s1 = to / chains.per, c1 = to % chains.per;
  }
  __device__ __forceinline__ int pieces() const { return s1 - s0 + (c1 > 0); }
  __device__ __forceinline__ Piece piece(int i) const {
    const int s = c1 > 0 ? s1 - i : s1 - 1 - i, begin = chains.begin(s), end = chains.end(s);
    return {s, min(end, s == s0 ? begin + c0 : begin), min(end, s == s1 ? begin + c1 : end)};
  }
};

// Tasks, which blocks take one after the other as they get free, for multiprocessors are not equally fast (those of some clusters are
// 6 % slower on an H200). Every block begins with the head of a chain; then chains are worked off whole; last the rests of the first
// chains, the longest first. Heads are of all lengths, so that blocks get free evenly, and whatever their speed they end
// together. Long fronts are worked off in windows, each of them like that but for heads in the last alone: so what all blocks read of B and C
// at a time stays in the second-level cache.
struct Tasks {
  const Chains &chains;
  int all, window, windows, heads;
  __device__ __forceinline__ Tasks(const Chains &chains, int blocks, bool shared) : chains(chains), all(chains.count()) {
    windows = shared && chains.per < chains.chunks ? chains.per / kWindow + (chains.per < kWindow) : 1;
    window = (chains.per + windows - 1) / windows;
    windows = (chains.per + window - 1) / window;
    heads = shared && all > blocks && chains.per - (windows - 1) * window > 1 ? blocks : 0;
  }
  // Task i; its chain is -1 behind the last one, and it may be empty where the last front is shorter.
  __device__ __forceinline__ Piece piece(int i) const {
    const int whole = min(i / all, windows - 1), rest = i - whole * all, chain = rest < all ? rest : rest - all;
    if (rest >= all + heads) return {-1, 0, 0};
    int from = whole * window, to = min(chains.per, from + window);
    if (whole == windows - 1 && chain < heads) {
      const int cut = from + 1 + (to - from - 1) * chain / heads;
      if (rest < all) to = cut;
      else from = cut;
    }
    const int begin = chains.begin(chain), end = chains.end(chain);
    return {chain, min(end, begin + from), min(end, begin + to)};
  }
  static constexpr int kWindow = 64;
};

}  // namespace
