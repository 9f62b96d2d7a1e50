// The arguments of attention, for both of its kernels.
#pragma once
#include "device.cuh"

namespace {

// Heads share keys in groups (grouped-query attention): head h reads key head h / (heads / kv_heads).
struct Attention {
  Tensor q, k, v, y, mask;  // mask may be null; added to the scores, or bool
  int64 batch, heads, kv_heads, queries, keys, dim, v_dim;
  int64 q_batch, q_head, q_row, k_batch, k_head, k_row, v_batch, v_head, v_row, y_batch, y_head, y_row;
  int64 m_batch, m_head, m_query, m_key;
  int64 causal, offset;     // query i sees keys up to i + offset
  int64 splits;             // parts of the keys, by different blocks or warps
  float *partial;           // of each part and row its maximum, weight and sums, when there are several
  float scale, softcap;     // softcap 0: none
};

}  // namespace
