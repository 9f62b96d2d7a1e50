// The C interface of the state-space kernels.
//
// Tensors are dense, last index fastest; every pointer is device memory.
// B batch, L length, H heads, P head dimension, G groups, N state size.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif

enum { SSDC_BF16 = 0, SSDC_F16 = 1, SSDC_F32 = 2 };

// How a forward call computes. AUTO takes TMA on sm_90, or WGMMA when a gate z is given, MMA elsewhere, and
// SERIAL for shapes that the tensor-core kernels do not cover. TMA knows no z and always works at two strips a block.
// States of more than 128 are two calls, one for each half, as y is linear in them: pitch and add.
enum { SSDC_AUTO = 0, SSDC_WGMMA_PATH = 1, SSDC_MMA_PATH = 2, SSDC_SERIAL_PATH = 3, SSDC_TMA_PATH = 4 };

enum { SSDC_BAD_ARGUMENT = -1, SSDC_UNSUPPORTED = -2 };

struct ssdc_ssd {
  const void *x;         // [B,L,H,P] in `type`
  const void *dt;        // [B,L,H] in `dt_type`
  const float *A;        // [H], at most 0
  const void *Bm, *Cm;   // [B,L,G,N] in `type`
  const float *D;        // [H] or null
  const void *z;         // [B,L,H,P] in `type` or null
  const float *dt_bias;  // [H] or null
  const float *h0;       // [B,H,P,N] or null: zeros
  float *hT;             // [B,H,P,N] or null; may be h0
  void *y;               // [B,L,H,P] in `type`
  int batch, length, heads, head_dim, groups, state;
  int type, dt_type;     // SSDC_BF16 or SSDC_F16; SSDC_F32 or the same as type
  int softplus;          // dt = softplus(dt + bias), else dt + bias
  float dt_low, dt_high; // clamp after softplus
  int pitch;             // elements from row to row of Bm, Cm, h0 and hT, whose rows have `state` of them; 0: state
  const int *seq_idx;    // [B,L] or null; where it changes, a sequence begins anew (no decay and no state from before)
  int add;               // y is added to what is there, before the gate: not with TMA
};

#ifndef SSDC_DEVICE_ONLY
// Bytes of device memory that a forward call can use to share its chunks evenly among the
// multiprocessors. One workspace serves one call at a time.
long long ssdc_ssd_workspace(void);

// y and hT of the whole sequence. heads_per_block 0 leaves the choice to the library;
// workspace may be null.
// Returns 0, a positive cudaError_t, or one of the negative codes above.
int ssdc_ssd_forward(const struct ssdc_ssd *arguments, int path, int heads_per_block, void *workspace,
                     void *stream);

// The same for few long sequences, which are cut in time into `segments` (0: the library chooses, also not to cut) in up to five
// launches; the tensor-core paths only. The workspace, which is needed, has ssdc_ssd_split_workspace bytes.
long long ssdc_ssd_split_workspace(const struct ssdc_ssd *arguments, int segments);
int ssdc_ssd_forward_split(const struct ssdc_ssd *arguments, int path, int segments, void *workspace, void *stream);

// One step (length 1) that updates the state in place: h0 is read, hT written, and
// they may be the same memory.
int ssdc_ssd_step(const struct ssdc_ssd *arguments, void *stream);
#endif

#ifdef __cplusplus
}
#endif
