"""Work beside the event loop: in one thread, one at a time."""

import asyncio
import threading
from contextvars import ContextVar
from types import SimpleNamespace

import anyio
import pytest

from locktender.core.errors import DeadlineExceeded, QueueFull
from locktender.http.offload import Offload, offload_of

who: ContextVar[str] = ContextVar("who")


async def test_work_is_done_in_another_thread_with_the_caller_s_context() -> None:
    who.set("ann")
    name, thread = await Offload().run(lambda: (who.get(), threading.current_thread()))
    assert name == "ann"
    assert thread is not threading.current_thread()


async def test_what_the_work_raises_is_raised() -> None:
    for error in (KeyError, TimeoutError):
        with pytest.raises(error):
            await Offload().run(_raise, error("x"), timeout_s=20)


def _raise(error: Exception) -> None:
    raise error


async def test_one_at_a_time_while_the_loop_goes_on() -> None:
    offload, may_end = Offload(), threading.Event()
    done: list[int] = []

    def work(n: int) -> None:
        if n == 0:
            may_end.wait(20)
        done.append(n)

    works = [asyncio.create_task(offload.run(work, n)) for n in range(3)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert done == []
    may_end.set()
    with anyio.fail_after(20):
        await asyncio.gather(*works)
    assert done == [0, 1, 2]


async def test_work_whose_time_has_passed_while_it_waited_is_never_begun() -> None:
    offload, may_end = Offload(), threading.Event()
    done: list[str] = []
    first = asyncio.create_task(offload.run(may_end.wait, 20))
    await asyncio.sleep(0)
    with pytest.raises(DeadlineExceeded, match="body waited"):
        await offload.run(done.append, "late", timeout_s=0)
    may_end.set()
    with anyio.fail_after(20):
        assert await first
        await offload.run(done.append, "next")
    assert done == ["next"]


async def test_so_many_may_wait_and_no_more() -> None:
    offload, may_end = Offload(), threading.Event()
    works = []
    for _ in range(32):
        offload.check_room()
        works.append(asyncio.create_task(offload.run(may_end.wait, 20)))
        await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        offload.check_room()
    may_end.set()
    with anyio.fail_after(20):
        assert all(await asyncio.gather(*works))
    offload.check_room()


def test_an_application_has_one() -> None:
    app = SimpleNamespace(state=SimpleNamespace())
    assert offload_of(app) is offload_of(app)
    assert offload_of(None) is not offload_of(None)
