"""Parity and speed of ssdc against ONNX Runtime on well-known architectures, in one interleaved run.

    python ../testdata/scripts/make_zoo.py DIR     makes the models
    python exact.py --models DIR --write           evaluates those in bytes or 16 bits exactly
    python steps.py --models DIR                   and those in bytes piece by piece
    python zoo.py --models DIR                     compiles, compares, times, and writes docs/models.md

Every model is compared on all its inputs and timed on the first. See README.md.
"""
import argparse
import json
import math
import pathlib
import re
import statistics
import sys
import tempfile
import time

import numpy

from layer import REST_SECONDS, Side, Worker, build, compile_model, machine

HERE = pathlib.Path(__file__).resolve().parent
BAR = 1e-4


def relative_error(got, want):
    """The largest over the outputs of norm(got - want) / norm(want); infinite where shapes, integers or non-finite places differ."""
    worst = 0.0
    with numpy.load(got) as a, numpy.load(want) as b:
        for name in b.files:
            x, y = a[name], b[name]
            if x.shape != y.shape or x.dtype != y.dtype:
                return math.inf
            if y.dtype.kind in "iub":
                if not numpy.array_equal(x, y):
                    return math.inf
                continue
            x, y = x.astype(numpy.float64), y.astype(numpy.float64)
            finite = numpy.isfinite(y)
            if not numpy.array_equal(x[~finite], y[~finite], equal_nan=True):
                return math.inf
            difference, norm = numpy.linalg.norm((x - y)[finite]), numpy.linalg.norm(y[finite])
            if difference > 0:
                worst = max(worst, difference / norm if norm > 0 else math.inf)
    return worst


def distance(got, want):
    """relative_error of floats, whatever their types."""
    worst = 0.0
    with numpy.load(got) as a, numpy.load(want) as b:
        for name in b.files:
            x, y = a[name].astype(numpy.float64), b[name].astype(numpy.float64)
            worst = max(worst, numpy.linalg.norm(x - y) / max(numpy.linalg.norm(y), 1e-300))
    return float(worst)


def shapes(path):
    with numpy.load(path) as arrays:
        names = [n for n in arrays.files if not n.startswith("past_") or n == "past_key_0"]
        return ", ".join("x".join(map(str, arrays[n].shape)) for n in names[:3])


class Row(dict):
    def fail(self, why):
        self["failure"] = why.strip().splitlines()[-1][:300] if why.strip() else "failed"
        return self


def onnxruntime(model, inputs, threads, *level):
    return [sys.executable, HERE / "onnxruntime_worker.py", model, inputs, threads, *level]


def against_exact(model, inputs, results, threads, folder):
    """Errors against the exact evaluation, and of ONNX Runtime without its optimiser against itself with it."""
    plain = folder / "plain.npz"
    w = Worker(onnxruntime(model, inputs, threads, "none"))
    w.run()
    w.ask(f"save {plain}")
    w.close()
    theirs, ours = results
    exact = inputs.with_name(inputs.name.replace("inputs", "exact"))
    return {"ssdc": distance(ours, exact), "onnxruntime": distance(theirs, exact), "onnxruntime_plain": distance(plain, exact), "itself": relative_error(plain, theirs)}


