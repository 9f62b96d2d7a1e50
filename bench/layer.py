"""Time and peak memory of ssdc and ONNX Runtime on the same ONNX files, in one interleaved run.

    python layer.py --models DIR            the layers of the mamba2-130m shape that make_fixtures.py --full DIR made
    python layer.py MODEL.onnx ...          other models, each with inputs.npz (and expected.npz) beside it

Both sides are processes that stay: they open the model once and run when asked, one at a time, in turn. See README.md.
"""
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
import time

import numpy

HERE = pathlib.Path(__file__).resolve().parent
LAYERS = ["hf4_ts", "hf4_dynamo", "ts", "dynamo", "nossd_dynamo"]
# A run that takes longer than this is not preceded by an untimed one: what it finds in the caches is its own doing.
WARM_BELOW_MS = 500
# Others are preceded by as many as fill this time: threads that sleep between turns are woken on one processor, and the
# system takes some milliseconds to spread them. Runs of 4 ms took 4 or 10 for that reason, of either side.
WARM_SECONDS = 0.02
# Between turns the threads of the other side, which spin for a while after their work, go to sleep.
REST_SECONDS = 0.05


class Worker:
    """A process that runs one model on one set of inputs on request."""

    def __init__(self, command):
        self.process = subprocess.Popen([str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ready = self.answer()
        self.last = 0.0

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"{' '.join(self.process.args)}: ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, question):
        print(question, file=self.process.stdin, flush=True)
        return self.answer()

    def run(self):
        self.last = self.ask("run")["ms"]
        return self.last

    def turn(self):
        """One timed run, with the caches as this model leaves them."""
        begin = time.perf_counter()
        while self.last < WARM_BELOW_MS and time.perf_counter() - begin < WARM_SECONDS:
            self.run()
        return self.run()

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Side:
    """How to start one of the two contestants."""

    def __init__(self, name, command):
        self.name, self.command = name, command

    def peak(self, inputs):
        """Peak memory in a process of its own that opens the model and runs it twice."""
        w = Worker(self.command(inputs))
        w.run()
        w.run()
        memory = w.ask("memory")
        w.close()
        return memory


def input_sets(model):
    """The stored inputs of a model: {length: (inputs, expected or None)}; the length is axis 1 of the first input."""
    sets = {}
    for inputs in sorted(model.parent.glob("inputs*.npz")):
        with numpy.load(inputs) as arrays:
            shape = arrays[arrays.files[0]].shape
        expected = inputs.with_name(inputs.name.replace("inputs", "expected"))
        sets.setdefault(shape[1] if len(shape) > 1 else shape[0], (inputs, expected if expected.exists() else None))
    return sets


def relative_error(results, expected):
    """The largest over the outputs of norm(result - expected) / norm(expected), in float64."""
    with numpy.load(results) as got, numpy.load(expected) as want:
        return max(
            float(numpy.linalg.norm(got[n].astype(numpy.float64) - want[n]) / numpy.linalg.norm(want[n]))
            for n in want.files
        )


def execute(command, **options):
    """Run a program to its end and return what it printed; what it says on stderr when it fails is our own last word."""
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(done.args)}: exit code {done.returncode}\n{done.stderr.strip()}")
    return done.stdout


def build(folder):
    """Build the compiler and the worker from this checkout."""
    for name, package in (("ssdc", "./cmd/ssdc"), ("worker", "./bench/worker")):
        execute(["go", "build", "-o", folder / name, package], cwd=HERE.parent)
    return folder / "ssdc", folder / "worker"


def compile_model(ssdc, model, artifact, threads, bind):
    command = [ssdc, "compile", model, "-o", artifact, "--threads", str(threads), "--no-state", "--json"]
    command += ["--bind", bind] if bind else []
    return json.loads(execute(command))


def measure(model, length, inputs, expected, compiled, sides, runs, folder):
    """Time both sides in turn, then weigh and check them."""
    workers = [Worker(s.command(inputs)) for s in sides]
    times = [[] for _ in sides]
    for w in workers:
        w.run()
    for i in range(runs):
        for j in (0, 1) if i % 2 == 0 else (1, 0):
            time.sleep(REST_SECONDS)
            times[j].append(workers[j].turn())
    row = {"model": model.parent.name, "length": length, "fused": compiled["fused"], "compile_seconds": compiled["seconds"]}
    for side, worker, t in zip(sides, workers, times):
        results = folder / "results.npz"
        worker.ask(f"save {results}")
        worker.close()
        memory = side.peak(inputs)
        row[side.name] = {
            "median_ms": statistics.median(t), "min_ms": min(t), "max_ms": max(t), "ms": t,
            "peak_mb": memory["peak_kb"] / 1024, "peak_mb_before_opening": memory["start_kb"] / 1024,
            "relative_error": relative_error(results, expected) if expected else None, **worker.ready,
        }
    return row


def machine():
    name = platform.processor()
    with open("/proc/cpuinfo") as f:
        name = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), name)
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=HERE.parent, capture_output=True, text=True)
    go = subprocess.run(["go", "version"], capture_output=True, text=True)
    return {
        "date": datetime.date.today().isoformat(), "processor": name, "processors": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}", "go": go.stdout.split()[2],
        "python": platform.python_version(), "numpy": numpy.__version__, "commit": commit.stdout.strip(),
    }


