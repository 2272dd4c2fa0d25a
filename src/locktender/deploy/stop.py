"""Hear when the process is asked to stop: once to drain, twice to hurry.

It owns SIGTERM and SIGINT from the moment it is made, to the end of the process: a signal that
comes while things are being ended must not tear them.
"""

import asyncio
import signal

__all__ = ["Stop"]


class Stop:
    """What the signals have said so far."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.ask)

    def ask(self) -> None:
        """Ask to stop; a second time, to stop without waiting for anybody."""
        if self._asked.is_set():
            self._hurried.set()
        self._asked.set()

    async def wait_asked(self) -> None:
        """Return when the process is to stop."""
        await self._asked.wait()

    async def wait_hurried(self) -> None:
        """Return when it is to stop at once."""
        await self._hurried.wait()
