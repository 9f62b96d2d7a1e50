// The SSD kernels of ssd_fwd.cu under plain names, for a host that launches by name: the driver's interface has
// neither templates nor the launch syntax. The kernels become functions of the entries here.
#define SSDC_DEVICE_ONLY
#ifndef SSDC_EMULATE
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#undef __global__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__ __device__ __forceinline__
#define __launch_bounds__(...)
#define __grid_constant__
#endif
#include "ssd_fwd.cu"
#ifndef SSDC_EMULATE
#undef __global__
#undef __launch_bounds__
#undef __grid_constant__
#define __global__ __attribute__((global))
#define __launch_bounds__(...) __attribute__((launch_bounds(__VA_ARGS__)))
#define __grid_constant__ __attribute__((grid_constant))
#endif
#include "device.cuh"

namespace {

struct Forward {
  ssdc_ssd p;
  Handoff handoff;
  Segments segments;
};
#ifndef SSDC_EMULATE
struct ForwardTma {
  TmaMaps maps;
  ssdc_ssd p;
  Handoff handoff;
  Segments segments;
};
#endif

}  // namespace

// Dynamic shared memory of each entry, read by the host as it loads the module.
#ifdef SSDC_EMULATE
#define SSDC_NUMBER(name, value) extern "C" __attribute__((visibility("default"))) int name; int name = value
#else
#define SSDC_NUMBER(name, value) extern "C" __device__ int name = value
#endif

#define FORWARD(name, T, NT, Heads, Wg)                                                                                  \
  SSDC_NUMBER(name##_shared, (Layout<NT, Heads>::requested));                                                            \
  SSDC_KERNEL(name, Forward, 128 * Heads) { ssd_forward<T, NT, Heads, Wg>(p.p, p.handoff, p.segments); }
#define STATES(name, T, NT, Wg)                                                                                          \
  SSDC_NUMBER(name##_shared, (SegmentLayout<NT, 2>::requested));                                                         \
  SSDC_KERNEL(name, Forward, 256) { ssd_segment_states<T, NT, 2, Wg>(p.p, p.segments); }

#define TMA(name, T, NT)                                                                                                 \
  SSDC_NUMBER(name##_shared, (TmaLayout<NT>::requested));                                                                \
  SSDC_KERNEL(name, ForwardTma, 512) { ssd_forward_tma<T, NT>(p.p, p.maps, p.handoff, p.segments); }

FORWARD(ssd_mma_bf16_64, __nv_bfloat16, 64, 2, false)
FORWARD(ssd_mma_bf16_128, __nv_bfloat16, 128, 2, false)
FORWARD(ssd_mma_f16_64, __half, 64, 2, false)
FORWARD(ssd_mma_f16_128, __half, 128, 2, false)
STATES(ssd_states_mma_bf16_64, __nv_bfloat16, 64, false)
STATES(ssd_states_mma_bf16_128, __nv_bfloat16, 128, false)
STATES(ssd_states_mma_f16_64, __half, 64, false)
STATES(ssd_states_mma_f16_128, __half, 128, false)
#if SSDC_WGMMA && !defined(SSDC_EMULATE)
TMA(ssd_tma_bf16_64, __nv_bfloat16, 64)
TMA(ssd_tma_bf16_128, __nv_bfloat16, 128)
TMA(ssd_tma_f16_64, __half, 64)
TMA(ssd_tma_f16_128, __half, 128)
FORWARD(ssd_wgmma_bf16_64, __nv_bfloat16, 64, 2, true)
FORWARD(ssd_wgmma_bf16_128, __nv_bfloat16, 128, 2, true)
FORWARD(ssd_wgmma_f16_64, __half, 64, 2, true)
FORWARD(ssd_wgmma_f16_128, __half, 128, 2, true)
STATES(ssd_states_wgmma_bf16_64, __nv_bfloat16, 64, true)
STATES(ssd_states_wgmma_bf16_128, __nv_bfloat16, 128, true)
STATES(ssd_states_wgmma_f16_64, __half, 64, true)
STATES(ssd_states_wgmma_f16_128, __half, 128, true)
#endif
SSDC_KERNEL(ssd_decays, Forward, 256) { ssd_segment_decays(p.p, p.segments); }
SSDC_KERNEL(ssd_behind, Forward, 128) { ssd_segment_behind(p.p, p.segments); }
SSDC_KERNEL(ssd_segments, Forward, 128) { ssd_segment_scan(p.p, p.segments); }
