#!/usr/bin/env bash
# Bring what `run.sh` needs on a machine that has torch and reaches no registry:
#
#   benchmarks/gpu/stage.sh [COMMIT]
#
# The wheels of wheels.txt, for Python 3.12 (or FOR_PYTHON) on x86-64 Linux, into .whl at the
# checkout's root, and the `src` of COMMIT into .base.  Git ignores both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
platforms=()
for tag in manylinux_2_{28,27,17,5} manylinux2014 manylinux1; do
    platforms+=(--platform "${tag}_x86_64")
done
rm -rf .whl .base
python3 -m pip download -q --no-deps --only-binary=:all: --python-version "${FOR_PYTHON:-3.12}" \
    --implementation cp "${platforms[@]}" -d .whl -r benchmarks/gpu/wheels.txt
staged=(.whl)
if (($#)); then
    mkdir .base
    git archive "$1" src | tar -x -C .base
    git rev-parse --short "$1^{commit}" >.base/COMMIT
    staged+=(.base)
    # There git may be missing; the digests are the same here and there.
    PYTHONPATH=benchmarks python3 - <<'PYTHON'
from pathlib import Path

from checkout import HERE, Checkout

print(f"this: {HERE.name()}")
print(f"that: {Checkout(Path('.base')).name()}")
PYTHON
fi
du -sh "${staged[@]}"
