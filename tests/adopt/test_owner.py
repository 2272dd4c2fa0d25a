"""An owner has its object called by one at a time, whoever waits, and however they leave."""

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import anyio
import pytest

from locktender.adopt.job import Job
from locktender.adopt.owner import GuardSettings, Owner
from locktender.app.background import background
from locktender.app.own_request import own_request, within
from locktender.core.errors import (
    ConfigError,
    DeadlineExceeded,
    QueueFull,
    ReplicaLost,
    WaitTooLong,
)
from locktender.core.events import Event, RequestEnded, RequestReceived
from locktender.core.scope import OuterRequest

LIMIT_S = 30


class Heavy:
    """An object whose calls stand still until the test says so."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Semaphore(0)
        self.n_inside = self.max_inside = 0
        self.calls: list[list[Any]] = []

    def __call__(self, jobs: Sequence[Job[Any]]) -> None:
        self.n_inside += 1
        self.max_inside = max(self.max_inside, self.n_inside)
        self.calls.append([job.payload for job in jobs])
        self.entered.release()
        while not self.gate.wait(0.01):
            if all(job.is_cancelled for job in jobs):
                break
        for job in jobs:
            job.put(f"{job.payload}!")
            job.end(job.payload)
        self.n_inside -= 1

    def job(self, payload: Any, key: Any = None) -> Job[Any]:
        return Job(self, payload=payload, key=key)


@pytest.fixture
def heavy() -> Iterator[Heavy]:
    heavy = Heavy()
    yield heavy
    heavy.gate.set()


async def until(is_so: Any) -> None:
    with anyio.fail_after(LIMIT_S):
        while not is_so():  # noqa: ASYNC110 - there is no event for whatever a test waits for
            await asyncio.sleep(0)


def n_inside(owner: Owner) -> int:
    gate = owner._gate  # noqa: SLF001 - what a test of the gate looks at
    return gate.dispatcher.n_waiting + gate.dispatcher.n_running if gate else 0


def test_threads_take_turns(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings())
    heavy.gate.set()
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda n: owner.run([heavy.job(n)])[0], range(16)))
    assert answers == list(range(16))
    assert heavy.max_inside == 1


async def test_coroutines_take_turns(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings())
    heavy.gate.set()
    answers = await asyncio.gather(*(owner.arun([heavy.job(n)]) for n in range(32)))
    assert answers == [[n] for n in range(32)]
    assert heavy.max_inside == 1


def n_running(owner: Owner) -> int:
    gate = owner._gate  # noqa: SLF001 - what a test of the gate looks at
    return gate.dispatcher.n_running if gate else 0


async def test_no_more_calls_run_at_once_than_may(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings(max_running=3))
    calls = [asyncio.create_task(owner.arun([heavy.job(n)])) for n in range(9)]
    await until(lambda: heavy.n_inside == 3)
    heavy.gate.set()
    await asyncio.gather(*calls)
    assert heavy.max_inside == 3


class Company(Heavy):
    """Work that others may join, at each turn of its loop."""

    def __call__(self, jobs: Any) -> None:
        here, company = list(jobs), list[Any]()
        self.entered.release()
        while True:
            company += [job.payload for job in here]
            self.gate.wait(LIMIT_S)
            for job in here:
                job.end(job.payload)
                jobs.done(job)
            here = jobs.joined()
            if not here and jobs.close():
                self.calls.append(company)
                return


async def test_those_with_equal_keys_join_a_call_until_another_one_is_at_the_head_of_the_line() -> (
    None
):
    company, owner = Company(), Owner("heavy", GuardSettings(), max_batch=4)
    first = asyncio.create_task(owner.arun([company.job("first", key="a")]))
    await until(lambda: n_inside(owner) == 1)
    assert await asyncio.to_thread(company.entered.acquire, timeout=LIMIT_S)
    keys = ["a", "a", "b", "a", None, "a"]
    rest = [asyncio.create_task(owner.arun([company.job(n, key)])) for n, key in enumerate(keys)]
    await until(lambda: n_inside(owner) == 7 and n_running(owner) == 3)
    company.gate.set()
    await asyncio.gather(first, *rest)
    await until(lambda: len(company.calls) == 5)  # who waited may know before it is noted
    assert company.calls == [["first", 0, 1], [2], [3], [4], [5]]


async def test_no_more_join_than_may_run_together() -> None:
    company, owner = Company(), Owner("heavy", GuardSettings(), max_batch=4)
    calls = [asyncio.create_task(owner.arun([company.job(n, key="a")])) for n in range(12)]
    await until(lambda: n_inside(owner) == 12 and n_running(owner) == 4)
    company.gate.set()
    assert await asyncio.gather(*calls) == [[n] for n in range(12)]


async def test_who_leaves_a_call_that_goes_on_gives_its_place_to_another() -> None:
    company, owner = Company(), Owner("heavy", GuardSettings(), max_batch=2)
    calls = [asyncio.create_task(owner.arun([company.job(n, key="a")])) for n in range(3)]
    await until(lambda: n_inside(owner) == 3)
    calls[1].cancel()
    company.gate.set()
    assert [await calls[0], await calls[2]] == [[0], [2]]
    await until(lambda: n_inside(owner) == 0)


async def test_more_than_may_wait_are_refused_and_nobody_else_is_harmed(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings(max_waiting=2))
    calls = [asyncio.create_task(owner.arun([heavy.job(n)])) for n in range(6)]
    with anyio.fail_after(LIMIT_S):
        done, _ = await asyncio.wait(calls[3:])
    assert [type(call.exception()) for call in done] == [QueueFull] * 3
    heavy.gate.set()
    assert await asyncio.gather(*calls[:3]) == [[0], [1], [2]]


async def test_a_wait_has_an_end(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings(max_wait_s=0.05))
    first = asyncio.create_task(owner.arun([heavy.job(1)]))
    await until(lambda: heavy.n_inside == 1)
    with anyio.fail_after(LIMIT_S), pytest.raises(WaitTooLong):
        await owner.arun([heavy.job(2)])
    heavy.gate.set()
    assert await first == [1]


async def test_a_call_has_an_end_and_the_slot_is_free_when_the_thread_is(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings(timeout_s=0.05))
    with anyio.fail_after(LIMIT_S):
        with pytest.raises(DeadlineExceeded):
            await owner.arun([heavy.job(1)])
        await until(lambda: n_inside(owner) == 0)
    assert heavy.n_inside == 0


@pytest.mark.parametrize("state", ["waiting", "running"])
async def test_who_leaves_frees_its_place(heavy: Heavy, state: str) -> None:
    owner = Owner("heavy", GuardSettings())
    first = asyncio.create_task(owner.arun([heavy.job("first")]))
    await until(lambda: heavy.n_inside == 1)
    second = asyncio.create_task(owner.arun([heavy.job("second")]))
    await until(lambda: n_inside(owner) == 2)
    (second if state == "waiting" else first).cancel()
    await until(lambda: n_inside(owner) == 1)
    heavy.gate.set()
    stays = first if state == "waiting" else second
    assert await stays == ["first" if state == "waiting" else "second"]
    assert ["second"] not in heavy.calls or state == "running"


async def test_a_thread_that_waits_is_let_go_when_the_caller_of_its_request_leaves(
    heavy: Heavy,
) -> None:
    owner, outer = Owner("heavy", GuardSettings()), OuterRequest("o")

    def call() -> str:
        with within(outer):
            try:
                owner.run([heavy.job(1)])
            except asyncio.CancelledError:
                return "cancelled"
        return "answered"

    waiting = asyncio.create_task(asyncio.to_thread(call))
    await until(lambda: heavy.n_inside == 1)
    outer.cancel.set()
    with anyio.fail_after(LIMIT_S):
        assert await waiting == "cancelled"
    await until(lambda: n_inside(owner) == 0)


def test_a_stream_that_is_dropped_frees_its_place(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings())
    heavy.gate.set()
    stream = owner.iterate(heavy.job("a"))
    assert next(stream) == "a!"
    stream.close()
    assert owner.run([heavy.job("b")]) == ["b"]


def test_an_unread_stream_holds_up_nobody(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings())
    heavy.gate.set()
    unread = owner.iterate(heavy.job("a"))
    assert next(unread) == "a!"
    assert owner.run([heavy.job("b")]) == ["b"]
    assert list(unread) == []


async def test_a_coroutine_may_block_its_loop(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings())
    heavy.gate.set()
    assert owner.run([heavy.job(1)]) == [1]


def test_a_job_of_the_same_owner_inside_a_job_runs_at_once() -> None:
    owner = Owner("heavy", GuardSettings())

    def inner(jobs: Sequence[Job[str]]) -> None:
        jobs[0].put("piece")
        jobs[0].end("inner")

    def outer(jobs: Sequence[Job[Any]]) -> None:
        jobs[0].end((owner.run([Job(inner)]), list(owner.iterate(Job(inner)))))

    assert owner.run([Job(outer)]) == [(["inner"], ["piece"])]


def test_a_job_of_another_owner_inside_a_job_takes_its_turn(heavy: Heavy) -> None:
    outer_owner, inner_owner = Owner("outer", GuardSettings()), Owner("inner", GuardSettings())
    heavy.gate.set()

    def outer(jobs: Sequence[Job[list[Any]]]) -> None:
        jobs[0].end(inner_owner.run([heavy.job(1)]))

    with ThreadPoolExecutor(8) as pool:
        answers: list[Any] = list(pool.map(lambda _: outer_owner.run([Job(outer)]), range(8)))
    assert answers == [[[1]]] * 8


def test_two_objects_that_call_each_other_do_not_wait_for_one_another() -> None:
    owners = Owner("a", GuardSettings()), Owner("b", GuardSettings())
    both = threading.Barrier(2)

    def work(jobs: Sequence[Job[Any]]) -> None:
        both.wait(LIMIT_S)
        other = owners[1 - jobs[0].payload]
        jobs[0].end(other.run([Job(lambda inner: inner[0].end("inner"))]))

    with ThreadPoolExecutor(2) as pool:
        calls: list[Job[Any]] = [Job(work, payload=n) for n in range(2)]
        found = pool.map(lambda n: owners[n].run([calls[n]]), range(2), timeout=LIMIT_S)
        assert list(found) == [[["inner"]], [["inner"]]]
    assert [owner.awaits for owner in owners] == [[], []]


def test_what_the_object_raises_reaches_its_caller_as_it_is() -> None:
    owner = Owner("heavy", GuardSettings())
    error = ZeroDivisionError("mine")

    def work(_jobs: Sequence[Job[Any]]) -> None:
        raise error

    with pytest.raises(ZeroDivisionError) as raised:
        owner.run([Job(work)])
    assert raised.value is error
    assert owner.run([Job(lambda jobs: jobs[0].end(1))]) == [1]


async def test_a_batch_beyond_the_room_waits(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings(max_waiting=1))
    heavy.gate.set()
    with own_request() as outer, within(outer):
        assert await owner.arun([heavy.job(n) for n in range(40)]) == list(range(40))


def test_the_context_of_the_caller_is_seen_by_the_work() -> None:
    owner, mine = Owner("heavy", GuardSettings()), contextvars.ContextVar("mine", default=0)
    mine.set(7)
    assert owner.run([Job(lambda jobs: jobs[0].end(mine.get()))]) == [7]


def test_every_request_ends_once() -> None:
    events: list[Event] = []
    owner = Owner("heavy", GuardSettings(max_waiting=3), events.append)

    def call(n: int) -> None:
        with suppress(QueueFull):
            owner.run([Job(lambda jobs: jobs[0].end(n))])

    with ThreadPoolExecutor(24) as pool:
        list(pool.map(call, range(200)))
    background.run(asyncio.sleep(0))
    received = [event.request_id for event in events if isinstance(event, RequestReceived)]
    ended = [event.request_id for event in events if isinstance(event, RequestEnded)]
    assert len(received) == 200
    assert sorted(received) == sorted(ended)


def test_the_threads_end_with_the_owner(heavy: Heavy) -> None:
    heavy.gate.set()
    owner = Owner("short-lived", GuardSettings(max_running=2))
    owner.run([heavy.job(1)])
    threads = [one for one in threading.enumerate() if one.name.startswith("short-lived")]
    assert len(threads) == 2
    del owner

    def have_ended() -> bool:
        gc.collect()  # not only once: the job's visit to the gate may still be on its way out
        return not any(thread.is_alive() for thread in threads)

    asyncio.run(until(have_ended))


def test_bounds_that_cannot_work_are_refused() -> None:
    with pytest.raises(ConfigError):
        Owner("heavy", GuardSettings(max_running=0))


def test_a_job_that_runs_on_after_its_end_gets_no_more_turns(heavy: Heavy) -> None:
    owner = Owner("heavy", GuardSettings())
    outer_request_is_over, ends = threading.Event(), list[type[BaseException]]()

    def work(_jobs: Sequence[Job[Any]]) -> None:
        heavy.entered.release()
        outer_request_is_over.wait(LIMIT_S)
        try:
            owner.run([Job(lambda jobs: jobs[0].end("inner"))])
        except asyncio.CancelledError as error:
            ends.append(type(error))

    outer = OuterRequest("o")

    def call() -> None:
        with within(outer), suppress(asyncio.CancelledError):
            owner.run([Job(work)])

    caller = threading.Thread(target=call)
    caller.start()
    assert heavy.entered.acquire(timeout=LIMIT_S)
    outer.cancel.set()
    caller.join(LIMIT_S)
    outer_request_is_over.set()
    assert owner.run([Job(lambda jobs: jobs[0].end("next"))]) == ["next"]
    assert ends == [asyncio.CancelledError]


async def test_threads_whose_callers_have_left_leave_the_line_and_count_as_such(
    heavy: Heavy,
) -> None:
    events: list[Event] = []
    owner, outer = Owner("heavy", GuardSettings(), events.append), OuterRequest("o")
    first = asyncio.create_task(owner.arun([heavy.job("first")]))
    await until(lambda: heavy.n_inside == 1)

    def call() -> None:
        with within(outer), suppress(asyncio.CancelledError):
            owner.run([heavy.job("second")])

    calls = [asyncio.create_task(asyncio.to_thread(call)) for _ in range(2)]
    await until(lambda: n_inside(owner) == 3)
    outer.cancel.set()
    await asyncio.gather(*calls)
    await until(lambda: n_inside(owner) == 1)
    heavy.gate.set()
    await first
    ends = [event.outcome for event in events if isinstance(event, RequestEnded)]
    assert sorted(ends) == ["cancelled", "cancelled", "completed"]


def test_an_error_of_ours_out_of_the_object_is_not_taken_for_the_gates() -> None:
    owner = Owner("heavy", GuardSettings())

    def work(_jobs: Sequence[Job[Any]]) -> None:
        raise ReplicaLost("another engine, elsewhere", "x#1")

    for _ in range(3):
        with pytest.raises(ReplicaLost, match="elsewhere"):
            owner.run([Job(work)])
    assert owner.run([Job(lambda jobs: jobs[0].end(1))]) == [1]


def test_whoever_has_an_answer_is_not_in_its_own_way() -> None:
    owner = Owner("heavy", GuardSettings(max_waiting=0))

    def work(jobs: Sequence[Job[int]]) -> None:
        jobs[0].end(jobs[0].payload)

    for n in range(300):
        assert owner.run([Job(work, payload=n)]) == [n]


def test_a_failed_call_keeps_nothing_of_what_it_held() -> None:
    class Tensor:
        """Something large."""

    owner, held = Owner("heavy", GuardSettings()), list[weakref.ref[Tensor]]()

    def fail() -> None:
        tensor = Tensor()
        held.append(weakref.ref(tensor))
        message = "out of memory"
        raise MemoryError(message)

    gc.disable()
    try:
        for _ in range(5):
            with pytest.raises(MemoryError):
                owner.run([Job(lambda _: fail())])
        assert [ref() for ref in held] == [None] * 5
    finally:
        gc.enable()


async def test_a_large_batch_does_not_spend_its_time_in_the_gate() -> None:
    inside: list[int] = []
    owner = Owner("heavy", GuardSettings(max_waiting=4))

    def work(jobs: Sequence[Job[Any]]) -> None:
        inside.append(n_inside(owner))
        jobs[0].end(None)

    with own_request() as outer, within(outer):
        await owner.arun([Job(work) for _ in range(100)])
    assert max(inside) <= 3
