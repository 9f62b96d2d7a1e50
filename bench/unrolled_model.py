"""The model of onnxruntime issue 27796 in the two forms that its author got: a speech model of 30 Mamba blocks whose
selective scan, a Python loop over time, the TorchScript exporter unrolls (hundreds of thousands of nodes) or, when the
scan is scripted, writes as an ONNX Loop.

    python unrolled_model.py DIR --layers 30 --length 1380 --batch 1

writes DIR/loop.onnx, DIR/unrolled.onnx and DIR/inputs.npz. Tracing half a million nodes takes PyTorch many minutes
and gigabytes, so the unrolled form is made from a real export of 4 steps by repeating its steps as the
exporter would have written them; --check compares that with a real export of --length steps, node by node.
"""
import argparse
import contextlib
import io
import pathlib
import re
import sys
import warnings
from typing import List

import numpy
import onnx
import torch
from torch import nn

STEPS = 4  # of the export that is stretched


def scan(dA: torch.Tensor, dBu: torch.Tensor, C: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
    """dA and dBu (B,L,D,N), C (B,L,N), state (B,D,N)."""
    ys: List[torch.Tensor] = []
    for t in range(dA.shape[1]):
        state = dA[:, t] * state + dBu[:, t]
        ys.append(torch.matmul(state, C[:, t].unsqueeze(-1)).squeeze(-1))
    return torch.stack(ys, dim=1)


class Mixer(nn.Module):
    def __init__(self, scan, width, inner, states, rank, kernel=4):
        super().__init__()
        self.scan, self.rank, self.states = scan, rank, states
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, kernel, groups=inner, padding=kernel - 1)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, states + 1).float()).repeat(inner, 1) + 0.1 * torch.randn(inner, states))
        self.D = nn.Parameter(torch.randn(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = self.conv1d(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        u = nn.functional.silu(u)
        dt, B, C = self.x_proj(u).split([self.rank, self.states, self.states], dim=-1)
        dt = nn.functional.softplus(self.dt_proj(dt))
        dA = torch.exp(dt.unsqueeze(-1) * -torch.exp(self.A_log))
        dBu = dt.unsqueeze(-1) * B.unsqueeze(2) * u.unsqueeze(-1)
        state = torch.zeros(x.shape[0], dA.shape[2], self.states)
        y = self.scan(dA, dBu, C, state) + u * self.D
        return self.out_proj(y * nn.functional.silu(z))


class Block(nn.Module):
    def __init__(self, scan, width, inner, states, rank):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mixer = Mixer(scan, width, inner, states, rank)

    def forward(self, x):
        return x + self.mixer(self.norm(x))


class Encoder(nn.Module):
    def __init__(self, blocks):
        super().__init__()
        self.time_mamba_blocks = nn.ModuleList(blocks)

    def forward(self, x):
        for block in self.time_mamba_blocks:
            x = block(x)
        return x


class Speech(nn.Module):
    """Frames in, frames out; the names are as long as those of a real model."""

    def __init__(self, scan, layers, width=128, inner=256, states=16, rank=8):
        super().__init__()
        self.generator_backbone = nn.Module()
        self.generator_backbone.encoder = Encoder([Block(scan, width, inner, states, rank) for _ in range(layers)])

    def forward(self, frames):
        return self.generator_backbone.encoder(frames)


def make(layers, scripted):
    torch.manual_seed(0)
    return Speech(torch.jit.script(scan) if scripted else scan, layers).eval()


def export(model, x, path, lines=False):
    """lines: with the source lines that verbose=True adds to every node, paths and the exporter's own frames cut."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), str(path), dynamo=False, opset_version=17, input_names=["frames"], output_names=["enhanced"],
                          verbose=lines)
    if lines:
        m = onnx.load(path)
        for n in m.graph.node:
            n.doc_string = re.sub(r"[^\n]*/", "", n.doc_string.split("_trace.py")[0].rsplit("\n", 1)[0])
        onnx.save(m, path)


def constant(name, value):
    out = name + "_output_0"
    return onnx.helper.make_node("Constant", [], [out], name=name, value=onnx.numpy_helper.from_array(numpy.asarray(value)))


class Stretch:
    """Repeats the time steps of a real export."""

    def __init__(self, model, length):
        self.model, self.length = model, length
        self.index = {}  # time -> the constant that all layers share, as the exporter shares equal constants

    def run(self):
        nodes = list(self.model.graph.node)
        concats = [i for i, n in enumerate(nodes) if n.op_type == "Concat"]
        made, start = [], 0
        for c in concats:
            stop = next((i for i in range(c, len(nodes)) if nodes[i].name.endswith("out_proj/MatMul")), c)
            made += self.layer(nodes[start : c + 1], nodes, nodes[c + 1 : stop + 1])
            start = c + 1
        made += nodes[start:]
        del self.model.graph.node[:]
        self.model.graph.node.extend(made)
        for v in [*self.model.graph.input, *self.model.graph.output]:
            v.type.tensor_type.shape.dim[1].dim_value = self.length
        return self.model

    def layer(self, nodes, everything, tail):
        producer = {o: n for n in everything for o in n.output}
        scope = nodes[-1].name.rsplit("/", 1)[0]
        first = next(i for i, n in enumerate(nodes) if n.op_type == "Gather" and producer[n.input[0]].op_type == "Exp")
        # Lengths in what comes before: the end of the convolution's slice.
        for n in nodes[:first]:
            if n.op_type == "Slice" and producer[n.input[0]].op_type == "Conv":
                end = producer[n.input[2]]
                end.attribute[0].t.CopyFrom(onnx.numpy_helper.from_array(numpy.array([self.length], numpy.int64)))
        body = nodes[first:]
        gathers = [n for n in body if n.op_type == "Gather"]
        decay, update, readout = gathers[0], gathers[1], gathers[2]
        for t in range(STEPS):
            at = gathers[3 * t].input[1]
            if all(at not in n.output for n in body):  # a constant that stood there before
                self.index.setdefault(t, at)
        lines = {n.op_type: n.doc_string for n in body}
        zeros = next(n for n in body if n.op_type == "Constant" and len(n.attribute[0].t.dims) == 3)
        count = {}

        def named(op):
            number = count[op] = count.get(op, self.number(body + tail, op) - 1) + 1
            return f"{scope}/{op}" + (f"_{number}" if number else "")

        def node(op, inputs, **attrs):
            name = named(op)
            made.append(onnx.helper.make_node(op, inputs, [name + "_output_0"], name=name, doc_string=lines[op], **attrs))
            return name + "_output_0"

        def const(value):
            made.append(constant(named("Constant"), value))
            made[-1].doc_string = lines["Constant"]
            return made[-1].output[0]

        made, ys, state = [], [], None
        for t in range(self.length):
            if t not in self.index:
                self.index[t] = const(numpy.int64(t))
            at = self.index[t]
            a = node("Gather", [decay.input[0], at], axis=1)
            if t == 0:
                state = const(onnx.numpy_helper.to_array(zeros.attribute[0].t))
            a = node("Mul", [a, state])
            u = node("Gather", [update.input[0], at], axis=1)
            state = node("Add", [a, u])
            c = node("Gather", [readout.input[0], at], axis=1)
            c = node("Unsqueeze", [c, const(numpy.array([-1], numpy.int64))])
            y = node("MatMul", [state, c])
            ys.append(node("Squeeze", [y, const(numpy.array([2], numpy.int64))]))
        ys = [node("Unsqueeze", [y, const(numpy.array([1], numpy.int64))]) for y in ys]
        last = nodes[-1]
        del last.input[:]
        last.input.extend(ys)
        renamed = {}  # what stands behind the loop, whose numbers grow with it
        for n in tail:
            n.input[:] = [renamed.get(i, i) for i in n.input]
            if n.name.rsplit("/", 1)[0] == scope:
                n.name = named(n.op_type)
                renamed[n.output[0]] = n.name + "_output_0"
                n.output[0] = n.name + "_output_0"
        return nodes[:first] + made + [last]

    @staticmethod
    def number(body, op):
        """The number of the first node of its kind in the loop."""
        name = next((n.name for n in body if n.op_type == op), "").rsplit("/", 1)[-1]
        return int(name.rsplit("_", 1)[1]) if "_" in name else 0


def same(a, b):
    """The first difference between two models up to names, or None."""
    weights = [{i.name: onnx.numpy_helper.to_array(i).tobytes() for i in m.graph.initializer} for m in (a, b)]
    if len(a.graph.node) != len(b.graph.node):
        return f"{len(a.graph.node)} and {len(b.graph.node)} nodes"
    order = []
    for m, which in ((a, 0), (b, 1)):
        producer = {o: n for n in m.graph.node for o in n.output}
        kinds = {}

        def describe(n):
            ins = []
            for i in n.input:
                p = producer.get(i)
                if p is None:
                    ins.append(weights[which].get(i, i))
                elif p.op_type == "Constant":
                    ins.append(onnx.numpy_helper.to_array(p.attribute[0].t).tobytes())
                else:
                    ins.append(kinds[i])
            return (n.op_type, str(sorted((x.name, str(x.i), str(list(x.ints))) for x in n.attribute if n.op_type != "Constant")), tuple(ins))
        rows = []
        for n in m.graph.node:
            if n.op_type == "Constant":
                continue
            rows.append(describe(n))
            for o in n.output:
                kinds[o] = len(kinds)
        order.append(rows)
    for x, y in zip(*order):
        if x != y:
            return f"{x[0]} {x[1]} and {y[0]} {y[1]}"
    return None


def main():
    p = argparse.ArgumentParser()
    p.add_argument("dir", type=pathlib.Path)
    p.add_argument("--layers", type=int, default=30)
    p.add_argument("--length", type=int, default=1380)
    p.add_argument("--batch", type=int, default=1)
    p.add_argument("--no-lines", action="store_true", help="leave the source lines out, as a quiet export does")
    p.add_argument("--check", action="store_true", help="compare with a real export of --length steps")
    p.add_argument("--loop-only", action="store_true")
    a = p.parse_args()
    a.dir.mkdir(parents=True, exist_ok=True)
    x = torch.randn(a.batch, a.length, 128, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        y = make(a.layers, False).double()(x.double()) if a.check else None
    numpy.savez(a.dir / "inputs.npz", frames=x.numpy())
    if y is not None:
        numpy.savez(a.dir / "expected.npz", enhanced=y.numpy())
    export(make(a.layers, True), x, a.dir / "loop.onnx")
    if a.loop_only:
        return
    short = a.dir / "short.onnx"
    export(make(a.layers, False), x[:, :STEPS], short, lines=not a.no_lines)
    made = Stretch(onnx.load(short), a.length).run()
    short.unlink()
    if a.check:
        real = a.dir / "real.onnx"
        export(make(a.layers, False), x, real)
        if why := same(made, onnx.load(real)):
            sys.exit(f"the stretched export differs from the real one: {why}")
        print("the stretched export equals the real one")
    onnx.save(made, a.dir / "unrolled.onnx")
    print(f"{a.dir / 'unrolled.onnx'}: {len(made.graph.node)} nodes, {(a.dir / 'unrolled.onnx').stat().st_size / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
