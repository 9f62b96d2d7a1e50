"""Which of two runtimes is nearer to what a model says: the errors of ssdc and of ONNX Runtime, against the graph in float64.

    python exact.py --models DIR --only 'gpt2_fp16|bert_base_fp16'

    python exact.py --models ../testdata/zoo --write    stores the exact results beside the models, for zoo_test.go

The graph is evaluated by onnx's reference evaluator with every float type, 16 bits included, made float64: weights are those of the
file, and nothing is rounded on the way. DIR is a folder that testdata/scripts/make_zoo.py filled.
"""
import argparse
import pathlib
import re
import sys
import tempfile

import numpy
import onnx
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from layer import Worker, build, compile_model
from zoo import relative_error

HERE = pathlib.Path(__file__).resolve().parent
FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


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


def exact(model, inputs, out):
    m = onnx.load(model)
    widen_graph(m.graph)
    sort(m.graph)
    with numpy.load(inputs) as arrays:
        feeds = {k: arrays[k].astype(numpy.float64) if arrays[k].dtype.kind == "f" else arrays[k] for k in arrays.files}
    names = [o.name for o in m.graph.output]
    numpy.savez(out, **dict(zip(names, ReferenceEvaluator(m).run(names, feeds))))


def error(got, want):
    """relative_error, whatever the float types."""
    worst = 0.0
    with numpy.load(got) as a, numpy.load(want) as b:
        for name in b.files:
            x, y = a[name].astype(numpy.float64), b[name].astype(numpy.float64)
            worst = max(worst, numpy.linalg.norm(x - y) / max(numpy.linalg.norm(y), 1e-300))
    return worst


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--models", type=pathlib.Path, required=True)
    p.add_argument("--only", default=".*_fp16")
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
                ours, theirs = (error(folder / f"{n}.npz", folder / "exact.npz") for n in ("ours", "theirs"))
                print(f"| {model.parent.name} | {inputs.stem} | {ours:.1e} | {theirs:.1e} | {relative_error(folder / 'ours.npz', folder / 'theirs.npz'):.1e} |", flush=True)


if __name__ == "__main__":
    main()
