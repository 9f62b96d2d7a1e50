"""Records what the functions of state-spaces/mamba and causal-conv1d compute, in
ONNX's layout, below testdata/ops/mamba_ssm. The functions run on GPUs alone, so
the reference is their documented recurrence, written here in NumPy, position
after position in float64; nothing of ssdc is used.

    python testdata/scripts/make_ops_mamba.py [NAME-PREFIX]

Every case is one node in some domain of an exporter's choice. Versions:
requirements.txt in this folder; one seed per case, so a run reproduces the files.
"""

import pathlib
import sys
import zlib

import numpy as np
import onnx
from onnx import helper, numpy_helper

OUT = pathlib.Path(__file__).resolve().parent.parent / "ops" / "mamba_ssm"
ONLY = sys.argv[1] if len(sys.argv) > 1 else ""


def softplus(v):
    return np.where(v > 20, v, np.log1p(np.exp(np.minimum(v, 20))))


def silu(v):
    return v / (1 + np.exp(-v))


def ssd(x, dt, A, B, C, D=None, z=None, bias=None, h0=None, seq=None, plus=False, limit=(0, np.inf)):
    """x [B,L,H,P], dt [B,L,H], A [H], B and C [B,L,G,N]; y and the last state."""
    b, L, H, P = x.shape
    dt = dt + (bias if bias is not None else 0)
    dt = np.clip(softplus(dt) if plus else dt, *limit)
    rep = H // B.shape[2]
    h = np.zeros((b, H, P, B.shape[3])) if h0 is None else h0.copy()
    y = np.zeros(x.shape)
    for t in range(L):
        if seq is not None and t:
            h[seq[:, t] != seq[:, t - 1]] = 0
        h = np.exp(dt[:, t] * A)[..., None, None] * h + (dt[:, t, :, None] * x[:, t])[..., None] * np.repeat(B[:, t], rep, 1)[:, :, None]
        y[:, t] = np.einsum("bhpn,bhn->bhp", h, np.repeat(C[:, t], rep, 1))
    if D is not None:
        y += x * (D[:, None] if D.ndim == 1 else D)
    return (y * silu(z) if z is not None else y), h


def conv(x, w, bias=None, state=None, act=None):
    """x [B,C,L], w [C,K], state [B,C,W]; y and the columns seen last, as many as the state has, or K-1."""
    b, c, L = x.shape
    K = w.shape[1]
    width = K - 1 if state is None else state.shape[2]
    past = np.zeros((b, c, width)) if state is None else state
    all_ = np.concatenate([past, x], 2)
    y = sum(w[:, j, None] * all_[:, :, all_.shape[2] - L - K + 1 + j : all_.shape[2] - K + 1 + j] for j in range(K))
    y = y + (bias[:, None] if bias is not None else 0)
    return (silu(y) if act in ("silu", "swish") else y), all_[:, :, all_.shape[2] - width :]


