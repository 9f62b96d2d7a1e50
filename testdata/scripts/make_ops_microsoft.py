"""The cases of com.microsoft; see make_ops.py."""

import numpy as np

from make_ops import Case, ask, rng

MS = "com.microsoft"


def f32(r, *shape, scale=1.0):
    return (scale * r.standard_normal(shape)).astype(np.float32)


def u8(r, *shape):
    return r.integers(0, 256, shape).astype(np.uint8)


def quantized(r, *shape, dtype=np.uint8):
    return (r.integers(0, 256, shape).astype(np.uint8).view(dtype), np.float32(0.02), np.array(120 if dtype == np.uint8 else 3, dtype))


def norms():
    r = rng("norms")
    x, skip, gamma, beta, bias = f32(r, 2, 3, 16), f32(r, 2, 3, 16), f32(r, 16), f32(r, 16), f32(r, 16)
    yield Case("skip_layer_norm", "SkipLayerNormalization", MS, dict(input=x, skip=skip, gamma=gamma, beta=beta, bias=bias), ["y", "", "", "s"], epsilon=1e-5)
    yield Case("skip_layer_norm_plain", "SkipLayerNormalization", MS, dict(input=x, skip=skip[:1], gamma=gamma), ["y"])
    yield Case("skip_rms_norm", "SkipSimplifiedLayerNormalization", MS, dict(input=x, skip=skip, gamma=gamma), ["y", "", "", "s"], epsilon=1e-6)
    yield Case("skip_rms_norm_bias", "SkipSimplifiedLayerNormalization", MS, dict(input=x, skip=skip, gamma=gamma, bias=bias), ["y"], epsilon=1e-6)
    yield Case("rms_norm", "SimplifiedLayerNormalization", "", dict(X=x, scale=gamma), ["y"], opset=16, epsilon=1e-5)
    yield Case("layer_norm_16", "LayerNormalization", "", dict(X=x, Scale=gamma, B=beta), ["y", "mean", "inv"], opset=16, epsilon=1e-5)
    ids, seg = r.integers(0, 10, (2, 4)).astype(np.int32), r.integers(0, 2, (2, 4)).astype(np.int32)
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
    table = dict(word_embedding=f32(r, 10, 16), position_embedding=f32(r, 6, 16), segment_embedding=f32(r, 2, 16), gamma=gamma, beta=beta)
    yield Case("embed_layer_norm", "EmbedLayerNormalization", MS, dict(input_ids=ids, segment_ids=seg, **table, mask=mask), ["y", "mask_index"])
    bare = dict(table, segment_embedding=None)
    yield Case("embed_layer_norm_positions", "EmbedLayerNormalization", MS, dict(input_ids=ids, segment_ids=None, **bare, mask=None, position_ids=np.array([[3, 2, 1, 0]], np.int32)), ["y", "m", "sum"])
    for act in ["silu", "sigmoid"]:
        yield Case(f"gated_rms_norm_{act}", "GatedRMSNorm", MS, dict(X=x, scale=f32(r, 8), gate=skip), ["y"], activation=act)


def activations():
    r = rng("activations")
    x, bias = f32(r, 2, 3, 16), f32(r, 16)
    yield Case("gelu", "Gelu", MS, dict(X=x), ["y"])
    yield Case("bias_gelu", "BiasGelu", MS, dict(A=x, B=bias), ["y"])
    yield Case("fast_gelu", "FastGelu", MS, dict(X=x, bias=bias), ["y"])
    yield Case("fast_gelu_plain", "FastGelu", MS, dict(X=x), ["y"])
    yield Case("quick_gelu", "QuickGelu", MS, dict(X=x), ["y"])
    yield Case("scaled_silu", "ScaledSiLU", MS, dict(X=x), ["y"], alpha=1.5)


