import asyncio
from collections.abc import Sequence
from functools import partial

import anyio
import pytest

from harness.gate import Tap, request_for, until
from locktender.core.errors import ContextTooLong, EngineFailed, ReplicaLost
from locktender.core.request import Delta, FinishReason, GenerationRequest
from locktender.model.direct import DirectReplica
from locktender.model.engine import EngineSpec, Output, StepperFactory
from locktender.model.engines.echo import EchoStepper
from locktender.model.replica import Load, Run

SPEC = EngineSpec("echo", max_running=2, options=(("context_tokens", 50),))


class BreakingStepper(EchoStepper):
    """Breaks in the step that a request for "break" is in, and cannot take one for "choke"."""

    _is_doomed = False

    def add(self, key: int, request: GenerationRequest) -> None:
        if "choke" in repr(request):
            raise RuntimeError
        self._is_doomed |= "break" in repr(request)
        super().add(key, request)

    def step(self) -> Sequence[tuple[int, Output]]:
        if self._is_doomed:
            raise RuntimeError
        return super().step()


async def started(factory: StepperFactory = EchoStepper) -> DirectReplica:
    replica = DirectReplica("m-0", SPEC, factory, lambda: None)
    await replica.start()
    return replica


async def read(run: Run) -> Delta:
    whole = Delta()
    with anyio.fail_after(5):
        async for delta in run:
            whole += delta
    return whole


async def test_it_answers_side_by_side() -> None:
    replica = await started()
    runs = [replica.run(request_for(text), 20) for text in ("a b", "c")]
    assert replica.load() == Load("m-0", 2, free_slots=0, free_tokens=60, context_tokens=50)
    assert await read(runs[1]) == Delta("c", 1, 1, FinishReason.STOP)
    assert await read(runs[0]) == Delta("a b", 2, 2, FinishReason.STOP)
    assert replica.load() == Load("m-0", 0, free_slots=2, free_tokens=100, context_tokens=50)
    await replica.stop(drain_s=0)


async def test_an_engine_that_was_idle_steps_again() -> None:
    replica = await started()
    for text in ("a", "b"):
        assert (await read(replica.run(request_for(text), 20))).text == text
    await replica.stop(drain_s=0)


async def test_it_has_no_room_before_its_start_and_after_its_stop() -> None:
    replica = DirectReplica("m-0", SPEC, EchoStepper, lambda: None)
    assert replica.load().free_slots == 0
    with pytest.raises(ReplicaLost):
        replica.run(request_for("a"), 20)
    await replica.start()
    assert replica.load().free_slots == 2
    await replica.stop(drain_s=0)
    assert replica.load().free_slots == 0
    with pytest.raises(ReplicaLost):
        replica.run(request_for("a"), 20)


async def test_what_the_engine_has_against_a_request_is_the_end_of_its_run_only() -> None:
    replica = await started()
    refused = replica.run(request_for("a", max_tokens=50), 20)
    taken = replica.run(request_for("b"), 20)
    with pytest.raises(ContextTooLong):
        await read(refused)
    assert (await read(taken)).text == "b"
    assert replica.load().free_slots == 2
    await replica.stop(drain_s=0)


async def test_closing_a_run_ends_it_in_the_engine() -> None:
    tap = Tap()
    replica = await started(partial(EchoStepper, gate=tap))
    run = replica.run(request_for("a b c"), 20)
    tap.n_poured = 1
    assert (await anext(run)).text == "a"
    await run.aclose()
    assert replica.load() == Load("m-0", 0, free_slots=2, free_tokens=100, context_tokens=50)
    assert await read(run) == Delta()
    await replica.stop(drain_s=0)


async def test_a_stop_ends_every_run_and_is_told() -> None:
    replica = await started(partial(EchoStepper, gate=Tap()))
    runs = [replica.run(request_for("a"), 20) for _ in range(2)]
    waiting = asyncio.create_task(replica.wait_lost())
    await replica.stop(drain_s=0)
    await replica.stop(drain_s=0)
    for run in runs:
        with pytest.raises(ReplicaLost):
            await read(run)
    with anyio.fail_after(5):
        assert await waiting
        assert await replica.wait_lost()


async def test_each_loss_has_a_name_of_its_own_and_those_who_are_lost_together_share_it() -> None:
    losses = []
    for _ in range(2):
        replica = await started(partial(EchoStepper, gate=Tap()))
        runs = [replica.run(request_for("a"), 20) for _ in range(2)]
        await replica.stop(drain_s=0)
        for run in runs:
            with pytest.raises(ReplicaLost) as caught:
                await read(run)
            losses.append(caught.value.loss)
    first, second, third, fourth = losses
    assert first == second != third == fourth


async def test_an_engine_that_breaks_in_a_step_is_lost() -> None:
    replica = await started(BreakingStepper)
    run = replica.run(request_for("break"), 20)
    with pytest.raises(ReplicaLost):
        await read(run)
    with anyio.fail_after(5):
        assert await replica.wait_lost()
    assert replica.load().free_slots == 0
    await replica.stop(drain_s=0)


async def test_an_engine_that_fails_to_take_a_request_keeps_the_others() -> None:
    replica = await started(BreakingStepper)
    taken = replica.run(request_for("a"), 20)
    with pytest.raises(EngineFailed):
        await read(replica.run(request_for("choke"), 20))
    assert (await read(taken)).text == "a"
    assert replica.load().free_slots == 2
    await replica.stop(drain_s=0)


async def test_an_idle_engine_is_no_sign_of_a_hang_and_neither_is_one_that_steps() -> None:
    tap = Tap()
    replica = await started(partial(EchoStepper, gate=tap))
    now = asyncio.get_running_loop().time
    started_at = now()
    await until(lambda: replica.progress_at > started_at)
    run = replica.run(request_for("a"), 20)
    asked_at = now()
    await until(lambda: replica.progress_at > asked_at)
    await run.aclose()
    await replica.stop(drain_s=0)
