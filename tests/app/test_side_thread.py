"""Calls that block, in threads of their own."""

import threading

import anyio
import pytest

from locktender.app.side_thread import SideThreads
from locktender.core.errors import DeadlineExceeded


async def test_a_call_gives_what_it_returns_and_raises() -> None:
    threads = SideThreads("nobody", max_calls=1, timeout_s=20)

    def fail() -> None:
        raise ValueError("x")

    assert await threads.call(lambda: 5) == 5
    with pytest.raises(ValueError, match="x"):
        await threads.call(fail)
    assert await threads.call(threading.get_ident) != threading.get_ident()


async def test_a_call_that_takes_too_long_is_left_alone() -> None:
    may_end = threading.Event()
    threads = SideThreads("nobody", max_calls=1, timeout_s=0.01)
    with pytest.raises(DeadlineExceeded, match="nobody took too long"):
        await threads.call(may_end.wait)
    may_end.set()


async def test_one_call_too_many_is_refused_until_another_has_ended() -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    threads = SideThreads("nobody", max_calls=1, timeout_s=20)

    def block() -> bool:
        has_begun.set()
        return may_end.wait(20)

    async with anyio.create_task_group() as group:
        group.start_soon(threads.call, block)
        await anyio.to_thread.run_sync(has_begun.wait, 20)
        with pytest.raises(DeadlineExceeded, match="does not answer those"):
            await threads.call(lambda: 1)
        may_end.set()
    assert await threads.call(lambda: 1) == 1


async def test_a_caller_that_is_cancelled_does_not_wait() -> None:
    may_end = threading.Event()
    threads = SideThreads("nobody", max_calls=1, timeout_s=20)
    with anyio.move_on_after(0.01) as scope:
        await threads.call(may_end.wait)
    assert scope.cancelled_caught
    may_end.set()


async def test_a_thread_that_cannot_be_had_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = SideThreads("nobody", max_calls=1, timeout_s=20)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="start new thread"):
            await threads.call(lambda: 1)
    assert await threads.call(lambda: 1) == 1
