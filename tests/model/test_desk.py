from collections.abc import AsyncIterator

import anyio
import pytest

from locktender.core.errors import EngineFailed, ReplicaLost
from locktender.core.request import Delta, FinishReason, GenerationRequest, TextInput
from locktender.model.desk import Desk, DeskRun
from locktender.model.engine import Limits
from locktender.model.replica import Load

LIMITS = Limits(max_running=2, context_tokens=60, kv_tokens=100)
LAST = Delta(" end", 1, finish_reason=FinishReason.STOP)


class Bench:
    """A desk, and what it asks of those around it."""

    def __init__(self) -> None:
        self.n_changes = 0
        self.cancelled: list[int] = []
        self.desk = Desk("m-0", self._changed, self.cancelled.append)

    def _changed(self) -> None:
        self.n_changes += 1

    def take(self, *, tokens: int = 40, max_tokens: int = 10) -> tuple[int, DeskRun]:
        request = GenerationRequest("1", "m", TextInput("a"), max_tokens)
        return self.desk.take(request, tokens)

    @property
    def room(self) -> tuple[int, int]:
        load = self.desk.load(LIMITS)
        return load.free_slots, load.free_tokens


async def read(run: AsyncIterator[Delta]) -> list[Delta]:
    with anyio.fail_after(5):
        return [delta async for delta in run]


def test_an_engine_that_has_not_stated_its_limits_has_no_room() -> None:
    assert Bench().desk.load(None) == Load("m-0", 0, 0, 0, 0)


def test_a_run_takes_a_slot_and_its_tokens() -> None:
    bench = Bench()
    bench.take(tokens=40)
    assert bench.desk.load(LIMITS) == Load(
        "m-0", running=1, free_slots=1, free_tokens=60, context_tokens=60
    )
    assert not bench.desk.is_empty


async def test_the_last_delta_frees_the_slot_before_it_is_read() -> None:
    bench = Bench()
    key, run = bench.take()
    bench.desk.feed(key, Delta("one", 1, 3))
    bench.desk.feed(key, LAST)
    assert bench.room == (2, 100)
    assert bench.desk.is_empty
    assert await read(run) == [Delta("one end", 2, 3, FinishReason.STOP)]


async def test_deltas_that_are_read_as_they_come_are_not_merged() -> None:
    bench = Bench()
    key, run = bench.take()
    bench.desk.feed(key, Delta("one", 1, 3))
    assert await anext(run) == Delta("one", 1, 3)
    bench.desk.feed(key, LAST)
    assert await anext(run) == LAST
    with pytest.raises(StopAsyncIteration):
        await anext(run)


async def test_a_reader_that_came_first_is_told() -> None:
    bench = Bench()
    key, run = bench.take()
    async with anyio.create_task_group() as tasks:
        got: list[Delta] = []

        async def read_all() -> None:
            got.extend(await read(run))

        tasks.start_soon(read_all)
        await anyio.wait_all_tasks_blocked()
        bench.desk.feed(key, LAST)
    assert got == [LAST]


async def test_what_came_before_an_error_is_read_first_and_nothing_after_it() -> None:
    bench = Bench()
    key, run = bench.take()
    bench.desk.feed(key, Delta("one", 1, 3))
    bench.desk.feed(key, EngineFailed("It broke."))
    assert bench.room == (2, 100)
    assert await anext(run) == Delta("one", 1, 3)
    with pytest.raises(EngineFailed):
        await anext(run)
    assert await read(run) == []


async def test_closing_a_run_has_the_engine_end_it_and_frees_its_room_at_once() -> None:
    bench = Bench()
    key, run = bench.take()
    await run.aclose()
    await run.aclose()
    assert bench.cancelled == [key]
    assert bench.room == (2, 100)
    assert await read(run) == []


async def test_closing_a_run_that_has_ended_cancels_nothing() -> None:
    bench = Bench()
    key, run = bench.take()
    bench.desk.feed(key, LAST)
    await run.aclose()
    assert bench.cancelled == []


def test_what_comes_late_for_a_run_that_was_closed_is_ignored() -> None:
    bench = Bench()
    key, _ = bench.take()
    bench.desk.drop(key)
    bench.desk.feed(key, LAST)
    assert bench.room == (2, 100)


def test_the_engines_count_of_the_prompt_frees_what_was_charged_too_much() -> None:
    bench = Bench()
    key, _ = bench.take(tokens=40, max_tokens=10)
    bench.desk.feed(key, Delta("", 0, 5))
    assert bench.room == (1, 85)
    assert bench.n_changes == 1


def test_the_engines_count_never_charges_more_than_was_planned() -> None:
    bench = Bench()
    key, _ = bench.take(tokens=40, max_tokens=10)
    bench.desk.feed(key, Delta("", 0, 1000))
    assert bench.room == (1, 60)
    bench.desk.feed(key, LAST)
    assert bench.room == (2, 100)


async def test_a_loss_ends_every_run_with_an_error_of_its_own() -> None:
    bench = Bench()
    runs = [bench.take()[1] for _ in range(2)]
    bench.desk.lose_all("The engine process ended.", "m-0#1")
    assert bench.room == (2, 100)
    errors = []
    for run in runs:
        with pytest.raises(ReplicaLost) as caught:
            await anext(run)
        errors.append(caught.value)
    assert [error.loss for error in errors] == ["m-0#1", "m-0#1"]
    assert errors[0] is not errors[1]
    asked = GenerationRequest("2", "m", TextInput("a"), 10)
    assert errors[0].present == (asked.digest(), asked.digest())


async def test_when_the_engine_has_done_it_is_told_once_with_what_is_unread() -> None:
    bench, told = Bench(), list[tuple[object, int, tuple[int, int]]]()
    key, run = bench.take()
    run.when_over(lambda last, n_unread: told.append((last, n_unread, bench.room)))
    bench.desk.feed(key, Delta("é", 1, 3))
    bench.desk.feed(key, LAST)
    run.fail(EngineFailed("Too late."))
    assert told == [(LAST, 6, (2, 100))]  # bytes; and its room is free by then
    assert (await read(run))[0].text == "é end"


async def test_who_asks_after_the_end_is_told_at_once() -> None:
    bench, told = Bench(), list[object]()
    key, run = bench.take()
    error = EngineFailed("It broke.")
    bench.desk.feed(key, error)
    run.when_over(lambda last, n_unread: told.append((last, n_unread)))
    assert told == [(error, 0)]


async def test_of_a_run_that_was_closed_nothing_is_told() -> None:
    bench, told = Bench(), list[object]()
    key, run = bench.take()
    run.when_over(lambda last, _: told.append(last))
    await run.aclose()
    bench.desk.feed(key, LAST)
    assert told == []


def test_every_end_of_a_run_is_told() -> None:
    bench = Bench()
    keys = [bench.take(tokens=10)[0] for _ in range(3)]
    bench.desk.feed(keys[0], LAST)
    bench.desk.drop(keys[1])
    bench.desk.lose_all("The engine process ended.", "m-0#1")
    assert bench.n_changes == 3


def test_no_two_runs_have_one_key() -> None:
    bench = Bench()
    first, _ = bench.take()
    bench.desk.drop(first)
    assert bench.take()[0] != first