def measure(model, ssdc, worker, threads, runs, folder):
    """One row of the table."""
    row = Row(model=model.parent.name, doc=json.loads((model.parent / "about.json").read_text())["doc"])
    artifact = folder / "model.ssda"
    try:
        compiled = compile_model(ssdc, model, artifact, threads, None)
    except SystemExit as e:
        return row.fail(str(e))
    row["compile_seconds"], row["fused"] = compiled["seconds"], compiled["fused"]
    sides = [Side("onnxruntime", lambda i: onnxruntime(model, i, threads)),
             Side("ssdc", lambda i: [worker, artifact, i])]
    row["errors"], exact = [], []
    for number, inputs in enumerate(sorted(model.parent.glob("inputs*.npz"))):
        workers, results = [], []
        try:
            for s in sides:
                workers.append(Worker(s.command(inputs)))
                workers[-1].run()
                results.append(folder / f"{s.name}.npz")
                workers[-1].ask(f"save {results[-1]}")
        except SystemExit as e:
            for w in workers:
                w.close()
            return row.fail(f"{inputs.name}: {e}")
        row["errors"].append(relative_error(results[1], results[0]))
        if inputs.with_name(inputs.name.replace("inputs", "exact")).exists():
            exact.append(against_exact(model, inputs, results, threads, folder))
        if number == 0 and runs > 0:
            row["shapes"] = shapes(inputs)
            times = [[], []]
            for i in range(runs):
                for j in (0, 1) if i % 2 == 0 else (1, 0):
                    time.sleep(REST_SECONDS)
                    times[j].append(workers[j].turn())
            row["onnxruntime_ms"], row["ssdc_ms"] = (statistics.median(t) for t in times)
            row["ratio"] = row["onnxruntime_ms"] / row["ssdc_ms"]
        row["version"] = workers[0].ready["version"]
        for w in workers:
            w.close()
    row["error"] = max(row["errors"])
    if exact:
        row["exact"] = {k: max(e[k] for e in exact) for k in exact[0]}
    if (steps := model.with_name("steps.json")).exists():
        row["steps"] = json.loads(steps.read_text())
    return row


def exact_tables(rows):
    """What the error column cannot say about models that round on the way."""
    rounded = [r for r in rows if "exact" in r]
    if not rounded:
        return []
    out = ["", "## Models that round on the way", "",
           "The error above is the distance of two roundings. This one is the distance of each from the exact evaluation of the graph: float64,",
           "rounded only where the model quantises, with exact products of integers (`bench/exact.py`). The last column compares ONNX Runtime without its",
           "optimiser with itself.", "",
           "| model | ssdc | ONNX Runtime | ONNX Runtime, not optimised | ONNX Runtime against itself |", "| --- | ---: | ---: | ---: | ---: |"]
    for r in rounded:
        out.append(f"| {r['model']} | " + " | ".join(f"{r['exact'][k]:.1e}" for k in ("ssdc", "onnxruntime", "onnxruntime_plain", "itself")) + " |")
    stepped = [r for r in rows if "steps" in r]
    if not stepped:
        return out
    out += ["", "A number that lies between two bytes falls to one of them by its last bit, and what follows is another computation: the quantised models are as far",
            "from ONNX Runtime, and from the exact evaluation, as ONNX Runtime is from itself. So each is also cut wherever it quantises, and every piece gets",
            "the exact bytes before it (`bench/steps.py`). Flips are bytes other than the exact ones; beyond is how much farther than half a unit the farthest byte",
            "lies from the number it rounds; scale is the largest relative error of scales that the graph computes.", "",
            "| model | | tensors | elements | flips | beyond | scale |", "| --- | --- | ---: | ---: | ---: | ---: | ---: |"]
    for r in stepped:
        for s in r["steps"]:
            out.append(f"| {r['model']} | {s['name']} | {s['tensors']} | {s['elements']} | {s['flips']} | {s['beyond']:.1e} | {s['scale']:.0e} |")
    return out


