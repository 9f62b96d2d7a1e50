"""One stage of bench/gpu, named on the command line; each runs in a process of its own, so that a
fault in one leaves the others alone. Results go to standard output, one JSON object a line."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time

import torch

import ssdlib as ssd

SHAPE = dict(B=8, L=4096, H=80, P=64, G=1, N=128)
LIMITS = {torch.bfloat16: (8e-3, 5e-3), torch.float16: (1.5e-3, 1e-3)}  # y, last state


def report(**row):
    print(json.dumps(row), flush=True)


def compare(name, t, run):
    y, hT = ssd.outputs(t)
    run(ssd.arguments(t, y, hT))
    torch.cuda.synchronize()
    ry, rh = ssd.reference(t)
    ly, lh = LIMITS[t["x"].dtype]
    ey, eh = ssd.distance(y, ry), ssd.distance(hT, rh)
    # A moving error is a race: the same inputs must give the same bits.
    y2, hT2 = ssd.outputs(t)
    run(ssd.arguments(t, y2, hT2))
    torch.cuda.synchronize()
    same = torch.equal(y, y2) and torch.equal(hT, hT2)
    ok = ey < ly and eh < lh and same
    row = dict(check=name, y=ey, state=eh, repeatable=same, ok=ok)
    if not (ey < ly):  # where it is wrong: first bad position, head and column
        bad = ~((y.double() - ry).abs() <= 0.1 * ry.abs().amax())
        if bad.any():
            row["first_wrong"] = bad.nonzero()[0].tolist()
            row["wrong_share"] = bad.double().mean().item()
    report(**row)


def check(label, path, heads):
    """heads 0: the path has one way to lay out blocks."""
    bf, hf = torch.bfloat16, torch.float16
    cases = [
        ("one chunk", dict(B=1, L=64, H=2, P=64, G=1, N=128), {}),
        ("one chunk, N=64", dict(B=1, L=64, H=2, P=64, G=1, N=64), {}),
        ("state only", dict(B=1, L=1, H=2, P=64, G=1, N=128), dict(h0=True)),
        ("two chunks", dict(B=1, L=128, H=2, P=64, G=1, N=128), {}),
        ("long", dict(B=2, L=1024, H=4, P=64, G=1, N=128), dict(h0=True)),
        ("odd L", dict(B=2, L=333, H=5, P=64, G=1, N=128), dict(h0=True, D=True)),
        ("G=8, z, D, softplus", dict(B=2, L=200, H=24, P=64, G=8, N=128), dict(D=True, z=True, h0=True, raw_dt=True)),
        ("P=128", dict(B=1, L=130, H=6, P=128, G=2, N=128), dict(D=True, h0=True)),
        ("P=32 N=64", dict(B=2, L=77, H=6, P=32, G=1, N=64), dict(z=True)),
        ("P=80 N=96", dict(B=2, L=129, H=4, P=80, G=1, N=96), dict(D=True, z=True, h0=True)),
        ("P=8 N=16", dict(B=2, L=65, H=3, P=8, G=1, N=16), dict(D=True, h0=True)),
        ("dt in bf16", dict(B=1, L=300, H=8, P=64, G=1, N=128), dict(raw_dt=True, dt_dtype=bf)),
        ("fp16", dict(B=2, L=200, H=6, P=64, G=2, N=128), dict(dtype=hf, D=True, z=True, h0=True)),
        ("fp16 N=64", dict(B=2, L=63, H=6, P=64, G=1, N=64), dict(dtype=hf, h0=True)),
        ("packed", dict(B=2, L=700, H=5, P=64, G=1, N=128), dict(D=True, h0=True, seq=True)),
        ("packed, fp16 P=80 N=32", dict(B=2, L=333, H=4, P=80, G=2, N=32), dict(dtype=hf, z=True, h0=True, raw_dt=True, seq=True)),
    ]
    label += f" x{heads}" if heads else ""
    gate = path != ssd.TMA
    for name, shape, options in cases:
        options.update(z=gate and options.get("z", False))
        compare(f"{label}: {name} {shape}", ssd.inputs(**shape, **options), lambda a: ssd.forward(a, path, heads))
    # Enough sequences that blocks share them; the second is the shape that is timed.
    for shape, options in ((dict(B=3, L=200, H=160, P=64, G=1, N=128), dict(h0=True, D=True, z=gate)), (SHAPE, dict(D=True, raw_dt=True))):
        for share in (False, True):
            compare(f"{label}: {'shared' if share else 'plain'} {shape}", ssd.inputs(**shape, **options),
                    lambda a: ssd.forward(a, path, heads, share))


def check_wgmma():
    check("wgmma", ssd.WGMMA, 2)


def check_tma():
    check("TMA", ssd.TMA, 0)


def check_mma():
    check("mma.sync", ssd.MMA, 2)


def check_split():
    """Sequences cut in time; the last shapes leave the number of segments to the library."""
    for label, path in (("TMA", ssd.TMA), ("wgmma", ssd.WGMMA), ("mma.sync", ssd.MMA)):
        for segments, shape, options in [
            (3, dict(B=1, L=1024, H=4, P=64, G=1, N=128), dict(h0=True)),
            (1, dict(B=1, L=333, H=5, P=64, G=1, N=128), dict(h0=True, D=True)),
            (4, dict(B=2, L=333, H=5, P=64, G=1, N=128), dict(h0=True, D=True, z=True, raw_dt=True)),
            (16, dict(B=1, L=1000, H=24, P=64, G=8, N=128), dict(D=True)),
            (5, dict(B=2, L=500, H=4, P=80, G=2, N=96), dict(z=True, h0=True)),
            (2, dict(B=1, L=130, H=6, P=128, G=2, N=16), dict(dtype=torch.float16, h0=True)),
            (4, dict(B=1, L=64, H=2, P=8, G=1, N=64), dict(h0=True)),
            (0, dict(B=1, L=8192, H=80, P=64, G=1, N=128), dict(D=True, raw_dt=True, h0=True)),
            (0, dict(B=2, L=4000, H=80, P=64, G=1, N=64), dict(h0=True)),
            (0, dict(B=1, L=16384, H=80, P=64, G=1, N=128), dict(h0=True, decay=False)),
            (0, dict(B=1, L=9000, H=24, P=64, G=1, N=128), dict(h0=True, seq=True)),
        ]:
            options = dict(options, z=options.get("z", False) and path != ssd.TMA)
            compare(f"{label} split {segments or 'auto'}: {shape}", ssd.inputs(**shape, **options),
                    lambda a: ssd.forward_split(a, path, segments))
    # The state in place of h0.
    t = ssd.inputs(B=1, L=2048, H=80, P=64, G=1, N=128, h0=True)
    y, hT = ssd.outputs(t)
    ssd.forward_split(ssd.arguments(t, y, hT))
    again, _ = ssd.outputs(t, state=False)
    ssd.forward_split(ssd.arguments(t, again, t["h0"]))
    same = torch.equal(y, again) and torch.equal(hT, t["h0"])
    report(check="split, hT over h0: same bits", y=ssd.distance(again, y.double()), state=ssd.distance(t["h0"], hT.double()), ok=same)


def time_split():
    """Few sequences beside enough of them: the same bytes a second is the aim. Without decay every segment but the last is read twice."""
    time_forward("ssdc TMA, equal shares", SHAPE, ssd.TMA, 0)
    for B, L in ((1, 8192), (1, 65536), (4, 16384), (1, 1 << 20)):
        shape = dict(B=B, L=L, H=80, P=64, G=1, N=128)
        few = dict(repeats=5, sets=1) if L > 100000 else dict(repeats=9)
        time_forward("ssdc TMA, cut in time", shape, ssd.TMA, 0, call=lambda a: ssd.forward_split(a, ssd.TMA), **few)
        time_forward("ssdc TMA, cut in time, no decay", shape, ssd.TMA, 0, call=lambda a: ssd.forward_split(a, ssd.TMA), decay=False, **few)
        ssd.split_workspace = None


def check_rest():
    for name, shape, options in [
        ("serial", dict(B=1, L=65, H=3, P=7, G=1, N=20), dict(D=True, z=True, h0=True)),
        ("serial N=256", dict(B=1, L=40, H=4, P=64, G=2, N=256), dict(raw_dt=True)),
    ]:
        compare(f"{name} {shape}", ssd.inputs(**shape, **options), ssd.forward)
    for name, shape, options in [
        ("halves", dict(B=2, L=700, H=6, P=64, G=1, N=256), dict(D=True, h0=True)),
        ("halves, packed, z", dict(B=2, L=300, H=24, P=80, G=2, N=200), dict(D=True, z=True, h0=True, raw_dt=True, seq=True)),
    ]:
        t = ssd.inputs(**shape, **options)
        for label, path in (("wgmma", ssd.WGMMA), ("mma.sync", ssd.MMA)):
            compare(f"{label} {name} {shape}", t, lambda a: ssd.forward_halves(a, t, path))
    for name, shape, options in [
        ("step", dict(B=64, L=1, H=80, P=64, G=1, N=128), dict(h0=True, D=True, raw_dt=True)),
        ("step G=8 z", dict(B=3, L=1, H=24, P=80, G=8, N=64), dict(h0=True, D=True, z=True)),
        ("step N=256", dict(B=1, L=1, H=4, P=33, G=1, N=256), dict(h0=True)),
        ("step N=16", dict(B=2, L=1, H=4, P=64, G=1, N=16), dict(h0=True)),
        ("step N=48", dict(B=2, L=1, H=4, P=64, G=1, N=48), dict(h0=True, D=True)),
        ("step fp16", dict(B=2, L=1, H=4, P=64, G=1, N=128), dict(h0=True, dtype=torch.float16)),
    ]:
        compare(f"{name} {shape}", ssd.inputs(**shape, **options), ssd.step)


def ceilings():
    a = torch.randn(1 << 30, device="cuda")
    b = torch.empty_like(a)
    s = ssd.median_time(lambda i: b.copy_(a), 15)
    report(work="device copy, 8.6 GB", seconds=s, tbytes=2 * a.numel() * 4 / s / 1e12)
    del a, b
    m = [torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(3)]
    s = ssd.median_time(lambda i: torch.matmul(m[0], m[1], out=m[2]), 15)
    report(work="torch matmul 8192^3 bf16", seconds=s, tflops=2 * 8192**3 / s / 1e12)
    # What the power limit leaves when products follow each other for a second, as in a long prompt.
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    n = 800
    for i in range(n + n // 4):
        if i == n // 4:
            start.record()
        torch.matmul(m[0], m[1], out=m[2])
    end.record()
    end.synchronize()
    s = start.elapsed_time(end) / 1e3 / n
    report(work=f"torch matmul 8192^3 bf16, {n} in a row", seconds=s, tflops=2 * 8192**3 / s / 1e12)


def ssd_bytes(B, L, H, P, G, N, state=True):
    return 2 * B * L * (2 * H * P + 2 * G * N) + 4 * B * L * H + (4 * B * H * P * N if state else 0)


def time_forward(name, shape, path, heads, share=True, repeats=15, sets=2, call=None, **options):
    call = call or (lambda a: ssd.forward(a, path, heads, share))
    calls = []
    for _ in range(sets):
        t = ssd.inputs(**shape, **options)
        y, hT = ssd.outputs(t)
        calls.append((t, y, hT, ssd.arguments(t, y, hT)))
    s = ssd.median_time(lambda i: call(calls[i % sets][3]), repeats)
    report(work=name, **shape, seconds=s, tbytes=ssd_bytes(**shape) / s / 1e12)


def time_paths(label, path):
    for share in (False, True):
        time_forward(f"ssdc {label}, 2 heads a block{', equal shares' if share else ''}", SHAPE, path, 2, share)


def time_wgmma():
    time_paths("wgmma", ssd.WGMMA)
    time_forward("ssdc wgmma, 2 heads a block, again", SHAPE, ssd.WGMMA, 2, False)  # the difference is the noise


def time_tma():
    for share in (False, True, True):  # the difference of the last two is the noise
        time_forward(f"ssdc TMA{', equal shares' if share else ''}", SHAPE, ssd.TMA, 0, share)


def time_mma():
    time_paths("mma.sync", ssd.MMA)


def time_lengths():
    """Tokens held at 65,536; equal width (80 heads of 64) for the scan and for attention."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    for L in (2048, 4096, 8192, 16384, 32768, 65536):
        B = 65536 // L
        for N in (64, 128):
            # Few sequences as the backend runs them: cut in time where that pays.
            time_forward("ssdc at length", dict(B=B, L=L, H=80, P=64, G=1, N=N), ssd.AUTO, 0, repeats=9, call=ssd.forward_split if B < 4 else None)
        ssd.split_workspace = None
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION):
            try:
                q, k, v = (torch.randn(B, 80, L, 64, device="cuda", dtype=torch.bfloat16) for _ in range(3))
                with sdpa_kernel(backend):
                    s = ssd.median_time(lambda i: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True),
                                        5 if L < 20000 else 3, warm=1)
                report(work=f"attention {backend.name}", B=B, L=L, H=80, P=64, seconds=s)
            except Exception as e:  # a peer that cannot run is told, not hidden
                report(peer=f"attention {backend.name}", L=L, missing=str(e).splitlines()[0])
    time_forward("ssdc one long sequence", dict(B=1, L=1 << 20, H=80, P=64, G=1, N=128), ssd.AUTO, 0, repeats=5, sets=1, call=ssd.forward_split)


