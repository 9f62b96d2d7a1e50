#!/bin/sh
# Builds the CUDA kernels, checks them against float64, times them beside their peers. README.md says more.
#   bench/gpu/run.sh [stage ...]       stages: see STAGES in run.py; all of them without arguments
# NVCC, PYTHON: programs to use. OUT: a folder for results.json and log.txt.
# SSDC_KERNELS: a library built before, instead of building one.
# SSDC_PROGRAMS: a folder with ssdc, model, cuda.test and ssdc.test, built elsewhere by bench/gpu/build.sh; without it they are
# built here where there is Go, and left out where not.
set -eu
cd "$(dirname "$0")"
PYTHON=${PYTHON:-python3}
export SSDC_BUILD=${SSDC_BUILD:-${TMPDIR:-/tmp}/ssdc-gpu}
mkdir -p "$SSDC_BUILD"

if [ -z "${SSDC_KERNELS:-}" ]; then
  if [ -z "${NVCC:-}" ]; then
    NVCC=$(command -v nvcc || ls /usr/local/cuda/bin/nvcc /usr/local/cuda-*/bin/nvcc 2>/dev/null | head -n 1)
  fi
  [ -n "$NVCC" ] || { echo "bench/gpu: nvcc not found; set NVCC, or SSDC_KERNELS to a built library" >&2; exit 1; }
  arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. ')
  [ "$arch" = 90 ] && arch=90a
  SSDC_KERNELS=$SSDC_BUILD/libssdc.so
  "$NVCC" --version | tail -n 2
  "$NVCC" -std=c++17 -O3 -gencode "arch=compute_$arch,code=sm_$arch" -Xptxas -v -Xcompiler -fPIC -shared \
    -split-compile 0 -o "$SSDC_KERNELS" ../../backends/cuda/kernels/ssd_fwd.cu >"${OUT:-$SSDC_BUILD}/build.txt" 2>&1 ||
    { cat "${OUT:-$SSDC_BUILD}/build.txt"; exit 1; }
fi
export SSDC_KERNELS
if [ -z "${SSDC_PROGRAMS:-}" ] && command -v go >/dev/null; then
  SSDC_PROGRAMS=$SSDC_BUILD/programs
  ./build.sh "$SSDC_PROGRAMS"
fi
export SSDC_PROGRAMS
# cuBLASLt may lie with the toolkit or with PyTorch, where the loader does not look.
for lib in /usr/local/cuda*/targets/*/lib /usr/local/cuda*/lib64 "$("$PYTHON" -c 'import nvidia, pathlib; print(next(pathlib.Path(nvidia.__path__[0]).rglob("libcublasLt.so.1?")).parent)' 2>/dev/null || true)"; do
  [ -n "$lib" ] && ls "$lib"/libcublasLt.so.1? >/dev/null 2>&1 && LD_LIBRARY_PATH=$lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH} && break
done
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}
exec "$PYTHON" run.py "$@"
