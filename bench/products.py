"""Products in ssdc and in OpenBLAS, oneDNN and ONNX Runtime, which take turns of a few milliseconds: the part products of mamba.py.

The machine is shared and its clock moves, so that times of different minutes cannot be compared. Every side is a process that
stays; only one at a time is allowed to run, so that no threads spin beside it, and in every round each has its turn. What counts
is the ratio of ssdc to a peer within a round, the median over all rounds. The share of the peak is measured alike, within one
process (`kernels -only share`).
"""

import json
import os
import pathlib
import signal
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
PEERS = {"f32": ("numpy", "torch", "onnxruntime"), "bf16": ("torch",)}
FORMATS = ("f32", "bf16", "int8", "int4")
SHAPES = ("512x3352x768", "512x768x1536", "2048x3352x768", "2048x768x1536", "2048x2048x2048", "8x3352x768", "4x3352x768", "2x3352x768", "1x3352x768",
          "1x768x1536", "1x50288x768", "8x50288x768")
TURN_SECONDS = 0.008  # and as long untimed before, in which threads spread over the processors again


class Side:
    """A process that times a product on request and is stopped meanwhile."""

    def __init__(self, command, env):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def turn(self, fmt, shape):
        self.process.send_signal(signal.SIGCONT)
        print(fmt, shape, TURN_SECONDS, file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args)}: ended with code {self.process.wait()}")
        self.process.send_signal(signal.SIGSTOP)
        return json.loads(line)["s"]

    def end(self):
        self.process.kill()
        self.process.wait()


def contest(sides, fmt, shape, seconds):
    """All sides in turn: seconds of a call by side, and the ratio of each peer's to ssdc's within a round."""
    for s in sides.values():
        s.turn(fmt, shape)  # makes the operands
    times, start = {name: [] for name in sides}, time.monotonic()
    while len(times["ssdc"]) < 5 or time.monotonic() - start < seconds:
        for name in list(sides) if len(times["ssdc"]) % 2 else list(reversed(sides)):
            times[name].append(sides[name].turn(fmt, shape))
    ratios = {p: statistics.median(b / a for a, b in zip(times["ssdc"], times[p])) for p in sides if p != "ssdc"}
    return {"s": {name: statistics.median(t) for name, t in times.items()}, "ratio": ratios, "rounds": len(times["ssdc"])}


def share(kernels, fmt, shape, threads, seconds, isa=None):
    """The share of the peak that ssdc reaches, by `kernels -only share`."""
    env = dict(os.environ, **({"SSDC_ISA": isa} if isa else {}))
    command = [kernels, "-only", "share", "-json", "-threads", threads, "-case", f"{fmt} {shape}", "-seconds", seconds]
    r = json.loads(subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True, env=env).stdout.splitlines()[0])
    return {k: r[k] for k in ("share", "quartile", "upper", "rate", "peak", "rounds")}


def measure(bench, formats, threads, shapes, seconds):
    """By threads, format and shape: who took how long, and the share of the peak."""
    result = {}
    present = [p for p in PEERS["f32"] if subprocess.run([sys.executable, "-c", f"import {p}"], capture_output=True).returncode == 0]
    for n in threads:
        env = dict(os.environ, OPENBLAS_NUM_THREADS=str(n), OMP_NUM_THREADS=str(n), MKL_NUM_THREADS=str(n))
        for fmt in formats:
            peers = [p for p in present if p in PEERS.get(fmt, ())]
            sides = {"ssdc": Side([bench.kernels, "-serve", "-threads", n], env)} if peers else {}
            sides |= {p: Side([sys.executable, HERE / "matmul_peer.py", p, n], env) for p in peers}
            try:
                for shape in shapes:
                    r = contest(sides, fmt, shape, seconds) if peers else {}
                    r["peak"] = share(bench.kernels, fmt, shape, n, seconds / 3)
                    if fmt == "bf16" and bench.amx:
                        r["dot"] = share(bench.kernels, fmt, shape, n, seconds / 3, "avx512")
                    result[f"{n} {fmt} {shape}"] = r
                    ratios = {k: round(v, 3) for k, v in r.get("ratio", {}).items()}
                    print(n, fmt, shape, ratios, f"share {r['peak']['share']:.3f}, {r.get('rounds')} rounds", file=sys.stderr, flush=True)
            finally:
                for s in sides.values():
                    s.end()
    return result
