#!/usr/bin/env python3
"""Prints a model as text: a histogram of its operators and one line per node.

    python list_nodes.py MODEL.onnx [--from REGEX] [--to REGEX] [--only-hist]

Each line is: outputs = Op{attributes}(inputs) with inferred types; small constants are inlined and
Constant nodes are not listed.
"""

from __future__ import annotations

import argparse
import collections
import re

import numpy as np
import onnx
from onnx import numpy_helper


def histogram(graph: onnx.GraphProto) -> str:
    count = collections.Counter(n.op_type for n in graph.node)
    return " ".join(f"{k}:{v}" for k, v in count.most_common())


def constants(graph: onnx.GraphProto) -> dict[str, str]:
    text = {}
    for t in graph.initializer:
        text[t.name] = show_array(t)
    for n in graph.node:
        if n.op_type == "Constant":
            for a in n.attribute:
                text[n.output[0]] = show_array(a.t) if a.name == "value" else str(onnx.helper.get_attribute_value(a))
    return text


def show_array(t: onnx.TensorProto) -> str:
    shape = list(t.dims)
    kind = onnx.TensorProto.DataType.Name(t.data_type).lower()
    if int(np.prod(shape)) > 8:
        return f"@{kind}{shape}"
    a = numpy_helper.to_array(t)
    return f"{a.tolist()}:{kind}{shape if a.ndim != 1 else ''}"


def types(model: onnx.ModelProto) -> dict[str, str]:
    try:
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception:
        pass
    out = {}
    g = model.graph
    for v in list(g.value_info) + list(g.input) + list(g.output):
        tt = v.type.tensor_type
        if not tt.HasField("shape"):
            continue
        dims = [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in tt.shape.dim]
        kind = onnx.TensorProto.DataType.Name(tt.elem_type).lower()
        out[v.name] = f"{kind}[{','.join(dims)}]"
    return out


def attributes(node: onnx.NodeProto) -> str:
    parts = []
    for a in node.attribute:
        v = onnx.helper.get_attribute_value(a)
        if a.type == onnx.AttributeProto.GRAPH:
            v = f"<graph {len(a.g.node)} nodes>"
        elif isinstance(v, bytes):
            v = v.decode()
        elif a.type == onnx.AttributeProto.TENSOR:
            v = show_array(v)
        parts.append(f"{a.name}={v}")
    return "{" + " ".join(parts) + "}" if parts else ""


def lines(model: onnx.ModelProto, graph: onnx.GraphProto | None = None, indent: str = ""):
    graph = graph or model.graph
    const, kinds = constants(graph), types(model)
    for n in graph.node:
        if n.op_type == "Constant":
            continue
        ins = [const.get(i, i or "_") if not (i in const and const[i].startswith("@")) else i + const[i] for i in n.input]
        outs = [f"{o} {kinds.get(o, '?')}" for o in n.output]
        yield f"{indent}{', '.join(outs)} = {n.op_type}{attributes(n)}({', '.join(ins)})"
        for a in n.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                sig = ", ".join(v.name for v in a.g.input), ", ".join(v.name for v in a.g.output)
                yield f"{indent}    body ({sig[0]}) -> ({sig[1]})"
                yield from lines(model, a.g, indent + "    ")


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("model")
    p.add_argument("--from", dest="start", default="", help="start at the first line that matches")
    p.add_argument("--to", dest="stop", default="", help="stop after the first later line that matches")
    p.add_argument("--only-hist", action="store_true")
    args = p.parse_args()
    model = onnx.load(args.model)
    print(f"# {len(model.graph.node)} nodes, opsets {[(o.domain, o.version) for o in model.opset_import]}, "
          f"{len(model.functions)} functions")
    print("#", histogram(model.graph))
    if args.only_hist:
        return
    on = not args.start
    for line in lines(model):
        on = on or bool(re.search(args.start, line))
        if on:
            print(line)
            if args.stop and re.search(args.stop, line):
                break


if __name__ == "__main__":
    main()
