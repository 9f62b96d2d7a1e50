#!/bin/sh
# Builds the programs of bench/gpu that need Go, for a machine without it: bench/gpu/build.sh FOLDER
set -eu
out=${1:?a folder to write to}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/../.."
export CGO_ENABLED=1
go build -ldflags "-s -w" -o "$out/ssdc" ./cmd/ssdc
go build -ldflags "-s -w" -o "$out/model" ./bench/gpu/model
go test -c -ldflags "-s -w" -o "$out/cuda.test" ./backends/cuda
go test -c -ldflags "-s -w" -o "$out/ssdc.test" .
