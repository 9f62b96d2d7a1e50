"""Writes a GPT-NeoX model of Pythia-160m's shape with random weights as gguf, for llama-bench.

    python bench/gguf_pythia.py ~/gguf/pythia.f32.gguf

llama-quantize makes the other formats of it. It has no vocabulary: llama-bench draws numbers.
"""
import sys

import gguf
import numpy as np

WIDTH, LAYERS, HEADS, INNER, VOCAB, CONTEXT = 768, 12, 12, 3072, 50304, 2048


def main(path):
    random = np.random.default_rng(1)
    w = gguf.GGUFWriter(path, "gptneox")
    w.add_context_length(CONTEXT)
    w.add_embedding_length(WIDTH)
    w.add_block_count(LAYERS)
    w.add_feed_forward_length(INNER)
    w.add_rope_dimension_count(WIDTH // HEADS // 4)
    w.add_head_count(HEADS)
    w.add_parallel_residual(True)
    w.add_layer_norm_eps(1e-5)
    w.add_vocab_size(VOCAB)
    w.add_tokenizer_model("none")
    normal = lambda *shape: (0.02 * random.standard_normal(shape)).astype(np.float32)

    def linear(name, rows, columns):
        w.add_tensor(f"{name}.weight", normal(rows, columns))
        w.add_tensor(f"{name}.bias", np.zeros(rows, np.float32))

    def norm(name):
        w.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
        w.add_tensor(f"{name}.bias", np.zeros(WIDTH, np.float32))

    w.add_tensor("token_embd.weight", normal(VOCAB, WIDTH))
    w.add_tensor("output.weight", normal(VOCAB, WIDTH))
    norm("output_norm")
    for i in range(LAYERS):
        norm(f"blk.{i}.attn_norm")
        norm(f"blk.{i}.ffn_norm")
        linear(f"blk.{i}.attn_qkv", 3 * WIDTH, WIDTH)
        linear(f"blk.{i}.attn_output", WIDTH, WIDTH)
        linear(f"blk.{i}.ffn_up", INNER, WIDTH)
        linear(f"blk.{i}.ffn_down", WIDTH, INNER)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
