"""Check what `ssdc export` writes, in every dialect, for every fixture.

    python check_exports.py --ssdc SSDC [--only REGEX] [--dialects onnx,microsoft,plain]

Each file must pass onnx.checker with full type inference and run in ONNX Runtime with the float64 results of the
fixture (1e-5 by norm, as TestParity asks of ssdc itself). With --reimport, ssdc must find the same fused operators in
it again. Prints one line per fixture and exits with 1 if anything failed. README.md says which environment.
"""
from __future__ import annotations

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort

MODELS = pathlib.Path(__file__).resolve().parent.parent / "models"
LIMIT = 1e-5


def error(got, want):
    norm = np.linalg.norm(want.astype(np.float64))
    return np.linalg.norm(got.astype(np.float64) - want) / norm if norm else np.linalg.norm(got)


def run(path: pathlib.Path, numbers: pathlib.Path) -> float:
    """The worst relative error over all input sets and outputs; shapes must be equal."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names, worst = [o.name for o in session.get_outputs()], 0.0
    for inputs in sorted(numbers.glob("inputs*.npz")):
        expected = np.load(numbers / inputs.name.replace("inputs", "expected"))
        got = dict(zip(names, session.run(None, dict(np.load(inputs)))))
        for name in expected.files:
            if got[name].shape != expected[name].shape:
                raise ValueError(f"{inputs.name}: {name} is {got[name].shape}, expected {expected[name].shape}")
            e = error(got[name], expected[name])
            if not e <= LIMIT:
                raise ValueError(f"{inputs.name}: {name} differs by {e:.2e}, at most {LIMIT:.0e}")
            worst = max(worst, e)
    return worst


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--ssdc", required=True)
    p.add_argument("--only", default="")
    p.add_argument("--dialects", default="onnx,microsoft,plain")
    p.add_argument("--models", type=pathlib.Path, default=MODELS)
    p.add_argument("--reimport", action="store_true")
    p.add_argument("--keep", type=pathlib.Path, help="leave the exported files in this folder")
    a = p.parse_args()
    failed = done = 0
    with tempfile.TemporaryDirectory() as tmp:
        root = a.keep or pathlib.Path(tmp)
        root.mkdir(parents=True, exist_ok=True)
        for meta in sorted(a.models.glob("*/meta.json")):
            fixture, about = meta.parent, json.loads(meta.read_text())
            numbers = a.models / about.get("numbers_of", fixture.name)
            if not re.search(a.only, fixture.name):
                continue
            cells = []
            for dialect in a.dialects.split(","):
                out = root / f"{fixture.name}.{dialect}.onnx"
                try:
                    subprocess.run([a.ssdc, "export", fixture / "model.onnx", "-o", out, "--dialect", dialect], check=True,
                                   capture_output=True, text=True)
                    onnx.checker.check_model(str(out), full_check=True)
                    cells.append(f"{dialect} {run(out, numbers):.1e}")
                    if a.reimport and dialect not in about.get("export_untold", {}):
                        want = about["expect_fused"]
                        r = subprocess.run([a.ssdc, "explain", out, "--json"], check=True, capture_output=True, text=True)
                        have = json.loads(r.stdout)["fused"]
                        have["ssm.SSD"] = have.get("ssm.SSD", 0) + have.get("LinearAttention", 0)  # a step keeps that kernel
                        lost = {k: (have.get(k, 0), n) for k, n in want.items() if have.get(k, 0) < n}
                        if lost:
                            raise ValueError(f"after importing it again: {lost}")
                    done += 1
                except Exception as e:  # each failure is reported, none stops the rest
                    why = e.stderr if isinstance(e, subprocess.CalledProcessError) else str(e)
                    cells.append(f"{dialect} FAILED: {why.strip()[:600]}")
                    failed += 1
                if not a.keep:
                    for f in root.glob(out.name + "*"):
                        f.unlink()
            print(f"{fixture.name:52} {'; '.join(cells)}", flush=True)
    print(f"{done} exports hold, {failed} failed (onnx {onnx.__version__}, onnxruntime {ort.__version__})")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
