"""Runs the stages of bench/gpu in order, each in its own process, and prints one table last."""
import json
import os
import pathlib
import subprocess
import sys
import time

import torch

HERE = pathlib.Path(__file__).parent
DEADLINE = 465  # seconds of this program
# Stage and its limit in seconds. Checks come before times.
STAGES = [("ceilings", 60), ("check_backend", 100), ("check_models", 150), ("check_command", 60), ("time_model", 120), ("time_weights", 60), ("time_attention", 40), ("time_transformers", 100),
          ("check_tma", 60), ("time_tma", 30), ("time_mamba", 100), ("time_step", 60), ("time_mamba1", 40), ("time_lengths", 80), ("time_fla", 60),
          ("check_split", 60), ("time_split", 60), ("check_rest", 60), ("check_sanitizer", 100), ("check_wgmma", 60), ("time_wgmma", 30), ("check_mma", 60), ("time_mma", 30)]


def run(stage, limit, env, log):
    """The stage's rows, and why it ended early if it did."""
    begin = time.time()
    command = [sys.executable, str(HERE / "stages.py"), *stage.split()]
    try:
        p = subprocess.run(command, env=env, timeout=limit, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        text, fault = p.stdout, None if p.returncode == 0 else f"exit status {p.returncode}"
    except subprocess.TimeoutExpired as e:
        text = e.stdout.decode() if isinstance(e.stdout, bytes) else e.stdout or ""
        fault = f"stopped after {limit:.0f} s"
    log.write(f"==== {stage}: {time.time() - begin:.1f} s\n{text}\n")
    log.flush()
    rows = []
    for line in text.splitlines():
        if line.startswith("{"):
            rows.append(dict(json.loads(line), stage=stage))
    if fault:
        last = [l for l in text.splitlines() if l.strip() and not l.startswith("{")][-1:]
        rows.append(dict(stage=stage, fault=f"{fault}: {last[0][:300] if last else 'no message'}"))
    print(f"{stage}: {time.time() - begin:.1f} s{', ' + fault if fault else ''}", flush=True)
    return rows


def table(rows):
    print("\nchecks (||out - ref|| / ||ref|| against the float64 recurrence)")
    for r in rows:
        if "check" in r:
            wrong = f" first wrong {r['first_wrong']} share {r['wrong_share']:.3f}" if "first_wrong" in r else ""
            again = "" if r.get("repeatable", True) else " NOT REPEATABLE"
            print(f"  {'ok ' if r['ok'] else 'BAD'} y {r['y']:.1e} state {r['state']:.1e} {r['check']}{wrong}{again}")
    for r in rows:
        if "tests" in r:
            print(f"  {'ok ' if r['ok'] else 'BAD'} {r['tests']}: {r['passed']} passed, {len(r['failed'])} failed {' '.join(r['failed'])}, {r['skipped']} skipped")
    print("\ntimes (median of device events)")
    for r in rows:
        if "seconds" in r:
            shape = " ".join(f"{k}={r[k]}" for k in "BLKHPN" if k in r)
            rate = f"{r['tbytes']:.2f} TB/s" if "tbytes" in r else f"{r['tflops']:.0f} TFLOP/s" if "tflops" in r else ""
            print(f"  {r['seconds'] * 1e6:10.1f} us  {rate:14} {r['work']} {shape}")
    for r in rows:
        if "missing" in r:
            print(f"  not loaded: {r['peer']}: {r['missing']}")
        if "fault" in r:
            print(f"  FAULT in {r['stage']}: {r['fault']}")


def main():
    begin = time.time()
    if not torch.cuda.is_available():
        sys.exit("bench/gpu: torch sees no CUDA device")
    out = pathlib.Path(os.environ.get("OUT") or os.environ["SSDC_BUILD"])
    peers = pathlib.Path(os.environ.get("SSDC_PEERS", HERE / "../../.gpu_peers"))
    env = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONDONTWRITEBYTECODE="1")
    env["PYTHONPATH"] = os.pathsep.join([str(HERE), *(str(p) for p in sorted(peers.glob("*")) if p.is_dir())])
    versions = dict(gpu=torch.cuda.get_device_name(), torch=torch.__version__, cuda=torch.version.cuda,
                    date=time.strftime("%Y-%m-%d", time.gmtime()))
    rows = []
    with open(out / "log.txt", "w") as log:
        for stage, limit in [(s, 600) for s in sys.argv[1:]] or STAGES:
            left = DEADLINE - (time.time() - begin)
            if left < 15:
                rows.append(dict(stage=stage, fault="no time left"))
                continue
            rows += run(stage, min(limit, left), env, log)
            (out / "results.json").write_text(json.dumps(dict(versions=versions, rows=rows), indent=1))
    table(rows)
    print(" ".join(f"{k} {v}" for k, v in versions.items()), f"({time.time() - begin:.0f} s)")
    sys.exit(any("fault" in r or not r.get("ok", True) for r in rows))


main()
