"""Weights that are noise behind a good header are never served, on the real engine."""

import os
import shutil
from pathlib import Path

import pytest

from harness.service import Starter

HEADER_BYTES = 8 << 20  # the vocabulary and where the tensors lie, and some tensors


@pytest.mark.timeout(200)
async def test_an_engine_whose_weights_are_noise_is_never_ready(
    start_service: Starter, smollm2: Path, tmp_path: Path
) -> None:
    noise = _spoiled(smollm2, tmp_path / "noise.gguf")
    service = start_service(
        {"engine": "openvino", "source": str(noise), "max_failures": 1}, model="noise"
    )
    reply = await service.ask("Say hello.", max_tokens=8)
    print(reply.error, (await service.status())["trouble"])
    assert (reply.status, reply.error["code"]) == (503, "no_replica_ready")
    assert "answers nothing" in (await service.status())["trouble"]
    assert service.events("ReplicaReady") == []


def _spoiled(weights: Path, noise: Path) -> Path:
    """Write `noise`: the header of the weights, and random bytes up to their length."""
    shutil.copyfile(weights, noise)
    with noise.open("r+b") as file:
        file.seek(HEADER_BYTES)
        file.write(os.urandom(weights.stat().st_size - HEADER_BYTES))
    return noise