def nbits(r, K, N, bits, block):
    blocks = -(-K // block)
    return dict(B=u8(r, N, blocks, block * bits // 8), scales=abs(f32(r, N, blocks, scale=0.1)) + np.float32(0.01)), blocks


def products():
    r = rng("products")
    a = f32(r, 2, 3, 4)
    yield Case("fused_matmul", "FusedMatMul", MS, dict(A=a, B=f32(r, 2, 5, 4)), ["y"], transB=1, alpha=0.25)
    yield Case("fused_matmul_both", "FusedMatMul", MS, dict(A=f32(r, 2, 4, 3), B=f32(r, 2, 5, 4)), ["y"], transA=1, transB=1)
    yield Case("fused_matmul_batch", "FusedMatMul", MS, dict(A=f32(r, 3, 2, 4), B=f32(r, 4, 2, 5)), ["y"], transBatchA=1, transBatchB=1)
    yield Case("transpose_matmul", "TransposeMatMul", MS, dict(A=f32(r, 4, 3), B=f32(r, 4, 5)), ["y"], transA=1)
    for act, p in [("Relu", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.3, 0.4]), ("Tanh", None), ("Sigmoid", None)]:
        yield Case(f"fused_conv_{act.lower()}", "FusedConv", MS, dict(X=f32(r, 1, 2, 5, 5), W=f32(r, 3, 2, 3, 3), B=f32(r, 3)), ["y"], activation=act, activation_params=p, pads=[1, 1, 1, 1])
    yield Case("fused_conv_sum", "FusedConv", MS, dict(X=f32(r, 1, 2, 5, 5), W=f32(r, 3, 2, 3, 3), B=None, Z=f32(r, 1, 3, 3, 3)), ["y"], activation="Relu")
    yield Case("fused_gemm", "FusedGemm", MS, dict(A=f32(r, 3, 4), B=f32(r, 5, 4), C=f32(r, 5)), ["y"], transB=1, activation="LeakyRelu", activation_alpha=0.1)
    for bits in [2, 4, 8]:
        w, blocks = nbits(r, 48, 6, bits, 16)
        yield Case(f"matmul_{bits}_bits", "MatMulNBits", MS, dict(A=f32(r, 2, 3, 48), **w), ["y"], consts=["B", "scales"], K=48, N=6, bits=bits, block_size=16)
        zp = u8(r, 6, -(-blocks * bits // 8))
        yield Case(f"matmul_{bits}_bits_zero_points", "MatMulNBits", MS, dict(A=f32(r, 2, 3, 48), **w, zero_points=zp, g_idx=None, bias=f32(r, 6)), ["y"],
                   consts=["B", "scales", "zero_points", "bias"], K=48, N=6, bits=bits, block_size=16)
    w, blocks = nbits(r, 40, 5, 4, 32)
    yield Case("matmul_4_bits_padded", "MatMulNBits", MS, dict(A=f32(r, 4, 40), **w), ["y"], consts=["B", "scales"], K=40, N=5, bits=4, block_size=32)
    yield Case("matmul_4_bits_float_zero_points", "MatMulNBits", MS, dict(A=f32(r, 4, 40), **w, zero_points=f32(r, 5, blocks) + 8), ["y"],
               consts=["B", "scales", "zero_points"], K=40, N=5, bits=4, block_size=32)
    yield Case("gather_4_bits", "GatherBlockQuantized", MS, dict(data=u8(r, 6, 16), indices=np.array([[0, 5], [2, 2]], np.int64), scales=f32(r, 6, 2)), ["y"],
               consts=["data", "scales"], block_size=16, bits=4, quantize_axis=1)


def attention():
    r = rng("attention")
    q, k, v = f32(r, 2, 3, 16), f32(r, 2, 5, 16), f32(r, 2, 5, 16)
    bias, pad = f32(r, 48), np.array([[1, 1, 1, 1, 0], [1, 1, 0, 0, 0]], np.int32)
    yield Case("mha", "MultiHeadAttention", MS, dict(query=q, key=k, value=v), ["y"], num_heads=2)
    yield Case("mha_bias_padding", "MultiHeadAttention", MS, dict(query=q, key=k, value=v, bias=bias, key_padding_mask=pad), ["y"], num_heads=2)
    yield Case("mha_lengths", "MultiHeadAttention", MS, dict(query=q, key=k, value=v, bias=None, key_padding_mask=np.array([4, 2], np.int32)), ["y"], num_heads=2)
    yield Case("mha_attention_bias", "MultiHeadAttention", MS, dict(query=q, key=k, value=v, bias=None, key_padding_mask=None, attention_bias=f32(r, 1, 2, 3, 5)), ["y"], num_heads=2, scale=0.4)
    yield Case("mha_heads_apart", "MultiHeadAttention", MS, dict(query=q, key=f32(r, 2, 2, 5, 8), value=f32(r, 2, 2, 5, 8)), ["y"], num_heads=2)
    yield Case("mha_past", "MultiHeadAttention", MS, dict(query=q, key=f32(r, 2, 3, 16), value=f32(r, 2, 3, 16), bias=None, key_padding_mask=None, attention_bias=None,
               past_key=f32(r, 2, 2, 4, 8), past_value=f32(r, 2, 2, 4, 8)), ["y", "pk", "pv"], num_heads=2, unidirectional=1)
    x, w, b = f32(r, 2, 3, 12), f32(r, 12, 48, scale=0.3), f32(r, 48)
    yield Case("attention", "Attention", MS, dict(input=x, weights=w, bias=b), ["y"], num_heads=2)
    yield Case("attention_causal", "Attention", MS, dict(input=x, weights=w, bias=b), ["y"], num_heads=2, unidirectional=1)
    yield Case("attention_lengths", "Attention", MS, dict(input=x, weights=w, bias=b, mask_index=np.array([3, 1], np.int32)), ["y"], num_heads=2)
    yield Case("attention_mask", "Attention", MS, dict(input=x, weights=w, bias=b, mask_index=np.array([[1, 1, 0], [0, 1, 1]], np.int32)), ["y"], num_heads=2)
    yield Case("attention_mask_3d", "Attention", MS, dict(input=x, weights=w, bias=b, mask_index=np.array([[[1, 0, 1], [1, 1, 0], [1, 1, 1]]] * 2, np.int32)), ["y"], num_heads=2)
    yield Case("attention_past", "Attention", MS, dict(input=x, weights=w, bias=b, mask_index=None, past=f32(r, 2, 2, 2, 4, 8)), ["y", "present"], num_heads=2, unidirectional=1)
    cos, sin = f32(r, 9, 4), f32(r, 9, 4)
    for inter in [0, 1]:
        yield Case(f"rotary_{inter}", "RotaryEmbedding", MS, dict(input=f32(r, 2, 3, 16), position_ids=np.array([[0, 3, 2], [5, 6, 7]], np.int64), cos_cache=cos, sin_cache=sin), ["y"], interleaved=inter)
        yield Case(f"rotary_offset_{inter}", "RotaryEmbedding", MS, dict(input=f32(r, 2, 2, 3, 8), position_ids=np.array([4], np.int64), cos_cache=cos, sin_cache=sin), ["y"], interleaved=inter)
    yield Case("rotary_partial", "RotaryEmbedding", MS, dict(input=f32(r, 2, 3, 16), position_ids=np.array([1], np.int64), cos_cache=f32(r, 9, 2), sin_cache=f32(r, 9, 2)), ["y"], num_heads=2, rotary_embedding_dim=4)


def caches():
    r = rng("caches")
    def gqa(name, S, past, seqlens, total, packed=False, cache=True, outs=("y", "pk", "pv"), extra=None, **attrs):
        B = len(seqlens)
        q = f32(r, B, S, (4 + 2 * 2) * 16) if packed else f32(r, B, S, 64)
        ins = dict(query=q, key=None if packed else f32(r, B, S, 32), value=None if packed else f32(r, B, S, 32),
                   past_key=f32(r, B, 2, past, 16) if cache else None, past_value=f32(r, B, 2, past, 16) if cache else None,
                   seqlens_k=np.array(seqlens, np.int32), total_sequence_length=np.array(total, np.int32))
        if attrs.get("do_rotary"):
            ins.update(cos_cache=f32(r, 16, 8), sin_cache=f32(r, 16, 8))
        ins.update(extra or {})
        return Case(name, "GroupQueryAttention", MS, ins, list(outs), num_heads=4, kv_num_heads=2, **attrs)

    yield gqa("gqa_prompt", 5, 0, [4, 4], 5)
    yield gqa("gqa_prompt_rotary", 5, 0, [4, 4], 5, do_rotary=1)
    yield gqa("gqa_prompt_packed", 5, 0, [4, 4], 5, packed=True, do_rotary=1, rotary_interleaved=1)
    yield gqa("gqa_prompt_no_cache", 5, 0, [4, 4], 5, cache=False)
    yield gqa("gqa_step", 1, 6, [6, 6], 7, do_rotary=1)
    yield gqa("gqa_step_scale_softcap", 1, 6, [6, 6], 7, scale=0.5, softcap=3.0)
    yield gqa("gqa_step_window", 1, 6, [6, 6], 7, local_window_size=3)
    yield gqa("gqa_chunk", 3, 6, [8], 9, do_rotary=1)
    yield gqa("gqa_bias", 2, 4, [5], 6, extra=dict(cos_cache=None, sin_cache=None, position_ids=None, attention_bias=f32(r, 1, 4, 2, 6)))
    sink = dict(cos_cache=None, sin_cache=None, position_ids=None, attention_bias=None, head_sink=f32(r, 4))
    yield gqa("gqa_sink", 5, 0, [4, 4], 5, extra=sink)
    yield gqa("gqa_sink_step", 1, 6, [6, 6], 7, extra=sink, local_window_size=3)
    yield gqa("gqa_sink_bias", 2, 4, [5], 6, extra=dict(sink, attention_bias=f32(r, 1, 4, 2, 6)))
    yield gqa("gqa_sink_softcap", 1, 6, [6, 6], 7, extra=sink, softcap=0.7)
    yield gqa("gqa_smooth", 5, 0, [4, 4], 5, smooth_softmax=1)
    yield gqa("gqa_softcap_prompt", 5, 0, [4, 4], 5, softcap=0.7)
    yield gqa("gqa_not_causal", 5, 0, [4, 4], 5, causal=0)
    yield gqa("gqa_window_prompt", 9, 0, [8, 8], 9, local_window_size=4, do_rotary=1)


def silu(z):
    return z / (1 + np.exp(-z))


def pack(q, bits):
    """Elements of bits bits along the last axis, the first in the low ones."""
    per = 8 // bits
    q = np.concatenate([q, np.zeros((*q.shape[:-1], -q.shape[-1] % per), q.dtype)], -1)
    return (q.reshape(*q.shape[:-1], -1, per).astype(np.uint32) << (bits * np.arange(per))).sum(-1).astype(np.uint8)


def mixtures():
    r = rng("mixtures")
    E, H, F = 4, 32, 16
    x, router = f32(r, 6, H), f32(r, 6, E)
    w1, b1, w2, b2, w3, b3 = f32(r, E, F, H), f32(r, E, F), f32(r, E, H, F), f32(r, E, H), f32(r, E, F, H), f32(r, E, F)
    both, bias = f32(r, E, 2 * F, H), f32(r, E, 2 * F)
    weights = ["fc1", "fc1_bias", "fc2", "fc2_bias", "fc3", "fc3_bias", "s1", "s2", "z1", "z2"]
    for act in ["relu", "gelu", "silu", "identity"]:
        yield Case(f"moe_{act}", "MoE", MS, dict(input=x, router=router, fc1=w1, fc1_bias=b1, fc2=w2, fc2_bias=b2), ["y"], consts=weights, k=2, activation_type=act, normalize_routing_weights=int(act != "relu"), rtol=1e-5)
    yield Case("moe_inputs", "MoE", MS, dict(input=x.reshape(2, 3, H), router=router, fc1=w1, fc1_bias=None, fc2=w2), ["y"], k=3, activation_type="silu")
    swiglu = dict(activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.702, activation_beta=1.0, swiglu_limit=1.5)
    yield Case("moe_swiglu", "MoE", MS, dict(input=x, router=router, fc1=both, fc1_bias=bias, fc2=w2, fc2_bias=b2), ["y"], consts=weights, k=2, normalize_routing_weights=1, **swiglu)

    def gated():  # Mixtral, in float64
        p = np.exp(np.float64(router))
        y = np.zeros((6, H))
        for t in range(6):
            top = np.argsort(-p[t])[:2]
            for e in top:
                h = silu(w1[e] @ np.float64(x[t]) + b1[e]) * (w3[e] @ np.float64(x[t]) + b3[e])
                y[t] += p[t, e] / p[t, top].sum() * (w2[e] @ h + b2[e])
        return [y.astype(np.float32)]
    yield Case("moe_fc3", "MoE", MS, dict(input=x, router=router, fc1=w1, fc1_bias=b1, fc2=w2, fc2_bias=b2, fc3=w3, fc3_bias=b3), ["y"], consts=weights, k=2, activation_type="silu",
               normalize_routing_weights=1, reference=gated)
    for bits in [2, 4, 8]:
        for block in [0, 16]:
            for zeros in [0, 1]:
                blocks = lambda K: K // block if block else 1
                shape = lambda n, K: (E, n, blocks(K)) if block else (E, n)
                fc = lambda n, K: (pack(r.integers(0, 1 << bits, (E, n, K)), bits), abs(f32(r, *shape(n, K), scale=0.5 / 2**bits)) + np.float32(0.01))
                zp = lambda n, K: pack(r.integers(0, 1 << bits, shape(n, K)), bits) if zeros else None
                (q1, s1), (q2, s2) = fc(2 * F, H), fc(H, F)
                ins = dict(input=x, router=router, fc1=q1, s1=s1, fc1_bias=bias, fc2=q2, s2=s2, fc2_bias=b2, fc3=None, s3=None, b3=None, z1=zp(2 * F, H), z2=zp(H, F))
                if not zeros:
                    for k in ["fc3", "s3", "b3", "z1", "z2"]:
                        del ins[k]
                yield Case(f"qmoe_{bits}_bits_{'blocks' if block else 'rows'}{'_zeros' if zeros else ''}", "QMoE", MS, ins, ["y"], consts=weights, k=2, expert_weight_bits=bits,
                           block_size=block or None, normalize_routing_weights=1, weights_prepacked=0, ask_with=weights if bits == 8 and block else (), **swiglu)
    (q1, s1), (q2, s2) = [(pack(r.integers(0, 16, (E, n, K)), 4), abs(f32(r, E, n, K // 16, scale=0.03)) + np.float32(0.01)) for n, K in [(F, H), (H, F)]]
    yield Case("qmoe_router_weights", "QMoE", MS, dict(input=x, router=router, fc1=q1, s1=s1, fc1_bias=b1, fc2=q2, s2=s2, fc2_bias=b2, fc3=None, s3=None, b3=None, z1=None, z2=None, z3=None,
               weights=abs(f32(r, 6, E))), ["y"], consts=weights, k=2, activation_type="silu", block_size=16, normalize_routing_weights=1)


def bnb4(r, K, N, block):
    return dict(B=u8(r, (N * K + 1) // 2), absmax=abs(f32(r, -(-N * K // block))))


def few_bits():
    r = rng("few bits")
    for kind in [0, 1]:
        yield Case(f"matmul_bnb4_{kind}", "MatMulBnb4", MS, dict(A=f32(r, 2, 3, 48), **bnb4(r, 48, 5, 16)), ["y"], consts=["B", "absmax"], K=48, N=5, block_size=16, quant_type=kind)
    yield Case("matmul_integer16", "MatMulInteger16", MS, dict(A=r.integers(-2000, 2000, (3, 4)).astype(np.int16), B=r.integers(-2000, 2000, (4, 2)).astype(np.int16)), ["y"])
    for t, dtype in [("uint8", np.uint8), ("int8", np.int8)]:
        (a, sa, za), (b, sb, zb) = quantized(r, 3, 4, dtype=dtype), quantized(r, 1, 4, dtype=dtype)
        yield Case(f"qlinear_where_{t}", "QLinearWhere", MS, dict(c=r.integers(0, 2, (3, 4)).astype(bool), A=a, sa=sa, za=za, B=b, sb=np.float32(0.035), zb=zb, sz=np.float32(0.03), zz=za), ["y"],
                   consts=["sa", "za", "sb", "zb", "sz", "zz"])
    ids, seg = r.integers(0, 10, (2, 4)).astype(np.int32), r.integers(0, 2, (2, 4)).astype(np.int32)
    one = lambda v: np.array(v, np.float32)
    zero = lambda v: np.array(v, np.uint8)
    yield Case("qembed_layer_norm", "QEmbedLayerNormalization", MS, dict(ids=ids, seg=seg, w=u8(r, 10, 16), p=u8(r, 6, 16), s=u8(r, 2, 16), g=u8(r, 16), b=u8(r, 16), mask=np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32),
               ws=one(0.02), ps=one(0.03), ss=one(0.01), gs=one(0.01), bs=one(0.02), wz=zero(128), pz=zero(120), sz=zero(100), gz=zero(0), bz=zero(128)), ["y", "m"])
    for direction, D in [("forward", 1), ("bidirectional", 2)]:
        r = rng("lstm" + direction)
        x, H = f32(r, 5, 2, 6), 4
        W, R, B = u8(r, D, 6, 4 * H), u8(r, D, H, 4 * H), f32(r, D, 8 * H, scale=0.3)
        ws, rs, wz, rz = [abs(f32(r, D, 4 * H, scale=0.004)) + np.float32(0.001) for _ in range(2)] + [u8(r, D, 4 * H) for _ in range(2)]
        # The peer quantises activations too, by the range that they have in each product: its float LSTM is the reference.
        plain = [np.transpose((m.astype(np.float32) - z[:, None].astype(np.float32)) * s[:, None], (0, 2, 1)) for m, s, z in [(W, ws, wz), (R, rs, rz)]]
        yield Case(f"dynamic_quantize_lstm_{direction}", "DynamicQuantizeLSTM", MS, dict(X=x, W=W, R=R, B=B, lens=None, h=None, c=None, P=None, ws=ws, wz=wz, rs=rs, rz=rz), ["y", "h", "c"],
                   consts=["W", "R", "B", "ws", "wz", "rs", "rz"], hidden_size=H, direction=direction, reference=lambda x=x, plain=plain, B=B, direction=direction: ask("LSTM", dict(X=x, W=plain[0], R=plain[1], B=B), ["y", "h", "c"], hidden_size=4, direction=direction))


def older_names():
    r = rng("older names")
    m = f32(r, 2, 3, 5, 4)
    for mode in ["bilinear", "nearest", "bicubic"]:
        for padding in ["zeros", "border", "reflection"]:
            yield Case(f"grid_sample_{mode}_{padding}", "GridSample", MS, dict(X=m, Grid=f32(r, 2, 3, 2, 2)), ["y"], mode=mode, padding_mode=padding, align_corners=int(padding == "border"))
    yield Case("nhwc_max_pool", "NhwcMaxPool", MS, dict(x=u8(r, 1, 5, 6, 3)), ["y"], kernel_shape=[3, 2], strides=[2, 1], pads=[1, 0, 1, 1])
    for dim in [0, 1, -1]:
        yield Case(f"unfold_{dim % 4}", "UnfoldTensor", MS, dict(x=m[:, :, :, :]), ["y"], dim=dim, size=2, step=1 if dim else 2)
    yield Case("gather_nd", "GatherND", MS, dict(data=m, indices=np.array([[0, 2], [1, 0]], np.int32)), ["y"])
    yield Case("unique", "Unique", MS, dict(x=np.array([2, 1, 1, 3, 4, 3], np.float32)), ["y", "i", "n"])
    for metric in ["euclidean", "sqeuclidean"]:
        yield Case(f"cdist_{metric}", "CDist", MS, dict(A=f32(r, 6, 5), B=f32(r, 3, 5)), ["y"], metric=metric)
    yield Case("gated_add", "GatedAdd", MS, dict(X=f32(r, 2, 3, 4), Y=f32(r, 2, 3, 4), gate=f32(r, 2, 3, 1)), ["y"])
    yield Case("inverse", "Inverse", MS, dict(X=f32(r, 2, 5, 5)), ["y"], rtol=1e-4)
    ids = np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]], np.int64)
    for n in [1, 2, 3, 7]:
        yield Case(f"ngram_repeat_{n}", "NGramRepeatBlock", MS, dict(ids=ids, scores=f32(r, 2, 6)), ["y"], ngram_size=n)
    for shape in [(4, 6), (6, 3), (1, 5), (5, 1)]:
        yield Case(f"time_warping_{shape[0]}_{shape[1]}", "DynamicTimeWarping", MS, dict(x=f32(r, *shape)), ["y"])
    yield Case("time_warping_ties", "DynamicTimeWarping", MS, dict(x=np.zeros((1, 4, 3), np.float32)), ["y"])
    words = np.array([["Hello, World", "a bb ccc"], ["", "é–ß x"]], object)
    for name, a in [("spaces", dict(separators=[" "])), ("several", dict(separators=[",", " +"])), ("characters", dict(separators=[""])), ("words", dict(tokenexp="[a-zA-Z0-9]+")),
                    ("longest", dict(tokenexp="b|bb|cc?")), ("dot", dict(tokenexp="."))]:
        for mark in [0, 1]:
            yield Case(f"tokenizer_{name}{'_marked' * mark}", "Tokenizer", MS, dict(X=words), ["y"], mark=mark, mincharnum=1, pad_value="#", **a)
    yield Case("tokenizer_long", "Tokenizer", MS, dict(X=words[0]), ["y"], mark=0, mincharnum=3, pad_value="", separators=[" "])
    yield Case("tokenizer_none", "Tokenizer", MS, dict(X=words[0]), ["y"], mark=0, mincharnum=30, pad_value="", separators=[" "])
    ids = r.integers(0, 9, (3, 2, 3)).astype(np.int64)
    for layout in [0, 1]:
        for inter in [0, 1]:
            yield Case(f"mrotary_{layout}_{inter}", "MRotaryEmbedding", MS, dict(input=f32(r, 2, 3, 32), ids=ids, cos=f32(r, 9, 8), sin=f32(r, 9, 8)), ["y"], mrope_section=[3, 3, 2], mrope_layout=layout, interleaved=inter, num_heads=2, rotary_embedding_dim=16)
    yield Case("mrotary_heads", "MRotaryEmbedding", MS, dict(input=f32(r, 2, 2, 3, 16), ids=ids, cos=f32(r, 9, 4), sin=f32(r, 9, 4)), ["y"], mrope_section=[2, 1, 1], num_heads=2, rotary_embedding_dim=8)


def delta_nets():
    for name, rule, gate, lead, by_key in [("plain", "gated_delta", "none", (2, 5), 0), ("packed", "gated_delta", "none", (10,), 0), ("softplus", "gated_delta", "softplus", (2, 5), 0), ("kda", "gated_delta", "sigmoid", (2, 5), 1),
                                           ("linear", "linear", "none", (2, 5), 0), ("gated", "gated", "none", (10,), 0), ("delta", "delta", "none", (2, 5), 0), ("step", "gated_delta", "softplus", (2, 1), 0), ("qkv", "gated_delta", "softplus", (10,), 0)]:
        r = rng("deltanet" + name)
        q, k, v = f32(r, *lead, 2, 8), f32(r, *lead, 2, 8), f32(r, *lead, 4, 6)
        decay = f32(r, *lead, 4, 8) if by_key else f32(r, *lead, 4)
        ins = dict(q=q, k=k, v=v, cu=None, decay=(-abs(decay) if gate == "none" else decay) if "gated" in rule else None, beta=f32(r, *lead, 4) if "delta" in rule else None, state=f32(r, 2, 4, 6, 8))
        if name == "qkv":
            ins.update(q=np.concatenate([a.reshape(*lead, -1) for a in (q, k, v)], -1), k=None, v=None)
        if gate != "none":
            ins.update(a=f32(r, 4), bias=f32(r, 4))
        yield Case(f"delta_net_{name}", "GatedDeltaNet", MS, ins, ["y", "s"], update_rule=rule, gate_activation=gate, beta_activation="sigmoid" if "delta" in rule else "none", qk_l2_norm=1)


def recurrences():
    for rule in ["linear", "gated", "delta", "gated_delta"]:
        for T in [1, 7]:
            for perkey in ([False, True] if "gated" in rule else [False]):
                name = f"linear_attention_{rule}_{T}" + ("_by_key" if perkey else "")
                r = rng(name)
                k = f32(r, 2, T, 2, 8)
                k /= np.linalg.norm(k, axis=-1, keepdims=True)
                past = f32(r, 2, 2, 8, 4)
                ins = dict(query=f32(r, 2, T, 32), key=k.reshape(2, T, 16), value=f32(r, 2, T, 8), past_state=past,
                           decay=-abs(f32(r, 2, T, 16 if perkey else 2)) if "gated" in rule else None,
                           beta=r.random((2, T, 2)).astype(np.float32) if "delta" in rule else None)
                while ins[list(ins)[-1]] is None:
                    ins.popitem()
                yield Case(name, "LinearAttention", MS, ins, ["y", "state"], q_num_heads=4, kv_num_heads=2, update_rule=rule)
    r = rng("gates")
    yield Case("linear_attention_gate", "LinearAttentionGate", MS, dict(a=f32(r, 2, 3, 4), dt_bias=f32(r, 4), decay_scale=-abs(f32(r, 4)), b=f32(r, 2, 3, 4)), ["decay", "beta"])
    for name, T, attrs in [("plain", 6, {}), ("step", 1, {}), ("silu", 6, dict(activation="silu")), ("dilated", 6, dict(dilation=2)), ("last", 6, dict(channels_last=1, activation="silu"))]:
        r = rng("conv" + name)
        keep, last = 3 * attrs.get("dilation", 1), attrs.get("channels_last")
        state = [2, keep, 6] if last else [2, 6, keep]
        past = f32(r, *state)
        x = f32(r, 2, T, 6) if last else f32(r, 2, 6, T)
        yield Case(f"causal_conv_{name}", "CausalConvWithState", MS, dict(input=x, weight=f32(r, 6, 1, 4), bias=f32(r, 6), past_state=past), ["y", "state"], **attrs)


def quantization():
    r = rng("quantization")
    x = f32(r, 3, 8)
    yield Case("quantize_u16", "QuantizeLinear", MS, dict(x=x, s=np.float32(0.001), z=np.array(1000, np.uint16)), ["y"])
    yield Case("quantize_axis", "QuantizeLinear", MS, dict(x=x, s=abs(f32(r, 3)) + 0.01, z=u8(r, 3)), ["y"], axis=0)
    yield Case("dequantize_u16", "DequantizeLinear", MS, dict(x=r.integers(0, 65536, (3, 8)).astype(np.uint16), s=np.float32(0.001), z=np.array(1000, np.uint16)), ["y"])
    b = u8(r, 8, 5)
    yield Case("dynamic_quantize_matmul", "DynamicQuantizeMatMul", MS, dict(A=x, B=b, s=np.array([0.02], np.float32), z=np.array([120], np.uint8), bias=f32(r, 5)), ["y"], consts=["B"])
    yield Case("dynamic_quantize_matmul_columns", "DynamicQuantizeMatMul", MS, dict(A=x, B=b, s=abs(f32(r, 5)) + 0.01, z=u8(r, 5)), ["y"], consts=["B", "s", "z"])
    yield Case("matmul_integer_to_float", "MatMulIntegerToFloat", MS, dict(A=u8(r, 3, 8), B=b, sa=np.float32(0.02), sb=abs(f32(r, 5)) + 0.01, za=np.array(7, np.uint8), zb=u8(r, 5), bias=f32(r, 5)), ["y"], consts=["B", "sb", "zb"])
    for out in [False, True]:
        a, sa, za = quantized(r, 3, 8)
        ins = dict(A=a, sa=sa, za=za, B=b, sb=np.float32(0.03), zb=np.array(99, np.uint8), C=r.integers(-500, 500, (5,)).astype(np.int32))
        if out:
            ins.update(sy=np.float32(0.2), zy=np.array(128, np.uint8))
        yield Case("qgemm_quantized" if out else "qgemm_float", "QGemm", MS, ins, ["y"], consts=["B"])
    ins = dict(input=u8(r, 1, 3, 8), weight=u8(r, 8, 48), bias=f32(r, 48), si=np.float32(0.02), sw=np.float32(0.02), mask_index=np.array([3], np.int32), zi=np.array(128, np.uint8), zw=np.array(128, np.uint8))
    yield Case("qattention", "QAttention", MS, ins, ["y"], consts=["weight"], num_heads=2)
    for dtype in [np.uint8, np.int8]:
        t = np.dtype(dtype).name
        a, sa, za = quantized(r, 2, 3, dtype=dtype)
        c, sc, zc = quantized(r, 3, dtype=dtype)
        q = dict(zip(["X", "sx", "zx"], (a, sa, za)))
        to = dict(sy=np.float32(0.0137), zy=np.array(3, dtype))
        yield Case(f"qlinear_add_{t}", "QLinearAdd", MS, dict(A=a, sa=sa, za=za, B=c, sb=sc, zb=zc, sc=np.float32(0.05), zc=zc), ["y"])
        yield Case(f"qlinear_mul_{t}", "QLinearMul", MS, dict(A=a, sa=sa, za=za, B=c, sb=sc, zb=zc, sc=np.float32(0.05), zc=zc), ["y"])
        yield Case(f"qlinear_sigmoid_{t}", "QLinearSigmoid", MS, dict(**q, **to), ["y"])
        yield Case(f"qlinear_leaky_relu_{t}", "QLinearLeakyRelu", MS, dict(**q, sy=np.float32(0.03), zy=np.array(9, dtype)), ["y"], alpha=0.2)
        yield Case(f"qlinear_softmax_{t}", "QLinearSoftmax", MS, dict(**q, sy=np.float32(1 / 256), zy=np.array(0 if dtype == np.uint8 else -128, dtype)), ["y"], opset_=13)
        i, si, zi = quantized(r, 1, 2, 4, 4, dtype=dtype)
        yield Case(f"qlinear_global_average_{t}", "QLinearGlobalAveragePool", MS, dict(X=i, sx=si, zx=zi, **to), ["y"])
        yield Case(f"qlinear_average_{t}", "QLinearAveragePool", MS, dict(X=i, sx=si, zx=zi, **to), ["y"], kernel_shape=[2, 2], strides=[2, 2])
        yield Case(f"qlinear_concat_{t}", "QLinearConcat", MS, dict(sy=np.float32(0.03), zy=zi, a=a, sa=sa, za=za, b=quantized(r, 2, 2, dtype=dtype)[0], sb=sc, zb=zc), ["y"], axis=1)
    i, si, zi = quantized(r, 1, 4, 4, 2)
    yield Case("qlinear_conv_last", "QLinearConv", MS, dict(x=i, sx=si, zx=zi, w=u8(r, 3, 2, 2, 2), sw=np.float32(0.03), zw=np.array(128, np.uint8), sy=np.float32(0.05), zy=zi), ["y"],
               consts=["w", "sw", "zw"], channels_last=1)


def misc():
    r = rng("misc")
    m = f32(r, 2, 3, 3)
    yield Case("trilu", "Trilu", MS, dict(X=m, k=np.array(-1, np.int64)), ["y"], upper=0)
    yield Case("expand_dims", "ExpandDims", MS, dict(X=m, axis=np.array(1, np.int32)), ["y"])
    yield Case("pad", "Pad", MS, dict(data=m, pads=np.array([0, 1, 0, 1, 0, 0], np.int64), value=np.array([2], np.float32)), ["y"], consts=["pads"])
    yield Case("range", "Range", MS, dict(a=np.array(1, np.int64), b=np.array(9, np.int64), d=np.array(3, np.int64)), ["y"])


def cases():
    for family in [norms, activations, products, attention, caches, mixtures, few_bits, older_names, delta_nets, recurrences, quantization, misc]:
        yield from family()
