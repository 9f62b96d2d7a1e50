"""Transformers and a recurrent tagger."""

from __future__ import annotations

import torch
import transformers
from torch import nn
from transformers import DynamicCache

from .spec import Built, integers, settle

EAGER = dict(attn_implementation="eager")


class Bert(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, token_type_ids):
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return out.last_hidden_state, out.pooler_output


def bert(small):
    config = transformers.BertConfig(**EAGER)
    if small:
        config = transformers.BertConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                                         max_position_embeddings=64, **EAGER)
    inputs = []
    for b, s in ((1, 128), (2, 37), (3, 64)) if not small else ((2, 11), (1, 16), (3, 5)):
        mask = torch.ones(b, s, dtype=torch.int64)
        for i in range(1, b):
            mask[i, s - 2 * i:] = 0
        inputs.append({"input_ids": integers(config.vocab_size, b, s), "attention_mask": mask, "token_type_ids": integers(2, b, s)})
    axes = {0: "batch", 1: "sequence"}
    return Built(Bert(settle(transformers.BertModel(config))), inputs, ["last_hidden_state", "pooler_output"], {n: axes for n in inputs[0]})


class CausalLM(nn.Module):
    """A decoder with its cache as plain inputs and outputs: past_key_i, past_value_i to present_key_i, present_value_i."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, *past):
        cache = DynamicCache([(past[i], past[i + 1]) for i in range(0, len(past), 2)])
        out = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True)
        present = []
        for layer in out.past_key_values.layers:
            present += [layer.keys, layer.values]
        return (out.logits, *present)


def causal(model, layers, heads, width, vocab, sets):
    inputs = []
    for b, s, past in sets:
        one = {"input_ids": integers(vocab, b, s), "attention_mask": torch.ones(b, past + s, dtype=torch.int64)}
        for i in range(layers):
            one[f"past_key_{i}"] = torch.randn(b, heads, past, width)
            one[f"past_value_{i}"] = torch.randn(b, heads, past, width)
        inputs.append(one)
    outputs, dynamic = ["logits"], {"input_ids": {0: "batch", 1: "sequence"}, "attention_mask": {0: "batch", 1: "total"}}
    for i in range(layers):
        outputs += [f"present_key_{i}", f"present_value_{i}"]
        dynamic[f"past_key_{i}"] = dynamic[f"past_value_{i}"] = {0: "batch", 2: "past"}
    return Built(CausalLM(settle(model)), inputs, outputs, dynamic)


def decoding(small):
    """Continue a prompt; then one token; then a batch."""
    return ((2, 5, 4), (1, 1, 9), (3, 2, 1)) if small else ((1, 64, 64), (1, 1, 127), (2, 5, 40))


def gpt2(small):
    config = transformers.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, **EAGER) if small else transformers.GPT2Config(**EAGER)
    model = transformers.GPT2LMHeadModel(config)
    return causal(model, config.n_layer, config.n_head, config.n_embd // config.n_head, config.vocab_size, decoding(small))


def gpt2_decode(small):
    b = gpt2(small)
    b.inputs = [b.inputs[i] for i in (1, 0, 2)]
    return b


def pythia(small):
    config = transformers.GPTNeoXConfig(vocab_size=50304, hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072, **EAGER)
    if small:
        config = transformers.GPTNeoXConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64,
                                            max_position_embeddings=64, **EAGER)
    model = transformers.GPTNeoXForCausalLM(config)
    return causal(model, config.num_hidden_layers, config.num_attention_heads, config.hidden_size // config.num_attention_heads, config.vocab_size, decoding(small))


def llama(small):
    config = transformers.LlamaConfig(vocab_size=32000, hidden_size=768, num_hidden_layers=8, num_attention_heads=12, num_key_value_heads=4,
                                      intermediate_size=2048, **EAGER)
    if small:
        config = transformers.LlamaConfig(vocab_size=100, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                          intermediate_size=64, max_position_embeddings=64, **EAGER)
    model = transformers.LlamaForCausalLM(config)
    return causal(model, config.num_hidden_layers, config.num_key_value_heads, config.hidden_size // config.num_attention_heads, config.vocab_size, decoding(small))


class Whisper(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_features):
        return self.model(input_features).last_hidden_state


def whisper(small):
    from transformers.models.whisper.modeling_whisper import WhisperEncoder

    config = transformers.WhisperConfig(d_model=512, encoder_layers=6, encoder_attention_heads=8, encoder_ffn_dim=2048, **EAGER)  # base
    if small:
        config = transformers.WhisperConfig(d_model=32, encoder_layers=2, encoder_attention_heads=4, encoder_ffn_dim=64, num_mel_bins=16,
                                            max_source_positions=20, **EAGER)
    inputs = [{"input_features": torch.randn(b, config.num_mel_bins, 2 * config.max_source_positions)} for b in ((1, 2, 3) if small else (1, 2, 1))]
    return Built(Whisper(settle(WhisperEncoder(config))), inputs, ["last_hidden_state"], {"input_features": {0: "batch"}})


class T5(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids, attention_mask, decoder_input_ids):
        return self.model(input_ids=input_ids, attention_mask=attention_mask, decoder_input_ids=decoder_input_ids, use_cache=False).logits


def t5(small):
    config = transformers.T5Config(decoder_start_token_id=0, **EAGER)  # the defaults are T5-small
    if small:
        config = transformers.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0, **EAGER)
    inputs = []
    for b, s, d in ((2, 11, 5), (1, 7, 1), (3, 4, 6)) if small else ((1, 128, 32), (2, 37, 1), (2, 20, 11)):
        mask = torch.ones(b, s, dtype=torch.int64)
        for i in range(1, b):
            mask[i, s - i:] = 0
        inputs.append({"input_ids": integers(config.vocab_size, b, s), "attention_mask": mask, "decoder_input_ids": integers(config.vocab_size, b, d)})
    axes = {0: "batch", 1: "sequence"}
    dynamic = {"input_ids": axes, "attention_mask": axes, "decoder_input_ids": {0: "batch", 1: "target"}}
    return Built(T5(settle(transformers.T5ForConditionalGeneration(config))), inputs, ["logits"], dynamic)


class Tagger(nn.Module):
    """Embedding, two bidirectional LSTM layers, a linear layer."""

    def __init__(self, vocab, width, hidden, tags):
        super().__init__()
        self.embed, self.lstm = nn.Embedding(vocab, width), nn.LSTM(width, hidden, num_layers=2, bidirectional=True, batch_first=True)
        self.out = nn.Linear(2 * hidden, tags)

    def forward(self, tokens):
        return self.out(self.lstm(self.embed(tokens))[0])


def tagger(small):
    module = Tagger(50, 12, 9, 5) if small else Tagger(20000, 300, 256, 40)
    inputs = [{"tokens": integers(50 if small else 20000, b, s)} for b, s in ((2, 7), (1, 1), (3, 12))] if small else [
        {"tokens": integers(20000, b, s)} for b, s in ((1, 64), (4, 30), (2, 1))]
    return Built(settle(module), inputs, ["tags"], {"tokens": {0: "batch", 1: "sequence"}})


class GRUTagger(Tagger):
    """The same with GRU layers."""

    def __init__(self, vocab, width, hidden, tags):
        super().__init__(vocab, width, hidden, tags)
        self.lstm = nn.GRU(width, hidden, num_layers=2, bidirectional=True, batch_first=True)


def gru_tagger(small):
    b = tagger(small)
    b.module = settle(GRUTagger(50, 12, 9, 5) if small else GRUTagger(20000, 300, 256, 40))
    return b
