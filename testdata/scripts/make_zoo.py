"""Makes random-weight exports of well-known architectures, with inputs, outside the repository.

    python make_zoo.py DIR                  all of them, about 4 GB
    python make_zoo.py DIR --only 'bert.*'
    python make_zoo.py --small              small ones with ONNX Runtime's results, the fixtures in testdata/zoo

Every folder of DIR gets model.onnx and inputs.npz, inputs_2.npz, ... The first set is the one that bench/zoo.py times.
"""
import argparse
import json
import pathlib
import re
import shutil
import sys
import warnings

import numpy
import onnx
import onnxruntime
import torch

from fixtures.export import quiet, repair, save, strip
from zoo import text, variants, vision
from zoo.spec import Model, arrays

FIXTURES = pathlib.Path(__file__).resolve().parents[1] / "zoo"
# What is not among the fixtures: they would be large, or say what another says, or (the quantised BERT) round float32
# that differs in its last bit, now and then to another byte: its folder has the pieces of bench/steps.py instead.
NO_FIXTURE = {"mobilenet_v2", "mobilenet_v2_qdq", "gpt2_decode", "bert_base_qdq"}

MODELS = [
    Model("resnet50", "ResNet-50", vision.resnet50),
    Model("mobilenet_v2", "MobileNet v2", vision.mobilenet_v2),
    Model("vit_base", "ViT-base, patches of 16", vision.vit),
    Model("unet", "U-Net, 32 to 512 channels, transposed convolutions", vision.unet),
    Model("diffusion_unet", "U-Net of a diffusion model: group normalisation, time step, attention", vision.diffusion_unet),
    Model("yolo", "YOLOv5s-style detector with NonMaxSuppression", vision.detector, exporter="torchscript", opset=17, finish=vision.add_suppression),
    Model("bert_base", "BERT-base", text.bert),
    Model("bert_base_ts", "BERT-base, TorchScript exporter", text.bert, exporter="torchscript", opset=14),
    Model("gpt2", "GPT-2 124M with cache, 64 tokens after 64", text.gpt2),
    Model("gpt2_decode", "GPT-2 124M with cache, one token after 127", text.gpt2_decode, source="gpt2"),
    Model("pythia_160m", "Pythia 160M (GPT-NeoX) with cache", text.pythia),
    Model("llama_gqa", "Llama style, 12 heads on 4 key-value heads, rotary, with cache", text.llama),
    Model("whisper_encoder", "Whisper base encoder", text.whisper),
    Model("t5_small", "T5-small, encoder and decoder", text.t5),
    Model("lstm_tagger", "two bidirectional LSTM layers", text.tagger, exporter="torchscript", opset=17),
    Model("gru_tagger", "two bidirectional GRU layers", text.gru_tagger, exporter="torchscript", opset=17),
    Model("resnet50_qdq", "ResNet-50, QDQ, int8 per channel", vision.resnet50, quantise="qdq", source="resnet50"),
    Model("mobilenet_v2_qdq", "MobileNet v2, QDQ, int8 per channel", vision.mobilenet_v2, quantise="qdq", source="mobilenet_v2"),
    Model("bert_base_qdq", "BERT-base, QDQ, int8 per channel", text.bert, quantise="qdq", source="bert_base"),
    Model("bert_base_int8", "BERT-base, dynamic int8", text.bert, quantise="dynamic", source="bert_base"),
    Model("resnet50_fp16", "ResNet-50, float16", vision.resnet50, half=True, source="resnet50"),
    Model("bert_base_fp16", "BERT-base, float16", text.bert, half=True, source="bert_base"),
    Model("gpt2_fp16", "GPT-2 with cache, float16", text.gpt2, half=True, source="gpt2"),
]


def dynamic_shapes(built):
    names = list(built.inputs[0])
    shapes = [dict(built.dynamic.get(n, {})) or None for n in names]
    plain = len([p for p in names if not p.startswith("past_")])
    return tuple(shapes) if plain == len(names) else (*shapes[:plain], tuple(shapes[plain:]))


def export(m, built, path):
    args = tuple(built.inputs[0].values())
    common = dict(input_names=list(built.inputs[0]), output_names=built.outputs, opset_version=m.opset)
    with quiet(), torch.no_grad():
        if m.exporter == "torchscript":
            torch.onnx.export(built.module, args, str(path), dynamo=False, dynamic_axes=built.dynamic, **common)
        else:
            torch.onnx.export(built.module, args, str(path), dynamo=True, external_data=False, verbose=False,
                              dynamic_shapes=dynamic_shapes(built), **common)


def make(m, folder, sources, small):
    torch.manual_seed(1)
    built = m.build(small)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "model.onnx"
    sets = [arrays(i) for i in built.inputs]
    if m.quantise:
        variants.quantise(m.quantise, sources[m.source], path, sets)
    elif m.source and not m.half:
        shutil.copyfile(sources[m.source], path)
    elif m.half:
        save(variants.halve(onnx.load(sources[m.source])), path)
    else:
        export(m, built, path)
    model = onnx.load(path)
    strip(model)
    repair(model)
    if m.finish:
        m.finish(model)
    onnx.save(model, path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]) if small else None
    for i, one in enumerate(sets):
        name = "inputs.npz" if i == 0 else f"inputs_{i + 1}.npz"
        numpy.savez(folder / name, **one)
        if session:
            results = session.run(None, {x.name: one[x.name] for x in session.get_inputs()})
            numpy.savez(folder / name.replace("inputs", "expected"), **{o.name: r for o, r in zip(session.get_outputs(), results)})
    (folder / "about.json").write_text(json.dumps({"name": m.name, "doc": m.doc, "nodes": len(model.graph.node)}) + "\n")
    return path


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", type=pathlib.Path, help="where to put them")
    p.add_argument("--only", default=".*", help="names that match this regular expression")
    p.add_argument("--small", action="store_true", help="small models, as fixtures of the repository")
    p.add_argument("--keep", action="store_true", help="leave models that are there alone")
    a = p.parse_args()
    if a.folder is None and not a.small:
        p.error("DIR is missing")
    warnings.filterwarnings("ignore")
    failed, made = [], {}
    for m in MODELS:
        folder = a.folder / m.name if a.folder else FIXTURES / m.name
        made[m.name] = folder / "model.onnx"
        if not re.fullmatch(a.only, m.name) or a.small and not a.folder and m.name in NO_FIXTURE or a.keep and made[m.name].exists():
            continue
        try:
            make(m, folder, made, a.small)
            print(f"{m.name}: {made[m.name].stat().st_size >> 10} KB", flush=True)
        except Exception as e:  # the others may still be made
            failed.append(m.name)
            print(f"{m.name}: {type(e).__name__}: {str(e)[:2000]}", file=sys.stderr, flush=True)
    if failed:
        sys.exit(f"not made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
