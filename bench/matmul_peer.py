"""Times products in one library on request: the side of the peers of products.py.

    matmul_peer.py numpy|torch|onnxruntime THREADS

Every line "FORMAT MxNxK SECONDS" of the input is answered with {"s": seconds of a call}, timed for so long, as
`kernels -serve` does.
"""

import json
import sys
import time

import numpy as np


def per_call(call, seconds):
    """The mean of calls that fill so many seconds, after others for as long; see perCall of kernels/serve.go."""
    start = time.perf_counter()
    while time.perf_counter() - start < seconds:
        begun = time.perf_counter()
        call()
        took = time.perf_counter() - begun
        if took > 2 * seconds:
            return took
    start, n = time.perf_counter(), 0
    while True:
        call()
        n += 1
        took = time.perf_counter() - start
        if took >= seconds:
            return took / n


def product(peer, fmt, m, n, k, threads):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k), dtype=np.float32), rng.standard_normal((k, n), dtype=np.float32)
    if peer == "numpy":
        return lambda: a @ b
    if peer == "torch":
        import torch

        torch.set_num_threads(threads)
        dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[fmt]
        x, w = torch.from_numpy(a).to(dtype), torch.from_numpy(np.ascontiguousarray(b.T)).to(dtype)

        @torch.inference_mode()
        def call():
            torch.nn.functional.linear(x, w)

        return call
    import onnx
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    g = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "g", [helper.make_tensor_value_info("a", TensorProto.FLOAT, [m, k])],
                          [helper.make_tensor_value_info("c", TensorProto.FLOAT, [m, n])], [numpy_helper.from_array(b, "b")])
    o = ort.SessionOptions()
    o.intra_op_num_threads = threads
    s = ort.InferenceSession(helper.make_model(g, opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString(), o, providers=["CPUExecutionProvider"])
    return lambda: s.run(None, {"a": a})


def main():
    peer, threads, made = sys.argv[1], int(sys.argv[2]), {}
    for line in sys.stdin:
        fmt, shape, seconds = line.split()
        if (fmt, shape) not in made:
            made.clear()  # one at a time: some are large
            made[fmt, shape] = product(peer, fmt, *map(int, shape.split("x")), threads)
        print(json.dumps({"s": per_call(made[fmt, shape], float(seconds))}), flush=True)


main()
