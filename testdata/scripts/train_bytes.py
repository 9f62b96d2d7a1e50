"""Trains a small Mamba-2 on the text of this repository, byte by byte, and exports it: what narrow weights cost a model that has learned something.

    python train_bytes.py DIR [--seconds 300]

writes DIR/bytes_mamba2/model.onnx and inputs.npz: input_ids[8, 1024] of files that were left out of the training. The numbers
depend on the time it was given and on the machine; bench/mamba.py (part quality) compares formats on one and the same model.
"""
import argparse
import hashlib
import pathlib
import subprocess
import time

import numpy as np
import torch

from fixtures.mamba2 import CausalLM
from transformers import Mamba2Config, Mamba2ForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
LENGTH, BATCH, HELD_OUT = 256, 8, (8, 1024)


def corpus():
    """Bytes to learn and bytes held out: one file in ten, by its name."""
    names = subprocess.run(["git", "ls-files", "*.go", "*.md", "*.py"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    learn, held = [], []
    for n in sorted(names):
        part = held if hashlib.sha256(n.encode()).digest()[0] % 10 == 0 else learn
        part.append((ROOT / n).read_bytes())
    return (np.frombuffer(b"\0".join(p), np.uint8).astype(np.int64) for p in (learn, held))


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", type=pathlib.Path)
    p.add_argument("--seconds", type=float, default=300, help="of training")
    p.add_argument("--threads", type=int, default=1)
    a = p.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(a.threads)
    learn, held = (torch.from_numpy(x) for x in corpus())
    model = Mamba2ForCausalLM(Mamba2Config(vocab_size=256, hidden_size=256, num_hidden_layers=4, num_heads=8, head_dim=64, state_size=64, n_groups=1,
                                           chunk_size=64, expand=2, conv_kernel=4, use_bias=False, tie_word_embeddings=True, use_cache=False))
    opt = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.01)
    begin, step = time.process_time(), 0
    progress = 0.0
    while progress < 1:
        for g in opt.param_groups:
            g["lr"] = 3e-3 * min(1, (step + 1) / 20) * max(0.02, 1 - progress)
        at = torch.randint(0, len(learn) - LENGTH - 1, (BATCH,)).tolist()
        x = torch.stack([learn[i:i + LENGTH + 1] for i in at])
        logits = model(x[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.reshape(-1, 256), x[:, 1:].reshape(-1))
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step, progress = step + 1, (time.process_time() - begin) / a.seconds
        if step % 25 == 0:
            print(f"step {step}, {100 * progress:.0f}% of the time: loss {loss.item():.3f}", flush=True)
    rows, length = HELD_OUT
    starts = torch.linspace(0, len(held) - length, rows).long().tolist()
    ids = torch.stack([held[i:i + length] for i in starts])
    model.eval()
    folder = a.folder / "bytes_mamba2"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        logits = model(ids).logits
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 256), ids[:, 1:].reshape(-1))
        print(f"{step} steps; held out: perplexity per byte {loss.exp().item():.3f}")
        # Longer than a chunk: of a shorter example the exporter keeps the number of chunks, one.
        torch.onnx.export(CausalLM(model, False, False).eval(), (ids[:2, :150],), str(folder / "model.onnx"), dynamo=True, external_data=False, verbose=False,
                          dynamic_shapes=({0: "batch", 1: "sequence"},), input_names=["input_ids"], output_names=["logits"])
    np.savez(folder / "inputs.npz", input_ids=ids.numpy())


if __name__ == "__main__":
    main()
