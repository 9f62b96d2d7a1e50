#!/usr/bin/env python3
"""Makes the ONNX fixtures of testdata/models. See README.md beside this file."""

from __future__ import annotations

import argparse
import json
import pathlib
import re
import shutil
import sys
import tempfile
import traceback

import numpy as np
import onnx
import onnxruntime
import torch
import transformers

from fixtures import check, export, reference
from fixtures.spec import Built, Fixture

HF_MAJOR = int(transformers.__version__.split(".")[0])


def all_fixtures() -> list[Fixture]:
    from fixtures import loops, mamba1, mamba2, minimal

    return mamba2.fixtures() + mamba1.fixtures() + minimal.fixtures() + loops.fixtures()


def write(fx: Fixture, root: pathlib.Path, keep_reference: bool = True) -> dict:
    torch.manual_seed(fx.seed)
    built = fx.build()
    with tempfile.TemporaryDirectory() as tmp:
        work = pathlib.Path(tmp)
        changes = export.export(fx, built, work / "model.onnx")
        meta = describe(fx, built, work / "model.onnx", changes)
        results = []
        sess = None
        try:
            sess = check.session(work / "model.onnx")
        except Exception as e:  # the file is still a fixture: say why ONNX Runtime refuses it
            meta["onnxruntime_error"] = first_line(e)
        for i, inputs in enumerate(built.inputs):
            suffix = "" if i == 0 else f"_{i + 1}"
            results.append(one_set(built, inputs, sess, work, suffix, keep_reference))
        meta["sets"] = results
        (work / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        target = root / fx.name
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for f in sorted(work.iterdir()):
            shutil.copy(f, target / f.name)
    return meta


def one_set(built: Built, inputs, sess, work: pathlib.Path, suffix: str, keep: bool) -> dict:
    arrays = {k: v.numpy() for k, v in inputs.items()}
    wide = [t.numpy() for t in reference.run_float64(built.module, inputs)]
    narrow = [t.numpy() for t in reference.run(built.module, inputs)]
    expected = dict(zip(built.outputs, wide, strict=True))
    np.savez_compressed(work / f"inputs{suffix}.npz", **arrays)
    if keep:
        np.savez_compressed(work / f"expected{suffix}.npz", **expected)
    result = {
        "inputs": {k: list(v.shape) for k, v in arrays.items()},
        "torch_f32_rel_err": {k: check.rel_err(n, w) for k, n, w in zip(built.outputs, narrow, wide)},
    }
    if sess is not None:
        try:
            got = check.run(sess, built.outputs, arrays)
            result["onnxruntime_rel_err"] = {k: check.rel_err(g, w) for k, g, w in zip(built.outputs, got, wide)}
        except Exception as e:
            result["onnxruntime_error"] = first_line(e)
    return result


def describe(fx: Fixture, built: Built, path: pathlib.Path, changes: list[str]) -> dict:
    model = onnx.load(str(path), load_external_data=False)
    return {
        "name": fx.name,
        "description": fx.description,
        "notes": fx.notes,
        "exporter": fx.exporter,
        "torch": torch.__version__,
        "transformers": transformers.__version__ if fx.hf_major else None,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "nodes": len(model.graph.node),
        "expect_fused": fx.expect_fused,
        "dynamic_axes": {k: {str(a): s if isinstance(s, str) else str(s.__name__) for a, s in v.items()} for k, v in fx.dynamic.items()},
        "changes_after_export": changes,
        "seed": fx.seed,
    }


def first_line(e: Exception) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0][:300]


def summary(meta: dict) -> str:
    errs = []
    for s in meta["sets"]:
        if "onnxruntime_error" in s:
            errs.append("ERR " + s["onnxruntime_error"][:90])
            continue
        values = s.get("onnxruntime_rel_err", {}).values()
        text = [v for v in values if isinstance(v, str)]
        errs.append(text[0] if text else f"{max(values, default=float('nan')):.1e}")
    return f"{meta['nodes']:6d} nodes  opset {meta['opset'].get('ai.onnx')}  ort {'; '.join(errs)} {meta.get('onnxruntime_error', '')}"


def main() -> int:
    here = pathlib.Path(__file__).resolve().parent
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=pathlib.Path, default=here.parent / "models", help="folder of the small fixtures")
    p.add_argument("--only", default="", help="regular expression that a fixture's name must contain")
    p.add_argument("--full", type=pathlib.Path, help="make the full-size models here instead (outside the repository)")
    p.add_argument("--list", action="store_true", help="print the names and stop")
    args = p.parse_args()
    if args.full:
        from fixtures import fullsize

        chosen, root = fullsize.fixtures(), args.full
    else:
        chosen, root = all_fixtures(), args.out
    chosen = [f for f in chosen if re.search(args.only, f.name)]
    failed = 0
    for fx in chosen:
        wrong_version = fx.hf_major not in (None, HF_MAJOR)
        if args.list or wrong_version:
            print(f"{fx.name:48s} {'needs transformers ' + str(fx.hf_major) if wrong_version else ''}")
            continue
        try:
            print(f"{fx.name:48s}", summary(write(fx, root)), flush=True)
        except Exception as e:
            failed += 1
            print(f"{fx.name:48s} FAILED {type(e).__name__}: {first_line(e)}", flush=True)
            with open(root / "failures.log", "a") as log:
                log.write(f"== {fx.name}\n{traceback.format_exc()[-4000:]}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
