#!/usr/bin/env python3
"""Writes optimised twins of fixtures: what onnxsim and ONNX Runtime's own optimiser make of them.

ONNX Runtime's basic level folds constants, merges common subexpressions and drops what changes nothing; its extended
level writes operators of com.microsoft. Run with requirements.txt and requirements-optimisers.txt installed.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil

import onnx
import onnxruntime as ort
import onnxsim

BASIC, EXTENDED, SIM = "ort_basic", "ort_extended", "onnxsim"
TWINS = [
    ("bamba_hf5_ts_dyn", (BASIC, EXTENDED, SIM)),
    ("zamba2_hf5_dynamo_dyn", (EXTENDED,)),
    ("nemotronh_hf5_dynamo_dyn", (SIM,)),
    ("granite_moe_hf5_dynamo_dyn", (EXTENDED,)),
    ("falconh1_hf457_ts_dyn", (EXTENDED,)),
    ("mamba2_dynamo_dyn_prefill_g8", (BASIC, EXTENDED, SIM)),
    ("mamba2_ts_dyn_prefill_g8", (BASIC, EXTENDED, SIM)),
    ("mamba2_hf449_ts_dyn_prefill_cache_g1n16_stacked", (EXTENDED, SIM)),
    ("mamba2_hf444_ts_static_decode_g1n16_stacked", (EXTENDED,)),
    ("mamba2_hf4_ts_dyn_decode_g2_stacked", (EXTENDED,)),
    ("mamba2_hf4_dynamo_dyn_prefill_cache_g2_stacked", (EXTENDED,)),
    ("mamba1_ts_static_prefill", (EXTENDED, SIM)),
    ("ssd_minimal_ts_dyn", (EXTENDED, SIM)),
    ("loop_ssd_list", (EXTENDED,)),
    ("scan_ssd", (BASIC,)),
    ("pscan_tree_ts_static", (EXTENDED,)),
    ("pscan_sweeps_dynamo_static", (BASIC, EXTENDED)),
    ("retention_exp_ts_dyn", (EXTENDED,)),
    ("simple_gla_ts_static", (EXTENDED,)),
    ("quadratic_where_ts_dyn", (EXTENDED, SIM)),
    ("mingru_stable_ts_dyn", (EXTENDED,)),
]
WORDS = {BASIC: "optimised by ONNX Runtime, basic level", EXTENDED: "optimised by ONNX Runtime, extended level",
         SIM: "simplified by onnxsim"}


def optimise(source: pathlib.Path, target: pathlib.Path, kind: str) -> str:
    """Writes target and returns the optimiser's version."""
    if kind == SIM:
        model, equal = onnxsim.simplify(onnx.load(str(source)))
        if not equal:
            raise ValueError(f"{source}: onnxsim says that its result differs")
        onnx.save(model, str(target))
        return f"onnxsim {onnxsim.__version__}"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_BASIC if kind == BASIC else levels.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(target)
    ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])
    return f"onnxruntime {ort.__version__}"


def main() -> None:
    here = pathlib.Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "models", help="folder of the fixtures")
    root = parser.parse_args().out
    for name, kinds in TWINS:
        for kind in kinds:
            target = root / f"{name}_{kind}"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir()
            version = optimise(root / name / "model.onnx", target / "model.onnx", kind)
            meta = json.loads((root / name / "meta.json").read_text())
            model = onnx.load(str(target / "model.onnx"))
            meta.update(name=target.name, numbers_of=meta.get("numbers_of", name), description=f"{meta['description']}, {WORDS[kind]}", optimiser=version,
                        opset={o.domain or "ai.onnx": o.version for o in model.opset_import}, nodes=len(model.graph.node),
                        changes_after_export=meta["changes_after_export"] + [WORDS[kind]])
            for one in meta["sets"]:
                one.pop("onnxruntime_rel_err", None)
            (target / "meta.json").write_text(json.dumps(meta, indent=1) + "\n")
            print(f"{target.name:60s} {meta['nodes']:5d} nodes")


if __name__ == "__main__":
    main()
