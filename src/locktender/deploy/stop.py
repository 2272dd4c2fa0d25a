"""Hear when the process is asked to stop: once to drain, twice to hurry.

1. SIGTERM comes from a service manager or an orchestrator: whoever sends us requests is to be given
   notice.
2. SIGINT is Ctrl-C, of somebody who sees what he stops: no notice.
3. SIGHUP says that the terminal has gone, and means what SIGTERM does; unless it was ignored when
   the process began (nohup), or there is no terminal that it could be about (a unit of systemd,
   where it is the custom to ask for new settings by it).

It owns these signals from the moment it is made, to the end of the process: one that comes while
things are being ended must not tear them.  A hangup hurries nobody: a shell that hears of one tells
its jobs once more.
"""

import asyncio
import contextlib
import os
import signal

__all__ = ["Stop"]

_UNIT = "INVOCATION_ID"  # systemd's, for each unit; a terminal that is one hands it to its shells
_TERMINAL = "/dev/tty"  # opens for a process that has one


class Stop:
    """What the signals have said so far."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self._hurried = asyncio.Event()
        self._is_interrupt = False
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._hear, number)
        if _is_hangup_ours():
            loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        else:
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup has it, for what we start, too

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

    async def wait_notice(self, notice_s: float) -> None:
        """Return when whoever sends us requests has had `notice_s` to hear that we stop.

        At once if nobody is to be told: by Ctrl-C, by a second signal, or as we stop by ourselves.
        """
        if not self._asked.is_set() or self._is_interrupt:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(notice_s):
                await self._hurried.wait()

    def _hear(self, number: signal.Signals) -> None:
        self._is_interrupt |= number == signal.SIGINT and not self._asked.is_set()
        self.ask()


def _is_hangup_ours() -> bool:
    """Whether SIGHUP is about a terminal of ours."""
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return False
    return _UNIT not in os.environ or _has_terminal()


def _has_terminal() -> bool:
    try:
        os.close(os.open(_TERMINAL, os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True
