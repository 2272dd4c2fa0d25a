"""Run what takes long beside the event loop: in one thread, one at a time.

Python's threads share an interpreter: with one of them at work the loop gets its turn within a few
milliseconds, with ten it waits for each.  So there is one of these for an application, and heavy
requests wait for one another while light ones pass.  Work is not cut off: what may be handed in is
bounded by what `body` lets through.
"""

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from locktender.core.errors import DeadlineExceeded, QueueFull
from locktender.http.app_state import kept_on

__all__ = ["Offload", "offload_of"]

_Result = TypeVar("_Result")
_MAX_INSIDE = 32  # requests whose bodies lie in memory meanwhile


class Offload:
    """One thread, made when it is first needed."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="locktender-offload")
        self.n_inside = 0  # works that wait or are being done

    def check_room(self) -> None:
        """Raise: QueueFull, if so much work waits that no other request may bring any."""
        if self.n_inside >= _MAX_INSIDE:
            raise QueueFull("Too many requests with large bodies wait to be read.")

    async def run(
        self, work: Callable[..., _Result], *arguments: Any, timeout_s: float | None = None
    ) -> _Result:
        """Return what `work` returns, which sees the caller's ContextVars.

        Raises: DeadlineExceeded if that is not there after `timeout_s`; and what `work` does.
        """
        loop = asyncio.get_running_loop()
        context = copy_context()
        self.n_inside += 1
        future = loop.run_in_executor(
            self._thread, lambda: context.run(_uncollected, work, *arguments)
        )
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError as error:
            if not future.cancelled():
                raise  # the work's own
            message = "The request's time limit passed while its body waited to be read."
            raise DeadlineExceeded(message) from error
        finally:
            self.n_inside -= 1


def _uncollected(work: Callable[..., _Result], *arguments: Any) -> _Result:
    """Do `work` with Python's collector of garbage put off.

    It would look through all that has been made, a tenth of a second in which nobody is served; and
    what heavy work makes is no garbage yet.  So that it need not be looked through afterwards
    either, it is put among what is old, by the only way that there is: what an application froze is
    thawed with it (`deploy.worker` freezes again).
    """
    if not gc.isenabled():
        return work(*arguments)
    gc.disable()
    try:
        return work(*arguments)
    finally:
        gc.freeze()
        gc.unfreeze()
        gc.enable()


def offload_of(application: Any) -> Offload:
    """Return that of an ASGI application."""
    return kept_on(application, "locktender_offload", Offload)
