"""Cut a connection off when its caller reads next to nothing of what was sent.

A server writes as much as the kernel takes and then waits for the caller, without an end of its
own; a run, its place and the connection would wait with it.  A caller on a slow line reads on, and
stays.
"""

import asyncio
from asyncio import Transport

from locktender.http.abort import cut_off

__all__ = ["Reader"]

_MIN_READ_BYTES = 16 * 1024  # in the time that it has


class Reader:
    """The caller of one connection, as far as it is waited for."""

    def __init__(
        self, transport: Transport, loop: asyncio.AbstractEventLoop, timeout_s: float
    ) -> None:
        self._transport = transport
        self._loop = loop
        self._timeout_s = timeout_s
        self._timer: asyncio.TimerHandle | None = None
        self._n_unsent = 0  # bytes, when the timer was set

    def expect(self) -> None:
        """Give it time, from now on, to read some of what is unsent."""
        self.end()
        self._n_unsent = self._transport.get_write_buffer_size()
        self._timer = self._loop.call_later(self._timeout_s, self._check)

    def end(self) -> None:
        """Hear that nothing waits for it any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _check(self) -> None:
        if self._transport.get_write_buffer_size() > self._n_unsent - _MIN_READ_BYTES:
            cut_off(self._transport)
        else:
            self.expect()
