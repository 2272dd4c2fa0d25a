"""Let a run last as long as its caller waits, and no longer.

Knows nothing of HTTP but ASGI's `receive`, whose next message, once the body is read, says that the
caller has gone.  What runs in a thread cannot be cancelled from here: it finds the request's
`CancelToken` set, and its next call to a model ends.  Above it, `endpoint` and `streaming` run
the runnables within a `Stay`.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextvars import Token
from types import TracebackType
from typing import Any, Self, TypeAlias

from locktender.core.errors import DeadlineExceeded
from locktender.core.scope import OuterRequest, outer_request

__all__ = ["Receive", "Stay"]

# A run that is over sooner spares the task that watches, a twentieth of what a request costs.
_WATCH_AFTER_S = 0.01

Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]


class Stay:
    """The time that a caller waits for its answer, as a block of code.

    1. Within the block `outer_request` is the caller's request.
    2. When the caller leaves, the block is cancelled and ends in silence; `has_left` is true.
    3. When the deadline passes, the block is cancelled and DeadlineExceeded is raised.
    4. Unless the block ends well and in time, the request's CancelToken is set.
    5. A cancellation from elsewhere goes through; one that the block itself raises, with nobody
       having cancelled it, is a failure like another, and a RuntimeError.
    """

    def __init__(self, receive: Receive, outer: OuterRequest) -> None:
        self.has_left = False
        self._has_expired = False
        self._is_over = False
        self._receive = receive
        self._outer = outer

    async def __aenter__(self) -> Self:
        task = asyncio.current_task()
        if task is None:
            message = "A stay is for code that runs in a task."
            raise RuntimeError(message)
        self._task = task
        self._n_cancelled_before = task.cancelling()
        remaining_s = self._outer.remaining_s(time.monotonic())
        self._timer = (
            None
            if remaining_s is None
            else asyncio.get_running_loop().call_later(max(0.0, remaining_s), self._expire)
        )
        self._watch: asyncio.Future[bool] | None = None
        self._watching = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self._begin_watch)
        self._token: Token[OuterRequest | None] = outer_request.set(self._outer)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool:
        self._is_over = True
        self._watching.cancel()
        if self._watch is not None:
            self._watch.cancel()
        if self._timer is not None:
            self._timer.cancel()
        outer_request.reset(self._token)
        if self.has_left or self._has_expired:
            is_ours_alone = self._task.uncancel() <= self._n_cancelled_before
            return self._conclude(error, is_ours_alone=is_ours_alone)
        if kind is not None:
            self._outer.cancel.set()
        if isinstance(error, asyncio.CancelledError) and not self._is_cancelled():
            message = "The run gave up with a cancellation that nobody had asked for."
            raise RuntimeError(message) from error
        return False

    def _is_cancelled(self) -> bool:
        return self._task.cancelling() > self._n_cancelled_before

    def _conclude(self, error: BaseException | None, *, is_ours_alone: bool) -> bool:
        if isinstance(error, asyncio.CancelledError) and not is_ours_alone:
            return False
        if self.has_left:
            # What a run says when it is cut off concerns nobody who is still there.
            return error is None or isinstance(error, Exception | asyncio.CancelledError)
        if error is None or isinstance(error, asyncio.CancelledError):
            message = "The request's time limit passed before its answer was complete."
            raise DeadlineExceeded(message) from error
        return False

    def _begin_watch(self) -> None:
        self._watch = asyncio.ensure_future(_until_gone(self._receive))
        self._watch.add_done_callback(self._leave)

    def _leave(self, watch: asyncio.Future[bool]) -> None:
        if self._is_over or watch.cancelled():
            return
        # A connection that breaks is a caller that has left; any other fault, of a middleware say,
        # tells nothing of the caller, who may be waiting all the same.
        error = watch.exception()
        if isinstance(error, OSError) or (error is None and watch.result()):
            self._stop("has_left")

    def _expire(self) -> None:
        if not self._is_over:
            self._stop("_has_expired")

    def _stop(self, reason: str) -> None:
        if self.has_left or self._has_expired:
            return
        setattr(self, reason, True)
        self._outer.cancel.set()
        self._task.cancel()


async def _until_gone(receive: Receive) -> bool:
    """Return whether the caller has gone; False for a `receive` that will never say so.

    The body has been read, so only a middleware that repeats it to whoever asks gives it again.
    """
    message = await receive()
    return bool(message["type"] == "http.disconnect")