def selective(u, dt, A, B, C, D=None, z=None, bias=None, plus=False, h=None):
    """u and dt [B,D,L], A [D,N], B and C [D,N], [B,N,L] or [B,G,N,L]; y and the last state."""
    b, d, L = u.shape
    wide = lambda m, t: m[None] if m.ndim == 2 else np.repeat(m[:, None, :, t], d, 1) if m.ndim == 3 else np.repeat(m[..., t], d // m.shape[1], 1)
    dt = dt + (bias[:, None] if bias is not None else 0)
    dt = softplus(dt) if plus else dt
    h = np.zeros((b, d, A.shape[1])) if h is None else h
    y = np.zeros(u.shape)
    for t in range(L):
        h = np.exp(dt[:, :, t, None] * A) * h + (dt[:, :, t] * u[:, :, t])[..., None] * wide(B, t)
        y[:, :, t] = (h * wide(C, t)).sum(2)
    y = y + (D[:, None] * u if D is not None else 0)
    return (y * silu(z) if z is not None else y), h


def gated_norm(x, z, weight, eps, before, group):
    f = lambda v: v / np.sqrt((v.reshape(*v.shape[:-1], -1, group) ** 2).mean(-1, keepdims=True).repeat(group, -1).reshape(v.shape) + eps)
    return f(x) * weight * silu(z) if before else f(x * silu(z)) * weight


def record(name, domain, op, inputs, outputs, dynamic=(), opset_of_domain=True, **attrs):
    """inputs by name in order: an array (float64 is stored as float32), None for an omitted one, a number
    or text for a constant input. dynamic: axes with a symbol instead of a length, {input: {axis: symbol}}."""
    if not name.startswith(ONLY):
        return
    names, values, fixed, given = [], [], [], {}
    for k, v in inputs.items():
        names.append("" if v is None else k)
        if v is None:
            continue
        if isinstance(v, (bool, int, float, str, tuple)):
            a = np.array(v, dtype=object if isinstance(v, str) else np.float32 if isinstance(v, (float, tuple)) else None)
            fixed.append(helper.make_tensor(k, onnx.TensorProto.STRING, [], [v.encode()]) if isinstance(v, str) else numpy_helper.from_array(a, k))
            continue
        a = v.astype(np.float32) if v.dtype == np.float64 else v
        shape = list(a.shape)
        for axis, symbol in dict(dynamic).get(k, {}).items():
            shape[axis] = symbol
        values.append(helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(a.dtype), shape))
        given[k] = a
    outputs = {k: np.asarray(v, np.float32) for k, v in outputs.items()}
    outs = [helper.make_tensor_value_info(k, onnx.TensorProto.FLOAT, None) for k in outputs]
    node = helper.make_node(op, names, list(outputs), domain=domain, name=op, **attrs)
    opsets = [helper.make_opsetid("", 18)] + ([helper.make_opsetid(domain, 1)] if opset_of_domain else [])
    model = helper.make_model(helper.make_graph([node], name, values, outs, fixed), opset_imports=opsets, ir_version=10, producer_name="make_ops_mamba")
    data = OUT / name / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (OUT / name / "model.onnx").write_bytes(model.SerializeToString())
    for kind, all_ in (("input", given), ("output", outputs)):
        for i, (k, v) in enumerate(all_.items()):
            (data / f"{kind}_{i}.pb").write_bytes(numpy_helper.from_array(v, k).SerializeToString())


class Random:
    """float64 numbers that float32 holds exactly."""

    def __init__(self, name):
        self.r = np.random.default_rng(zlib.crc32(name.encode()))

    def __call__(self, *shape):
        return self.r.standard_normal(shape).astype(np.float32).astype(np.float64)

    def step(self, *shape):
        return self.r.uniform(0.001, 0.5, shape).astype(np.float32).astype(np.float64)

    def decay(self, *shape):
        return -self.r.uniform(0.5, 3, shape).astype(np.float32).astype(np.float64)


def chunk_scans():
    def operands(r, b=2, L=21, H=4, P=8, G=2, N=16):
        return dict(x=r(b, L, H, P), dt=r.step(b, L, H), A=r.decay(H), B=r(b, L, G, N), C=r(b, L, G, N))

    n = "chunk_scan"
    o = operands(Random(n))
    y, _ = ssd(*o.values())
    record(n, "mamba_ssm", "mamba_chunk_scan_combined", o, {"y": y}, chunk_size=8)

    n = "chunk_scan_positional"  # every parameter at its place, as TorchScript writes a registered operator
    r = Random(n)
    o = operands(r)
    D, z, bias, h0 = r(4), r(2, 21, 4, 8), r(4), r(2, 4, 8, 16)
    y, h = ssd(*o.values(), D=D, z=z, bias=bias, h0=h0, plus=True, limit=(0.01, 0.4))
    record(n, "mylib", "mamba_chunk_scan_combined", dict(o, chunk_size=8, D=D, z=z, dt_bias=bias, initial_states=h0, seq_idx=None,
           cu_seqlens=None, dt_softplus=True, dt_limit=(0.01, 0.4), return_final_states=True), {"y": y, "h": h}, opset_of_domain=False)

    n = "chunk_scan_dynamic"  # tensors in order, the rest attributes; batch and length are symbols
    r = Random(n)
    o = operands(r, b=1, L=37, G=1)
    D, bias = r(4, 8), r(4)
    y, h = ssd(*o.values(), D=D, bias=bias, plus=True)
    axes = {k: {0: "batch", 1: "length"} for k in ("x", "dt", "B", "C")}
    record(n, "vendor.kernels", "mamba_chunk_scan_combined", dict(o, D=D, z=None, dt_bias=bias), {"y": y, "h": h}, dynamic=axes, chunk_size=256, dt_softplus=1)

    n = "chunk_scan_sequences"
    r = Random(n)
    o = operands(r)
    seq = np.sort(r.r.integers(0, 3, (2, 21)), 1).astype(np.int32)
    seq -= seq[:, :1]
    y, _ = ssd(*o.values(), seq=seq)
    record(n, "mamba_ssm", "mamba_chunk_scan_combined", dict(o, D=None, z=None, dt_bias=None, initial_states=None, seq_idx=seq), {"y": y}, chunk_size=8)

    n = "chunk_scan_negative_dt"  # dt_limit begins at 0, so a raw dt below it takes nothing in
    r = Random(n)
    o = operands(r)
    o["dt"] = r(2, 21, 4)
    y, _ = ssd(*o.values())
    record(n, "mamba_ssm", "mamba_chunk_scan_combined", o, {"y": y}, chunk_size=8)


