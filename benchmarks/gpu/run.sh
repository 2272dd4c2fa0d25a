#!/usr/bin/env bash
# Measure on a machine with one GPU and torch, for up to ten minutes:
#
#   bash benchmarks/gpu/run.sh [--tiny] [--only engine locktender memory langserve]
#   bash benchmarks/gpu/run.sh --against FOLDER [--tiny] [--rounds 5]
#
# The second one is two commits side by side; FOLDER has the `src` of the other (`stage.sh COMMIT`).
# What the machine lacks is installed from .whl (`stage.sh`) into a folder of its own, which all
# servers use.  The figures go to $OUT.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir \
    --target "$site" .whl/*.whl
export PYTHONPATH=$site:$PWD/src:$PWD/benchmarks PYTHONUNBUFFERED=1
export HF_HUB_OFFLINE=1 TOKENIZERS_PARALLELISM=false LANGSMITH_TRACING=false
out=${OUT:-$(mktemp -d)}
mkdir -p "$out"
script=adopt.py
[[ " $* " != *" --against "* ]] || script=against.py
python3 "benchmarks/gpu/$script" "$out" "$@" 2>&1 | tee "$out/log"