def markdown(result):
    m, rows = result["machine"], result["rows"]
    out = ["# Real graphs against ONNX Runtime", "",
           "Random-weight exports of well-known architectures, compared with ONNX Runtime on every input set and timed in turn on the first.",
           "Made by", "", "```sh", "python testdata/scripts/make_zoo.py DIR    # the environment of testdata/scripts/requirements.txt",
           "python bench/exact.py --models DIR --write", "python bench/steps.py --models DIR", "python bench/zoo.py --models DIR", "```", "",
           "Speed is ONNX Runtime's median time divided by ssdc's: above 1, ssdc is faster. The error is the largest relative error by norm over",
           f"all outputs and input sets; the bar is {BAR:.0e}. Integer outputs must be equal.", "",
           "| model | | inputs timed | ONNX Runtime ms | ssdc ms | speed | error | input sets | compile s |",
           "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for r in rows:
        if "failure" in r:
            out.append(f"| {r['model']} | {r['doc']} | | | | failed: {r['failure']} | | | |")
            continue
        timed = (f"{r['onnxruntime_ms']:.1f}", f"{r['ssdc_ms']:.1f}", f"{r['ratio']:.2f}") if "ratio" in r else ("", "", "")
        out.append(f"| {r['model']} | {r['doc']} | {r.get('shapes', '')} | {' | '.join(timed)} | {r['error']:.1e} | {len(r['errors'])} | {r['compile_seconds']:.1f} |")
    ratios = [r["ratio"] for r in rows if "ratio" in r]
    errors = [r.get("error", math.inf) for r in rows]
    summary = f"{sum(e <= BAR for e in errors)} of {len(rows)} graphs within {BAR:.0e} of ONNX Runtime"
    if more := sum(e > BAR and r.get("exact", {}).get("ssdc", math.inf) <= BAR for r, e in zip(rows, errors)):
        summary += f", {more} more within it of the exact evaluation, where ONNX Runtime rounds on the way (below)"
    summary += "."
    if ratios:
        summary += f" Geometric mean of the speeds {statistics.geometric_mean(ratios):.2f}, least {min(ratios):.2f}."
    version = next((r["version"] for r in rows if "version" in r), "?")
    out += ["", summary, "", f"Medians of {result['runs']} runs each, {result['threads']} threads, batch and lengths as shown. ONNX Runtime {version}, "
            f"ssdc at commit {m['commit']}, {m['go']}; {m['date']}, {m['processor']}, {m['processors']} processors, {m['system']}."]
    out += exact_tables(rows)
    return "\n".join(out) + "\n"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True, help="the folder that make_zoo.py filled")
    p.add_argument("--only", default=".*", help="names that match this regular expression")
    p.add_argument("--runs", type=int, default=11, help="timed runs of each side; 0: parity alone")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--programs", type=pathlib.Path, help="a folder with ssdc and bench/worker, built already")
    p.add_argument("--out", type=pathlib.Path, default=HERE.parent / "docs" / "models.md")
    p.add_argument("--json", type=pathlib.Path, help="also keep the rows here, and reuse those that are there for models not measured now")
    a = p.parse_args()
    models = [m for m in sorted(a.models.glob("*/model.onnx")) if re.fullmatch(a.only, m.parent.name)]
    if not models:
        sys.exit(f"{a.models}: no model.onnx in its folders; make them with testdata/scripts/make_zoo.py")
    kept = {r["model"]: r for r in json.loads(a.json.read_text())} if a.json and a.json.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ssdc, worker = build(folder) if a.programs is None else (a.programs / "ssdc", a.programs / "worker")
        for model in models:
            row = measure(model, ssdc, worker, a.threads, a.runs, folder)
            old = kept.get(row["model"], {})
            if a.runs == 0 and "ratio" in old and "failure" not in row:
                row = {**old, **row}
            kept[row["model"]] = row
            print(f"{row['model']}: " + (row["failure"] if "failure" in row else f"error {row['error']:.1e}"
                  + (f", {row['onnxruntime_ms']:.1f} ms and {row['ssdc_ms']:.1f} ms, speed {row['ratio']:.2f}" if "ratio" in row else "")),
                  file=sys.stderr, flush=True)
            if a.json:
                a.json.write_text(json.dumps(list(kept.values()), indent=1))
    result = {"machine": machine(), "threads": a.threads, "runs": a.runs, "rows": [kept[k] for k in sorted(kept)]}
    a.out.parent.mkdir(exist_ok=True)
    a.out.write_text(markdown(result))


if __name__ == "__main__":
    main()
