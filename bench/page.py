"""Writes docs/performance.md and its plots from the numbers of mamba.py."""

HEAD = """# Performance

Written by `bench/mamba.py`; no number here was put in by hand. How to run it: [bench/README.md](../bench/README.md).
Every part was measured in rounds in which ssdc and its peers took turns; the tables give the median of the rounds' medians.
Compare numbers of one table only: the parts were measured at different times, on a virtual machine whose neighbours are felt.
"""


def note(p):
    return (f"\n{p['when']}, {p['machine']}, {p['threads']} threads, {p['rounds']} rounds; "
            f"load average {p['load'][0]:.1f} before, {p['load'][1]:.1f} after.\n")


def table(head, rows):
    out = ["| " + " | ".join(head) + " |", "| --- " + "| ---: " * (len(head) - 1) + "|"]
    return "\n".join(out + ["| " + " | ".join(r) + " |" for r in rows]) + "\n"


def ms(seconds):
    return f"{seconds * 1e3:.3g}" if seconds < 1 else f"{seconds * 1e3:.0f}"


def ratio(a, b):
    return f"{a / b:.2f}"


def models(p):
    rows, notes = [], []
    for fmt, r in p["data"].items():
        ran = {q: v for q, v in r["llama"].items() if "decode" in v}
        notes += [f"llama.cpp on {q}: {v['failed']}." for q, v in r["llama"].items() if "failed" in v]
        best = {k: max(((v[k], q) for q, v in ran.items()), default=None) for k in ("prompt", "decode")}
        cell = lambda k: [f"{r['ssdc'][k]:.0f}"] + ([f"{best[k][0]:.0f} ({best[k][1]})", ratio(r["ssdc"][k], best[k][0])] if best[k] else ["-", "-"])
        rows.append([fmt] + cell("prompt") + cell("decode") + [f"{r['bytes'] / 2**20:.0f}", f"{100 * r['of_peak']:.0f}%"])
    return ("\n## mamba2-130m, tokens per second\n\nRandom weights, 24 layers, vocabulary 50,288. Prompt: 512 tokens and the logits of the last; decode: one token, "
            "state kept. llama.cpp: the fastest of its formats of that size (`llama-bench -p 512 -n 32`).\n\n" +
            table(["weights", "prompt: ssdc", "llama.cpp", "times", "decode: ssdc", "llama.cpp", "times", "artifact MiB", "decode, share of measured peak"], rows) +
            "\nThe last column is the time that a decode step would take at the machine's measured peaks (reads of memory, for nearly all of it) over the time it takes; "
            "more than 100% means that weights stayed in a cache that other programs left alone.\n" + "".join(f"\n{n}\n" for n in notes) + note(p))


def batch(p):
    sizes = sorted({int(b) for r in p["data"].values() for b in r})
    rows = [[f] + [f"{r[str(b)]['tokens_s']:.0f}" for b in sizes] + [ratio(r["8"]["tokens_s"], r["1"]["tokens_s"]), f"{100 * r['8']['of_peak']:.0f}%"] for f, r in p["data"].items()]
    return ("\n## Decoding many sequences\n\nmamba2-130m, tokens per second of all sequences together. The weights are read once for all of them, but each has a state of its own, "
            "19 MiB in float32, that every token reads and writes: 16 sequences move more of it than float32 weights. The last column is the time of a step of 8 at the machine's measured peaks, "
            "for weights and states, over the time it takes.\n\n" +
            table(["weights"] + [f"{b} at a time" for b in sizes] + ["8 over 1", "8, share of measured peak"], rows) + note(p))


