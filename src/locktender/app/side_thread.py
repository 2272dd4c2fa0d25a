"""Make calls that block in threads of their own, a few at a time and not for ever.

A call that has taken too long is left alone: it ends in its thread, and nobody waits for it, nor
does the end of the process.  The loop's own executor is not used, because it is the runnables':
a service that does not answer must not take their threads away.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from locktender.core.errors import DeadlineExceeded

__all__ = ["SideThreads"]

_Result = TypeVar("_Result")


class SideThreads:
    """Threads for the calls to one service.

    1. No more than `max_calls` are under way at once; one more is refused.
    2. `call` returns after `timeout_s` at the latest.
    """

    def __init__(self, service: str, *, max_calls: int, timeout_s: float) -> None:
        self._service = service
        self._timeout_s = timeout_s
        self._room = threading.BoundedSemaphore(max_calls)

    async def call(self, blocking: Callable[[], _Result]) -> _Result:
        """Return what `blocking` returns.

        Raises: DeadlineExceeded, and what `blocking` does.
        """
        if not self._room.acquire(blocking=False):
            raise DeadlineExceeded(f"{self._service} does not answer those who asked before.")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_Result] = loop.create_future()

        def settle(value: _Result | None, error: BaseException | None) -> None:
            if result.done():
                return
            if error is None:
                result.set_result(value)  # type: ignore[arg-type]  # without an error it is one
            else:
                result.set_exception(error)

        def run() -> None:
            value, error = None, None
            try:
                value = blocking()
            except Exception as raised:  # noqa: BLE001 - it is raised where the call was made
                error = raised
            finally:
                self._room.release()
            with suppress(RuntimeError):  # the loop may be closed by now
                loop.call_soon_threadsafe(settle, value, error)

        self._begin(run)
        try:
            return await asyncio.wait_for(result, self._timeout_s)
        except TimeoutError as error:
            raise DeadlineExceeded(f"{self._service} took too long to answer.") from error

    def _begin(self, run: Callable[[], None]) -> None:
        try:
            threading.Thread(target=run, daemon=True, name=self._service).start()
        except RuntimeError:  # the system has no more of them
            self._room.release()
            raise
