"""The speech model of onnxruntime issue 27796 in both forms that people get from PyTorch: how long ssdc takes to compile
the trace, and how fast it runs the Loop, beside ONNX Runtime.

    python unrolled.py DIR          makes the models in DIR when they are not there (some minutes), then measures

See README.md. The Python needs torch, onnx and onnxruntime (testdata/scripts/requirements.txt).
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import layer

# Frames are 6.25 ms apart: a hop of 100 samples at 16 kHz.
FRAME_SECONDS = 100 / 16000
LAYERS = 30


def make(folder, *options):
    if not (folder / "inputs.npz").exists() or not (folder / "loop.onnx").exists():
        subprocess.run([sys.executable, layer.HERE / "unrolled_model.py", folder, *map(str, options)], check=True)


def compile_trace(ssdc, model, folder):
    """Compile in a process of its own, with its peak memory."""
    before = time.perf_counter()
    p = subprocess.Popen([ssdc, "compile", model, "-o", folder / "trace.ssda", "--json"], stdout=subprocess.PIPE, text=True)
    out = p.stdout.read()
    _, status, usage = os.wait4(p.pid, 0)
    if status != 0:
        sys.exit(f"{model}: ssdc compile ended with status {status}")
    return json.loads(out), time.perf_counter() - before, usage


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("dir", type=pathlib.Path)
    p.add_argument("--runs", type=int, default=5)
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--only", choices=["trace", "loop"])
    p.add_argument("--loops", default="1x16,1x160", help="BATCHxFRAMES of the Loop models")
    a = p.parse_args()
    print(f"load average {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as tmp:
        tmp = pathlib.Path(tmp)
        ssdc, worker = layer.build(tmp)
        if a.only != "loop":
            make(a.dir / "trace", "--layers", LAYERS)
            model = a.dir / "trace" / "unrolled.onnx"
            got, seconds, usage = compile_trace(ssdc, model, tmp)
            print(f"trace: {model.stat().st_size / 1e6:.0f} MB, compiled in {seconds:.1f} s ({usage.ru_utime + usage.ru_stime:.1f} s of processors), "
                  f"{usage.ru_maxrss / 1e6:.2f} GB at most, {got['nodes']} nodes left, fused {got['fused']}")
        if a.only == "trace":
            return
        for size in a.loops.split(","):
            batch, frames = (int(n) for n in size.split("x"))
            folder = a.dir / f"loop_{size}"
            make(folder, "--layers", LAYERS, "--length", frames, "--batch", batch, "--loop-only")
            model = folder / "loop.onnx"
            compiled = layer.compile_model(ssdc, model, tmp / "loop.ssda", a.threads, None)
            inputs = folder / "inputs.npz"
            sides = [[sys.executable, layer.HERE / "onnxruntime_worker.py", model, inputs, a.threads], [worker, tmp / "loop.ssda", inputs]]
            workers = [layer.Worker(c) for c in sides]
            times = [[], []]
            for w in workers:
                w.run()
            for _ in range(a.runs):
                for w, t in zip(workers, times):
                    time.sleep(layer.REST_SECONDS)
                    t.append(w.turn())
            results = []
            for i, w in enumerate(workers):
                results.append(tmp / f"results{i}.npz")
                w.ask(f"save {results[-1]}")
                w.close()
            ort, ours = (statistics.median(t) for t in times)
            audio = 1000 * frames * FRAME_SECONDS
            print(f"loop, batch {batch}, {frames} frames ({audio:.0f} ms of audio): ONNX Runtime {ort:.1f} ms, ssdc {ours:.2f} ms: {ort / ours:.0f} times faster, "
                  f"{audio / ours:.1f} times real time; results differ by {layer.relative_error(results[0], results[1]):.1e}; fused {compiled['fused']}")


if __name__ == "__main__":
    main()
