"""Callers that leave give back at once what they held: in the gate, and in the engine as well."""

import itertools
import random
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import psutil
import pytest

from harness.service import Service, Starter

N_CALLERS = 200
N_WAVES = 5
N_ROUNDS = 5
QUIET_S = 1.0
IDLE_LOAD = 0.1  # of a core: a working engine takes all that it can get
WATCH_S = 0.1  # that the engine's load is measured over


@dataclass(frozen=True, slots=True)
class Round:
    """What was measured in one round, in seconds."""

    idle_s: float  # to the first token, while there is nobody else
    gate_s: float  # from the last one's leaving until nothing waits or runs
    engine_s: float  # from the same instant until the engine's process rests
    next_s: float  # to the first token of the next caller

    def __str__(self) -> str:
        """List the times in milliseconds."""
        gate, engine, following, idle = (
            round(1_000 * time_s)
            for time_s in (self.gate_s, self.engine_s, self.next_s, self.idle_s)
        )
        return f"gate {gate}, engine {engine}, next first token {following}, idle {idle} ms"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("stream", [True, False])
async def test_after_200_callers_have_left_the_next_is_served_as_on_an_idle_machine(
    start_service: Starter, smollm2: Path, *, stream: bool
) -> None:
    table = {"engine": "openvino", "source": str(smollm2), "max_running": 16, "max_waiting": 256}
    service = start_service(table, model="smollm2")
    await service.until(lambda status: status["ready"], within_s=100)
    n_asked = itertools.count()
    for _ in range(3):
        await _first_token_s(service, next(n_asked))
    rounds = [await _round(service, n_asked, n, stream=stream) for n in range(N_ROUNDS)]

    print("", *rounds, sep="\n")
    assert max(done.gate_s for done in rounds) <= QUIET_S
    # The engine ends the step that it is in, which takes as long as the machine lets it.
    assert statistics.median(done.engine_s for done in rounds) <= QUIET_S
    assert statistics.median(done.next_s / done.idle_s for done in rounds) <= 2
    outcomes = await service.outcomes(n_requests=N_ROUNDS * N_CALLERS + next(n_asked))
    assert outcomes["cancelled"] >= 0.9 * N_ROUNDS * N_CALLERS
    assert set(outcomes) == {"cancelled", "completed"}


async def _round(service: Service, n_asked: Iterator[int], number: int, *, stream: bool) -> Round:
    """Have all come and leave; measure before and after."""
    # The machine may change its pace meanwhile, so each round has an idle time of its own.
    idle_s = [await _first_token_s(service, next(n_asked)) for _ in range(3)]
    await _leave_in_waves(service, number, stream=stream)
    left_at = time.perf_counter()
    await service.until_quiet()
    gate_s = time.perf_counter() - left_at
    engine_s = await _rest_at(service) - left_at
    next_s = await _first_token_s(service, next(n_asked))
    return Round(statistics.median(idle_s), gate_s, engine_s, next_s)


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
        await service.until(lambda status: status["running"] + status["waiting"] == N_CALLERS)
        for wave in range(N_WAVES):
            await anyio.sleep(dice.uniform(0.3, 1.2))  # into prefills, and into answers
            status = await service.status()
            assert status["running"] > 0
            assert wave > 0 or status["waiting"] > 0
            for scope in scopes[wave::N_WAVES]:
                scope.cancel()
    assert n_texts > 0 or not stream


async def _rest_at(service: Service) -> float:
    """Return when the engine's process has begun to rest, at the latest."""
    (pid,) = service.engine_pids()
    engine = psutil.Process(pid)
    with anyio.fail_after(10 * QUIET_S):
        rests_at = time.perf_counter()
        while await _load(engine) > IDLE_LOAD:
            rests_at = time.perf_counter()
    return rests_at


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
