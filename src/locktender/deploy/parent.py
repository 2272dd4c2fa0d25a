"""Hear in a worker what the process that started it says, on its standard input.

A byte says that it is to drain, the end that its parent has gone.  No signal does: a service
manager sends SIGTERM to all processes of a service at once, while those in front of this one are
still to be served.
"""

import asyncio
import os
import signal
import sys
import threading
from concurrent.futures import Future

__all__ = ["DRAIN", "Parent"]

DRAIN = b"d"
_FOR_THE_PARENT = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Parent:
    """The process that started this one; made once, in the main thread."""

    def __init__(self) -> None:
        for number in _FOR_THE_PARENT:
            # Not SIG_IGN, which what the user's app starts would inherit.
            signal.signal(number, lambda _number, _frame: None)
        self._told: Future[None] = Future()
        self._is_waited_for = False
        threading.Thread(target=self._listen, name="parent", daemon=True).start()

    async def wait_told(self) -> None:
        """Return when this process is to drain; until it waits here, it would end at once."""
        self._is_waited_for = True
        await asyncio.wrap_future(self._told)

    def _listen(self) -> None:
        while os.read(sys.stdin.fileno(), 1):
            if not self._is_waited_for:
                break  # The app is still being loaded, and nobody is inside.
            if not self._told.done():
                self._told.set_result(None)
        os._exit(0)
