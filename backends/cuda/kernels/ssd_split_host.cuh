// Launches of the forward pass cut in time (ssd_split.cuh). Included by ssd_fwd.cu.
#pragma once

namespace {

int split_sequences(const ssdc_ssd &p) {
  const int per_group = p.heads / p.groups * ((p.head_dim + 63) / 64);
  return p.batch * p.groups * ((per_group + kSplitHeads - 1) / kSplitHeads);
}

// Chunks of a segment. With 0 segments asked for: the number that ends soonest. In tenths of the time of a chunk in the forward
// pass: with usual decays a third of the chunks is needed for states, at 3 (x is read again), and the segment before the beginning
// of a share always; a segment's state takes 8 (written, read, written, where it is needed).
int split_chunks(const ssdc_ssd &p, int asked) {
  const int chunks = (p.length + kChunk - 1) / kChunk;
  int best = asked < chunks ? asked : chunks;
  if (asked <= 0) {
    const long long sequences = split_sequences(p), most = multiprocessors();
    long long least = -1;
    for (int n = 1; n <= 256 && n <= chunks; n++) {
      const long long all = sequences * n, per = (chunks + n - 1) / n;
      const long long cost = (all + most - 1) / most * per * 10 + (n > 1 ? 3 * per + all * (per + 8) / most : 0);
      if (least < 0 || cost < least) least = cost, best = n;
    }
  }
  return (chunks + best - 1) / best;
}

Segments split(const ssdc_ssd &p, int asked, void *workspace) {
  Segments s;
  s.chunks = split_chunks(p, asked);
  s.count = ((p.length + kChunk - 1) / kChunk + s.chunks - 1) / s.chunks;
  const long long all = (long long)split_sequences(p) * s.count, most = multiprocessors();
  s.shares = (int)(all < most ? all : most);
  s.states = static_cast<float *>(workspace);
  s.decay = s.states + (size_t)s.count * p.batch * p.heads * p.head_dim * p.state;
  s.behind = s.decay + (size_t)s.count * p.batch * p.heads;
  return s;
}

template <class T, int NT, bool Wg> int launch_split(const ssdc_ssd &p, const Segments &segments, bool roles, cudaStream_t stream) {
  auto states = ssd_segment_states<T, NT, kSplitHeads, Wg>;
  auto forward = ssd_forward<T, NT, kSplitHeads, Wg>;
  constexpr int states_bytes = SegmentLayout<NT, kSplitHeads>::requested, forward_bytes = Layout<NT, kSplitHeads>::requested;
  cudaError_t e = cudaFuncSetAttribute(states, cudaFuncAttributeMaxDynamicSharedMemorySize, states_bytes);
  if (e == cudaSuccess) e = cudaFuncSetAttribute(forward, cudaFuncAttributeMaxDynamicSharedMemorySize, forward_bytes);
  if (e != cudaSuccess) return e;
  const int strips = p.batch * p.heads * ((p.head_dim + 63) / 64);
  if (segments.count > 1) {
    ssd_segment_decays<<<segments.count * p.batch * ((p.heads + 31) / 32), 256, 1024, stream>>>(p, segments);
    ssd_segment_behind<<<(strips + 127) / 128, 128, 0, stream>>>(p, segments);
    states<<<split_sequences(p) * (segments.count - 1), 128 * kSplitHeads, states_bytes, stream>>>(p, segments);
  }
  const size_t all = (size_t)p.batch * p.heads * p.head_dim * p.state;
  ssd_segment_scan<<<(unsigned)((all + 511) / 512), 128, 0, stream>>>(p, segments);
  if (roles) return launch_tma<T, NT>(p, segments, nullptr, stream);
  forward<<<segments.shares, 128 * kSplitHeads, forward_bytes, stream>>>(p, Handoff(), segments);
  return cudaGetLastError();
}

template <class T> int forward_split(const ssdc_ssd &p, int path, const Segments &segments, cudaStream_t s) {
  const bool roles = path == SSDC_TMA_PATH;
  if (roles || path == SSDC_WGMMA_PATH)
    return p.state <= 64 ? launch_split<T, 64, true>(p, segments, roles, s) : launch_split<T, 128, true>(p, segments, roles, s);
  return p.state <= 64 ? launch_split<T, 64, false>(p, segments, false, s) : launch_split<T, 128, false>(p, segments, false, s);
}

}  // namespace

extern "C" long long ssdc_ssd_split_workspace(const ssdc_ssd *p, int segments) {
  if (!valid(p)) return SSDC_BAD_ARGUMENT;
  const long long heads = (long long)p->batch * p->heads;
  return split(*p, segments, nullptr).count * heads * ((long long)p->head_dim * p->state + 1 + (p->head_dim + 63) / 64) * sizeof(float);
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
  const Segments cut = split(*p, segments, workspace);
  cudaStream_t s = static_cast<cudaStream_t>(stream);
  return p->type == SSDC_BF16 ? forward_split<__nv_bfloat16>(*p, path, cut, s) : forward_split<__half>(*p, path, cut, s);
}
