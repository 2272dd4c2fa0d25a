"""Callers that leave: what they held comes back, wherever they stood."""

import random

import anyio
import pytest

from harness.service import Service, Starter


@pytest.mark.parametrize("stream", [True, False])
async def test_waves_of_callers_that_leave_give_back_all_they_held(
    start_service: Starter, stream: bool
) -> None:
    table = {"max_running": 4, "max_waiting": 256, "options": {"tokens_per_s": 200}}
    service = start_service(table)
    await service.until(lambda status: status["ready"])
    dice = random.Random(4)
    for _ in range(4):
        await _wave(service, 50, stream=stream, stay=dice.randint(0, 3))
        await service.until_quiet(within_s=5)
    reply = await service.ask("repeat 5: still here", stream=stream)

    assert reply.text == "still here still here still"
    outcomes = await service.outcomes(201)
    assert outcomes["cancelled"] >= 180
    assert set(outcomes) <= {"cancelled", "completed"}


async def _wave(service: Service, n_callers: int, *, stream: bool, stay: int) -> None:
    """Have callers come at once and leave: those that wait, and those in mid-answer."""
    n_texts = 0
    seen = anyio.Event()

    def on_text() -> None:
        nonlocal n_texts
        n_texts += 1
        if n_texts > stay:
            seen.set()

    async def ask(n: int) -> None:
        await service.ask(f"repeat 400: caller {n}", stream=stream, on_text=on_text)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            for n in range(n_callers):
                group.start_soon(ask, n)
            if stream:
                await seen.wait()
            await service.until(lambda status: status["running"] + status["waiting"] >= n_callers)
            group.cancel_scope.cancel()


async def test_a_caller_that_leaves_does_not_disturb_its_neighbour(start_service: Starter) -> None:
    service = start_service({"max_running": 8, "options": {"tokens_per_s": 400}})
    await service.until(lambda status: status["ready"])
    texts: list[str] = []

    async def stay() -> None:
        texts.append((await service.ask("repeat 60: the one that stays", stream=True)).text)

    async def leave(n: int) -> None:
        with anyio.CancelScope() as scope:
            await service.ask(f"repeat 400: leaver {n}", stream=True, on_text=scope.cancel)

    with anyio.fail_after(30):
        async with anyio.create_task_group() as group:
            group.start_soon(stay)
            for n in range(20):
                group.start_soon(leave, n)
    assert texts == [" ".join(["the one that stays"] * 15)]
    await service.until_quiet(within_s=5)
