"""Measures ssdc and every peer that is installed, in turn, and writes docs/performance.md.

    python bench/mamba.py --models ~/ssdc-models --llama ~/llama.cpp          # all parts
    python bench/mamba.py --models ~/ssdc-models --parts scan,products          # some of them
    python bench/mamba.py --parts none                                         # only write the page again

Every part keeps its numbers in bench/results/mamba.json, so that parts can be measured apart. Peers that
are missing are left out and named. See bench/README.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile

import products
from svg import chart

ROOT = pathlib.Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results" / "mamba.json"
FORMATS = {"f32": ["f32"], "bf16": ["bf16", "f16"], "int8": ["Q8_0"], "int4": ["Q4_0", "Q4_K_M"]}


def say(*a):
    print(*a, file=sys.stderr, flush=True)


def out(*cmd, env=None, timeout=600) -> str:
    return subprocess.run([str(c) for c in cmd], check=True, capture_output=True, text=True, timeout=timeout, env=env).stdout


def lines(text: str) -> dict:
    rows = [json.loads(l) for l in text.splitlines() if l.startswith("{")]
    return {r.pop("case"): r for r in rows}


def merge(rounds: list[dict]) -> dict:
    """The median of the rounds' medians, and the best of all."""
    cases = {}
    for r in rounds:
        for case, v in r.items():
            cases.setdefault(case, []).append(v)
    return {c: {"median": statistics.median(v["median"] for v in vs), "best": min(v["best"] for v in vs)} for c, vs in cases.items()}


