"""What a model of the zoo is."""

from __future__ import annotations

import dataclasses
from typing import Callable

import numpy
import torch


@dataclasses.dataclass
class Built:
    """A module with named example inputs, ready for export."""

    module: torch.nn.Module
    inputs: list[dict[str, torch.Tensor]]  # the first set is exported from and timed
    outputs: list[str]
    dynamic: dict[str, dict[int, str]]  # per input: axis -> symbol


@dataclasses.dataclass
class Model:
    """One row of the zoo."""

    name: str
    doc: str
    build: Callable[[bool], Built]  # the argument: small, for a fixture of the repository
    exporter: str = "dynamo"  # or torchscript
    opset: int = 20
    finish: Callable | None = None  # changes the exported onnx.ModelProto
    half: bool = False
    quantise: str = ""  # "qdq" (static, per channel) or "dynamic"
    source: str = ""  # a variant is made of this model's file


def integers(high: int, *shape: int) -> torch.Tensor:
    return torch.randint(0, high, shape, dtype=torch.int64)


def settle(module: torch.nn.Module) -> torch.nn.Module:
    """Moves biases, norm weights and running statistics off their initial 0 and 1, where a wrong rewrite can look right."""
    generator = torch.Generator().manual_seed(7)

    def noise(t, scale):
        return scale * torch.randn(t.shape, generator=generator)

    with torch.no_grad():
        for name, p in module.named_parameters():
            if p.dim() == 1:
                p.add_(noise(p, 0.05))
        for name, b in module.named_buffers():
            if name.endswith("running_mean"):
                b.add_(noise(b, 0.1))
            elif name.endswith("running_var"):
                b.mul_(torch.exp(noise(b, 0.1)))
    return module.eval()


def normalise(module: torch.nn.Module, *example: torch.Tensor) -> torch.nn.Module:
    """Gives every batch normalisation the statistics that an example has there, as training would.

    With statistics of 0 and 1 a deep network of random weights shrinks what it sees, layer by layer, until its result is its last bias."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)]
    kept = [m.momentum for m in norms]
    for m in norms:
        m.momentum = 1.0  # the example's statistics replace what was there
        m.train()
    with torch.no_grad():
        module(*example)
    for m, momentum in zip(norms, kept):
        m.momentum = momentum
        m.eval()
    return module


def arrays(inputs: dict[str, torch.Tensor]) -> dict[str, numpy.ndarray]:
    return {k: v.numpy() for k, v in inputs.items()}