def quality(p):
    what = {"random": ("The model above, random weights, 300 tokens",
                       "Random weights have no structure that training would give them, and every layer multiplies what the one before it strayed; the logits lie close together. "
                       "ggml's Q4_0 of the same weights strays as far, although it leaves the activations alone: it is the four bits, not the arithmetic."),
            "trained": ("A model of 4 layers of 256, trained for five minutes on this repository's text byte by byte (`testdata/scripts/train_bytes.py`), on 8 x 1024 bytes of files it has not seen",
                        "Perplexity per byte, of the text itself.")}
    text = ("\n## What narrower weights cost\n\nAll logits against those of float32: relative error by norm, mean Kullback-Leibler divergence of the next token's distribution, "
            "how often the most likely token is the same, and the perplexity: of the text for the trained model, of tokens that the float32 model drew for the random one. "
            "The weights of Q4_0 are rounded by ggml's own code (`gguf`), the rest is then float32.\n")
    for kind, data in p["data"].items():
        head, foot = what[kind]
        rows = [[f, f"{r['bytes'] / 2**20:.1f}" if "ggml" not in f else "-", f"{r['error']:.2g}", f"{r['kl']:.2g}", f"{100 * r['top1']:.1f}%", f"{r['perplexity']:.4g}"] for f, r in data.items()]
        text += f"\n{head}:\n\n" + table(["weights", "artifact MiB", "error", "KL", "same first", "perplexity"], rows) + f"\n{foot}\n"
    return text + note(p)


def pythia(p):
    rows = []
    for fmt, r in p["data"].items():
        for kind in ("prompt", "decode"):
            last, every = r["ssdc"][kind], r.get("ssdc, all logits", {}).get(kind)
            llama, ort = r.get("llama.cpp", {}).get(kind), r.get("ONNX Runtime", {}).get(kind)
            rows.append([f"{kind}, {fmt}", f"{last:.0f}", f"{llama:.0f}" if llama else "-", ratio(last, llama) if llama else "-",
                         f"{every or last:.0f}", f"{ort:.0f}" if ort else "-", ratio(every or last, ort) if ort else "-"])
    return ("\n## Pythia-160m, tokens per second\n\nA transformer (GPT-NeoX, 12 layers of 768, vocabulary 50,304) with random weights and its cache as inputs and outputs. Prompt: 512 tokens; "
            "decode: one token after 144 (llama.cpp: 32 after 128). llama.cpp computes the logits of the last token, ONNX Runtime those of all, as the exported file says; ssdc was measured both ways.\n\n" +
            table(["", "ssdc, last logits", "llama.cpp", "times", "ssdc, all logits", "ONNX Runtime", "times"], rows) + note(p))


NAMES = {"ssd L=1": "SSD, one token", "ssd L=512": "SSD, 512 tokens", "ssd L=2048": "SSD, 2048 tokens", "conv L=2048": "causal convolution, 1792 channels, 2048 tokens (ssdc: with bias and SiLU)",
         "selective scan L=2048": "selective scan, 1536 channels, state 16, 2048 tokens (ssdc: decay with exp)", "copy of the state": "copying the state, 24 x 64 x 128"}


def scan(p):
    a, b = p["data"]["ssdc"], p["data"]["ggml"]
    rows = [[NAMES.get(c, c), ms(v["median"]), ms(v["best"])] + ([ms(b[c]["median"]), ms(b[c]["best"]), ratio(b[c]["median"], v["median"])] if c in b else ["-", "-", "-"]) for c, v in a.items()]
    return ("\n## Scans and convolution\n\nMilliseconds, median and best; SSD with 24 heads of 64, state 128, one group, strong decays (A from -1 to -16) among them.\n\n" +
            table(["kernel", "ssdc", "best", "ggml", "best", "times faster"], rows) + note(p))


PEERS = {"numpy": "OpenBLAS (numpy)", "torch": "oneDNN (torch)", "onnxruntime": "ONNX Runtime"}


def flops(shape):
    m, n, k = map(int, shape.split("x"))
    return 2 * m * n * k


