"""Which of two runtimes is nearer to what a model says: the errors of ssdc and of ONNX Runtime, against the graph in float64.

    python exact.py --models DIR --only 'gpt2_fp16|bert_base_fp16'

    python exact.py --models ../testdata/zoo --write    stores the exact results beside the models, for zoo_test.go

The graph is evaluated by onnx's reference evaluator with every float type, 16 bits included, made float64: weights are those of the
file, and nothing is rounded on the way but where the model says so: QuantizeLinear and DynamicQuantizeLinear round, to even, what float64
gives, and products of integers are exact. DIR is a folder that testdata/scripts/make_zoo.py filled.
"""
import argparse
import pathlib
import re
import sys
import tempfile

import numpy
import onnx
import torch
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from layer import Worker, build, compile_model
from zoo import distance, relative_error

HERE = pathlib.Path(__file__).resolve().parent
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


def along(v, x, axis):
    """A scale or zero point in float64, of one element or one per slice of the axis, for arithmetic with x."""
    shape = [1] * x.ndim
    if v.size > 1:
        shape[axis] = -1
    return v.astype(numpy.float64).reshape(shape)


# onnx's own evaluator does some of their arithmetic in float32, whatever the types are, multiplies integers without BLAS, and needs
# gigabytes for a convolution.
class DequantizeLinear(OpRun):
    def _run(self, x, scale, zero=None, axis=1, block_size=0, output_dtype=None):
        if block_size:
            raise NotImplementedError("DequantizeLinear in blocks")
        y = x.astype(numpy.float64)
        return ((y if zero is None else y - along(zero, x, axis)) * along(scale, x, axis),)


def dynamic_range(x):
    """The scale of DynamicQuantizeLinear, and its zero point before it is rounded."""
    most, least = max(0.0, float(x.max())), min(0.0, float(x.min()))
    scale = (most - least) / 255 if most != least else 1 / 255
    return scale, numpy.clip(-least / scale, 0, 255)


class DynamicQuantizeLinear(OpRun):
    def _run(self, x):
        scale, zero = dynamic_range(x)
        zero = numpy.rint(zero)
        return numpy.clip(numpy.rint(x / scale) + zero, 0, 255).astype(numpy.uint8), numpy.array(scale), numpy.array(zero, dtype=numpy.uint8)


class MatMulInteger(OpRun):
    def _run(self, a, b, a_zero=None, b_zero=None):
        # Whole numbers below 2**53 are exact.
        a = a.astype(numpy.float64) - (0 if a_zero is None else along(a_zero, a, -2))
        b = b.astype(numpy.float64) - (0 if b_zero is None else along(b_zero, b, -1))
        return ((a @ b).astype(numpy.int32),)


class Conv(OpRun):
    def _run(self, x, w, bias=None, auto_pad="NOTSET", dilations=None, group=1, kernel_shape=None, pads=None, strides=None):
        axes = x.ndim - 2
        pads = pads or [0] * (2 * axes)
        if axes != 2 or auto_pad != "NOTSET" or pads[:axes] != pads[axes:]:
            raise NotImplementedError("Conv of other than images, or padded unevenly")
        bias = None if bias is None else torch.tensor(bias)
        y = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), bias, strides or 1, pads[:axes], dilations or 1, group)
        return (y.numpy(),)


def widen_tensor(t):
    if t.data_type in FLOATS:
        name = t.name
        t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(t).astype(numpy.float64), name))


def widen_graph(g):
    """Make every float type of the graph float64, in place."""
    for t in g.initializer:
        widen_tensor(t)
    del g.value_info[:]
    for v in [*g.input, *g.output]:
        if v.type.tensor_type.elem_type in FLOATS:
            v.type.tensor_type.elem_type = TensorProto.DOUBLE
    for n in g.node:
        for a in n.attribute:
            if a.name in ("to", "dtype") and a.i in FLOATS:
                a.i = TensorProto.DOUBLE
            if a.HasField("t"):
                widen_tensor(a.t)
            if a.HasField("g"):
                widen_graph(a.g)
        if n.op_type == "ConstantOfShape" and not n.attribute:
            n.attribute.append(onnx.helper.make_attribute("value", numpy_helper.from_array(numpy.zeros(1))))


def sort(g):
    """Put nodes after those they read; converters append some at the end."""
    made = {o for n in g.node for o in n.output if o}
    left, done, order = list(g.node), set(), []
    while left:
        ready = [n for n in left if all(i not in made or i in done for i in n.input)]
        if not ready:
            sys.exit(f"graph {g.name}: its nodes form a cycle")
        for n in ready:
            done.update(n.output)
        order += ready
        ids = set(map(id, ready))
        left = [n for n in left if id(n) not in ids]
    copies = [onnx.NodeProto.FromString(n.SerializeToString()) for n in order]
    del g.node[:]
    g.node.extend(copies)


def evaluate(m, feeds, names):
    """The named values of a model, which is changed, on these inputs."""
    widen_graph(m.graph)
    sort(m.graph)
    feeds = {k: v.astype(numpy.float64) if v.dtype.kind == "f" else v for k, v in feeds.items()}
    evaluator = ReferenceEvaluator(m, new_ops=[Conv, DequantizeLinear, DynamicQuantizeLinear, MatMulInteger])
    return dict(zip(names, evaluator.run(names, feeds)))


def exact(model, inputs, out):
    m = onnx.load(model)
    with numpy.load(inputs) as arrays:
        feeds = dict(arrays)
    numpy.savez(out, **evaluate(m, feeds, [o.name for o in m.graph.output]))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--only", default=".*_(fp16|qdq|int8)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--programs", type=pathlib.Path, help="a folder with ssdc and bench/worker, built already")
    p.add_argument("--write", action="store_true", help="write exact*.npz into the models' folders, and run nothing else")
    a = p.parse_args()
    models = [m for m in sorted(a.models.glob("*/model.onnx")) if re.fullmatch(a.only, m.parent.name)]
    if a.write:
        for model in models:
            for inputs in sorted(model.parent.glob("inputs*.npz")):
                exact(model, inputs, model.parent / inputs.name.replace("inputs", "exact"))
        return
    print("| model | inputs | ssdc | ONNX Runtime | ssdc against ONNX Runtime |\n| --- | --- | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ssdc, worker = build(folder) if a.programs is None else (a.programs / "ssdc", a.programs / "worker")
        for model in models:
            artifact = folder / "model.ssda"
            compile_model(ssdc, model, artifact, a.threads, None)
            for inputs in sorted(model.parent.glob("inputs*.npz")):
                for name, command in (("ours", [worker, artifact, inputs]), ("theirs", [sys.executable, HERE / "onnxruntime_worker.py", model, inputs, a.threads])):
                    w = Worker(command)
                    w.run()
                    w.ask(f"save {folder / name}.npz")
                    w.close()
                exact(model, inputs, folder / "exact.npz")
                ours, theirs = (distance(folder / f"{n}.npz", folder / "exact.npz") for n in ("ours", "theirs"))
                print(f"| {model.parent.name} | {inputs.stem} | {ours:.1e} | {theirs:.1e} | {relative_error(folder / 'ours.npz', folder / 'theirs.npz'):.1e} |", flush=True)


if __name__ == "__main__":
    main()
