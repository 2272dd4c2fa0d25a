"""Wait for a job where its caller is, in a thread or in a coroutine.

A wait ends with the job, or when the caller of the outer request goes.  It is bounded without a
clock of its own: whoever sees a job through ends it at its deadline, and reports however it ends.
`owner` and `factory_crew` see jobs through; here is what both need.
"""

import asyncio
import math
import threading
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from locktender.adopt.job import Job
from locktender.app.completion import cancelled_with
from locktender.core.errors import EngineFailed, LocktenderError
from locktender.core.scope import OuterRequest, Scope, outer_request

__all__ = ["aiterate", "ended_with_caller", "iterate", "reported", "scope_of", "waking"]


def iterate(job: Job[Any]) -> Generator[Any, None, None]:
    """Yield the pieces of `job` until it is over.  Raises: what it has failed with."""
    woken = threading.Event()
    job.watch(woken.set)
    with ended_with_caller(job):
        while not job.is_over:
            woken.wait()  # bounded: the job is ended at its deadline
            woken.clear()
            yield from job.take()
        yield from job.take()
        job.result()


async def aiterate(job: Job[Any]) -> AsyncGenerator[Any, None]:
    """Yield the pieces of `job` until it is over.  Raises: what it has failed with."""
    news = asyncio.Event()
    job.watch(waking(news))
    with cancelled_with(outer_request.get(), asyncio.current_task()):
        while not job.is_over:
            await news.wait()
            news.clear()
            for piece in job.take():
                yield piece
        for piece in job.take():
            yield piece
        job.result()


def waking(news: asyncio.Event) -> Callable[[], None]:
    """Return what sets `news` from any thread; to be called where `news` is waited for."""
    loop = asyncio.get_running_loop()

    def wake() -> None:
        with suppress(RuntimeError):  # The loop is closed, and who waited on it is gone.
            loop.call_soon_threadsafe(news.set)

    return wake


@contextmanager
def ended_with_caller(job: Job[Any]) -> Iterator[None]:
    """End `job` when the caller of the outer request goes."""
    outer = outer_request.get()

    def end() -> None:
        # The error that passes by `except Exception`, as a cancellation must.
        job.fail(asyncio.CancelledError())
        job.let_go()

    forget = outer.cancel.on_set(end) if outer else None
    try:
        yield
    finally:
        if forget is not None:
            forget()


@contextmanager
def reported(job: Job[Any]) -> Iterator[None]:
    """Have whoever waits for `job` told how the block failed, unless the job has ended before."""
    try:
        yield
    except asyncio.CancelledError:
        job.fail(asyncio.CancelledError())
        raise
    except LocktenderError as error:
        job.fail(error)
    except Exception as error:  # noqa: BLE001 - the boundary: nobody else would tell who waits
        failure = EngineFailed("A fault of ours ended the call.")
        failure.__cause__ = error
        job.fail(failure)
    finally:
        job.let_go()


def scope_of(outer: OuterRequest | None) -> Scope:
    """Return for whom, and until when, a call of `outer` is made."""
    if outer is None:
        return Scope()
    remaining_s = outer.remaining_s(time.monotonic())
    return Scope(
        timeout_s=remaining_s,
        outer=outer.id,
        outer_s=math.inf if remaining_s is None else remaining_s,  # nobody need sign for it here
        caller_id=outer.caller_id,
        tenant=outer.tenant,
    )
