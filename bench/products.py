"""Products in ssdc and in OpenBLAS, oneDNN and ONNX Runtime, which take turns of a few milliseconds: the part matmul of mamba.py.

The machine is shared and its clock moves, so that times of different minutes cannot be compared. Every side is a process that
stays; only one at a time is allowed to run, so that no threads spin beside it, and in every round each has its turn. What counts
is the ratio of ssdc to a peer within a round, the median over all rounds. The share of the peak is measured alike, within one
process (`kernels -only share`).
"""
import json
import os
import signal
import statistics
import subprocess
import sys
import time

PEERS = {"numpy": ("f32",), "torch": ("f32", "bf16"), "onnxruntime": ("f32",)}
SHAPES = ["512x3352x768", "512x768x1536", "2048x3352x768", "2048x768x1536", "2048x2048x2048", "8x3352x768", "1x3352x768", "1x50288x768", "8x50288x768"]
TURN_SECONDS = 0.004


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

    def close(self):
        self.process.send_signal(signal.SIGCONT)
        self.process.stdin.close()
        self.process.wait()


def installed():
    return [p for p in PEERS if subprocess.run([sys.executable, "-c", f"import {p}"], capture_output=True).returncode == 0]


def rounds(kernels, peer_program, fmt, shape, threads, seconds):
    """All sides in turn: seconds of a call by side, and the ratios of ssdc to each peer."""
    n = str(threads)
    env = dict(os.environ, OPENBLAS_NUM_THREADS=n, OMP_NUM_THREADS=n, MKL_NUM_THREADS=n)
    sides = {"ssdc": Side([kernels, "-serve", "-threads", n], env)}
    sides |= {p: Side([sys.executable, peer_program, p, n], env) for p in installed() if fmt in PEERS[p]}
    for s in sides.values():
        s.turn(fmt, shape)
    times, start = {name: [] for name in sides}, time.monotonic()
    while len(times["ssdc"]) < 5 or time.monotonic() - start < seconds:
        order = list(sides) if len(times["ssdc"]) % 2 else list(reversed(sides))
        for name in order:
            times[name].append(sides[name].turn(fmt, shape))
    for s in sides.values():
        s.close()
    ratios = {p: statistics.median(b / a for a, b in zip(times["ssdc"], times[p])) for p in sides if p != "ssdc"}
    return {"s": {name: statistics.median(t) for name, t in times.items()}, "ratio": ratios, "rounds": len(times["ssdc"])}


def measure(bench, formats, threads, shapes, seconds):
    """By threads, format and shape: who took how long, and the share of the peak."""
    result = {}
    for n in threads:
        for fmt in formats:
            for shape in shapes:
                r = rounds(bench.kernels, bench.root / "bench" / "matmul_peer.py", fmt, shape, n, seconds)
                text = subprocess.run([bench.kernels, "-only", "share", "-json", "-threads", str(n), "-case", f"{fmt} {shape}", "-seconds", str(seconds / 2)], check=True, capture_output=True, text=True).stdout
                r |= {k: v for k, v in json.loads(text.splitlines()[0]).items() if k in ("share", "quartile", "upper", "peak")}
                result[f"{n} {fmt} {shape}"] = r
                print(n, fmt, shape, {k: round(v, 3) for k, v in r["ratio"].items()}, f"share {r['share']:.3f}, {r['rounds']} rounds", file=sys.stderr, flush=True)
    return result
