"""Hold what a run tells until its reader takes it, and hold the run while it is too far ahead.

A run tells of itself by callbacks, which come as fast as it goes and not as they are asked for.  So
a caller that reads slowly would have its server keep the whole run in memory.  Knows nothing of
LangChain; above it, `run_log` and `event_stream` put in what they see.
"""

import asyncio
import concurrent.futures
import threading
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

__all__ = ["Feed", "fed_by"]

_Item = TypeVar("_Item")
_MAX_AHEAD = 256  # items; a chunk of a chain of five steps makes some five of them
# A loop that does not answer for so long is taken to be one that waits for this very thread.
_ANSWER_S = 0.05
_MAX_UNASKED = 32  # items from a thread, which may have stopped on their way here


class Feed(Generic[_Item]):
    """The way from a run, in whatever threads it is, to its one reader.

    1. Items are read in the order in which they were put.
    2. A run that asks for room after each `put` is ahead of the reader by `max_ahead` items, and by
       a few for each of its tasks and threads, at most.
    3. Only a run that blocks the reader's own event loop is not held: the reader would not get on.
    """

    def __init__(self, max_ahead: int = _MAX_AHEAD) -> None:
        self._loop = asyncio.get_running_loop()
        self._max_ahead = max_ahead
        self._items: deque[_Item] = deque()
        self._tasks: list[asyncio.Task[Any]] = []
        self._has_news = asyncio.Event()
        self._has_room = asyncio.Event()
        self._is_closed = False
        self._n_unasked = 0
        self._last_answer = threading.Event()
        self._last_answer.set()

    def put(self, item: _Item) -> None:
        """Append an item, from any thread; it is dropped when the reader has left."""
        if self._is_closed:
            return
        self._items.append(item)
        if self._is_here():
            self._has_news.set()
        else:
            with suppress(RuntimeError):  # The loop is closed, and nobody reads.
                self._loop.call_soon_threadsafe(self._has_news.set)

    async def room(self) -> None:
        """Give the reader its turn, and wait while it is too far behind."""
        if not self._is_here():
            self.room_now()
            return
        await asyncio.sleep(0)
        while self._is_full():
            self._has_room.clear()
            await self._has_room.wait()

    def room_now(self) -> None:
        """Wait as `room` does, from synchronous code in another thread."""
        self._n_unasked += 1
        if not self._is_full() and self._n_unasked < _MAX_UNASKED:
            return
        if self._is_here() or self._is_closed or not self._last_answer.is_set():
            return
        self._n_unasked = 0
        answer = threading.Event()
        try:
            self._loop.call_soon_threadsafe(answer.set)
            if answer.wait(_ANSWER_S):
                asyncio.run_coroutine_threadsafe(self.room(), self._loop).result()
            else:
                self._last_answer = answer  # and nobody waits again before it comes
        except (RuntimeError, concurrent.futures.CancelledError):
            self._is_closed = True  # The loop has ended, or ends now: nobody will read.

    def join(self) -> None:
        """Make the current task one of the run's, which is cancelled when the reader leaves."""
        if task := asyncio.current_task():
            self._tasks.append(task)

    async def read(self, run: Awaitable[None]) -> AsyncGenerator[_Item, None]:
        """Yield the items of `run`, and end as it ends; leaving ends it.  Raises what it raises."""
        task = asyncio.ensure_future(run)
        self._tasks.append(task)
        task.add_done_callback(lambda _: self._has_news.set())
        try:
            while self._items or not task.done():
                if self._items:
                    yield self._take()
                else:
                    self._has_news.clear()
                    await self._has_news.wait()
            task.result()
        finally:
            await self._close()

    def _take(self) -> _Item:
        item = self._items.popleft()
        if not self._is_full():
            self._has_room.set()
        return item

    async def _close(self) -> None:
        self._is_closed = True
        self._has_room.set()
        for task in self._tasks:
            task.cancel()
        # They are gone when the answer has ended; what they say of it concerns nobody.
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _is_full(self) -> bool:
        return len(self._items) >= self._max_ahead and not self._is_closed

    def _is_here(self) -> bool:
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False


async def fed_by(run: Callable[[Feed[_Item]], Awaitable[None]]) -> AsyncGenerator[_Item, None]:
    """Yield what `run` puts into the feed that it is given; it begins with the first item asked."""
    feed: Feed[_Item] = Feed()
    items = feed.read(run(feed))
    try:
        async for item in items:
            yield item
    finally:
        await items.aclose()
