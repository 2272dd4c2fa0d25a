"""What the death of an engine costs those who were in it, and those who come while it is away."""

import os
import resource
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from harness.service import Reply, Service, Starter

N_CALLERS = 16
SHORTEST_TOKENS, STEP_TOKENS = 100, 4  # so long are the answers, as stories do not end at once
N_NEWCOMERS = 4
START_S = 100.0  # a limit
EXHAUSTED_S = 30.0
WORDS = """
river stone bread music winter garden horse paper silver ocean bridge letter candle forest island
window
"""
THINGS = WORDS.split()
COLOURS = ["red", "blue", "green", "white", "black"]


@pytest.mark.timeout(900)
async def test_a_kill_from_outside_costs_one_run_holds_nobody_up_and_bans_nobody(
    start_service: Starter, smollm2: Path
) -> None:
    """The runs ask for different stories: a prompt that comes again is found in the prefix cache.

    That spares a run a tenth of its time, and those who try again on a new engine have no such
    luck.  What they are told is compared with what they are told afterwards.
    """
    service = start_service(_table(smollm2), model="smollm2")
    await service.until(lambda status: status["ready"], within_s=START_S)
    colours = iter(COLOURS)
    before_s, replies = await _timed(service, next(colours))
    _all_answered(replies)
    # Twice, because it was the second kill that banned a prompt.
    for nth in range(2):
        colour = next(colours)
        took_s, start_s, newcomers_s, disturbed = await _struck(service, colour, before_s / 2)
        after_s, _ = await _timed(service, next(colours))
        undisturbed_s = (before_s + after_s) / 2  # The machine may have other things to do, too.
        print(
            f"undisturbed {before_s:.1f} and {after_s:.1f} s; killed {took_s:.1f} s, of which the "
            f"engine's start {start_s:.1f} s; newcomers {max(newcomers_s):.1f} s"
        )
        _, replies = await _timed(service, colour)
        _all_answered(disturbed)
        assert [reply.text for reply in disturbed] == [reply.text for reply in replies]
        assert took_s <= 1.8 * undisturbed_s + start_s
        assert max(newcomers_s) <= undisturbed_s
        assert len(service.events("ReplicaLeft")) == nth + 1
        before_s = after_s


@pytest.mark.timeout(600)
async def test_a_poison_among_15_in_the_real_engine_is_found_in_six_deaths(
    start_service: Starter, smollm2: Path
) -> None:
    engine = {"engine": "poison_openvino:PoisonOpenVinoStepper"}
    service = start_service({**_table(smollm2), **engine}, model="smollm2")
    await service.until(lambda status: status["ready"], within_s=START_S)
    contents = [f"Write a long story about a {thing}." for thing in THINGS]
    contents[11] = "POISON"
    replies = await _ask_all(service, contents, [8] * N_CALLERS)
    poisoned = replies.pop(11)

    _all_answered(replies)
    assert poisoned.error["code"] == "poisoned_request"
    assert (await service.ask("POISON", max_tokens=8)).error["code"] == "poisoned_request"
    n_deaths = len(service.events("ReplicaLeft"))
    print(f"found in {n_deaths} deaths")
    assert n_deaths <= 6


@pytest.mark.timeout(300)
async def test_after_30_s_without_descriptors_an_engine_that_died_is_back_within_30_s(
    start_service: Starter, smollm2: Path
) -> None:
    service = start_service(_table(smollm2), model="smollm2")
    await service.until(lambda status: status["ready"], within_s=START_S)
    (engine,) = service.engine_pids()
    soft, hard = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    os.kill(engine, signal.SIGKILL)
    await anyio.sleep(EXHAUSTED_S)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    ended_at = time.perf_counter()
    reply = await _until_served(service)
    took_s = time.perf_counter() - ended_at
    print(f"served again {took_s:.1f} s after the end, after {_n_left(service)} failures")
    assert reply.text
    assert took_s <= 30.0


def _table(smollm2: Path) -> dict[str, object]:
    gate = {"max_running": N_CALLERS, "max_wait_s": 300}
    return {"engine": "openvino", "source": str(smollm2), **gate}


async def _timed(service: Service, colour: str) -> tuple[float, list[Reply]]:
    began_at = time.perf_counter()
    contents = [f"Write a long story about a {colour} {thing}." for thing in THINGS]
    lengths = [SHORTEST_TOKENS + STEP_TOKENS * n for n in range(N_CALLERS)]
    replies = await _ask_all(service, contents, lengths)
    return time.perf_counter() - began_at, replies


async def _struck(
    service: Service, colour: str, after_s: float
) -> tuple[float, float, list[float], list[Reply]]:
    """Have all ask, and kill the engine; return how long each thing took, and the replies."""
    took: list[tuple[float, list[Reply]]] = []
    newcomers_s: list[float] = []

    async def run() -> None:
        took.append(await _timed(service, colour))

    async def come(n: int) -> None:
        began_at = time.perf_counter()
        reply = await service.ask(f"Say a word, number {n}.", max_tokens=2)
        assert reply.status == 200
        newcomers_s.append(time.perf_counter() - began_at)

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await anyio.sleep(after_s)
        (engine,) = service.engine_pids()
        os.kill(engine, signal.SIGKILL)
        struck_at = time.perf_counter()
        await service.until(lambda status: not status["ready"])
        await service.until(lambda status: status["ready"], within_s=START_S)
        start_s = time.perf_counter() - struck_at
        for n in range(N_NEWCOMERS):
            group.start_soon(come, n)
    ((took_s, replies),) = took
    return took_s, start_s, newcomers_s, replies


async def _ask_all(
    service: Service, contents: Sequence[str], lengths: Sequence[int]
) -> list[Reply]:
    replies: dict[int, Reply] = {}

    async def ask(n: int) -> None:
        replies[n] = await service.ask(contents[n], max_tokens=lengths[n])

    async with anyio.create_task_group() as group:
        for n in range(len(contents)):
            group.start_soon(ask, n)
    return [replies[n] for n in range(len(contents))]


def _all_answered(replies: Sequence[Reply]) -> None:
    assert [reply.error for reply in replies] == [{}] * len(replies)
    assert all(reply.text for reply in replies)


async def _until_served(service: Service) -> Reply:
    """Ask until there is an answer, as a caller does who obeys Retry-After."""
    while True:
        reply = await service.ask("Say hello.", max_tokens=4)
        if reply.status == 200:
            return reply
        await anyio.sleep(float(reply.retry_after or 1))


def _n_left(service: Service) -> int:
    return len(service.events("ReplicaLeft"))
