"""Quantised and float16 forms of an exported model."""

from __future__ import annotations

import pathlib
import tempfile

import numpy
import onnx
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process


class Reader(CalibrationDataReader):
    def __init__(self, sets):
        self.left = list(sets)

    def get_next(self):
        return self.left.pop() if self.left else None


def quantise(kind: str, source: pathlib.Path, target: pathlib.Path, sets: list[dict[str, numpy.ndarray]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        prepared = pathlib.Path(folder) / "prepared.onnx"
        # What users run first: it folds the batch normalisations into the convolutions.
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        if kind == "dynamic":
            quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8, per_channel=False)
        else:
            quantize_static(str(prepared), str(target), Reader(sets), quant_format=QuantFormat.QDQ, per_channel=True,
                            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8)


def halve(model: onnx.ModelProto) -> onnx.ModelProto:
    """All float tensors as float16, inputs and outputs too, as a model for a GPU is shipped."""
    from onnxruntime.transformers.float16 import convert_float_to_float16

    return convert_float_to_float16(model, keep_io_types=True)
