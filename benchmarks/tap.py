"""A tap on the connections to a server: passes all bytes on at once, and notes when they came.

What a server behind it sent, and when, can so be compared with what became of it in front.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from caller import Pieces

__all__ = ["Tap"]


class Tap:
    """A port that is as good as another one; `noted` has what came out of that, by connection."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.noted: list[Pieces] = []

    @asynccontextmanager
    async def open(self, port: int) -> AsyncIterator[None]:
        """Take connections at `port`."""
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Front(self), "127.0.0.1", port)
        try:
            yield
        finally:
            server.close()

    async def connect(self, front: "_Front") -> None:
        """Open the other half of `front`."""
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: _Back(self, front), "127.0.0.1", self._port)


class _Half(asyncio.Protocol):
    """One of the two ends of a connection; what it gets goes out at the other."""

    def __init__(self) -> None:
        self.transport: asyncio.WriteTransport | None = None
        self.other: _Half | None = None
        self._early = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment] - asyncio gives a Transport, and says less

    def pass_on(self, data: bytes) -> None:
        """Send `data` at the other end, or as soon as there is one."""
        if self.other is None or self.other.transport is None:
            self._early += data
        else:
            self.other.transport.write(data)

    def meet(self, other: "_Half") -> None:
        """Learn the other end."""
        self.other = other
        early, self._early = self._early, b""
        if early:
            self.pass_on(early)

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()


class _Front(_Half):
    """The end of the one who calls."""

    def __init__(self, tap: Tap) -> None:
        super().__init__()
        self._tap = tap

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connecting = asyncio.ensure_future(self._tap.connect(self))

    def data_received(self, data: bytes) -> None:
        self.pass_on(data)


class _Back(_Half):
    """The end of the server."""

    def __init__(self, tap: Tap, front: _Front) -> None:
        super().__init__()
        self._tap = tap
        self.other = front
        self._pieces: Pieces = []
        tap.noted.append(self._pieces)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.other is not None:
            self.other.meet(self)

    def data_received(self, data: bytes) -> None:
        self._pieces.append((time.perf_counter(), data))
        self.pass_on(data)
