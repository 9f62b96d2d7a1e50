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

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import torch
import transformers

from fixtures import check, export, reference
from fixtures.spec import Built, Fixture



TORCH = "2.15"

# Read elsewhere by their names, numbers and all: these keep numbers of their own.
OWN = set("""mamba1_ts_dyn_decode mamba2_ts_dyn_decode_g1 mamba2_ts_dyn_decode_g8 mamba2_ts_dyn_prefill_cache_g1
mamba2_ts_dyn_prefill_cache_g2 mamba2_ts_dyn_prefill_cache_g8 mamba2_ts_dyn_prefill_g1 mamba2_ts_static_prefill_g1n16
ssd_minimal_ts_dyn""".split())


def of(version: str, release: str) -> bool:
    """4.44.2 is of 4.44, 4.4 is not."""
    return f"{version}.".startswith(release + ".")


def needs(fx: Fixture) -> str:
    return f"needs torch {fx.torch or TORCH}" + (f", transformers {fx.release}" if fx.release else "")


def all_fixtures() -> list[Fixture]:
    from fixtures import chunks, customops, families, handbuilt, hybrids, loops, mamba1, mamba2, minimal, older, parallel, recurrences, torchscan, unrolled

    modules = (mamba2, mamba1, minimal, loops, handbuilt, torchscan, older, families, hybrids, parallel, chunks, recurrences, unrolled, customops)
    return [fx for module in modules for fx in module.fixtures()]


