"""Engines that die or hang: who is served all the same, who is told, and what is left behind."""

import os
import resource
import signal
import socket
from collections.abc import Callable

import anyio
import psutil
import pytest

from harness.ending import still_running
from harness.service import Reply, Service, Starter

SLOW = {"options": {"tokens_per_s": 80}}
QUICK_RESTART = {"backoff_s": 0.01, "hang_s": 3.0}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_those_without_a_token_are_served_and_the_others_are_told_once(
    start_service: Starter, number: signal.Signals
) -> None:
    service = start_service({"max_running": 4, **SLOW, **QUICK_RESTART})
    await service.until(lambda status: status["ready"])
    (engine,) = service.engine_pids()
    replies = await _ask_and_strike(service, 8, lambda: os.kill(engine, number), stream=True)

    lost = [reply for reply in replies if reply.error]
    served = [reply for reply in replies if not reply.error]
    assert len(lost) == 4
    assert {reply.error["code"] for reply in lost} == {"replica_lost"}
    assert all(reply.text and reply.finish_reason is None for reply in lost)
    assert {reply.text for reply in served} == {" ".join(["on and on"] * 10)}
    assert await service.outcomes(8) == {"completed": 4, "failed": 4}
    assert service.engine_pids() != [engine]
    assert len(service.engine_pids()) == 1


async def test_answers_that_are_not_streamed_survive_their_engine(start_service: Starter) -> None:
    service = start_service({"max_running": 4, **SLOW, **QUICK_RESTART})
    await service.until(lambda status: status["ready"])
    (engine,) = service.engine_pids()
    replies = await _ask_and_strike(service, 8, lambda: os.kill(engine, signal.SIGKILL))

    assert [reply.status for reply in replies] == [200] * 8
    assert {reply.usage["completion_tokens"] for reply in replies} == {30}
    assert await service.outcomes(8) == {"completed": 8}
    assert len(service.events("RequestReturned")) == 4


async def test_requests_wait_while_the_engine_starts_again(start_service: Starter) -> None:
    service = start_service(QUICK_RESTART)
    await service.until(lambda status: status["ready"])
    before = psutil.Process(service.process.pid).num_fds()
    for _ in range(3):
        (engine,) = service.engine_pids()
        os.kill(engine, signal.SIGKILL)
        reply = await service.ask("hello again")
        assert (reply.status, reply.text) == (200, "hello again")
    await service.client.close()
    with anyio.fail_after(10):
        while psutil.Process(service.process.pid).num_fds() > before:
            await anyio.lowlevel.checkpoint()


async def test_while_engines_fail_many_times_in_a_row_requests_are_refused(
    start_service: Starter,
) -> None:
    service = start_service({"engine": "broken:build", "max_failures": 3, "backoff_s": 0.05})
    early = await service.ask("may I?")
    late = await service.ask("and now?")

    assert [early.status, late.status] == [503, 503]
    assert {early.error["code"], late.error["code"]} == {"no_replica_ready"}
    assert late.retry_after
    assert await service.outcomes(2) == {"refused": 2}
    left = service.events("ReplicaLeft")
    assert len(left) >= 3
    assert {event["reason"] for event in left} == {"The weights are damaged."}
    assert len(service.events("EnginesDown")) == 1
    assert (await service.status())["trouble"] == "The weights are damaged."
    # It tries on, so another process would do no better.
    async with service.client.get(service.url.replace("/v1", "/livez")) as response:
        assert response.status == 200


async def test_an_engine_that_dies_while_there_are_no_descriptors_is_back_once_there_are(
    start_service: Starter,
) -> None:
    patience = {"max_failures": 3, "backoff_s": 0.02, "max_backoff_s": 0.2}
    service = start_service(patience)
    await service.until(lambda status: status["ready"])
    (engine,) = service.engine_pids()
    soft, hard = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    os.kill(engine, signal.SIGKILL)
    with anyio.fail_after(20):
        while len(service.events("ReplicaLeft")) < 8:  # far more than it is patient for
            await anyio.lowlevel.checkpoint()
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    await service.until(lambda status: status["ready"])

    assert (await service.ask("hello again")).text == "hello again"
    reasons = {event["reason"] for event in service.events("ReplicaLeft")[1:]}
    assert reasons == {"The engine process could not be started: Too many open files."}
    assert (await service.status())["trouble"] is None


