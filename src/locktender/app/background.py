"""Run asynchronous work for synchronous callers: one thread with one event loop per process.

A caller may itself stand in a coroutine, whose loop it blocks, so that the work must go on
elsewhere.  The thread is started by the first call.  No code of users runs in it; the caller's
ContextVars are seen by the work, since asyncio takes them along.
"""

import asyncio
import atexit
import concurrent.futures
import os
import threading
from collections.abc import AsyncGenerator, Coroutine, Generator
from contextlib import suppress
from typing import Any, TypeVar

__all__ = ["Background", "background"]

_Result = TypeVar("_Result")
_END_S = 2.0  # for connections to be closed when the interpreter ends


class Background:
    """A loop for whoever has none, in a thread that is started when it is first needed."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: _LoopThread | None = None

    def run(self, work: Coroutine[Any, Any, _Result]) -> _Result:
        """Do `work` and return its result; an exception in the waiting thread cancels it.

        Raises: what it raises; `asyncio.CancelledError` if it is cancelled.
        """
        future = self.submit(work)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            # The one that asyncio raises passes by `except Exception`, as a cancellation must.
            raise asyncio.CancelledError from None
        except BaseException:
            future.cancel()
            raise

    def submit(self, work: Coroutine[Any, Any, _Result]) -> "concurrent.futures.Future[_Result]":
        """Begin `work`, in the ContextVars of the caller; cancelling the future cancels it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop())

    def iterate(self, items: AsyncGenerator[_Result, None]) -> Generator[_Result, None, None]:
        """Yield what `items` yields; leaving closes it."""
        try:
            while item := self.run(_next(items)):
                yield item[0]
        finally:
            # Not waited for: a generator may be dropped in any thread, the loop's own included.
            loop = self._loop()
            with suppress(RuntimeError):  # The interpreter ends, and the loop has.
                loop.call_soon_threadsafe(lambda: loop.create_task(_close(items)))

    def stop(self) -> None:
        """End the thread and what is under way in it."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.stop()

    def forget(self) -> None:
        """Begin anew; in a forked process, which has no thread but the one that forked."""
        self._lock, self._thread = threading.Lock(), None

    def _loop(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._thread is None:
                self._thread = _LoopThread()
            return self._thread.loop


class _LoopThread:
    """A daemon thread that runs a loop until it is told to stop."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        self._stopped = asyncio.Event()
        self._has_begun = threading.Event()
        self._thread = threading.Thread(target=self._live, name="locktender", daemon=True)
        self._thread.start()
        self._has_begun.wait()

    def stop(self) -> None:
        """Cancel the loop's tasks, close its connections and end the thread."""
        self.loop.call_soon_threadsafe(self._stopped.set)
        self._thread.join(_END_S)

    def _live(self) -> None:
        with asyncio.Runner() as runner:
            self.loop = runner.get_loop()
            self._has_begun.set()
            runner.run(self._wait())

    async def _wait(self) -> None:
        await self._stopped.wait()


async def _next(items: AsyncGenerator[_Result, None]) -> tuple[_Result] | None:
    """Return the next item, wrapped, since it may be anything; None after the last."""
    async for item in items:
        return (item,)
    return None


async def _close(items: AsyncGenerator[Any, None]) -> None:
    with suppress(RuntimeError):  # It runs: it was cancelled a moment ago and closes by itself.
        await items.aclose()


# For all models of the process: a thread for each would cost more than their calls.
background = Background()
atexit.register(background.stop)
os.register_at_fork(after_in_child=background.forget)
