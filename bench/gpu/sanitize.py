"""compute-sanitizer over small calls of every family of kernels: memcheck, racecheck and initcheck.

The calls are tests of package cuda that SSDC_PROGRAMS/cuda.test runs, whose embedded machine code is what models run. Alone,
`sanitize.py [tool ...]` prints what the tools say; as stage check_sanitizer of bench/gpu it reports rows.

SSDC_SANITIZER names the program. Versions of compute-sanitizer below 2026.1 (package nvidia-cuda-sanitizer-api, 13.1) do not follow all uses of
barriers in shared memory and report races where there are none."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
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
# Races that are none, by kernel and the two lines of source, each with a kernel in artefacts.cu that has the same accesses in an order that the PTX
# manual guarantees and is reported likewise.
ARTEFACTS = {}

HEAD = re.compile(r"========= (Error|Warning|Invalid|Uninitialized|Program hit|Potential|Missing)")
PLACE = re.compile(r"(Read|Write|read|write|copy)\b.*? (?:access )?at ([^+(]+)[^+]*\+(0x[0-9a-f]+)(?: in ([\w./]+:\d+))?")


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


def known(finding):
    places = tuple(sorted(m.group(4) or m.group(3) for m in PLACE.finditer(finding)))
    return places in ARTEFACTS


def check(report):
    if not (os.environ.get("SSDC_SANITIZER") or shutil.which("compute-sanitizer")):
        report(peer="compute-sanitizer", missing="it is not on PATH")
        return
    if not (pathlib.Path(os.environ.get("SSDC_PROGRAMS", "")) / "cuda.test").exists():
        report(peer="compute-sanitizer", missing="SSDC_PROGRAMS has no cuda.test")
        return
    for tool in TOOLS:
        found, passed, failed, ended, text, took = run(tool, "|".join(CALLS.values()))
        new = [f for f in found if not known(f)]
        print(f"{tool}: {took:.1f} s\n" + "\n".join(new), flush=True)
        if not new and ended not in (0, None):
            print(text[-2000:], flush=True)
        report(tests=f"compute-sanitizer {tool}, {len(found) - len(new)} known artefacts, {took:.0f} s", passed=len(passed), failed=failed + [f.splitlines()[0].strip("= ")[:160] for f in new[:8]],
               skipped=0, ok=ended == 0 and not new and not failed and bool(passed))


if __name__ == "__main__":
    for tool in sys.argv[1:] or TOOLS:
        found, passed, failed, ended, text, took = run(tool, os.environ.get("CALLS") or "|".join(CALLS.values()), os.environ.get("EXTRA", "").split(), int(os.environ.get("LIMIT", 60)))
        print(f"==== {tool}: {len(found)} findings, {len(passed)} passed, {len(failed)} failed, ended {ended}, {took:.1f} s")
        for f in found[:int(os.environ.get("SHOW", 30))]:
            print(f)
        if ended or not passed:
            print(text[-1500:])