def markdown(result):
    """The table, with what has to be known beside it."""
    m, rows = result["machine"], result["rows"]
    out = ["| model | L | ONNX Runtime ms (fastest) | ssdc ms (fastest) | times faster | ONNX Runtime MB | ssdc MB | ONNX Runtime error | ssdc error | fused |",
           "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- |"]
    for r in rows:
        a, b = r["onnxruntime"], r["ssdc"]
        error = ["-" if s["relative_error"] is None else f"{s['relative_error']:.1e}" for s in (a, b)]
        fused = ", ".join(f"{n} {name.removeprefix('ssm.')}" for name, n in r["fused"].items()) or "nothing"
        out.append(f"| {r['model']} | {r['length']} | {a['median_ms']:.1f} ({a['min_ms']:.1f}) | {b['median_ms']:.1f} ({b['min_ms']:.1f}) | {a['median_ms'] / b['median_ms']:.1f} "
                   f"| {a['peak_mb']:.0f} | {b['peak_mb']:.0f} | {error[0]} | {error[1]} | {fused} |")
    a, b = rows[0]["onnxruntime"], rows[0]["ssdc"]
    out += ["", f"Medians of {result['runs']} runs each, {result['threads']} threads, in turn. ONNX Runtime {a['version']}, ssdc {b['version']} "
            f"(commit {m['commit']}, {m['go']}), {m['date']}, {m['processor']}, {m['processors']} processors, {m['system']}. "
            f"Load average {result['load_before']:.1f} before, {result['load_after']:.1f} after. Memory is the peak of a process of its own; "
            f"{a['peak_mb_before_opening']:.0f} MB of ONNX Runtime's and {b['peak_mb_before_opening']:.0f} MB of ssdc's are there before the model is opened."]
    return "\n".join(out)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("onnx", nargs="*", type=pathlib.Path, help="model.onnx files with inputs beside them (default: the layers in --models)")
    p.add_argument("--models", type=pathlib.Path, default=pathlib.Path.home() / "ssdc-models", help="folder of the full-size models")
    p.add_argument("--lengths", default="512,2048", help="which of the stored inputs, by length")
    p.add_argument("--runs", type=int, default=11, help="timed runs of each side")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--bind", metavar="NAMES", help="fix lengths when compiling, as in batch=1,sequence={length}")
    p.add_argument("--json", action="store_true", help="print JSON instead of the table")
    a = p.parse_args()
    models = a.onnx or [a.models / f"mamba2_130m_layer_{name}" / "model.onnx" for name in LAYERS]
    missing = [str(m) for m in models if not m.exists()]
    if missing:
        sys.exit(f"not there: {', '.join(missing)}; make them with testdata/scripts/make_fixtures.py --full DIR and give --models DIR")
    result = {"machine": machine(), "threads": a.threads, "runs": a.runs, "load_before": os.getloadavg()[0], "rows": []}
    if result["load_before"] > 0.5:
        print(f"the load average is {result['load_before']:.1f}: other programs take part in these times", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ssdc, worker = build(folder)
        for model in models:
            sets = input_sets(model)
            for length in [int(n) for n in a.lengths.split(",")]:
                if length not in sets:
                    sys.exit(f"{model}: no inputs of length {length} beside it, only {sorted(sets)}; see --lengths")
                inputs, expected = sets[length]
                artifact = folder / "model.ssda"
                compiled = compile_model(ssdc, model, artifact, a.threads, a.bind and a.bind.format(length=length))
                sides = [Side("onnxruntime", lambda i: [sys.executable, HERE / "onnxruntime_worker.py", model, i, a.threads]),
                         Side("ssdc", lambda i: [worker, artifact, i])]
                row = measure(model, length, inputs, expected, compiled, sides, a.runs, folder)
                result["rows"].append(row)
                print(f"{row['model']} L={length}: ONNX Runtime {row['onnxruntime']['median_ms']:.1f} ms, ssdc {row['ssdc']['median_ms']:.1f} ms", file=sys.stderr)
    result["load_after"] = os.getloadavg()[0]
    print(json.dumps(result, indent=1) if a.json else markdown(result))


if __name__ == "__main__":
    main()
