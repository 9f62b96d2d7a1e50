"""The shared library of kernels, called with torch tensors, and float64 references."""
import ctypes
import math
import os

import torch

AUTO, WGMMA, MMA, SERIAL, TMA = range(5)
TYPES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}


class Arguments(ctypes.Structure):
    """struct ssdc_ssd of backends/cuda/kernels/ssd.h."""
    _fields_ = ([(n, ctypes.c_void_p) for n in ("x", "dt", "A", "Bm", "Cm", "D", "z", "dt_bias", "h0", "hT", "y")]
                + [(n, ctypes.c_int) for n in ("batch", "length", "heads", "head_dim", "groups", "state",
                                               "type", "dt_type", "softplus")]
                + [("dt_low", ctypes.c_float), ("dt_high", ctypes.c_float), ("pitch", ctypes.c_int), ("seq_idx", ctypes.c_void_p), ("add", ctypes.c_int)])


library = ctypes.CDLL(os.environ["SSDC_KERNELS"])
library.ssdc_ssd_forward.argtypes = [ctypes.POINTER(Arguments), ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
library.ssdc_ssd_workspace.restype = ctypes.c_longlong
library.ssdc_ssd_split_workspace.argtypes = [ctypes.POINTER(Arguments), ctypes.c_int]
library.ssdc_ssd_split_workspace.restype = ctypes.c_longlong
library.ssdc_ssd_forward_split.argtypes = [ctypes.POINTER(Arguments), ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
library.ssdc_ssd_step.argtypes = [ctypes.POINTER(Arguments), ctypes.c_void_p]


def inputs(B, L, H, P, G, N, dtype=torch.bfloat16, D=False, z=False, h0=False, raw_dt=False, dt_dtype=torch.float32, seq=False, decay=True):
    """Fresh random inputs on the GPU; decays from slow (state lives for the whole sequence) to fast, or none; seq: sequences packed into one."""
    def normal(*shape, dtype=dtype):
        return torch.randn(*shape, device="cuda").to(dtype)

    t = {"x": normal(B, L, H, P), "Bm": normal(B, L, G, N), "Cm": normal(B, L, G, N),
         "A": -torch.exp(torch.empty(H, device="cuda").uniform_(-4, math.log(16))),
         "D": normal(H, dtype=torch.float32) if D else None, "z": normal(B, L, H, P) if z else None,
         "h0": normal(B, H, P, N, dtype=torch.float32) if h0 else None, "dt_bias": None}
    step = torch.exp(torch.empty(B, L, H, device="cuda").uniform_(math.log(1e-3), math.log(1e-1)))
    if raw_dt:
        t["dt_bias"] = torch.empty(H, device="cuda").uniform_(-5, -2)
        step = torch.randn(B, L, H, device="cuda")
    if not decay:
        t["A"] *= 0
    t["seq_idx"] = torch.cumsum(torch.rand(B, L, device="cuda") < 1 / 60, 1).int() if seq else None
    t["dt"] = step.to(dt_dtype)
    t["softplus"] = raw_dt
    return t


def outputs(t, state=True):
    """Poisoned: whatever is not written stays NaN."""
    B, L, H, P = t["x"].shape
    y = torch.full_like(t["x"], float("nan"))
    hT = torch.full((B, H, P, t["Bm"].shape[3]), float("nan"), device="cuda") if state else None
    return y, hT


def arguments(t, y, hT):
    B, L, H, P = t["x"].shape
    G, N = t["Bm"].shape[2:]
    a = Arguments(batch=B, length=L, heads=H, head_dim=P, groups=G, state=N, type=TYPES[t["x"].dtype],
                  dt_type=TYPES[t["dt"].dtype], softplus=int(t["softplus"]), dt_low=0.0, dt_high=float("inf"))
    for name in ("x", "dt", "A", "Bm", "Cm", "D", "z", "dt_bias", "h0", "seq_idx"):
        if t[name] is not None:
            assert t[name].is_contiguous()
            setattr(a, name, t[name].data_ptr())
    a.y, a.hT = y.data_ptr(), hT.data_ptr() if hT is not None else None
    return a


workspace = None


def forward(a, path=AUTO, heads=0, share=True):
    """share: blocks take equal shares of all chunks, else one block for each sequence."""
    global workspace
    if workspace is None:
        workspace = torch.empty(library.ssdc_ssd_workspace(), dtype=torch.uint8, device="cuda")
    code = library.ssdc_ssd_forward(ctypes.byref(a), path, heads, workspace.data_ptr() if share else None, torch.cuda.current_stream().cuda_stream)
    if code:
        raise RuntimeError(f"ssdc_ssd_forward returned {code}")


split_workspace = None


def forward_split(a, path=AUTO, segments=0):
    """Cut in time into `segments`; 0: the library chooses."""
    global split_workspace
    need = library.ssdc_ssd_split_workspace(ctypes.byref(a), segments)
    if need < 0:
        raise RuntimeError(f"ssdc_ssd_split_workspace returned {need}")
    if split_workspace is None or split_workspace.numel() < need:
        split_workspace = torch.full((need // 4 + 1,), float("nan"), device="cuda").view(torch.uint8)
    code = library.ssdc_ssd_forward_split(ctypes.byref(a), path, segments, split_workspace.data_ptr(), torch.cuda.current_stream().cuda_stream)
    if code:
        raise RuntimeError(f"ssdc_ssd_forward_split returned {code}")


def forward_halves(a, t, path=AUTO):
    """States of more than 128: a call for each half of their columns, the second of which adds to y."""
    N, D, z = a.state, a.D, a.z
    for i in range(0, N, 128):
        half = Arguments.from_buffer_copy(a)
        half.state, half.pitch, half.add = min(128, N - i), N, int(i > 0)
        half.Bm, half.Cm, half.hT = a.Bm + 2 * i, a.Cm + 2 * i, a.hT + 4 * i
        half.h0 = a.h0 + 4 * i if a.h0 else None
        half.D, half.z = D if i == 0 else None, z if i + 128 >= N else None
        forward(half, path, 2)


def step(a):
    code = library.ssdc_ssd_step(ctypes.byref(a), torch.cuda.current_stream().cuda_stream)
    if code:
        raise RuntimeError(f"ssdc_ssd_step returned {code}")


def reference(t):
    """The recurrence, position after position, in float64 (SSD.md 1.2)."""
    f = {k: v.double() if torch.is_tensor(v) else v for k, v in t.items()}
    B, L, H, P = f["x"].shape
    G, N = f["Bm"].shape[2:]
    dt = f["dt"] + (f["dt_bias"] if f["dt_bias"] is not None else 0)
    if f["softplus"]:
        dt = torch.nn.functional.softplus(dt, threshold=1e9)
    decay = torch.exp(dt * f["A"])
    if f["seq_idx"] is not None:
        decay[:, 1:][t["seq_idx"][:, 1:] != t["seq_idx"][:, :-1]] = 0
    S = f["h0"].clone() if f["h0"] is not None else torch.zeros(B, H, P, N, device="cuda", dtype=torch.float64)
    y = torch.empty_like(f["x"])
    for i in range(L):
        Bh = f["Bm"][:, i].repeat_interleave(H // G, 1)
        Ch = f["Cm"][:, i].repeat_interleave(H // G, 1)
        S = decay[:, i, :, None, None] * S + (dt[:, i, :, None] * f["x"][:, i])[..., None] * Bh[:, :, None]
        y[:, i] = (S @ Ch[..., None])[..., 0]
    if f["D"] is not None:
        y = y + f["D"][:, None] * f["x"]
    if f["z"] is not None:
        y = y * torch.nn.functional.silu(f["z"])
    return y, S


def distance(out, ref):
    """||out - ref|| / ||ref||; NaN where anything was left unwritten."""
    return ((out.double() - ref).norm() / ref.norm()).item()


def median_time(call, repeats, warm=3):
    """Seconds of one call(i), the median of device-event times; i counts calls, to rotate inputs."""
    for i in range(warm):
        call(i)
    events = []
    for i in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call(i)
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    times = sorted(s.elapsed_time(e) for s, e in events)
    return times[len(times) // 2] / 1e3


def graph_time(calls, repeats=15):
    """Seconds of one call when the list of calls is replayed as one CUDA graph."""
    for c in calls[:3]:
        c()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for c in calls:
            c()
    return median_time(lambda i: graph.replay(), repeats) / len(calls)