def write(fx: Fixture, root: pathlib.Path) -> dict:
    torch.manual_seed(fx.seed)
    built = fx.build()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as tmp:  # same disk: full-size models are moved, not copied
        work = pathlib.Path(tmp)
        changes = export.export(fx, built, work / "model.onnx")
        meta = describe(fx, built, work / "model.onnx", changes)
        results = []
        sess = None
        try:
            if fx.check_sets != 0:
                sess = check.session(work / "model.onnx")
        except Exception as e:  # the file is still a fixture: say why ONNX Runtime refuses it
            meta["onnxruntime_error"] = first_line(e)
        for i in range(len(built.inputs)):
            suffix = "" if i == 0 else f"_{i + 1}"
            run_ort = fx.check_sets is None or i < fx.check_sets
            results.append(one_set(fx, built, i, sess if run_ort else None, work, suffix))
        meta["sets"] = results
        (work / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        target = root / fx.name
        if target.exists():
            shutil.rmtree(target)
        target.mkdir(parents=True)
        for f in sorted(work.iterdir()):
            shutil.move(f, target / f.name)
    return meta


def share(root: pathlib.Path) -> None:
    """Both exporters write the same model: equal numbers are kept once, and meta.json says where (numbers_of)."""
    for folder in sorted(f.parent for f in root.glob("*/meta.json")):
        source = root / re.sub(r"_ts(_|$)", r"_dynamo\1", folder.name)
        if source == folder:
            continue
        ours, theirs = ({f.name: f.read_bytes() for f in d.glob("*.npz")} for d in (folder, source))
        meta = json.loads((folder / "meta.json").read_text())
        if not ours or ours != theirs or folder.name in OWN or "optimiser" in meta:
            continue
        meta["numbers_of"] = source.name
        (folder / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
        for name in ours:
            (folder / name).unlink()


def one_set(fx: Fixture, built: Built, index: int, sess, work: pathlib.Path, suffix: str) -> dict:
    inputs = built.inputs[index]
    arrays = {k: numpy_of(v) for k, v in inputs.items()}
    np.savez_compressed(work / f"inputs{suffix}.npz", **arrays)
    result: dict = {"inputs": {k: list(v.shape) for k, v in arrays.items()}}
    if not fx.reference:
        return result
    if built.expected is not None:
        expected = built.expected[index]
    else:
        wide = [t.numpy() for t in reference.run_float64(built.module, inputs)]
        expected = dict(zip(built.outputs, wide, strict=True))
        narrow = reference.run(built.module, inputs)
        result["torch_f32_rel_err"] = {k: check.rel_err(numpy_of(n), expected[k]) for k, n in zip(built.outputs, narrow)}
    np.savez_compressed(work / f"expected{suffix}.npz", **expected)
    if sess is not None:
        try:
            got = check.run(sess, built.outputs, arrays)
            result["onnxruntime_rel_err"] = {k: check.rel_err(g, expected[k]) for k, g in zip(built.outputs, got)}
        except Exception as e:
            result["onnxruntime_error"] = first_line(e)
    return result


def numpy_of(t: torch.Tensor) -> np.ndarray:
    """NumPy itself has no bfloat16."""
    return t.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if t.dtype == torch.bfloat16 else t.numpy()


def describe(fx: Fixture, built: Built, path: pathlib.Path, changes: list[str]) -> dict:
    model = onnx.load(str(path), load_external_data=False)
    return {
        "name": fx.name,
        "description": fx.description,
        "notes": fx.notes,
        "exporter": fx.exporter,
        "torch": torch.__version__,
        "transformers": transformers.__version__ if fx.release else None,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
        "opset": {o.domain or "ai.onnx": o.version for o in model.opset_import},
        "nodes": len(model.graph.node),
        "expect_fused": fx.expect_fused,
        "rel_err_limit": fx.rel_err_limit,
        "export_untold": fx.export_untold,
        "expect_inexact": fx.expect_inexact,
        "expect_miss": fx.expect_miss,
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
        errs.append(text[0] if text else f"{max(values):.1e}" if values else "-")
    return f"{meta['nodes']:6d} nodes  opset {meta['opset'].get('ai.onnx')}  ort {'; '.join(errs)} {meta.get('onnxruntime_error', '')}"


def table(root: pathlib.Path) -> str:
    """The fixtures of a folder as a Markdown table, for README.md."""
    rows = ["| fixture | what | exporter | opset | nodes | must fuse |", "| --- | --- | --- | --- | --- | --- |"]
    for path in sorted(root.glob("*/meta.json")):
        m = json.loads(path.read_text())
        fused = ", ".join(f"{k.removeprefix('ssm.')} {v}" for k, v in m["expect_fused"].items())
        what = m["description"] + (f" ({m['notes']})" if m["notes"] else "")
        rows.append(f"| {m['name']} | {what} | {m['exporter']} | {m['opset']['ai.onnx']} | {m['nodes']} | {fused} |")
    return "\n".join(rows)


def main() -> int:
    here = pathlib.Path(__file__).resolve().parent
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--out", type=pathlib.Path, default=here.parent / "models", help="folder of the small fixtures")
    p.add_argument("--only", default="", help="regular expression that a fixture's name must contain")
    p.add_argument("--full", type=pathlib.Path, help="make the full-size models here instead (outside the repository)")
    p.add_argument("--list", action="store_true", help="print the names and stop")
    p.add_argument("--table", action="store_true", help="print the made fixtures as a Markdown table and stop")
    args = p.parse_args()
    if args.table:
        print(table(args.full or args.out))
        return 0
    if args.full:
        from fixtures import fullsize

        chosen, root = fullsize.fixtures(args.full), args.full
    else:
        chosen, root = all_fixtures(), args.out
    chosen = [f for f in chosen if re.search(args.only, f.name)]
    failed = 0
    for fx in chosen:
        wrong_version = fx.release and not of(transformers.__version__, fx.release) or not of(torch.__version__, fx.torch or TORCH)
        if args.list or wrong_version:
            print(f"{fx.name:48s} {needs(fx) if wrong_version else ''}")
            continue
        try:
            print(f"{fx.name:48s}", summary(write(fx, root)), flush=True)
        except Exception as e:
            failed += 1
            print(f"{fx.name:48s} FAILED {type(e).__name__}: {first_line(e)}", flush=True)
            with open(root / "failures.log", "a") as log:
                log.write(f"== {fx.name}\n{traceback.format_exc()[-4000:]}\n")
    if not args.list:
        share(root)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
