"""Records what ONNX Runtime computes for single operators of ai.onnx.ml and
com.microsoft, in ONNX's own layout (model.onnx, test_data_set_0/*.pb), below
testdata/ops. `ssdc conformance testdata/ops` runs them, and so do the tests.

    python testdata/scripts/make_ops.py [NAME-PREFIX]

Versions: requirements.txt in this folder. Numbers come from one seed per case,
so a run reproduces the files.
"""

import pathlib
import sys
import zlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

OUT = pathlib.Path(__file__).resolve().parent.parent / "ops"
ONLY = sys.argv[1] if len(sys.argv) > 1 else ""


def encode(v, name):
    """A value as ONNX Runtime takes and gives it: array, list, dict or list of dicts."""
    if isinstance(v, dict):
        keys = list(v)
        m = onnx.MapProto(name=name, key_type=onnx.TensorProto.STRING if isinstance(keys[0], str) else onnx.TensorProto.INT64)
        if isinstance(keys[0], str):
            m.string_keys.extend(k.encode() for k in keys)
        else:
            m.keys.extend(keys)
        m.values.elem_type = onnx.SequenceProto.TENSOR
        m.values.tensor_values.extend(numpy_helper.from_array(np.float32(x)) for x in v.values())
        return m
    if isinstance(v, list) and v and isinstance(v[0], dict):
        return onnx.SequenceProto(name=name, elem_type=onnx.SequenceProto.MAP, map_values=[encode(m, "") for m in v])
    if isinstance(v, list):
        return onnx.SequenceProto(name=name, elem_type=onnx.SequenceProto.TENSOR, tensor_values=[numpy_helper.from_array(x) for x in v])
    return numpy_helper.from_array(np.asarray(v), name)


class Case:
    """One node; inputs by name, in order, None for an omitted one. shown: what is
    compared, where the peer leaves the operator's text (a class label that is not the top one)."""

    def __init__(self, name, op, domain, inputs, outputs, version=1, opset=21, rtol=None, shown=None, consts=(), reference=None, ask_with=(), **attrs):
        self.name, self.op, self.domain, self.inputs, self.outputs = name, op, domain, inputs, outputs
        self.version, self.opset, self.attrs, self.rtol = version, opset, attrs, rtol
        self.consts = consts  # inputs that are initialisers
        self.ask_with = ask_with  # constants that the peer gets as inputs (it quantises activations beside some constants)
        self.reference = reference  # what computes the outputs of what the peer lacks
        self.shown = shown or [o for o in outputs if o]  # that the model returns

    def record(self):
        if not self.name.startswith(ONLY):
            return
        given = {k: v if isinstance(v, dict) else np.asarray(v) for k, v in self.inputs.items() if v is not None}
        node = helper.make_node(self.op, [k if v is not None else "" for k, v in self.inputs.items()],
                                self.outputs, domain=self.domain, **{k.rstrip("_"): v for k, v in self.attrs.items() if v is not None})
        opsets = [helper.make_opsetid("", self.opset)] + ([helper.make_opsetid(self.domain, self.version)] if self.domain else [])
        ins = [self.declare(k, v) for k, v in given.items() if k not in self.consts]
        fixed = [numpy_helper.from_array(v, k) for k, v in given.items() if k in self.consts]
        outs = [onnx.ValueInfoProto(name=o) for o in self.shown]
        model = helper.make_model(helper.make_graph([node], self.name, ins, outs, fixed), opset_imports=opsets, ir_version=10, producer_name="make_ops")
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        given = {k: v for k, v in given.items() if k not in self.consts}
        asked = onnx.ModelProto.FromString(model.SerializeToString())
        more = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in self.ask_with}
        del asked.graph.initializer[:]
        asked.graph.initializer.extend(t for t in model.graph.initializer if t.name not in more)
        asked.graph.input.extend(self.declare(k, v) for k, v in more.items())
        try:
            if self.reference:
                got = self.reference()
            else:
                got = ort.InferenceSession(asked.SerializeToString(), options, providers=["CPUExecutionProvider"]).run(None, given | more)
        except Exception as e:  # the peer lacks it: nothing to record
            print(f"SKIPPED {self.name}: {str(e)[:300]}")
            return
        for o, v in zip(model.graph.output, got):
            if isinstance(v, list):
                o.type.CopyFrom(helper.make_sequence_type_proto(self.declare("", v[0]).type))
                continue
            v = np.asarray(v)
            o.type.tensor_type.elem_type = TensorProto.STRING if v.dtype == object else helper.np_dtype_to_tensor_dtype(v.dtype)
            for d in v.shape:
                o.type.tensor_type.shape.dim.add().dim_value = d
        folder = OUT / (self.domain or "com.microsoft") / self.name
        data = folder / "test_data_set_0"
        data.mkdir(parents=True, exist_ok=True)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        if self.rtol:
            (folder / "data.json").write_text('{"rtol": %g, "atol": %g}\n' % (self.rtol, self.rtol))
        for kind, values in (("input", given.items()), ("output", zip(self.shown, got))):
            for i, (name, v) in enumerate(values):
                (data / f"{kind}_{i}.pb").write_bytes(encode(v, name).SerializeToString())

    @staticmethod
    def declare(name, v):
        if not isinstance(v, dict):
            return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        key = TensorProto.STRING if isinstance(next(iter(v)), str) else TensorProto.INT64
        return helper.make_value_info(name, helper.make_map_type_proto(key, helper.make_tensor_type_proto(TensorProto.FLOAT, [])))


def ask(op, inputs, outputs, opset=21, **attrs):
    """What the peer computes for another operator, of ONNX's own domain."""
    node = helper.make_node(op, list(inputs), outputs, **attrs)
    ins = [Case.declare(k, v) for k, v in inputs.items()]
    model = helper.make_model(helper.make_graph([node], op, ins, [onnx.ValueInfoProto(name=o) for o in outputs]), opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    return ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, inputs)


def rng(name):
    return np.random.default_rng(zlib.crc32(name.encode()))


if __name__ == "__main__":
    import make_ops_microsoft
    import make_ops_ml

    for case in [*make_ops_ml.cases(), *make_ops_microsoft.cases()]:
        case.record()
    print("onnxruntime", ort.__version__, "onnx", onnx.__version__)
