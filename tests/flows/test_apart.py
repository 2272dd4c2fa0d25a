"""An app and a model service, started apart: with a shared key or without, all ends well."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import anyio
import pytest

from harness.apart import keyless, uvicorn_app
from harness.service import Service, Starter

N_BATCH = 500
N_AGENTS = 64
TABLE = {"options": {"step_s": 0.002}}


@pytest.mark.parametrize(("has_key", "n_workers"), [(True, 4), (False, 1)])
async def test_a_batch_of_500_and_64_agents_of_three_calls_all_end_well(
    start_service: Starter, tmp_path: Path, has_key: bool, n_workers: int
) -> None:
    service = start_service(TABLE)
    await service.until(lambda status: status["ready"])
    environment = None if has_key else keyless(tmp_path)
    app = uvicorn_app("chains:app", service, n_workers=n_workers, environment=environment)
    async with app as address:
        with anyio.fail_after(60):
            batch = asyncio.create_task(_batch(service, address))
            agents = [
                _post(service, f"{address}/agent/invoke", {"input": "on"}) for _ in range(N_AGENTS)
            ]
            statuses = Counter(status for status, _ in await asyncio.gather(*agents))
            status, body = await batch
    assert statuses == {200: N_AGENTS}
    assert status == 200
    assert body["output"] == [f"input number {n}" for n in range(N_BATCH)]
    outcomes = await service.outcomes(N_BATCH + 3 * N_AGENTS)
    assert outcomes == {"completed": N_BATCH + 3 * N_AGENTS}


async def _batch(service: Service, address: str) -> tuple[int, Any]:
    inputs = [{"text": f"input number {n}"} for n in range(N_BATCH)]
    return await _post(service, f"{address}/chain/batch", {"inputs": inputs})


async def _post(service: Service, url: str, body: Any) -> tuple[int, Any]:
    async with service.client.post(url, json=body) as response:
        return response.status, await response.json()