def time_step():
    H, P, G, N = 80, 64, 1, 128
    for B in (1, 8, 64):
        sets = max(2, 256 // B)  # beyond the L2
        calls = []
        for _ in range(sets):
            t = ssd.inputs(B, 1, H, P, G, N, h0=True, D=True, raw_dt=True)
            y, _ = ssd.outputs(t, state=False)
            calls.append((t, y, ssd.arguments(t, y, t["h0"])))
        s = ssd.graph_time([lambda a=c[2]: ssd.step(a) for c in calls])
        moved = 2 * 4 * B * H * P * N + 2 * B * (2 * H * P + 2 * G * N)
        report(work=f"ssdc step B={B}", seconds=s, tbytes=moved / s / 1e12)
        try:
            from mamba_ssm.ops.triton.selective_state_update import selective_state_update
            peer = []
            for t, _, _ in calls:
                wide = lambda v, *s: v.reshape(*s).expand(*v.shape, P, N)
                peer.append(lambda t=t: selective_state_update(
                    t["h0"], t["x"][:, 0], t["dt"][:, 0, :, None].expand(B, H, P), t["A"][:, None, None].expand(H, P, N),
                    t["Bm"][:, 0], t["Cm"][:, 0], D=t["D"][:, None].expand(H, P),
                    dt_bias=t["dt_bias"][:, None].expand(H, P), dt_softplus=True))
            s = ssd.graph_time(peer)
            report(work=f"mamba_ssm step B={B}", seconds=s, tbytes=moved / s / 1e12)
        except Exception as e:
            report(peer="mamba_ssm selective_state_update", missing=f"{type(e).__name__}: {e}".splitlines()[0])


def time_mamba():
    try:
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except Exception as e:
        report(peer="mamba_ssm mamba_chunk_scan_combined", missing=f"{type(e).__name__}: {e}".splitlines()[0])
        return
    call = lambda t, Q: mamba_chunk_scan_combined(t["x"], t["dt"], t["A"], t["Bm"], t["Cm"], chunk_size=Q, return_final_states=True)
    sets = [ssd.inputs(**SHAPE) for _ in range(2)]
    for Q in (256, 128):  # the first call tunes, on the shape that is timed
        s = ssd.median_time(lambda i: call(sets[i % 2], Q), 11)
        report(work=f"mamba_ssm Triton, chunk {Q}", **SHAPE, seconds=s, tbytes=ssd_bytes(**SHAPE) / s / 1e12)
        t = ssd.inputs(**dict(SHAPE, B=1, L=512))
        ry, rh = ssd.reference(t)
        y, h = call(t, Q)
        report(check=f"mamba_ssm, chunk {Q}, against the same reference", y=ssd.distance(y, ry), state=ssd.distance(h, rh), ok=True)


def time_fla():
    try:
        from fla.ops.simple_gla.chunk import chunk_simple_gla
    except Exception as e:
        report(peer="fla simple GLA", missing=f"{type(e).__name__}: {e}".splitlines()[0])
        return
    t = ssd.inputs(**SHAPE)
    B, L, H, P = t["x"].shape
    q, k = (v.expand(B, L, H, v.shape[3]).contiguous() for v in (t["Cm"], t["Bm"]))
    v, g = (t["x"] * t["dt"][..., None]).to(t["x"].dtype), t["dt"] * t["A"]
    s = ssd.median_time(lambda i: chunk_simple_gla(q, k, v, g=g, scale=1.0, output_final_state=True), 9)
    report(work="fla simple GLA (B and C repeated per head)", **SHAPE, seconds=s, tbytes=ssd_bytes(**SHAPE) / s / 1e12)


ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAMS = pathlib.Path(os.environ.get("SSDC_PROGRAMS", "/nonexistent"))  # ssdc, cuda.test, ssdc.test, model


def program(name):
    """The path of a program of this repository, or nothing after a row that says it is missing."""
    if (PROGRAMS / name).exists():
        return str(PROGRAMS / name)
    report(peer=name, missing="no Go here and SSDC_PROGRAMS names no folder that has it")


def go_tests(name, pattern, limit):
    path = program(name)
    if not path:
        return
    p = subprocess.run([path, "-test.v", f"-test.run={pattern}", f"-test.timeout={limit}s"], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    passed = len(re.findall(r"^ *--- PASS", p.stdout, re.M))
    failed = re.findall(r"^ *--- FAIL: (\S+)", p.stdout, re.M)
    skipped = len(re.findall(r"^ *--- SKIP", p.stdout, re.M))
    told = "\n".join(line for line in p.stdout.splitlines() if not re.match(r" *(--- PASS|=== )", line))
    print(told[-20000:] if p.returncode else "", flush=True)
    report(tests=f"{name} {pattern}", passed=passed, failed=failed[:20], skipped=skipped, ok=p.returncode == 0 and passed > 0)


def check_backend():
    """Every operator's cases, products, sessions: the Go tests of backends/cuda on this device."""
    go_tests("cuda.test", ".", 100)


def check_models():
    """Every export of testdata/models against PyTorch in float64; states carried, cloned, saved."""
    go_tests("ssdc.test", "CUDA", 150)


def check_command():
    """ssdc compile --target cuda, then ssdc run, against --target ref."""
    import numpy as np
    ssdc = program("ssdc")
    if not ssdc:
        return
    print(subprocess.run([ssdc, "backends"], text=True, capture_output=True).stdout, flush=True)
    for model in ("mamba2_dynamo_dyn_prefill_cache_g2", "mamba2_ts_dyn_decode_g8", "mamba1_dynamo_dynbatch_prefill", "loop_block_mamba2"):
        folder = ROOT / "testdata/models" / model
        with tempfile.TemporaryDirectory() as tmp:
            got = {}
            for target in ("ref", "cuda"):
                art, out = f"{tmp}/{target}.ssda", f"{tmp}/{target}.npz"
                for command in ([ssdc, "compile", str(folder / "model.onnx"), "-o", art, "--target", target, "--no-state"],
                                [ssdc, "run", art, "--input", str(folder / "inputs.npz"), "--output", out]):
                    p = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
                    if p.returncode:
                        report(tests=" ".join(command[:2]) + f" {model} --target {target}", passed=0, failed=[p.stdout[-300:]], skipped=0, ok=False)
                        break
                else:
                    got[target] = dict(np.load(out))
            if len(got) == 2:
                worst = max(float(np.linalg.norm((got["cuda"][k] - v).astype(np.float64)) / max(np.linalg.norm(v.astype(np.float64)), 1e-30)) for k, v in got["ref"].items())
                report(tests=f"ssdc run {model}: cuda against ref, distance {worst:.1e}", passed=1, failed=[], skipped=0, ok=worst < 1e-5)


def time_model():
    """mamba2-2.7b's shapes with random weights, from package cuda: a prompt and decode steps."""
    model = program("model")
    if not model:
        return
    for args in (["-batch", "1,8,64"], ["-batch", "8", "-prompt", "4096"], ["-batch", "8", "-prompt", "4096", "-set", "search=on"],
                 ["-batch", "1", "-set", "overlap=off"], ["-batch", "8", "-prompt", "4096", "-blas", "off", "-repeat", "3"], ["-batch", "1", "-dtype", "float"]):
        p = subprocess.run([model, *args, "-profile"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        print(" ".join(args), p.stderr, flush=True)
        if p.returncode:
            report(peer="model " + " ".join(args), missing=p.stderr.strip().splitlines()[-1])
        for line in p.stdout.splitlines():
            row = json.loads(line)
            blas = "cuBLASLt" if row["blas"] == "on" else "own products"
            row.pop("parts_ms", None)
            report(**dict(row, work=f"{row['work']}, {blas}{', ' + args[-1] if '-set' in args else ''}"))


def time_weights():
    """The same model with its matrices in int8 and int4."""
    model = program("model")
    if not model:
        return
    for args in (["-weights", "int8", "-batch", "1,8,64"], ["-weights", "int4", "-batch", "1,8,64"], ["-weights", "int8", "-batch", "8", "-prompt", "4096", "-repeat", "3"]):
        p = subprocess.run([model, *args, "-profile"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        print(" ".join(args), p.stderr, flush=True)
        if p.returncode:
            report(peer="model " + " ".join(args), missing=p.stderr.strip().splitlines()[-1])
        for line in p.stdout.splitlines():
            row = json.loads(line)
            row.pop("parts_ms", None)
            report(**row)


# batch, heads, key heads, queries, keys, size of a head, causal
ATTENTION = [(4, 32, 32, 4096, 4096, 64, 0), (4, 32, 32, 4096, 4096, 64, 1), (4, 32, 32, 4096, 4096, 80, 1), (4, 16, 16, 4096, 4096, 128, 0), (4, 16, 16, 4096, 4096, 128, 1),
             (4, 32, 8, 4096, 4096, 128, 1), (1, 32, 8, 1, 65536, 128, 0), (16, 32, 8, 1, 8192, 128, 0), (8, 16, 16, 1, 16384, 64, 0)]


def time_attention():
    """Attention through package cuda beside PyTorch's, prompt and one query over a long cache."""
    from torch.nn.attention import SDPBackend, sdpa_kernel
    model = program("model")
    if model:
        p = subprocess.run([model, "-attention", " ".join(",".join(map(str, s)) for s in ATTENTION)], text=True, capture_output=True)
        if p.returncode:
            report(peer="model -attention", missing=p.stderr.strip().splitlines()[-1])
        for line in p.stdout.splitlines():
            report(**json.loads(line))
    for B, H, KH, L, K, P, causal in ATTENTION:
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            try:
                q, k, v = (torch.randn(B, h, n, P, device="cuda", dtype=torch.bfloat16) for h, n in ((H, L), (KH, K), (KH, K)))
                with sdpa_kernel(backend):
                    call = lambda i: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=bool(causal), enable_gqa=KH != H)
                    s = ssd.median_time(call, 9, warm=1)
                row = dict(work=f"torch {backend.name}, {KH} key heads, size {P}, causal {causal}", B=B, H=H, L=L, K=K, P=P, seconds=s)
                if L == 1:
                    row["tbytes"] = 4 * B * KH * K * P / s / 1e12
                else:
                    row["tflops"] = 4 * B * H * L * K * P / (2 if causal else 1) / s / 1e12
                report(**row)
            except Exception as e:  # a peer that cannot run is told, not hidden
                report(peer=f"torch {backend.name} {(B, H, KH, L, K, P, causal)}", missing=str(e).splitlines()[0])


def time_mamba1():
    """Mamba-1's scan and SSD at equal width, each alone on the device; state-spaces' own CUDA extension where it can be loaded."""
    model = program("model")
    if not model:
        return
    for N in ("64", "128"):
        for scan in ("selective", "ssd"):
            p = subprocess.run([model, "-scan", scan, "-batch", "8", "-prompt", "4096", "-state", N], text=True, capture_output=True)
            if p.returncode:
                report(peer=f"model -scan {scan}", missing=p.stderr.strip().splitlines()[-1])
            for line in p.stdout.splitlines():
                report(**json.loads(line))
    try:
        from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    except Exception as e:
        report(peer="mamba_ssm selective_scan_fn (a CUDA extension)", missing=f"{type(e).__name__}: {e}".splitlines()[0])
        return
    B, L, D = 8, 4096, 5120
    for N in (64, 128):
        u, dt = (torch.rand(B, D, L, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        A, bm, cm = -torch.rand(D, N, device="cuda") - 1, *(torch.randn(B, N, L, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        s = ssd.median_time(lambda i: selective_scan_fn(u, dt, A, bm, cm), 5)
        report(work="mamba_ssm selective scan (Mamba-1)", B=B, L=L, N=N, seconds=s)


def time_transformers():
    """The same model from transformers with mamba_ssm's Triton kernels for scan and step; its convolution is causal-conv1d's where that
    CUDA extension can be loaded, else PyTorch's. Decoding both as transformers runs it and as a CUDA graph of one step."""
    try:
        import transformers
        from transformers.models.mamba2 import modeling_mamba2 as module
        from mamba_ssm.ops.triton.selective_state_update import selective_state_update
        from mamba_ssm.ops.triton.ssd_combined import mamba_chunk_scan_combined
    except Exception as e:
        report(peer="transformers Mamba2 with mamba_ssm", missing=f"{type(e).__name__}: {e}".splitlines()[0])
        return
    calls = {"step": 0, "scan": 0}

    def step(*a, **k):
        calls["step"] += 1
        return selective_state_update(*a, **{n: v for n, v in k.items() if n in ("z", "dt_bias", "dt_softplus")})

    def scan(*a, **k):
        calls["scan"] += 1
        known = ("chunk_size", "D", "z", "return_final_states", "dt_bias", "dt_softplus", "initial_states", "dt_limit")
        return mamba_chunk_scan_combined(*a, **{n: v for n, v in k.items() if n in known})

    for name, f in (("mamba2_selective_state_update", step), ("mamba2_chunk_scan", scan), ("selective_state_update", step), ("mamba_chunk_scan_combined", scan)):
        if hasattr(module, name):
            setattr(module, name, f)
    try:
        import causal_conv1d
        from causal_conv1d import causal_conv1d_fn, causal_conv1d_update
        module.causal_conv1d_fn, module.causal_conv1d_update = causal_conv1d_fn, causal_conv1d_update
    except Exception as e:
        report(peer="causal-conv1d (a CUDA extension; transformers then uses PyTorch's convolution)", missing=f"{type(e).__name__}: {e}".splitlines()[0])
    config = transformers.Mamba2Config(num_hidden_layers=64, hidden_size=2560, state_size=128, head_dim=64, num_heads=80, n_groups=1, expand=2, conv_kernel=4,
                                       vocab_size=50288, chunk_size=256, tie_word_embeddings=False)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device("meta"):
        model = transformers.Mamba2ForCausalLM(config)
    model = model.to_empty(device="cuda").eval()
    for name, p in model.named_parameters():
        if name.endswith("A_log"):
            p.data.fill_(0.0)
        elif name.endswith("norm.weight") or name.endswith(".D") or "norm" in name:
            p.data.fill_(1.0)
        elif name.endswith("dt_bias"):
            p.data.fill_(-3.0)
        else:
            p.data.uniform_(-0.025, 0.025)
    torch.set_default_dtype(torch.float32)
    label = f"transformers {transformers.__version__} mamba2 64 x 2560 bfloat16"
    weights = sum(p.numel() * p.element_size() for p in model.parameters()) - model.get_input_embeddings().weight.numel() * 2
    for B in (1, 8, 64):
        ids = torch.randint(0, 50288, (B, 64), device="cuda")
        out = model(input_ids=ids, use_cache=True)
        held = "cache_params" if getattr(out, "cache_params", None) is not None else "past_key_values"
        cache = getattr(out, held)
        one = ids[:, :1].contiguous()
        before = calls["step"]
        run = lambda i=0: model(input_ids=one, **{held: cache, "use_cache": True})
        s = ssd.median_time(run, 9)
        if calls["step"] == before:
            report(peer=label, missing="its decode step does not call the Triton kernel that was put in")
        report(work=f"{label}, decode step", B=B, seconds=s)
        try:
            s = ssd.graph_time([run], 15)
            report(work=f"{label}, decode step as a CUDA graph", B=B, seconds=s)
        except Exception as e:
            report(peer=f"{label}, decode step as a CUDA graph, B={B}", missing=f"{type(e).__name__}: {e}".splitlines()[0])
            torch.cuda.synchronize()
        del out, cache
    ids = torch.randint(0, 50288, (8, 4096), device="cuda")
    s = ssd.median_time(lambda i: model(input_ids=ids, use_cache=True, logits_to_keep=1), 3, warm=1)
    report(work=f"{label}, prompt", B=8, L=4096, seconds=s, tflops=2 * (weights / 2 - 50288 * 2560) * 8 * 4096 / s / 1e12)


def one_call(path, heads):
    """A single launch, for a profiler."""
    t = ssd.inputs(**SHAPE, h0=True)
    y, hT = ssd.outputs(t)
    ssd.forward(ssd.arguments(t, y, hT), int(path), int(heads))
    torch.cuda.synchronize()
    report(work="one call", finite=bool(torch.isfinite(y).all() and torch.isfinite(hT).all()))


def check_sanitizer():
    import sanitize
    sanitize.check(report)


if __name__ == "__main__":
    torch.manual_seed(time.time_ns() % (1 << 31))
    args = sys.argv[2:4]
    with torch.no_grad():
        globals()[sys.argv[1]](*args)
