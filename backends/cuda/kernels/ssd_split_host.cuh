// Launches of the forward pass cut in time (ssd_split.cuh). Included by ssd_fwd.cu.
#pragma once

namespace {

int split_sequences(const ssdc_ssd &p) {
  const int per_group = p.heads / p.groups * ((p.head_dim + 63) / 64);
  return p.batch * p.groups * ((per_group + kSplitHeads - 1) / kSplitHeads);
}

// With 0 segments asked for: as many fronts as fill the multiprocessors, where that pays. In tenths of the time of a chunk in a full device:
// where few blocks work, a chunk takes 8; what a front begins with costs 8 for a chunk before it, and the launches 300.
Segments split(const ssdc_ssd &p, int asked) {
  const int chunks = (p.length + kChunk - 1) / kChunk, sequences = split_sequences(p), most = multiprocessors();
  const int fill = std::min((most + sequences - 1) / sequences, chunks);
  const bool pays = (10LL * fill + 8 * (fill - 1)) * sequences * chunks / fill / most + 300 < 8LL * chunks;
  const int fronts = asked > 0 ? std::min(asked, fill) : pays ? fill : 1;
  const int front = (chunks + fronts - 1) / fronts;
  const int wanted = asked > 0 ? (asked + fronts - 1) / fronts : std::min(64, front / 16);
  Segments s = Segments();
  s.per_front = std::max(1, std::min(std::min(wanted, 256 / fronts), front));
  s.chunks = (front + s.per_front - 1) / s.per_front;
  s.count = (chunks + s.chunks - 1) / s.chunks;
  return s;
}
int split_chains(const ssdc_ssd &p, const Segments &s) { return (s.count + s.per_front - 1) / s.per_front * split_sequences(p); }

// What a split pass needs of its workspace, in floats: states, sums of decays by segment and by strip, states handed over, flags.
long long split_floats(const ssdc_ssd &p, const Segments &s) {
  const long long heads = (long long)p.batch * p.heads, chains = split_chains(p, s);
  return s.count * heads * ((long long)p.head_dim * p.state + 2) + chains * kSplitHeads * (64 * 128 + 1) + 1;
}

template <class T, int NT, bool Wg> int launch_split(const ssdc_ssd &p, Segments segments, void *workspace, bool roles, cudaStream_t stream) {
  auto states = ssd_segment_states<T, NT, kSplitHeads, Wg>;
  auto forward = ssd_forward<T, NT, kSplitHeads, Wg>;
  constexpr int states_bytes = SegmentLayout<NT, kSplitHeads>::requested, forward_bytes = Layout<NT, kSplitHeads>::requested;
  cudaError_t e = cudaFuncSetAttribute(states, cudaFuncAttributeMaxDynamicSharedMemorySize, states_bytes);
  if (e == cudaSuccess) e = cudaFuncSetAttribute(forward, cudaFuncAttributeMaxDynamicSharedMemorySize, forward_bytes);
  if (e != cudaSuccess) return e;
  const int heads = p.batch * p.heads, chains = split_chains(p, segments);
  segments.states = static_cast<float *>(workspace);
  segments.decay = segments.states + (size_t)segments.count * heads * p.head_dim * p.state;
  segments.behind = segments.decay + (size_t)segments.count * heads;
  Handoff handoff;
  handoff.states = segments.behind + (size_t)segments.count * heads;
  handoff.states += -((uintptr_t)handoff.states / 4) & 3;
  handoff.ready = reinterpret_cast<int *>(handoff.states + (size_t)chains * kSplitHeads * 64 * NT);
  e = cudaMemsetAsync(handoff.ready, 0, (1 + kSplitHeads * chains) * sizeof(int), stream);
  if (e != cudaSuccess) return e;
  const int fronts = chains / split_sequences(p), before = (fronts - 1) * segments.per_front;  // segments before the last front
  if (before > 0) {
    ssd_segment_decays<<<before * p.batch * ((p.heads + 31) / 32), 256, 1024, stream>>>(p, segments);
    ssd_segment_behind<<<(fronts * heads + 3) / 4, 128, 0, stream>>>(p, segments);
    states<<<split_sequences(p) * before, 128 * kSplitHeads, states_bytes, stream>>>(p, segments);
  }
  const size_t all = (size_t)p.batch * p.heads * p.head_dim * p.state;
  ssd_segment_scan<<<(unsigned)((all + 511) / 512), 128, 0, stream>>>(p, segments);
  const int blocks = std::min(chains, multiprocessors());
  if (roles) return launch_tma<T, NT>(p, blocks, handoff, segments, stream);
  forward<<<blocks, 128 * kSplitHeads, forward_bytes, stream>>>(p, handoff, segments);
  return cudaGetLastError();
}

template <class T> int forward_split(const ssdc_ssd &p, int path, const Segments &segments, void *workspace, cudaStream_t s) {
  const bool roles = path == SSDC_TMA_PATH;
  if (roles || path == SSDC_WGMMA_PATH)
    return p.state <= 64 ? launch_split<T, 64, true>(p, segments, workspace, roles, s) : launch_split<T, 128, true>(p, segments, workspace, roles, s);
  return p.state <= 64 ? launch_split<T, 64, false>(p, segments, workspace, false, s) : launch_split<T, 128, false>(p, segments, workspace, false, s);
}

}  // namespace

extern "C" long long ssdc_ssd_split_workspace(const ssdc_ssd *p, int segments) {
  if (!valid(p)) return SSDC_BAD_ARGUMENT;
  return (split_floats(*p, split(*p, segments)) + 3) * sizeof(float);
}

extern "C" int ssdc_ssd_forward_split(const ssdc_ssd *p, int path, int segments, void *workspace, void *stream) {
  if (!valid(p) || !workspace) return SSDC_BAD_ARGUMENT;
  if (p->head_dim % 8 || p->state % 8 || p->state > 128 || (path == SSDC_TMA_PATH && (p->z || p->add)) ||
      path == SSDC_SERIAL_PATH) return SSDC_UNSUPPORTED;
  if (path == SSDC_AUTO) {
    int device, major;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess) e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (e != cudaSuccess) return e;
    path = major != 9 ? SSDC_MMA_PATH : p->z || p->add ? SSDC_WGMMA_PATH : SSDC_TMA_PATH;
  }
  const Segments cut = split(*p, segments);
  cudaStream_t s = static_cast<cudaStream_t>(stream);
  return p->type == SSDC_BF16 ? forward_split<__nv_bfloat16>(*p, path, cut, workspace, s) : forward_split<__half>(*p, path, cut, workspace, s);
}
