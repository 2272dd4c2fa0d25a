#!/usr/bin/env bash
# Fetch the wheels of wheels.txt, for Python 3.12 on x86-64 Linux, into .whl at the checkout's root:
# what `run.sh` needs on a machine that has torch and transformers and reaches no registry.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
platforms=()
for tag in manylinux_2_{28,27,17,5} manylinux2014 manylinux1; do
    platforms+=(--platform "${tag}_x86_64")
done
rm -rf .whl
python3 -m pip download -q --no-deps --only-binary=:all: --python-version 3.12 \
    --implementation cp "${platforms[@]}" -d .whl -r benchmarks/gpu/wheels.txt
du -sh .whl
