"""Times float32 (and with torch bfloat16) products of the shapes of bench/kernels in one library."""

import json
import sys
import time

import numpy as np

SHAPES = [(512, 3352, 768), (512, 768, 1536), (2048, 3352, 768), (2048, 768, 1536), (2048, 2048, 2048), (8, 3352, 768), (1, 3352, 768), (1, 50288, 768), (8, 50288, 768)]
SECONDS = 0.15


def timed(name, f):
    f()
    took, start = [], time.perf_counter()
    while len(took) < 3 or time.perf_counter() - start < SECONDS:
        t = time.perf_counter()
        f()
        took.append(time.perf_counter() - t)
    took.sort()
    print(json.dumps({"case": name, "best": took[0], "median": took[len(took) // 2]}))


peer, threads = sys.argv[1], int(sys.argv[2])
rng = np.random.default_rng(0)
for m, n, k in SHAPES:
    a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
    name = f"{m}x{n}x{k}"
    if peer == "numpy":
        timed(f"matmul f32 {name}", lambda: a @ b)
    elif peer == "torch":
        import torch

        torch.set_num_threads(threads)
        for kind, dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
            x, w = torch.from_numpy(a).to(dtype), torch.from_numpy(np.ascontiguousarray(b.T)).to(dtype)
            with torch.inference_mode():
                timed(f"matmul {kind} {name}", lambda: torch.nn.functional.linear(x, w))
    elif peer == "onnxruntime":
        import onnx
        import onnxruntime as ort
        from onnx import TensorProto, helper, numpy_helper

        g = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "g", [helper.make_tensor_value_info("a", TensorProto.FLOAT, [m, k])],
                              [helper.make_tensor_value_info("c", TensorProto.FLOAT, [m, n])], [numpy_helper.from_array(b, "b")])
        o = ort.SessionOptions()
        o.intra_op_num_threads = threads
        s = ort.InferenceSession(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString(), o, providers=["CPUExecutionProvider"])
        timed(f"matmul f32 {name}", lambda: s.run(None, {"a": a}))
