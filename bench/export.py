"""What `ssdc export` gains inside ONNX Runtime: exports as they are beside the same models exported again by ssdc.

    python export.py --models DIR --ssdc SSDC         the layers of the mamba2-130m shape, at 512 tokens
    python export.py --ssdc SSDC MODEL.onnx ...       other models, with inputs.npz and expected.npz beside each

All of it runs in ONNX Runtime, on the same inputs, one after the other and round again, in one run. See README.md.
"""
import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import tempfile
import time

import numpy
import onnxruntime

LAYERS = ["hf4_ts", "hf4_dynamo", "ts", "dynamo"]


class Contestant:
    def __init__(self, name, path, threads):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 4
        self.name, self.times = name, []
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(self, inputs, timed=True):
        start = time.perf_counter()
        out = self.session.run(None, inputs)
        if timed:
            self.times.append((time.perf_counter() - start) * 1e3)
        return dict(zip((o.name for o in self.session.get_outputs()), out))


def inputs_of(folder, length):
    """The stored inputs of a length (axis 1 of the first input), and what is expected."""
    for path in sorted(folder.glob("inputs*.npz")):
        inputs = dict(numpy.load(path))
        first = next(iter(inputs.values()))
        if length is None or first.ndim > 1 and first.shape[1] == length:
            expected = folder / path.name.replace("inputs", "expected")
            return inputs, dict(numpy.load(expected)) if expected.exists() else {}
    sys.exit(f"{folder}: no inputs of length {length}")


def error(got, expected):
    return max((float(numpy.linalg.norm(got[k] - w) / numpy.linalg.norm(w)) for k, w in expected.items()), default=float("nan"))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="*", type=pathlib.Path, metavar="MODEL.onnx")
    p.add_argument("--models", type=pathlib.Path, help="the folder that make_fixtures.py --full wrote to")
    p.add_argument("--ssdc", required=True)
    p.add_argument("--dialects", default="microsoft,plain")
    p.add_argument("--length", type=int, help="which of the stored inputs (default: 512 for the layers, else the first)")
    p.add_argument("--runs", type=int, default=7)
    p.add_argument("--threads", type=int, default=os.cpu_count())
    p.add_argument("--json", action="store_true")
    a = p.parse_args()
    files, length = a.files, a.length
    if not files:
        if not a.models:
            p.error("give --models DIR or model files")
        files = [f for f in (a.models / f"mamba2_130m_layer_{x}" / "model.onnx" for x in LAYERS) if f.exists()]
        length = length or 512
    rows = []
    with tempfile.TemporaryDirectory() as tmp:
        for file in files:
            inputs, expected = inputs_of(file.parent, length)
            sides = [Contestant("as exported", file, a.threads)]
            for dialect in a.dialects.split(","):
                out = pathlib.Path(tmp) / f"{file.parent.name}.{dialect}.onnx"
                subprocess.run([a.ssdc, "export", file, "-o", out, "--dialect", dialect], check=True, stdout=subprocess.DEVNULL)
                sides.append(Contestant(f"ssdc export --dialect {dialect}", out, a.threads))
            errors = [error(s.run(inputs, timed=False), expected) for s in sides]
            for _ in range(a.runs):
                for s in sides:
                    s.run(inputs, timed=False)  # the caches as this side leaves them
                    s.run(inputs)
            for s, e in zip(sides, errors):
                rows.append({"model": file.parent.name, "length": length, "how": s.name, "median_ms": statistics.median(s.times),
                             "fastest_ms": min(s.times), "error": e,
                             "times": statistics.median(sides[0].times) / statistics.median(s.times)})
    about = {"onnxruntime": onnxruntime.__version__, "threads": a.threads, "load": os.getloadavg()[0], "machine": platform.processor() or platform.machine()}
    if a.json:
        print(json.dumps({"rows": rows, **about}, indent=1))
        return
    print("| model | tokens | how | median ms | fastest ms | times as fast | error |\n| --- | --- | --- | --- | --- | --- | --- |")
    for r in rows:
        print(f"| {r['model']} | {r['length'] or ''} | {r['how']} | {r['median_ms']:.1f} | {r['fastest_ms']:.1f} | {r['times']:.1f} | {r['error']:.1e} |")
    print(f"\nONNX Runtime {about['onnxruntime']}, {a.threads} threads, load average {about['load']:.2f}")


if __name__ == "__main__":
    main()
