// Four ways to hand shared memory over, each in the order that the PTX manual defines: a phase of an mbarrier completes when all arrivals and all
// announced bytes are in, and what came before is seen after the wait. sanitize.py asks racecheck what it says of each.
#include <cstdio>
#include <cstdlib>

#include "../../backends/cuda/kernels/tma.cuh"

__device__ __forceinline__ void bulk_load(uint32_t dst, const void *src, int bytes, uint32_t bar) {
  asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];\n" ::"r"(dst), "l"(src), "r"(bytes), "r"(bar) : "memory");
}

struct Shared {
  alignas(128) float copied[64], written[32];
  alignas(8) unsigned long long bar;
};

__device__ __forceinline__ uint32_t begin(Shared &s, int arrivals) {
  const uint32_t bar = shared_address(&s.bar);
  if (threadIdx.x == 0) mbarrier_init(bar, arrivals), mbarrier_init_fence();
  __syncthreads();
  return bar;
}

// One bulk copy on a phase: the ring of step.cu.
__global__ void one_copy(const float *in, float *out) {
  __shared__ Shared s;
  const uint32_t bar = begin(s, 1);
  if (threadIdx.x == 0) mbarrier_expect(bar, 256), bulk_load(shared_address(s.copied), in, 256, bar);
  mbarrier_wait(bar, 0);
  out[threadIdx.x] = s.copied[threadIdx.x % 64];
}
// Several: what the phases of step.cu read beside.
__global__ void two_copies(const float *in, float *out) {
  __shared__ Shared s;
  const uint32_t bar = begin(s, 1);
  if (threadIdx.x == 0) {
    mbarrier_expect(bar, 256);
    bulk_load(shared_address(s.copied), in, 128, bar);
    bulk_load(shared_address(s.copied + 32), in + 32, 128, bar);
  }
  mbarrier_wait(bar, 0);
  out[threadIdx.x] = s.copied[threadIdx.x % 64];
}
// A warp's stores behind one lane's arrival.
__global__ void stores(const float *in, float *out) {
  __shared__ Shared s;
  const uint32_t bar = begin(s, 1);
  if (threadIdx.x / 32 == 1) {
    s.written[threadIdx.x % 32] = in[threadIdx.x];
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(bar);
  }
  mbarrier_wait(bar, 0);
  out[threadIdx.x] = s.written[31 - threadIdx.x % 32];
}
// Both on one phase: decays and copies of a stage in ssd_tma.cuh.
__global__ void stores_and_copy(const float *in, float *out) {
  __shared__ Shared s;
  const uint32_t bar = begin(s, 2);
  if (threadIdx.x == 0) mbarrier_expect(bar, 256), bulk_load(shared_address(s.copied), in, 256, bar);
  if (threadIdx.x / 32 == 1) {
    s.written[threadIdx.x % 32] = in[threadIdx.x];
    __syncwarp();
    if (threadIdx.x % 32 == 0) mbarrier_arrive(bar);
  }
  mbarrier_wait(bar, 0);
  out[threadIdx.x] = s.written[31 - threadIdx.x % 32] + s.copied[threadIdx.x % 64];
}
// For comparison a race: nobody waits.
__global__ void race(const float *in, float *out) {
  __shared__ Shared s;
  begin(s, 1);
  if (threadIdx.x / 32 == 1) s.written[threadIdx.x % 32] = in[threadIdx.x];
  out[threadIdx.x] = s.written[31 - threadIdx.x % 32];
}

int main() {
  float *in, *out;
  if (cudaMalloc(&in, 1024) || cudaMalloc(&out, 1024) || cudaMemset(in, 0, 1024)) return 1;
  one_copy<<<1, 96>>>(in, out);
  two_copies<<<1, 96>>>(in, out);
  stores<<<1, 96>>>(in, out);
  stores_and_copy<<<1, 96>>>(in, out);
  race<<<1, 96>>>(in, out);
  const cudaError_t e = cudaDeviceSynchronize();
  if (e) fprintf(stderr, "%s\n", cudaGetErrorString(e));
  return e != 0;
}
