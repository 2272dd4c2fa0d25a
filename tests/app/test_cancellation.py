import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
import pytest

from locktender.app.cancellation import Stay
from locktender.core.errors import DeadlineExceeded
from locktender.core.scope import OuterRequest, outer_request


def caller(leaves: asyncio.Event) -> Callable[[], Awaitable[dict[str, Any]]]:
    async def receive() -> dict[str, Any]:
        await leaves.wait()
        return {"type": "http.disconnect"}

    return receive


async def test_a_block_that_ends_well_leaves_no_trace() -> None:
    outer = OuterRequest("o")
    n_tasks = len(asyncio.all_tasks())
    async with Stay(caller(asyncio.Event()), outer) as stay:
        assert outer_request.get() is outer
    await anyio.lowlevel.checkpoint()
    assert outer_request.get() is None
    assert not stay.has_left
    assert not outer.cancel.is_set
    assert len(asyncio.all_tasks()) == n_tasks


async def test_a_caller_that_leaves_ends_the_block_in_silence() -> None:
    leaves, outer = asyncio.Event(), OuterRequest("o")
    with anyio.fail_after(10):
        async with Stay(caller(leaves), outer) as stay:
            leaves.set()
            await asyncio.Event().wait()
    assert stay.has_left
    assert outer.cancel.is_set
    await anyio.lowlevel.checkpoint()  # no cancellation is left over


async def test_what_a_run_raises_when_it_is_cut_off_concerns_nobody() -> None:
    leaves = asyncio.Event()
    with anyio.fail_after(10):
        async with Stay(caller(leaves), OuterRequest("o")) as stay:
            leaves.set()
            try:
                await asyncio.Event().wait()
            finally:
                message = "cut off"
                raise ValueError(message)
    assert stay.has_left


async def test_a_deadline_that_has_passed_ends_the_block_at_its_first_wait() -> None:
    outer = OuterRequest("o", deadline_at=time.monotonic() - 1)
    with anyio.fail_after(10), pytest.raises(DeadlineExceeded):
        async with Stay(caller(asyncio.Event()), outer):
            await asyncio.Event().wait()
    assert outer.cancel.is_set


async def test_an_error_of_the_block_goes_through_and_tells_the_threads() -> None:
    outer = OuterRequest("o")
    with pytest.raises(TimeoutError):
        async with Stay(caller(asyncio.Event()), outer):
            raise TimeoutError
    assert outer.cancel.is_set


async def test_a_cancellation_from_elsewhere_goes_through() -> None:
    outer, has_begun = OuterRequest("o"), asyncio.Event()

    async def stay() -> None:
        async with Stay(caller(asyncio.Event()), outer):
            has_begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    with anyio.fail_after(10):
        await has_begun.wait()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()
    assert outer.cancel.is_set


async def test_a_cancellation_from_elsewhere_is_not_taken_for_the_caller_s_leaving() -> None:
    leaves, has_begun = asyncio.Event(), asyncio.Event()

    async def stay() -> None:
        async with Stay(caller(leaves), OuterRequest("o")):
            has_begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(stay())
    with anyio.fail_after(10):
        await has_begun.wait()
        leaves.set()
        task.cancel()
        await asyncio.wait([task])
    assert task.cancelled()


async def test_a_connection_that_breaks_is_a_caller_that_left() -> None:
    async def receive() -> dict[str, Any]:
        raise OSError

    with anyio.fail_after(10):
        async with Stay(receive, OuterRequest("o")) as stay:
            await asyncio.Event().wait()
    assert stay.has_left


async def test_a_block_that_is_over_is_not_cancelled_by_a_caller_that_leaves_then() -> None:
    leaves = asyncio.Event()
    async with Stay(caller(leaves), OuterRequest("o")) as stay:
        leaves.set()
    for _ in range(5):
        await anyio.lowlevel.checkpoint()
    assert not stay.has_left


async def test_a_middleware_that_repeats_the_body_neither_ends_nor_holds_the_run() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    with anyio.fail_after(10):
        async with Stay(receive, OuterRequest("o")) as stay:
            for _ in range(5):
                await anyio.lowlevel.checkpoint()
    assert not stay.has_left


async def test_a_block_that_swallows_its_cancellation_is_late_all_the_same() -> None:
    outer = OuterRequest("o", deadline_at=time.monotonic() + 0.01)

    async def swallow() -> None:
        async with Stay(caller(asyncio.Event()), outer):
            with suppress(asyncio.CancelledError):
                await asyncio.Event().wait()

    with anyio.fail_after(10), pytest.raises(DeadlineExceeded):
        await swallow()
    assert outer.cancel.is_set


async def test_a_cancellation_that_nobody_asked_for_is_a_failure_of_the_block() -> None:
    outer = OuterRequest("o")
    with pytest.raises(RuntimeError, match="nobody had asked for"):
        async with Stay(caller(asyncio.Event()), outer):
            raise asyncio.CancelledError
    assert outer.cancel.is_set