class Bench:
    def __init__(self, a):
        self.a = a
        self.work = pathlib.Path(a.work or tempfile.mkdtemp(prefix="ssdc-bench-"))
        self.work.mkdir(parents=True, exist_ok=True)
        self.amx = "amx_bf16" in machine()
        self.ssdc, self.kernels, self.worker = self.work / "ssdc", self.work / "kernels", self.work / "worker"

    def build(self):
        for target, package in ((self.ssdc, "./cmd/ssdc"), (self.kernels, "./bench/kernels"), (self.worker, "./bench/worker")):
            subprocess.run(["go", "build", "-o", target, package], cwd=ROOT, check=True)
        self.ggml = None
        if self.a.llama:
            root, lib = self.a.llama, self.a.llama / "build" / "bin"
            self.ggml = self.work / "ggml_peer"
            subprocess.run(["cc", "-O2", f"-I{root}/ggml/include", ROOT / "bench/ggml_peer.c", "-o", self.ggml, f"-L{lib}", "-lggml-base", "-lggml-cpu", f"-Wl,-rpath,{lib}"], check=True)

    def artifact(self, kind: str, fmt: str) -> pathlib.Path:
        path = self.work / f"{kind}.{fmt}.ssda"
        if not path.exists():
            more = ["--logits", "last", "--carry-state"] if kind == "prefill" else []
            out(self.ssdc, "compile", self.a.models / f"mamba2_130m_{kind}" / "model.onnx", "-o", path, "--weights", fmt, *more)
        return path

    # Parts: each returns what goes into the results.

    def models(self):
        """Decode and prompt of mamba2-130m, beside llama-bench on a model of the same shape."""
        threads, result = str(self.a.threads), {}
        for fmt, quants in FORMATS.items():
            if fmt not in self.a.formats:
                continue
            dec, pre = self.artifact("decode", fmt), self.artifact("prefill", fmt)
            ours, theirs = {"decode": [], "prompt": []}, {}
            peak, of_peak = [], []
            for _ in range(self.a.rounds):
                d = json.loads(out(self.ssdc, "bench", dec, "--threads", threads, "--runs", "60", "--json"))
                p = json.loads(out(self.ssdc, "bench", pre, "--threads", threads, "--runs", "5", "--shape", "sequence=512", "--json"))
                ours["decode"].append(1e3 / d["median_ms"])
                ours["prompt"].append(512e3 / p["median_ms"])
                peak.append(d["peak"]["read_gbs"])
                of_peak.append(d["of_peak"])
                for q in quants:
                    gguf = self.a.gguf / f"mamba2.{q}.gguf" if self.a.gguf else None
                    if self.a.llama and gguf and gguf.exists():
                        r = subprocess.run([self.a.llama / "build/bin/llama-bench", "-m", gguf, "-t", threads, "-p", "512", "-n", "32", "-r", "2", "-o", "json"], capture_output=True, text=True)
                        if r.returncode:
                            theirs.setdefault(q, {})["failed"] = f"exit code {r.returncode}"
                            continue
                        for t in json.loads(r.stdout):
                            theirs.setdefault(q, {}).setdefault("prompt" if t["n_prompt"] else "decode", []).append(t["avg_ts"])
            med = lambda d: {k: statistics.median(v) if isinstance(v, list) else v for k, v in d.items()}
            result[fmt] = {"ssdc": med(ours), "llama": {q: med(v) for q, v in theirs.items()}, "bytes": dec.stat().st_size,
                           "read_gbs": statistics.median(peak), "of_peak": statistics.median(of_peak)}
            say(fmt, result[fmt])
        return result

    def pythia(self):
        """A transformer of the same size, beside ONNX Runtime and llama.cpp."""
        import pythia
        return pythia.measure(self, self.a.formats)

    def scan(self):
        """The kernels of package ssd, conv and selscan, beside ggml's."""
        a, b = [], []
        for _ in range(self.a.rounds):
            a.append(lines(out(self.kernels, "-only", "scan", "-threads", self.a.threads)))
            if self.ggml:
                b.append(lines(out(self.ggml, self.a.threads)))
        return {"ssdc": merge(a), "ggml": merge(b) if b else {}}

    def products(self):
        """Products, beside OpenBLAS, oneDNN and ONNX Runtime through numpy, torch and onnxruntime."""
        data = products.measure(self, self.a.formats, self.a.product_threads, self.a.shapes, self.a.seconds)
        peaks = [lines(out(self.kernels, "-only", "peak", "-threads", self.a.threads))["peak"] for _ in range(3)]
        return data | {"peak": {k: max(p[k] for p in peaks) for k in peaks[0]}}

    def quality(self):
        """Logits of all formats against float32: a model with random weights, and one that was trained on bytes."""
        import quality
        models = {"random": ("mamba2_130m_prefill", None), "trained": ("bytes_mamba2", 1)}
        found = {k: (self.a.models / name / "model.onnx", shift) for k, (name, shift) in models.items() if (self.a.models / name / "model.onnx").exists()}
        return {k: quality.compare(self.ssdc, model, self.work, list(FORMATS), shift) for k, (model, shift) in found.items()}

    def curve(self):
        """Tokens per second and peak memory against the length of the prompt: processes that run it once."""
        result = {}
        path = self.artifact("prefill", "f32")
        for length in self.a.lengths:
            runs = [once(self.ssdc, "run", path, "--random", "--no-verify", "--json", "--segment", SEGMENT, "--shape", f"sequence={length}", "--threads", self.a.threads)
                    for _ in range(1 if length > 16384 else self.a.rounds)]
            result[str(length)] = {"tokens_s": length / statistics.median(r["seconds"] for r in runs), "peak_mb": max(r["peak_mb"] for r in runs)}
            say(length, result[str(length)])
        return result

    def attention(self):
        """The same curve for a transformer of that size, whose cost per token grows with the length."""
        result = {}
        for length in [l for l in self.a.lengths if l <= LONGEST_ATTENTION]:
            r = once(self.ssdc, "run", self.pythia_last(), "--random", "--no-verify", "--json", "--shape", PYTHIA_SHAPE.format(length, length), "--threads", self.a.threads)
            # The longest take minutes, in which others want the processors too: theirs is the time that the threads had.
            seconds = r["cpu_seconds"] / self.a.threads if length > 8192 else r["seconds"]
            result[str(length)] = {"tokens_s": length / seconds, "peak_mb": r["peak_mb"]}
            say(length, result[str(length)])
        return result

    def pythia_last(self):
        path = self.work / "pythia.last.f32.ssda"
        if not path.exists():
            out(self.ssdc, "compile", self.a.models / "pythia_160m" / "model.onnx", "-o", path, "--logits", "last")
        return path

    def memory(self):
        """Peak memory of a process that runs a prompt once, and what of it the model needs."""
        result = {"program": peak_of(self.ssdc, "--help")}
        for name, path, shape in (("mamba2-130m", self.artifact("prefill", "f32"), "sequence={}"), ("Pythia-160m", self.pythia_last(), PYTHIA_SHAPE)):
            for length in (512, 2048):
                r = once(self.ssdc, "run", path, "--random", "--no-verify", "--json", "--shape", shape.format(length, length), "--threads", self.a.threads)
                result[f"{name}, {length:,} tokens"] = r["memory"] | {"peak": r["peak_mb"] * 2**20}
                say(name, length, result[f"{name}, {length:,} tokens"])
        return result

    def batch(self):
        """Decoding many sequences at a time: weights are read once for all of them."""
        result = {}
        for fmt in self.a.formats:
            path, runs = self.artifact("decode", fmt), {b: [] for b in BATCHES}
            for _ in range(self.a.rounds):
                for b in BATCHES:
                    runs[b].append(json.loads(out(self.ssdc, "bench", path, "--threads", self.a.threads, "--runs", "15", "--shape", f"batch={b}", "--json")))
            result[fmt] = {str(b): {"tokens_s": b * 1e3 / statistics.median(r["median_ms"] for r in rs), "of_peak": statistics.median(r["of_peak"] for r in rs)}
                           for b, rs in runs.items()}
            say("batch", fmt, result[fmt])
        return result