def split_scans():
    for n, norm, before, out, mlp, groups in (("split_conv_scan", True, False, True, 0, 1), ("split_conv_scan_gate_after", True, True, False, 0, 2),
                                              ("split_conv_scan_no_norm", False, False, False, 0, 1), ("split_conv_scan_mlp", True, False, True, 6, 1)):
        r = Random(n)
        b, L, H, P, N, K = 2, 19, 4, 8, 16, 4
        dim, bc = H * P, groups * N
        zx, w, wb, bias, A, D = r(b, L, 2 * mlp + 2 * dim + 2 * bc + H), r(dim + 2 * bc, K), r(dim + 2 * bc), r(H), r.decay(H), r(H)
        weight, po, pb = r(dim), r(10, mlp + dim), r(10)
        at = np.cumsum([mlp, mlp, dim, dim + 2 * bc])
        g, up, z, xbc, dt = np.split(zx, at, 2)
        xbc = conv(xbc.transpose(0, 2, 1), w, wb, act="silu")[0].transpose(0, 2, 1)
        x, B, C = np.split(xbc, [dim, dim + bc], 2)
        y, h = ssd(x.reshape(b, L, H, P), dt, A, B.reshape(b, L, groups, N), C.reshape(b, L, groups, N), D, None if norm else z.reshape(b, L, H, P), bias, plus=True)
        y = y.reshape(b, L, dim)
        if norm:
            y = gated_norm(y, z, weight, 1e-5, before, dim // groups)
        if mlp:
            y = np.concatenate([silu(g) * up, y], 2)
        if out:
            y = y @ po.T + pb
        record(n, "mamba_ssm.ops", "mamba_split_conv1d_scan_combined", dict(
            zxbcdt=zx, conv1d_weight=w, conv1d_bias=wb, dt_bias=bias, A=A, D=D, initial_states=None, seq_idx=None, rmsnorm_weight=weight if norm else None,
            outproj_weight=po if out else None, outproj_bias=pb if out else None), {"y": y, "h": h}, chunk_size=16, activation="swish", rmsnorm_eps=1e-5, headdim=P,
            ngroups=groups, norm_before_gate=int(before))


def selective_scans():
    d, N, b, L = 12, 16, 2, 23
    for n, op, bs, cs in (("selective_scan", "selective_scan", (b, N, L), (b, N, L)), ("selective_scan_groups", "selective_scan_fn", (b, 3, N, L), (b, 3, N, L)),
                          ("selective_scan_constant", "selective_scan_fn", (d, N), (d, N)), ("selective_scan_constant_b", "selective_scan_fn", (d, N), (b, 2, N, L))):
        r = Random(n)
        u, dt, A, B, C, D, z, bias = r(b, d, L), r(b, d, L), r.decay(d, N), r(*bs), r(*cs), r(d), r(b, d, L), r(d)
        y, h = selective(u, dt, A, B, C, D, z, bias, True)
        o = dict(u=u, delta=dt, A=A, B=B, C=C, D=D, z=z, delta_bias=bias)
        if n == "selective_scan_groups":
            record(n, "torch_ops", op, dict(o, delta_softplus=True, return_last_state=True), {"y": y, "h": h})
        else:
            record(n, "torch_ops", op, o, {"y": y, "h": h}, delta_softplus=1)
    n = "selective_scan_bare"
    r = Random(n)
    o = dict(u=r(b, d, L), delta=r.step(b, d, L), A=r.decay(d, N), B=r(b, N, L), C=r(b, N, L))
    record(n, "mamba_ssm", "selective_scan_fn", o, {"y": selective(*o.values())[0]},
           dynamic={k: {0: "batch", 2: "length"} for k in ("u", "delta", "B", "C")})


def steps():
    n, b, d, N = "state_update", 3, 12, 16
    r = Random(n)
    o = dict(state=r(b, d, N), x=r(b, d), dt=r(b, d), A=r.decay(d, N), B=r(b, N), C=r(b, N), D=r(d), z=r(b, d), dt_bias=r(d))
    y, h = selective(o["x"][..., None], o["dt"][..., None], o["A"], o["B"][..., None], o["C"][..., None], o["D"], o["z"][..., None], o["dt_bias"], True, o["state"])
    record(n, "mamba_ssm", "selective_state_update", o, {"y": y[..., 0], "new": h}, dt_softplus=1)

    n, H, P, G = "state_update_heads", 4, 8, 2
    for n, tied in (("state_update_heads", False), ("state_update_tied", True)):
        r = Random(n)
        wide = lambda v, *s: np.broadcast_to(v, s).copy()
        A, dtb = (wide(r.decay(H)[:, None, None], H, P, N), wide(r(H)[:, None], H, P)) if tied else (r.decay(H, P, N), r(H, P))
        o = dict(state=r(b, H, P, N), x=r(b, H, P), dt=r(b, H, P), A=A, B=r(b, G, N), C=r(b, G, N), D=r(H, P), z=None, dt_bias=dtb)
        flat = lambda v: v.reshape(b, H * P, 1)
        y, h = selective(flat(o["x"]), flat(o["dt"]), A.reshape(-1, N), o["B"][..., None], o["C"][..., None], o["D"].reshape(-1), None, dtb.reshape(-1), True,
                         o["state"].reshape(b, -1, N))
        record(n, "fast_ops", "selective_state_update", dict(o, dt_softplus=True), {"y": y.reshape(b, H, P), "new": h.reshape(b, H, P, N)})


def convolutions():
    b, c, L, K = 2, 10, 17, 4
    n = "conv"
    r = Random(n)
    o = dict(x=r(b, c, L), weight=r(c, K), bias=r(c))
    record(n, "causal_conv1d", "causal_conv1d_fn", o, {"y": conv(*o.values(), act="silu")[0]}, activation="silu")
    n = "conv_states"
    r = Random(n)
    o = dict(x=r(b, c, L), weight=r(c, K), bias=None, seq_idx=None, initial_states=r(b, c, K - 1))
    y, s = conv(o["x"], o["weight"], state=o["initial_states"])
    record(n, "my.ops", "causal_conv1d_fn", dict(o, return_final_states=True), {"y": y, "s": s})
    for n, width, tokens in (("conv_update", K - 1, 0), ("conv_update_wide", K, 0), ("conv_update_tokens", 6, 3)):
        r = Random(n)
        x = r(b, c, tokens) if tokens else r(b, c)
        o = dict(x=x, conv_state=r(b, c, width), weight=r(c, K), bias=r(c))
        y, s = conv(x if tokens else x[..., None], o["weight"], o["bias"], o["conv_state"], "silu")
        record(n, "causal_conv1d", "causal_conv1d_update", dict(o, activation="silu"), {"y": y if tokens else y[..., 0], "s": s})


if __name__ == "__main__":
    for make in (chunk_scans, split_scans, selective_scans, steps, convolutions):
        make()
    print("numpy", np.__version__, "onnx", onnx.__version__)