def products(p):
    d, peak = p["data"], p["data"]["peak"]
    cases = {tuple(k.split()): v for k, v in d.items() if k != "peak"}
    of = lambda x: f"{100 * x['share']:.0f}% ({100 * x['quartile']:.0f}-{100 * x['upper']:.0f})"
    text = ("\n## Products\n\nGFLOP/s of C[M,N] = A[M,K] B[K,N], weights packed beforehand where a library can. In every round each side has a turn of a few milliseconds while the others "
            "are stopped; the ratio to a peer is the median of the rounds' ratios, and the best peer is the one with the lowest. The share of the peak is measured in turns of 2 ms of the product and of "
            "multiply-adds on registers, on the same threads of one process: median, and between which numbers half of the rounds lie. "
            f"At their best, the registers reached {peak['f32'] / 1e9:.0f} GFLOP/s in f32, {peak['bf16'] / 1e9:.0f} in bf16 and {peak['int8'] / 1e9:.0f} GOP/s in int8, and memory was read with {peak['read'] / 1e9:.1f} GB/s, with {p['threads']} threads.\n")
    threads = sorted({t for t, _, _ in cases})
    for t in threads:
        rows = []
        for (n, fmt, shape), v in cases.items():
            if (n, fmt) == (t, "f32"):
                rate = lambda side: f"{flops(shape) / v['s'][side] / 1e9:.0f}" if side in v.get("s", {}) else "-"
                mine = rate("ssdc") if "s" in v else f"{v['peak']['rate'] / 1e9:.0f}"
                rows.append([shape, mine] + [rate(q) for q in PEERS] + [f"{min(v['ratio'].values()):.2f}" if v.get("ratio") else "-", of(v["peak"])])
        text += "\n" + table([f"f32, {t} thread{'s' if t != '1' else ''}, M x N x K", "ssdc"] + list(PEERS.values()) + ["of the best peer", "of peak"], rows)
    for t in threads:
        rows = []
        for (n, fmt, shape), v in cases.items():
            if (n, fmt) == (t, "bf16"):
                rate = lambda side: f"{flops(shape) / v['s'][side] / 1e9:.0f}" if side in v.get("s", {}) else "-"
                other = lambda f: f"{cases[t, f, shape]['peak']['rate'] / 1e9:.0f}" if (t, f, shape) in cases else "-"
                rows.append([shape, rate("ssdc"), rate("torch"), f"{v['ratio']['torch']:.2f}" if v.get("ratio") else "-", of(v["peak"]), of(v["dot"]) if "dot" in v else "-", other("int8"), other("int4")])
        text += "\n" + table([f"{t} thread{'s' if t != '1' else ''}, M x N x K", "bf16: ssdc", PEERS["torch"], "of that", "of peak", "with VDPBF16PS, of its peak", "int8: ssdc", "int4: ssdc"], rows)
    text += ("\noneDNN was given both operands in bfloat16 and returns bfloat16; ssdc takes and returns float32, which it rounds on the way: 2048x3352x768 writes 27 MB where oneDNN writes 14. "
             "With tile registers the peak is theirs, and the next column is what the same products reach without them (`SSDC_ISA=avx512`).\n")
    rounds = [v["rounds"] for v in cases.values() if "rounds" in v]
    return text + note(p | {"rounds": f"{min(rounds)} to {max(rounds)}" if rounds else "no"})


def curve(p):
    rows = [[f"{int(l):,}", f"{r['tokens_s']:.0f}", f"{r['peak_mb']:.0f}"] for l, r in sorted(p["data"].items(), key=lambda x: int(x[0]))]
    return ("\n## Length\n\nA prompt of the same model in float32 and the logits of its last token, the first run of a process, in segments of at most 2048 tokens "
            "that carry the state (`--carry-state`, `--segment 2048`). Memory is the peak of the process, weights and inputs included. Above 16,384 tokens one process each, below the median of the rounds.\n\n" +
            table(["tokens", "tokens/s", "peak MiB"], rows) + "\n![tokens per second against length](tokens.svg)\n![memory against length](memory.svg)\n" + note(p))


