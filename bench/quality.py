"""What narrower weights cost: logits of a model in each format against float32.

mamba.py calls it. Beside ssdc's formats stands ggml's Q4_0, where the package gguf is installed: it rounds the matrices of the
model file, which ssdc then runs in float32, so that only the weights differ and not the activations.
"""
import subprocess
import sys

import numpy as np


def compare(ssdc, model, work, formats, shift):
    """A row per format. Perplexity is that of the inputs shift positions later, or of tokens drawn by the float32 model if shift is None."""
    inputs = model.parent / "inputs.npz"
    ids = np.load(inputs)["input_ids"]
    sources = [(f, model, f) for f in formats]  # f32 first
    try:
        import gguf
        rounded = work / "q4_0.onnx"
        round_weights(model, rounded, gguf)
        sources.append(("Q4_0 (ggml), activations in f32", rounded, "f32"))
    except ImportError:
        print("gguf is not installed: no row for Q4_0", file=sys.stderr)
    result, exact, targets = {}, None, None
    for name, source, fmt in sources:
        artifact, logits = work / f"quality.{fmt}.ssda", work / "logits.npy"
        run(ssdc, "compile", source, "-o", artifact, "--weights", fmt)
        run(ssdc, "run", artifact, "-i", inputs, "-o", f"logits={logits}")
        x = np.load(logits).astype(np.float64)
        x = x.reshape(-1, x.shape[-1])
        q = log_softmax(x)
        if exact is None:
            exact, p = x, q
            if shift is None:
                rng = np.random.default_rng(1)
                targets, rows = np.array([rng.choice(len(r), p=np.exp(r)) for r in p]), np.arange(len(p))
            else:
                targets = ids[:, shift:].reshape(-1)
                rows = np.arange(len(p)).reshape(ids.shape)[:, :-shift].reshape(-1)
        result[name] = {"error": float(np.linalg.norm(x - exact) / np.linalg.norm(exact)), "kl": float((np.exp(p) * (p - q)).sum(-1).mean()),
                        "top1": float((x.argmax(-1) == exact.argmax(-1)).mean()), "perplexity": float(np.exp(-q[rows, targets].mean())),
                        "bytes": artifact.stat().st_size}
        print(model.parent.name, name, result[name], file=sys.stderr, flush=True)
    return result


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def run(*cmd):
    subprocess.run([str(c) for c in cmd], check=True, capture_output=True)


def round_weights(model, out, gguf):
    """Rounds the constant matrices of products to Q4_0 along the axis that is summed over, and a table of embeddings that is one of them, as ssdc does."""
    import onnx
    from onnx import numpy_helper
    m = onnx.load(model)
    constants = {t.name: t for t in m.graph.initializer}
    done = {}
    for node in m.graph.node:
        if node.op_type not in ("MatMul", "Gemm", "Transpose"):
            continue
        for i, name in enumerate(node.input):
            if name not in constants or len(constants[name].dims) != 2:
                continue
            by_rows = node.op_type == "Transpose" or any(a.name == "transB" and a.i for a in node.attribute)
            w = numpy_helper.to_array(constants[name])
            rows = np.ascontiguousarray(w if by_rows else w.T).astype(np.float32)
            if rows.shape[1] % 32:
                continue
            if (name, by_rows) not in done:
                kind = gguf.GGMLQuantizationType.Q4_0
                back = gguf.quants.dequantize(gguf.quants.quantize(rows, kind), kind)
                done[name, by_rows] = f"{name}.q4_0"
                m.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(back if by_rows else back.T), f"{name}.q4_0"))
            node.input[i] = done[name, by_rows]
    for node in m.graph.node:
        if node.op_type == "Gather" and (node.input[0], True) in done:
            node.input[0] = done[node.input[0], True]
    used = {i for n in m.graph.node for i in n.input} | {o.name for o in m.graph.output}
    keep = [t for t in m.graph.initializer if t.name in used]
    del m.graph.initializer[:]
    m.graph.initializer.extend(keep)
    onnx.save(m, out)
