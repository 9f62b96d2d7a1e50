"""Every quantised tensor of a model by itself: which bytes ssdc and ONNX Runtime make of the exact bytes before them.

    python steps.py --models DIR --only 'bert_base_(qdq|int8)'    writes steps.json beside the models, for zoo.py

    python steps.py --models DIR --write ../testdata/zoo     stores the cut models and their exact values, for zoo_test.go; DIR has small ones

A quantised graph cannot be judged by its end: where a number lies between two bytes, its last bit decides which, and what follows is
another computation. So the graph is cut wherever it quantises, every piece is given the exact bytes (exact.py), and what it makes of them
is compared with the number before it is rounded: `flips` counts other bytes than the exact ones, and `beyond` says, in units of the
byte, how much farther than half a unit the farthest of them is from that number. A wrong rule shows in whole units, another order of
summation in a few ten-thousandths. Scales and zero points that a graph computes are compared in the same way.
"""
import argparse
import json
import pathlib
import re
import sys
import tempfile

import numpy
import onnx
from onnx import helper, numpy_helper

from exact import along, dynamic_range, evaluate
from layer import Worker, build, compile_model

HERE = pathlib.Path(__file__).resolve().parent
CUTS = ("QuantizeLinear", "DynamicQuantizeLinear")


def given(name):
    return "given:" + name


def cut(path, feeds):
    """The pieces of a model as one model, with the exact bytes as more inputs; returns it, its inputs, and the nodes cut at."""
    m = onnx.load(path)
    cuts = [n for n in m.graph.node if n.op_type in CUTS]
    names = [o for n in cuts for o in n.output]
    values = evaluate(onnx.load(path), feeds, names)
    values = {k: v.astype(numpy.float32) if v.dtype.kind == "f" else v for k, v in values.items()}
    for n in m.graph.node:
        for i, name in enumerate(n.input):
            if name in values:
                n.input[i] = given(name)
    # One shape stands for all: that of these inputs.
    del m.graph.value_info[:], m.graph.input[:]
    for o in m.graph.output:
        o.type.tensor_type.ClearField("shape")
    inputs = {**feeds, **{given(k): v for k, v in values.items()}}
    m.graph.input.extend(helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in inputs.items())
    outputs = {o.name for o in m.graph.output}
    m.graph.output.extend(helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in values.items() if k not in outputs)
    return m, inputs, cuts


def unrounded(m, inputs, cuts):
    """Per cut tensor the numbers whose rounding it is, zero point included, and how far those may lie: {name: (numbers, least, most)}."""
    fixed = {t.name: numpy_helper.to_array(t) for t in m.graph.initializer}
    at = evaluate(onnx.ModelProto.FromString(m.SerializeToString()), inputs, [n.input[0] for n in cuts])
    numbers = {}
    for n in cuts:
        x = at[n.input[0]]
        if n.op_type == "DynamicQuantizeLinear":
            scale, zero = dynamic_range(x)
            numbers[n.output[0]] = (x / scale, 0, 255)  # the zero point is the implementation's, see differences
            numbers[n.output[1]] = (numpy.array(scale), None, None)
            numbers[n.output[2]] = (numpy.array(zero), 0, 255)
            continue
        scale, zero = fixed[n.input[1]], fixed[n.input[2]]
        axis = next((a.i for a in n.attribute if a.name == "axis"), 1)
        limits = numpy.iinfo(zero.dtype)
        numbers[n.output[0]] = (x / along(scale, x, axis) + along(zero, x, axis), limits.min, limits.max)
    return numbers


class Differences:
    """What the results of one implementation come to."""

    def __init__(self, results, numbers, cuts):
        self.tensors = self.elements = self.flips = 0
        self.beyond = self.scale = 0.0
        for n in cuts:
            dynamic = n.op_type == "DynamicQuantizeLinear"
            if dynamic:
                scale = float(numbers[n.output[1]][0])
                self.scale = max(self.scale, abs(float(results[n.output[1]]) - scale) / scale)
                self.bytes(results[n.output[2]], *numbers[n.output[2]])
            y, (x, least, most) = results[n.output[0]], numbers[n.output[0]]
            self.bytes(y, x + results[n.output[2]] if dynamic else x, least, most)

    def bytes(self, y, x, least, most):
        x = numpy.clip(x, least, most)
        self.tensors += 1
        self.elements += y.size
        self.flips += int(numpy.count_nonzero(y != numpy.rint(x)))
        self.beyond = max(self.beyond, float(numpy.abs(y - x).max()) - 0.5)

    def row(self, name):
        return {"name": name, "tensors": self.tensors, "elements": self.elements, "flips": self.flips, "beyond": max(self.beyond, 0), "scale": self.scale}


def load(path):
    with numpy.load(path) as arrays:
        return dict(arrays)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--only", default=".*_(qdq|int8)")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--programs", type=pathlib.Path, help="a folder with ssdc and bench/worker, built already")
    p.add_argument("--write", type=pathlib.Path, help="write steps.onnx, steps_inputs.npz and steps_exact.npz into folders of the models' names there, and run nothing")
    a = p.parse_args()
    models = [m for m in sorted(a.models.glob("*/model.onnx")) if re.fullmatch(a.only, m.parent.name)]
    if not models:
        sys.exit(f"{a.models}: no model of that name")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        ssdc = worker = None
        if not a.write:
            ssdc, worker = build(folder) if a.programs is None else (a.programs / "ssdc", a.programs / "worker")
        for model in models:
            m, inputs, cuts = cut(model, load(model.parent / "inputs.npz"))
            numbers = unrounded(m, inputs, cuts)
            at = a.write / model.parent.name if a.write else folder
            at.mkdir(exist_ok=True)
            onnx.save(m, at / "steps.onnx")
            numpy.savez(at / "steps_inputs.npz", **inputs)
            if a.write:
                for n in cuts:
                    if n.op_type == "DynamicQuantizeLinear":
                        x, least, most = numbers[n.output[0]]
                        numbers[n.output[0]] = x + numpy.rint(numbers[n.output[2]][0]), least, most
                numpy.savez(at / "steps_exact.npz", **{k: x.astype(numpy.float32) for k, (x, _, _) in numbers.items()})
                continue
            compile_model(ssdc, folder / "steps.onnx", folder / "model.ssda", a.threads, None)
            ort = [sys.executable, HERE / "onnxruntime_worker.py", folder / "steps.onnx", folder / "steps_inputs.npz", a.threads]
            rows = []
            for name, command in (("ssdc", [worker, folder / "model.ssda", folder / "steps_inputs.npz"]), ("ONNX Runtime", ort), ("ONNX Runtime, not optimised", [*ort, "none"])):
                w = Worker(command)
                w.run()
                w.ask(f"save {folder / 'results.npz'}")
                w.close()
                rows.append(Differences(load(folder / "results.npz"), numbers, cuts).row(name))
                print(model.parent.name, rows[-1], flush=True)
            (model.parent / "steps.json").write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
