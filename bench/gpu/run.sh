#!/bin/sh
# Builds the CUDA kernels, checks them against float64, times them beside their peers. README.md says more.
#   bench/gpu/run.sh [stage ...]       stages: see STAGES in run.py; all of them without arguments
# NVCC, PYTHON: programs to use. OUT: a folder for results.json and log.txt.
# SSDC_KERNELS: a library built before, instead of building one.
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
exec "$PYTHON" run.py "$@"
