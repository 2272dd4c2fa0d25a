"""Callers that leave give back at once what they held: in the gate, and in the engine as well."""

import random
import statistics
import time
from pathlib import Path

import anyio
import psutil
import pytest
from harness.service import Service, Starter

N_CALLERS = 200
N_WAVES = 5
N_ROUNDS = 3
QUIET_S = 1.0
IDLE_LOAD = 0.1  # of a core: a working engine takes all that it can get
WATCH_S = 0.1  # that the engine's load is measured over


@pytest.mark.timeout(240)
@pytest.mark.parametrize("stream", [True, False])
async def test_after_200_callers_have_left_the_next_is_served_as_on_an_idle_machine(
    start_service: Starter, smollm2: Path, stream: bool
) -> None:
    assert smollm2.exists()
    table = {"engine": "openvino", "max_running": 16, "max_waiting": 256}
    service = start_service(table, model="smollm2")
    await service.until(lambda status: status["ready"], within_s=100)
    idle_s = statistics.median([await _first_token_s(service, n) for n in range(7)][2:])

    quiet_s, next_s = [], []
    for number in range(N_ROUNDS):
        await _leave_in_waves(service, number, stream=stream)
        quiet_s.append(await _until_quiet_s(service))
        next_s.append(await _first_token_s(service, 100 + number))
    print(
        f"first token idle {_ms([idle_s])}; quiet after the last left {_ms(quiet_s)}; "
        f"next first token {_ms(next_s)}"
    )

    assert max(quiet_s) <= QUIET_S
    assert statistics.median(next_s) <= 2 * idle_s
    outcomes = await service.outcomes()
    assert outcomes["cancelled"] >= 0.9 * N_ROUNDS * N_CALLERS
    assert set(outcomes) == {"cancelled", "completed"}


async def _leave_in_waves(service: Service, number: int, *, stream: bool) -> None:
    """Have all callers come at once, and leave in waves, whether they wait or are answered."""
    dice = random.Random(number)
    scopes = [anyio.CancelScope() for _ in range(N_CALLERS)]
    dice.shuffle(scopes)
    n_texts = 0

    def on_text() -> None:
        nonlocal n_texts
        n_texts += 1

    async def stay(n: int) -> None:
        with scopes[n]:
            await service.ask(_question(1_000 * number + n), stream=stream, on_text=on_text)

    async with anyio.create_task_group() as group:
        for n in range(N_CALLERS):
            group.start_soon(stay, n)
        await service.until(lambda status: status["waiting"] >= N_CALLERS // 2)
        for wave in range(N_WAVES):
            await anyio.sleep(dice.uniform(0.3, 1.2))  # into prefills, and into answers
            status = await service.status()
            assert status["running"] > 0
            assert wave > 0 or status["waiting"] > 0
            for scope in scopes[wave::N_WAVES]:
                scope.cancel()
    assert n_texts > 0 or not stream


async def _until_quiet_s(service: Service) -> float:
    """Return how long it takes until nothing waits or runs, and the engine's process rests."""
    began_at = time.perf_counter()
    await service.until_quiet()
    (pid,) = service.engine_pids()
    engine = psutil.Process(pid)
    with anyio.fail_after(10 * QUIET_S):
        rests_at = time.perf_counter()
        while await _load(engine) > IDLE_LOAD:
            rests_at = time.perf_counter()
    return rests_at - began_at


async def _load(engine: psutil.Process) -> float:
    """Return how many cores the engine is using."""
    engine.cpu_percent()
    await anyio.sleep(WATCH_S)
    return engine.cpu_percent() / 100


async def _first_token_s(service: Service, n: int) -> float:
    """Return the time to the first piece of an answer."""
    took_s: list[float] = []
    began_at = time.perf_counter()
    with anyio.fail_after(30):
        await service.ask(
            _question(n),
            stream=True,
            max_tokens=8,
            on_text=lambda: took_s.append(time.perf_counter() - began_at),
        )
    return took_s[0]


def _question(n: int) -> str:
    # What differs comes first, so that the prefix cache has nothing of it.
    return f"{n:05} is the number of this caller. Write a very long story about the number {n:05}."


def _ms(times_s: list[float]) -> str:
    return ", ".join(f"{1000 * time_s:.0f}" for time_s in times_s) + " ms"
