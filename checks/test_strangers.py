"""Who comes alone is served beside any number of batches as beside as many who come alone."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import anyio
import pytest

from harness.apart import keyless, uvicorn_app
from harness.service import Service, Starter

N_INPUTS = 1000
N_PROBES = 9
MAX_RATIO = 3.0
TABLE = {"options": {"step_s": 0.02}}  # a token every 20 ms, for each that runs
LONG, SHORT = "repeat 40: a b c d", "hello you"
N_AGENTS = 64


@pytest.mark.timeout(300)
@pytest.mark.parametrize("n_batches", [1, 3, 8, 32])
async def test_batches_cost_an_honest_caller_what_as_many_honest_callers_would(
    start_service: Starter, n_batches: int
) -> None:
    url, service = start_service.serve("chains:app", TABLE)
    await service.until(lambda status: status["ready"])
    async with _crowd(n_batches, lambda: _invoke(service, url)):
        await service.until(lambda status: status["running"] >= min(n_batches, 16))
        honest_s = await _first_token_s(service, url)
    await service.until_quiet()
    async with _crowd(n_batches, lambda: _batch(service, url)):
        await service.until(lambda status: status["outside"] >= n_batches, within_s=120)
        beside_batches_s = await _first_token_s(service, url)
    ratio = beside_batches_s / honest_s
    print(
        f"\n{n_batches} batches: {beside_batches_s:.3f} s; callers: {honest_s:.3f} s; {ratio:.2f}"
    )
    assert ratio <= MAX_RATIO


@pytest.mark.timeout(300)
@pytest.mark.parametrize("has_key", [True, False])
async def test_four_workers_that_were_started_apart_see_all_of_their_own_to_a_good_end(
    start_service: Starter, tmp_path: Any, *, has_key: bool
) -> None:
    service = start_service(TABLE)
    await service.until(lambda status: status["ready"])
    environment = None if has_key else keyless(tmp_path)
    app = uvicorn_app("chains:app", service, n_workers=4, environment=environment)
    async with app as address, anyio.create_task_group() as group:
        statuses: list[int] = []

        async def ask(path: str, body: Any) -> None:
            async with service.client.post(f"{address}/{path}", json=body) as response:
                statuses.append(response.status)

        group.start_soon(ask, "chain/batch", {"inputs": [{"text": "a b"}] * 500})
        for _ in range(N_AGENTS):
            group.start_soon(ask, "agent/invoke", {"input": "a b"})
    assert statuses == [200] * (1 + N_AGENTS)


@asynccontextmanager
async def _crowd(n: int, ask: Callable[[], Awaitable[None]]) -> AsyncIterator[None]:
    """Have `n` callers ask again and again while the block lasts."""

    async def ask_on() -> None:
        while True:
            await ask()

    crowd = [asyncio.create_task(ask_on()) for _ in range(n)]
    try:
        yield
    finally:
        for one in crowd:
            one.cancel()
        for one in crowd:
            with suppress(asyncio.CancelledError):
                await one


async def _first_token_s(service: Service, url: str) -> float:
    """Return the median time to the first of two tokens; see that none waits who need not."""
    times_s = []
    for _ in range(N_PROBES):
        times_s.append(await _probe(service, url))
        status = await service.status()
        assert status["waiting"] <= 128
        assert status["waiting"] + status["running"] <= 144
        await asyncio.sleep(0.3)
    return statistics.median(times_s)


async def _probe(service: Service, url: str) -> float:
    asked_at = time.perf_counter()
    body = {"input": {"text": SHORT}}
    async with service.client.post(f"{url}/chain/stream", json=body) as response:
        assert response.status == 200
        async for line in response.content:
            if line.startswith(b"data: ") and b"hello" in line:
                return time.perf_counter() - asked_at
    message = "The answer had no first token."
    raise AssertionError(message)


async def _invoke(service: Service, url: str) -> None:
    async with service.client.post(f"{url}/chain/invoke", json={"input": {"text": LONG}}) as answer:
        assert answer.status == 200


async def _batch(service: Service, url: str) -> None:
    body = {"inputs": [{"text": LONG}] * N_INPUTS}
    async with service.client.post(f"{url}/chain/batch", json=body) as answer:
        assert answer.status == 200
