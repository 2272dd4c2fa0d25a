"""Callers that cost next to nothing: bytes out, bytes in, and the time at which each piece came.

A client library would be busier than the servers that are measured.  What comes is kept as it is
and read when the measurement is over.
"""

import asyncio
import re
import time
from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from types import TracebackType
from typing import Self, cast

import orjson

__all__ = ["CHUNK", "DELTA", "Caller", "Pieces", "post", "word_times"]

# What came, and when.

Pieces = list[tuple[float, bytes]]

CHUNK = re.compile(rb'event: data\r\ndata: ("(?:[^"\\]|\\.)*")')  # of a LangServe stream of text
DELTA = re.compile(rb'"content":("(?:[^"\\]|\\.)+")')  # of an OpenAI stream
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n", re.IGNORECASE)
_LAST_CHUNK = b"\r\n0\r\n\r\n"  # of a body whose length was not told before


def post(path: str, body: object) -> bytes:
    """Return a whole request."""
    content = orjson.dumps(body)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nuser-agent: caller\r\naccept: */*\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    return head.encode() + content


def word_times(pieces: Pieces, frame: re.Pattern[bytes]) -> Iterator[tuple[str, float]]:
    """Give each word of the text in `pieces`, and when it came.

    A server never cuts a word in two, since the engine gives out whole ones.
    """
    ends = list(accumulate(len(content) for _, content in pieces))
    for match in frame.finditer(b"".join(content for _, content in pieces)):
        at = pieces[bisect_left(ends, match.end())][0]
        for word in orjson.loads(match[1]).split():
            yield word, at


class Caller(asyncio.Protocol):
    """One connection, on which one request after the other is made."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._pieces: Pieces = []
        self._tail = b""
        self._n_missing: int | None = None  # bytes of the answer, if its length was told
        self._answered: asyncio.Future[Pieces] | None = None

    @classmethod
    async def connect(cls, port: int) -> Self:
        """Open the connection."""
        loop = asyncio.get_running_loop()
        _, caller = await loop.create_connection(cls, "127.0.0.1", port)
        return caller

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._transport is not None:
            self._transport.close()

    async def ask(self, request: bytes) -> Pieces:
        """Send `request` and return the answer.  Raises: RuntimeError unless it is a good one."""
        if self._transport is None or self._transport.is_closing():
            raise RuntimeError("The server has closed the connection.")
        self._pieces, self._tail, self._n_missing = [], b"", None
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        pieces = await self._answered
        if not pieces[0][1].startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(b"".join(content for _, content in pieces).decode())
        return pieces

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._pieces.append((time.perf_counter(), data))
        if self._answered is None or self._answered.done():
            return
        if len(self._pieces) == 1 and (length := _LENGTH.search(data)):
            self._n_missing = int(length[1]) + data.index(b"\r\n\r\n") + 4
        if self._n_missing is None:
            self._tail = (self._tail + data)[-len(_LAST_CHUNK) :]
            is_whole = self._tail == _LAST_CHUNK
        else:
            self._n_missing -= len(data)
            is_whole = not self._n_missing
        if is_whole:
            self._answered.set_result(self._pieces)

    def connection_lost(self, error: Exception | None) -> None:
        if self._answered is not None and not self._answered.done():
            lost = RuntimeError("The connection broke before the answer was complete.")
            lost.__cause__ = error
            self._answered.set_exception(lost)
