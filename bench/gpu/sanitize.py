"""compute-sanitizer over small calls of every family of kernels: memcheck, racecheck and initcheck.

The calls are tests of package cuda that SSDC_PROGRAMS/cuda.test runs, whose embedded machine code is what models run. Alone,
`sanitize.py [tool ...]` prints what the tools say; as stage check_sanitizer of bench/gpu it reports rows. SSDC_SANITIZER names the program.

Two families of kernels are left to a racecheck of their own, whose reports are counted and printed but do not fail: UNPROVEN."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

# Patterns of go test, by family. Shapes are the smallest that take every path.
CALLS = {
    "decode": r"TestDecodeSteps/bfloat16/\{(1_64_4|11_72_2)",
    "decode in one launch": r"TestDecodeSteps/bfloat16/\{(1_128_8|3_320_8)",
    "decode in one launch, fewer bits": r"TestDecodeQuantised/int(8|4)_\{(1_128_8|3_320_8)",
    "products": r"TestProducts/bfloat16/.*33x",
    "products, fewer bits": r"TestQuantisedWeights/int(4|8)/bfloat16/\{(13_520|60_130|64_128)|TestDigits/.*any_true_9|TestTiedTable/int8.*bfloat16",
    "attention": r"TestFlash/bfloat16_\{(2_4_2_70|1_6_2_50|1_8_2_1|1_2_2_33)",
    "scan": r"TestSelectiveScan/(16|100)$",
    "SSD": r"TestSSDTensorCores/bfloat16|TestSplitChunks",
    "convolution, norms": r"TestEights/(conv|norm)/bfloat16/(70|72)$",
    "the rest": r"TestChainLifetime|TestReshaped|TestGatherRange",
}
TOOLS = {
    "memcheck": [],
    "racecheck": ["--num-cuda-barriers", "64"],  # they are made by inline PTX, which the compiler's count leaves out
    "initcheck": [],
}
# Kernels in which racecheck (2025.3 and 2026.4) reports races, and which. In each pair the write comes before an arrival, or is a bulk copy whose bytes are
# announced, on the very mbarrier that the reader waits for; artefacts.cu has the same patterns in a few lines, so that what the tool says of
# them stands beside. A race of another kind in these kernels would not be noticed here.
UNPROVEN = {
    "ssd_tma_": "ssd_tma.cuh: decays are stored (put, d.keep in tma_fill_decay) and read in tma_mask (pair, row, cum) and by the state (fetch, from_state)",
    "step_": "step.cu, step_bits.cu: bulk copies of what phases read beside (aside), and its reads",
}

HEAD = re.compile(r"========= (Error|Warning|Invalid|Uninitialized|Program hit|Potential|Missing)")


def run(tool, pattern, extra=(), limit=60):
    """Findings, whether all tests passed, what was said and the seconds that it took."""
    program = os.environ.get("SSDC_SANITIZER") or shutil.which("compute-sanitizer")
    tests = pathlib.Path(os.environ["SSDC_PROGRAMS"]) / "cuda.test"
    begin = time.time()
    command = [program, "--tool", tool, "--print-limit", "1000", "--target-processes", "all", *TOOLS[tool], *extra, str(tests), "-test.run", pattern, "-test.v"]
    p = subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        text, _ = p.communicate(timeout=limit)
        ended = p.returncode
    except subprocess.TimeoutExpired:
        os.killpg(p.pid, 9)
        text, _ = p.communicate()
        ended = f"stopped after {limit} s"
    found, lines = [], text.splitlines()
    for i, line in enumerate(lines):
        if HEAD.match(line):
            block = [line]
            for follow in lines[i + 1:i + 40]:
                if not follow.startswith("=========     "):
                    break
                block.append(follow)
            found.append("\n".join(block))
    passed = re.findall(r"^\s*--- PASS: (\S+)", text, re.M)
    failed = re.findall(r"^\s*--- FAIL: (\S+)", text, re.M)
    return found, passed, failed, ended, text, time.time() - begin


def check(report):
    if not (os.environ.get("SSDC_SANITIZER") or shutil.which("compute-sanitizer")):
        report(peer="compute-sanitizer", missing="it is not on PATH")
        return
    if not (pathlib.Path(os.environ.get("SSDC_PROGRAMS", "")) / "cuda.test").exists():
        report(peer="compute-sanitizer", missing="SSDC_PROGRAMS has no cuda.test")
        return
    everything, unproven = "|".join(CALLS.values()), f"regex=^({'|'.join(UNPROVEN)})"
    for tool in TOOLS:
        found, passed, failed, ended, text, took = run(tool, everything, ["--kernel-name-exclude", unproven] if tool == "racecheck" else [])
        print(f"{tool}: {took:.1f} s\n" + "\n".join(found), flush=True)
        if not found and ended != 0:
            print(text[-2000:], flush=True)
        report(tests=f"compute-sanitizer {tool}, {took:.0f} s" + (", without " + ", ".join(UNPROVEN) if tool == "racecheck" else ""), passed=len(passed),
               failed=failed + [f.splitlines()[0].strip("= ")[:160] for f in found[:8]], skipped=0, ok=ended == 0 and not found and not failed and bool(passed))
    found, passed, failed, ended, text, took = run("racecheck", "|".join(CALLS[c] for c in CALLS if c == "SSD" or "one launch" in c), ["--kernel-name", unproven])
    print("\n".join(found), flush=True)
    report(peer="racecheck of " + ", ".join(UNPROVEN), missing=f"{len(found)} reports, unproven: see UNPROVEN in sanitize.py; {artefacts()}")


def artefacts():
    """What racecheck says of the kernels of artefacts.cu."""
    nvcc = os.environ.get("NVCC") or shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    here = pathlib.Path(__file__).parent
    program = os.environ.get("SSDC_SANITIZER") or shutil.which("compute-sanitizer")
    with tempfile.TemporaryDirectory() as d:
        try:
            subprocess.run([nvcc, "-std=c++17", "-gencode", "arch=compute_90a,code=sm_90a", "-lineinfo", "-o", f"{d}/artefacts", here / "artefacts.cu"], check=True, capture_output=True, timeout=60)
            text = subprocess.run([program, "--tool", "racecheck", *TOOLS["racecheck"], f"{d}/artefacts"], text=True, capture_output=True, timeout=30).stdout
        except (OSError, subprocess.SubprocessError) as e:
            return f"artefacts.cu did not run: {e}"
    print(text, flush=True)
    names = re.findall(r"^__global__ void (\w+)", (here / "artefacts.cu").read_text(), re.M)
    said = [line for line in text.splitlines() if "Race reported" in line]
    return "of the patterns alone it reports " + (", ".join(n for n in names if any(re.search(rf"\b{n}\(", line) for line in said)) or "none")


if __name__ == "__main__":
    for tool in sys.argv[1:] or TOOLS:
        found, passed, failed, ended, text, took = run(tool, os.environ.get("CALLS") or "|".join(CALLS.values()), os.environ.get("EXTRA", "").split(), int(os.environ.get("LIMIT", 60)))
        print(f"==== {tool}: {len(found)} findings, {len(passed)} passed, {len(failed)} failed, ended {ended}, {took:.1f} s")
        for f in found[:int(os.environ.get("SHOW", 30))]:
            print(f)
        if ended or not passed:
            print(text[-1500:])