async def test_an_engine_that_has_loaded_but_answers_nothing_is_never_ready(
    start_service: Starter,
) -> None:
    service = start_service({"engine": "silent:SilentStepper", "max_failures": 1})
    reply = await service.ask("anybody there?")
    assert (reply.status, reply.error["code"]) == (503, "no_replica_ready")
    assert (await service.status())["trouble"].startswith("The engine has loaded but answers")
    assert service.events("ReplicaReady") == []

    unasked = start_service({"engine": "silent:SilentStepper", "canary": False})
    assert (await unasked.ask("anybody there?")).status == 200


@pytest.mark.parametrize("is_stopped", [False, True])
async def test_the_engine_ends_with_its_service(start_service: Starter, is_stopped: bool) -> None:
    service = start_service()
    await service.until(lambda status: status["ready"])
    (engine,) = [psutil.Process(pid) for pid in service.engine_pids()]
    if is_stopped:
        engine.suspend()
    service.process.kill()
    assert not still_running([engine], within_s=2)


async def test_a_poison_among_15_is_found_in_six_deaths_and_the_innocents_are_answered(
    start_service: Starter,
) -> None:
    # It kills after some steps, when all 16 are in the engine.
    options = {"step_s": 0.02, "linger": 8}
    table = {"engine": "poison:PoisonStepper", "max_running": 16, "options": options}
    service = start_service({**table, **QUICK_RESTART})
    await service.until(lambda status: status["ready"])
    contents = [f"repeat 12: {n} asks" for n in range(15)]
    contents.insert(7, "repeat 12: POISON asks")
    # Not streamed: a stream that had sent a token when the poison came could not be begun again.
    replies = await service.ask_many(contents)
    poisoned = replies.pop(7)
    again = await service.ask("repeat 12: POISON asks")

    assert [reply.text for reply in replies] == [" ".join([f"{n} asks"] * 6) for n in range(15)]
    assert poisoned.error["code"] == again.error["code"] == "poisoned_request"
    assert again.status == 500
    assert await service.outcomes(17) == {"completed": 15, "failed": 2}
    # All 16, again as one group, and halves: 8, 4, 2, 1.
    assert len(service.events("ReplicaLeft")) <= 6


async def test_copies_of_the_poison_that_wait_do_not_kill_one_engine_each(
    start_service: Starter,
) -> None:
    table = {"engine": "poison:PoisonStepper", "max_running": 4}
    service = start_service({**table, **QUICK_RESTART})
    await service.until(lambda status: status["ready"])
    poison = await service.ask_many(["POISON"] * 30)
    others = [await service.ask(f"POISON number {n}") for n in range(2)]
    innocent = await service.ask("still served")

    assert {reply.error["code"] for reply in (*poison, *others)} == {"poisoned_request"}
    assert innocent.text == "still served"
    assert await service.outcomes(33) == {"completed": 1, "failed": 32}
    assert len(service.events("ReplicaLeft")) == 3 + 2 * 3


async def test_a_hang_is_found_though_every_caller_gives_up_before(start_service: Starter) -> None:
    service = start_service(QUICK_RESTART)
    await service.until(lambda status: status["ready"])
    (engine,) = service.engine_pids()
    os.kill(engine, signal.SIGSTOP)
    header = {"X-Request-Timeout-Seconds": "0.7"}
    statuses = [504]
    while statuses[-1] == 504 and len(statuses) < 40:
        statuses.append((await service.ask("anybody there?", headers=header)).status)
    assert statuses[-1] == 200


async def test_an_engine_starts_beside_a_thousand_open_descriptors(start_service: Starter) -> None:
    service = start_service(QUICK_RESTART)
    await service.until(lambda status: status["ready"])
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    host, port = service.url.removeprefix("http://").removesuffix("/v1").split(":")
    sockets = [socket.create_connection((host, int(port))) for _ in range(1010)]
    try:
        (engine,) = service.engine_pids()
        os.kill(engine, signal.SIGKILL)
        assert (await service.ask("hello")).text == "hello"
    finally:
        for connection in sockets:
            connection.close()


async def _ask_and_strike(
    service: Service, n_callers: int, strike: Callable[[], None], *, stream: bool = False
) -> list[Reply]:
    """Have callers ask; `strike` once four of them are being answered."""
    speaking: set[int] = set()
    replies: dict[int, Reply] = {}
    are_speaking = anyio.Event()

    async def ask(n: int) -> None:
        def on_text() -> None:
            speaking.add(n)
            if len(speaking) == 4:
                are_speaking.set()

        replies[n] = await service.ask("repeat 30: on and on", stream=stream, on_text=on_text)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for n in range(n_callers):
                group.start_soon(ask, n)
            if stream:
                await are_speaking.wait()
            await service.until(lambda status: status["running"] == status["waiting"] == 4)
            strike()
    return [replies[n] for n in range(n_callers)]
