// The host's part of ssd_tma.cuh: tensor maps and the launch. Included by ssd_fwd.cu.
#pragma once

namespace {

// The driver's encoder, asked for at run time so that nothing links libcuda.
using EncodeTiled = CUresult (*)(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *, const cuuint64_t *, const cuuint32_t *,
                                 const cuuint32_t *, CUtensorMapInterleave, CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

EncodeTiled encode_tiled() {
  static const EncodeTiled found = [] {
    void *f = nullptr;
    cudaDriverEntryPointQueryResult result;
    if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &f, 12000, cudaEnableDefault, &result) != cudaSuccess || result != cudaDriverEntryPointSuccess)
      f = nullptr;
    return reinterpret_cast<EncodeTiled>(f);
  }();
  return found;
}

// [batch, length, outer, inner] in boxes of 64 positions and 64 columns, swizzled as tile_at has it.
bool encode(CUtensorMap *map, const void *at, int type, int batch, int length, int outer, int inner, int pitch) {
  const cuuint64_t row = (cuuint64_t)pitch * 2;
  const cuuint64_t dims[4] = {(cuuint64_t)inner, (cuuint64_t)outer, (cuuint64_t)length, (cuuint64_t)batch};
  const cuuint64_t strides[3] = {row, row * outer, row * outer * length};
  const cuuint32_t box[4] = {64, 1, 64, 1}, steps[4] = {1, 1, 1, 1};
  const EncodeTiled f = encode_tiled();
  return f && f(map, type == SSDC_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4, const_cast<void *>(at), dims, strides, box,
                steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <class T, int NT> int launch_tma(const ssdc_ssd &p, int blocks, const Handoff &handoff, const Segments &segments, cudaStream_t stream) {
  auto kernel = ssd_forward_tma<T, NT>;
  constexpr int bytes = TmaLayout<NT>::requested;
  cudaError_t e = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
  if (e != cudaSuccess) return e;
  TmaMaps maps;
  if (!encode(&maps.x, p.x, p.type, p.batch, p.length, p.heads, p.head_dim, p.head_dim) || !encode(&maps.y, p.y, p.type, p.batch, p.length, p.heads, p.head_dim, p.head_dim) ||
      !encode(&maps.B, p.Bm, p.type, p.batch, p.length, p.groups, p.state, p.pitch ? p.pitch : p.state) || !encode(&maps.C, p.Cm, p.type, p.batch, p.length, p.groups, p.state, p.pitch ? p.pitch : p.state))
    return SSDC_UNSUPPORTED;
  kernel<<<blocks, 512, bytes, stream>>>(p, maps, handoff, segments);
  return cudaGetLastError();
}

// Whole sequences.
template <class T, int NT> int launch_tma(const ssdc_ssd &p, void *workspace, cudaStream_t stream) {
  const int pairs = (p.heads / p.groups * ((p.head_dim + 63) / 64) + 1) / 2, chains = p.batch * p.groups * pairs, most = multiprocessors();
  Handoff handoff = {nullptr, nullptr};
  if (!workspace || chains <= most) return launch_tma<T, NT>(p, chains, handoff, Segments(), stream);
  handoff.states = static_cast<float *>(workspace);
  handoff.ready = reinterpret_cast<int *>(handoff.states + (size_t)most * 2 * 64 * NT);
  const cudaError_t e = cudaMemsetAsync(handoff.ready, 0, (1 + 2 * most) * sizeof(int), stream);
  return e == cudaSuccess ? launch_tma<T, NT>(p, most, handoff, Segments(), stream) : e;
}

}  // namespace