SEGMENT = 2048
LONGEST_ATTENTION = 32768
PYTHIA_SHAPE = "batch=1,sequence={},past=0,total={}"
BATCHES = (1, 2, 4, 8, 16)


def once(*cmd) -> dict:
    """A process that runs a model once: seconds of the run, those of the process on all processors, its peak memory in MiB, weights
    included, and what the model needs of it in bytes."""
    code = ("import resource,subprocess,sys,json;o=json.loads(subprocess.run(sys.argv[1:],check=True,capture_output=True,text=True).stdout);"
            "u=resource.getrusage(resource.RUSAGE_CHILDREN);"
            "print(json.dumps({'seconds':o['seconds'],'cpu_seconds':u.ru_utime+u.ru_stime,'peak_mb':u.ru_maxrss/1024,'memory':o['memory']}))")
    return json.loads(out(sys.executable, "-c", code, *cmd, timeout=3600))


def peak_of(*cmd) -> float:
    """Peak memory of a process, in bytes."""
    code = "import resource,subprocess,sys;subprocess.run(sys.argv[1:],check=True,capture_output=True);print(1024*resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    return float(out(sys.executable, "-c", code, *cmd))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, help="folder of make_fixtures.py --full")
    p.add_argument("--llama", type=pathlib.Path, help="llama.cpp, built in its folder build")
    p.add_argument("--gguf", type=pathlib.Path, help="folder of mamba2.{f32,bf16,f16,Q8_0,Q4_0,Q4_K_M}.gguf of the 130m shape")
    p.add_argument("--parts", default="quality,models,batch,pythia,scan,products,memory,curve,attention")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--formats", type=lambda s: s.split(","), default=list(FORMATS), help="weights of models and products; the others keep their numbers")
    p.add_argument("--shapes", type=lambda s: s.split(","), default=products.SHAPES, help="of products; the others keep their numbers")
    p.add_argument("--product-threads", type=lambda s: [int(x) for x in s.split(",")], default=[1, 2], help="threads of products")
    p.add_argument("--seconds", type=float, default=6, help="for a product and its peers")
    p.add_argument("--lengths", type=lambda s: [int(x) for x in s.split(",")], default=[512, 2048, 8192, 16384, 32768, 131072])
    p.add_argument("--work", help="folder for programs and artifacts, kept")
    a = p.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    b = Bench(a)
    parts = [] if a.parts == "none" else a.parts.split(",")
    if parts:
        b.build()
    for part in parts:
        say("measuring", part)
        before = os.getloadavg()[0]
        data = getattr(b, part)()
        rounds = a.rounds
        if part in ("models", "batch", "pythia", "curve", "attention", "quality", "products", "memory"):
            rounds = min(rounds, results.get(part, {}).get("rounds", rounds))  # that every number has had, now or before
            data = results.get(part, {}).get("data", {}) | data
        r = {"data": data, "when": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d"), "threads": a.threads,
             "rounds": rounds, "machine": machine(), "load": [before, os.getloadavg()[0]]}
        results[part] = r
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    import page
    page.write(ROOT, results, chart)


def machine() -> str:
    model = next((l.split(":")[1].strip() for l in open("/proc/cpuinfo") if l.startswith("model name")), platform.processor())
    flags = next(l for l in open("/proc/cpuinfo") if l.startswith("flags"))
    kinds = [f for f in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16") if f in flags.split()]
    return f"{model}, {os.cpu_count()} processors ({' '.join(kinds)}), Linux {platform.release().split('-')[0]}"


if __name__ == "__main__":
    main()
