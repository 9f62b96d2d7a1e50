// The launches: the C interface of ssd.h. Included by ssd_fwd.cu.
#pragma once

namespace {

int multiprocessors() {
  int device = 0, count = 0;
  if (cudaGetDevice(&device) != cudaSuccess || cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device) != cudaSuccess) return 1;
  return count;
}

}  // namespace

#include "ssd_tma_host.cuh"

namespace {

template <class T, int NT, int Heads, bool Wg> int launch_forward(const ssdc_ssd &p, void *workspace, cudaStream_t stream) {
  auto kernel = ssd_forward<T, NT, Heads, Wg>;
  constexpr int bytes = Layout<NT, Heads>::requested;
  cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  const int per_group = p.heads / p.groups * ((p.head_dim + 63) / 64);
  int blocks = p.batch * p.groups * ((per_group + Heads - 1) / Heads);
  Handoff handoff = {nullptr, nullptr};
  const int most = multiprocessors();
  if (workspace && blocks > most) {
    blocks = most;
    handoff.states = static_cast<float *>(workspace);
    handoff.ready = reinterpret_cast<int *>(handoff.states + (size_t)blocks * 64 * NT * Heads);
    e = cudaMemsetAsync(handoff.ready, 0, blocks * sizeof(int), stream);
    if (e != cudaSuccess) return e;
  }
  kernel<<<blocks, 128 * Heads, bytes, stream>>>(p, handoff, Segments());
  return cudaGetLastError();
}

template <class T, int NT, bool Wg> int forward_heads(const ssdc_ssd &p, int heads, void *workspace, cudaStream_t s) {
  switch (heads) {
  case 1: return launch_forward<T, NT, 1, Wg>(p, workspace, s);
  case 2: return launch_forward<T, NT, 2, Wg>(p, workspace, s);
  case 3: return launch_forward<T, NT, 3, Wg>(p, workspace, s);
  }
  return SSDC_UNSUPPORTED;
}

template <class T> int forward(const ssdc_ssd &p, int path, int heads, void *workspace, cudaStream_t s) {
  if (path == SSDC_SERIAL_PATH) {
    const long long threads = 32LL * p.batch * p.heads * p.head_dim;
    ssd_serial<T><<<(unsigned)((threads + 255) / 256), 256, 0, s>>>(p);
    return cudaGetLastError();
  }
  if (path == SSDC_TMA_PATH) {
    if (p.z || p.add) return SSDC_UNSUPPORTED;
    return p.state <= 64 ? launch_tma<T, 64>(p, workspace, s) : launch_tma<T, 128>(p, workspace, s);
  }
  if (path == SSDC_WGMMA_PATH)
    return p.state <= 64 ? forward_heads<T, 64, true>(p, heads, workspace, s) : forward_heads<T, 128, true>(p, heads, workspace, s);
  return p.state <= 64 ? forward_heads<T, 64, false>(p, heads, workspace, s) : forward_heads<T, 128, false>(p, heads, workspace, s);
}

template <class T> int step(const ssdc_ssd &p, cudaStream_t s) {
  const int blocks = p.batch * p.heads;
  switch (p.state) {
  case 16: ssd_step<T, 16><<<blocks, 256, 0, s>>>(p); break;
  case 32: ssd_step<T, 32><<<blocks, 256, 0, s>>>(p); break;
  case 64: ssd_step<T, 64><<<blocks, 256, 0, s>>>(p); break;
  case 128: ssd_step<T, 128><<<blocks, 256, 0, s>>>(p); break;
  case 256: ssd_step<T, 256><<<blocks, 256, 0, s>>>(p); break;
  default: return forward<T>(p, SSDC_SERIAL_PATH, 1, nullptr, s);
  }
  return cudaGetLastError();
}

bool valid(const ssdc_ssd *p) {
  return p && p->x && p->dt && p->A && p->Bm && p->Cm && p->y && p->batch > 0 && p->length > 0 && p->heads > 0 &&
         p->head_dim > 0 && p->groups > 0 && p->heads % p->groups == 0 && p->state > 0 && p->state <= 512 &&
         (p->type == SSDC_BF16 || p->type == SSDC_F16) && (p->dt_type == SSDC_F32 || p->dt_type == p->type);
}

}  // namespace

extern "C" int ssdc_ssd_forward(const ssdc_ssd *p, int path, int heads, void *workspace, void *stream) {
  if (!valid(p)) return SSDC_BAD_ARGUMENT;
  const bool dense = !p->add && (!p->pitch || p->pitch == p->state);  // what SERIAL asks for
  const bool covered = p->head_dim % 8 == 0 && p->state % 8 == 0 && p->state <= 128;
  if (path == SSDC_AUTO) {
    int device, major;
    cudaError_t e = cudaGetDevice(&device);
    if (e == cudaSuccess) e = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
    if (e != cudaSuccess) return e;
    path = !covered ? SSDC_SERIAL_PATH : major != 9 ? SSDC_MMA_PATH : p->z || p->add ? SSDC_WGMMA_PATH : SSDC_TMA_PATH;
  } else if (path != SSDC_SERIAL_PATH && !covered) {
    return SSDC_UNSUPPORTED;
  }
  if (path == SSDC_SERIAL_PATH && !dense) return SSDC_UNSUPPORTED;
  if (heads == 0) heads = 2;
  cudaStream_t s = static_cast<cudaStream_t>(stream);
  return p->type == SSDC_BF16 ? forward<__nv_bfloat16>(*p, path, heads, workspace, s) : forward<__half>(*p, path, heads, workspace, s);
}

#include "ssd_split_host.cuh"

extern "C" long long ssdc_ssd_workspace(void) { return multiprocessors() * (3LL * 64 * 128 * sizeof(float) + 2 * sizeof(int)) + sizeof(int); }

extern "C" int ssdc_ssd_step(const ssdc_ssd *p, void *stream) {
  if (!valid(p) || p->length != 1 || !p->hT || p->add || (p->pitch && p->pitch != p->state)) return SSDC_BAD_ARGUMENT;
  cudaStream_t s = static_cast<cudaStream_t>(stream);
  return p->type == SSDC_BF16 ? step<__nv_bfloat16>(*p, s) : step<__half>(*p, s);
}
