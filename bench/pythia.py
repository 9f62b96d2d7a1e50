"""Pythia-160m, a transformer, in ssdc, ONNX Runtime and llama.cpp: the part pythia of mamba.py.

The model is pythia_160m of testdata/scripts/make_zoo.py, with its cache as inputs and outputs; llama.cpp has one of the same shape
from gguf_pythia.py. ONNX Runtime computes the logits of all positions, as the file says; llama.cpp those of the last; ssdc is measured
with both.
"""
import json
import pathlib
import statistics
import subprocess
import sys
import time

import numpy as np

from layer import REST_SECONDS, Worker

HERE = pathlib.Path(__file__).resolve().parent
LAYERS, HEADS, WIDTH, VOCAB = 12, 12, 64, 50304
PROMPT, PAST = 512, 144  # llama-bench -d 128 -n 32: 128 to 160 tokens before
FORMATS = {"f32": "f32", "bf16": "BF16", "int8": "Q8_0"}


def inputs(path, sequence, past):
    rng = np.random.default_rng(1)
    one = {"input_ids": rng.integers(0, VOCAB, (1, sequence)), "attention_mask": np.ones((1, sequence + past), np.int64)}
    for i in range(LAYERS):
        for kind in ("key", "value"):
            one[f"past_{kind}_{i}"] = rng.standard_normal((1, HEADS, past, WIDTH)).astype(np.float32)
    np.savez(path, **one)
    return path


def llama_bench(llama, gguf, threads, *what):
    out = subprocess.run([str(c) for c in (llama / "build/bin/llama-bench", "-m", gguf, "-t", threads, "-r", 2, "-o", "json", *what)], check=True, capture_output=True, text=True).stdout
    return [t["avg_ts"] for t in json.loads(out)][0]


def measure(bench, formats):
    """Tokens per second of everybody, in turn."""
    a, work = bench.a, bench.work
    model = a.models / "pythia_160m" / "model.onnx"
    sets = {"prompt": inputs(work / "pythia.prompt.npz", PROMPT, 0), "decode": inputs(work / "pythia.decode.npz", 1, PAST)}
    result = {}
    for fmt in [f for f in FORMATS if f in formats]:
        sides = {"ssdc, all logits": "all", "ssdc": "last"}
        artifacts = {}
        for side, logits in sides.items():
            artifacts[side] = work / f"pythia.{logits}.{fmt}.ssda"
            if not artifacts[side].exists():
                subprocess.run([bench.ssdc, "compile", model, "-o", artifacts[side], "--weights", fmt, "--logits", logits], check=True, capture_output=True)
        rates = {}
        for kind, tokens in (("prompt", PROMPT), ("decode", 1)):
            commands = {side: [bench.worker, path, sets[kind]] for side, path in artifacts.items() if kind == "prompt" or side == "ssdc"}
            if fmt == "f32" and subprocess.run([sys.executable, "-c", "import onnxruntime"], capture_output=True).returncode == 0:
                commands["ONNX Runtime"] = [sys.executable, HERE / "onnxruntime_worker.py", model, sets[kind], a.threads]
            workers = {side: Worker(c) for side, c in commands.items()}
            times = {side: [] for side in workers}
            gguf = a.gguf / f"pythia.{FORMATS[fmt]}.gguf" if a.gguf else None
            for r in range(a.rounds):
                for _ in range(3 if kind == "prompt" else 20):
                    for side in workers if r % 2 else reversed(workers):
                        time.sleep(REST_SECONDS)
                        times[side].append(workers[side].turn())
                if a.llama and gguf and gguf.exists():
                    what = ("-p", PROMPT, "-n", 0) if kind == "prompt" else ("-p", 0, "-n", 32, "-d", 128)
                    rates.setdefault("llama.cpp", {}).setdefault(kind, []).append(llama_bench(a.llama, gguf, a.threads, *what))
            for side, w in workers.items():
                w.close()
                rates.setdefault(side, {})[kind] = [tokens * 1e3 / t for t in times[side]]
        result[fmt] = {side: {k: statistics.median(v) for k, v in r.items()} for side, r in rates.items()}
        print("pythia", fmt, result[fmt], file=sys.stderr, flush=True)
    return result