def attention(p):
    rows = [[f"{int(l):,}", f"{r['tokens_s']:.0f}", f"{r['peak_mb']:.0f}"] for l, r in sorted(p["data"].items(), key=lambda x: int(x[0]))]
    return ("\n## Length: attention\n\nThe same for Pythia-160m in ssdc, whole prompts with an empty cache before them: every token looks at all before it, and the cache grows. "
            "In the plots beside Mamba-2. Above 8,192 tokens, where a run takes minutes, from the time that the threads had a processor.\n\n" + table(["tokens", "tokens/s", "peak MiB"], rows) + note(p))


def memory(p):
    mib = lambda b: f"{b / 2**20:.0f}"
    rows = []
    for name, m in p["data"].items():
        if name == "program":
            continue
        bar = m["weights"] + m["state"] + m["in_out"] + 1.3 * m["values"]
        rows.append([name] + [mib(m[k]) for k in ("weights", "state", "in_out", "values", "arena")] + [mib(bar), mib(m["peak"]), ratio(m["peak"], bar)])
    return ("\n## Memory\n\nMiB of a process that runs a prompt once in float32 (`ssdc run --json`). Activations are the most that values between the steps need at the same time, "
            "the arena is what they get; inputs and outputs include a transformer's cache. The limit is weights, state, inputs, outputs and 1.3 times the activations; the peak is that of the whole process, "
            f"program and run-time system included, which take {mib(p['data']['program'])} MiB when they do nothing. Weights are mapped from the file, but for an embedding of which "
            "only rows are wanted: these are read, and the rest of it is not in memory.\n\n" +
            table(["", "weights", "state", "inputs, outputs", "activations", "arena", "limit", "peak", "of the limit"], rows) + note(p | {"rounds": 1}))


PARTS = [("models", models), ("batch", batch), ("pythia", pythia), ("quality", quality), ("memory", memory), ("curve", curve), ("attention", attention), ("scan", scan), ("products", products)]


def write(root, results, chart):
    docs = root / "docs"
    docs.mkdir(exist_ok=True)
    (docs / "performance.md").write_text(HEAD + "".join(f(results[name]) for name, f in PARTS if name in results))
    if "curve" in results:
        c = sorted((int(l), r) for l, r in results["curve"]["data"].items())
        lengths = [l for l, _ in c]
        series = {"mamba2-130m": c}
        if "attention" in results:
            series["Pythia-160m (attention)"] = sorted((int(l), r) for l, r in results["attention"]["data"].items())
        of = lambda key: {name: [(l, r[key]) for l, r in points] for name, points in series.items()}
        (docs / "tokens.svg").write_text(chart("Tokens per second, f32", "prompt, tokens", "tokens/s", of("tokens_s"), lengths))
        (docs / "memory.svg").write_text(chart("Peak memory, f32", "prompt, tokens", "MiB", of("peak_mb"), lengths))
    if "products" in results:
        d = results["products"]["data"]
        peak = d["peak"]
        sizes = {"f32": 4, "bf16": 2, "int8": 1, "int4": 0.5625}
        series = {}
        for case, v in d.items():
            if case == "peak" or int(case.split()[0]) != results["products"]["threads"]:
                continue
            _, f, shape = case.split()
            m, n, k = map(int, shape.split("x"))
            series.setdefault(f, []).append((flops(shape) / (sizes[f] * n * k + 4 * m * (n + k)), v["peak"]["rate"] / 1e9))
        for f in series:
            series[f].sort()
        lo, hi = min(x for s in series.values() for x, _ in s), max(x for s in series.values() for x, _ in s)
        for f in ("f32", "bf16", "int8"):
            xs = [lo * (hi / lo) ** (i / 40) for i in range(41)]
            series[f"{f}: peak and memory (limit)"] = [(x, min(peak[f], x * peak["read"]) / 1e9) for x in xs]
        (docs / "roofline.svg").write_text(chart("Products of mamba2-130m on the roofline", "operations per byte of weights and activations", "GFLOP/s", series))
        with open(docs / "performance.md", "a") as f:
            f.write("\n![products on the roofline](roofline.svg)\n")
