"""Send a run's chunks as server-sent events while they come.

The status line is held back until there is something to say, so that a refusal by the model layer
is an HTTP status wherever it still can be.  Once it is out, an error is one `error` event and a
cleanly ended stream.  An exception of the runnable itself is told as LangServe tells it: status 200
and an `error` event, even when nothing was sent before; but an `HTTPException`, which says what its
status is to be, is left to the app as long as there can be one.
Above it, `endpoint` has read and checked the request; the bytes are `wire.langserve`'s.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, cast

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from locktender.app.answer import tell_operator
from locktender.app.cancellation import Stay
from locktender.app.heavy_body import Work, at_once
from locktender.app.heavy_value import is_large
from locktender.core.scope import OuterRequest, RequestName
from locktender.http.drain import SAYS_ERROR
from locktender.http.request_name import ID_HEADER, name_of
from locktender.wire.langserve import END_FRAME, chunk_frame, error_frame
from locktender.wire.problem import Problem, find_ours, run_problem
from locktender.wire.sse import encode_comment

__all__ = ["DIRECT_SEND", "ChunkStream", "LateFrame", "StreamAnswer"]

# In a scope: the `send` that the route was given.  A stream, which tells its own errors and its id,
# needs nothing of what has been put around that since, and costs at each chunk.
DIRECT_SEND = "locktender.direct_send"

# A frame may be as long as a body; the server copies what it is given, and asks again only then
# whether the caller reads.
_PIECE_BYTES = 256 * 1024

_FRAME_END = b"\r\n\r\n"

_HEADERS = {
    "cache-control": "no-cache",
    "connection": "keep-alive",
    "x-accel-buffering": "no",  # nginx would collect the chunks
    "content-type": "text/event-stream; charset=utf-8",
}


@dataclass(frozen=True, slots=True)
class ChunkStream:
    """A run that has not begun, and how its chunks are written."""

    chunks: AsyncIterator[Any]
    head: bytes  # goes out with the first chunk
    write: Callable[[Any], bytes]
    ping_s: float  # of silence, after which a comment says that the stream is alive
    headers: Mapping[str, str] = field(default_factory=dict)  # beside those of every stream
    late: "LateFrame | None" = None
    work: Work = at_once  # what writes a large chunk, which only a heavy body makes


@dataclass(frozen=True, slots=True)
class LateFrame:
    """A frame that a stream has beside its chunks, which do not wait for it.

    It goes out with the first chunk if it is there by then, or else as soon as it is, and before
    the end.  A stream that ends without a chunk does not have it.
    """

    frame: asyncio.Task[bytes]  # which does not fail
    otherwise: bytes  # what is sent instead when the stream fails before


class StreamAnswer(Response):
    """One stream; its run begins when it is sent and ends with it."""

    def __init__(self, stream: ChunkStream, outer: OuterRequest) -> None:
        super().__init__()
        self._stream = stream
        self._outer = outer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run and send, until the last chunk or until the caller has left."""
        late = self._stream.late
        name = name_of(scope)
        scope[SAYS_ERROR] = _cut_off
        direct = scope.get(DIRECT_SEND, send)
        async with contextlib.aclosing(_Wire(direct, self._stream, name.id)) as wire:
            try:
                async with Stay(receive, self._outer):
                    # A task of its own: each chunk wakes it up, and would otherwise come through
                    # all the frames of the server and its middleware.
                    await asyncio.create_task(
                        self._send_all(wire) if late is None else self._send_beside(wire, late)
                    )
            except HTTPException as error:
                if not wire.has_begun:
                    raise  # the runnable's own word to the caller, as `answer` leaves it to the app
                await _tell(wire, error, name)
            except Exception as error:  # noqa: BLE001 - the boundary: every fault is answered
                await _tell(wire, error, name)

    async def _send_beside(self, wire: "_Wire", late: LateFrame) -> None:
        async with _LateWire(wire, late) as late_wire:
            await self._send_all(late_wire)

    async def _send_all(self, wire: "_Wire | _LateWire") -> None:
        stream = self._stream
        write, head = stream.write, stream.head
        has_large = stream.work is not at_once
        # LangChain says AsyncIterator and gives generators, which are to be closed in time.
        generator = cast("AsyncGenerator[Any, None]", stream.chunks)
        async with aclosing(generator) as chunks:
            async for chunk in chunks:
                try:
                    if has_large and is_large(chunk):
                        written = await stream.work(write, chunk)
                    else:
                        written = write(chunk)
                except Exception:
                    # LangServe has named the run before it finds that a chunk cannot be sent.
                    await wire.send(head)
                    raise
                await wire.send(head + chunk_frame(written))
                head = b""
        await wire.end(END_FRAME)


class _Wire:
    """The connection: knows whether the status line is out, and breaks long silences."""

    def __init__(self, send: Send, stream: ChunkStream, request_id: str) -> None:
        self.has_begun = False
        self._send = send
        self._ping_s = stream.ping_s
        self._id = {ID_HEADER: request_id}
        self._headers = {**_HEADERS, **stream.headers, **self._id}
        self._loop = asyncio.get_running_loop()
        self._is_sending = False
        self._sent_at = self._loop.time()
        self._ping: asyncio.Task[None] | None = None
        # A timer and not a task: nearly every stream ends before its first ping is due.
        self._timer = self._loop.call_later(self._ping_s, self._tick)

    async def send(self, frame: bytes) -> None:
        """Send a part of the stream, which begins with the first."""
        if self._ping is not None:
            await self._ping_sent()
        self._is_sending = True
        if not self.has_begun:
            await self._begin(200, self._headers)
        if len(frame) <= _PIECE_BYTES:
            await self._send({"type": "http.response.body", "body": frame, "more_body": True})
        else:
            await self._send_in_pieces(frame)
        self._sent_at = self._loop.time()
        self._is_sending = False

    async def _send_in_pieces(self, frame: bytes) -> None:
        for at in range(0, len(frame), _PIECE_BYTES):
            piece = frame[at : at + _PIECE_BYTES]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self, frame: bytes) -> None:
        """Send the last part of the stream."""
        if self._ping is not None:
            await self._ping_sent()
        self._timer.cancel()
        if not self.has_begun:
            await self._begin(200, self._headers)
        if self._is_sending:  # A frame was cut off in the middle: this one is not a part of it.
            frame = _FRAME_END + frame
        await self._send({"type": "http.response.body", "body": frame})

    async def refuse(self, problem: Problem) -> None:
        """Send an answer that is no stream."""
        self._timer.cancel()
        length = str(len(problem.body))
        await self._begin(problem.status, {"content-length": length, **problem.headers, **self._id})
        await self._send({"type": "http.response.body", "body": problem.body})

    async def aclose(self) -> None:
        """Stop the pings."""
        self._timer.cancel()
        if self._ping is not None:
            self._ping.cancel()

    async def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.has_begun = True
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})

    async def _ping_sent(self) -> None:
        # A run that is cut off here leaves the ping alone: the end still comes after it.
        await asyncio.shield(cast("asyncio.Task[None]", self._ping))

    def _tick(self) -> None:
        left_s = self._sent_at + self._ping_s - self._loop.time()
        if left_s <= 0:
            left_s = self._ping_s
            # A caller that does not read is in no need of something to read.
            if not self._is_sending and self._ping is None:
                self._ping = self._loop.create_task(self._send_ping())
        self._timer = self._loop.call_later(left_s, self._tick)

    async def _send_ping(self) -> None:
        if not self.has_begun:
            await self._begin(200, self._headers)
        now = datetime.now(UTC).replace(tzinfo=None)
        body = encode_comment(f"ping - {now}", line_end="\r\n")
        await self._send({"type": "http.response.body", "body": body, "more_body": True})
        self._sent_at = self._loop.time()
        self._ping = None


class _LateWire:
    """A connection on which a late frame goes out beside the chunks."""

    def __init__(self, wire: _Wire, late: LateFrame) -> None:
        self._wire = wire
        self._late = late
        self._turn = asyncio.Lock()
        self._sender: asyncio.Task[None] | None = None
        self._is_sent = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self._sender is not None:
            async with self._turn:
                if not self._is_sent:
                    self._is_sent = True
                    await self._wire.send(self._late.otherwise)
        if self._sender is not None:
            self._sender.cancel()
        self._late.frame.cancel()

    async def send(self, frame: bytes) -> None:
        """Send a chunk, with the late frame before it if that is there."""
        if self._sender is None:
            self._sender = asyncio.create_task(self._send_late())
            if self._late.frame.done():
                await self._sender
        async with self._turn:
            await self._wire.send(frame)

    async def end(self, frame: bytes) -> None:
        """Send the end, when the late frame is out."""
        if self._sender is not None:
            await self._sender
        await self._wire.end(frame)

    async def _send_late(self) -> None:
        frame = await self._late.frame
        async with self._turn:
            if not self._is_sent:
                self._is_sent = True
                await self._wire.send(frame)


def _cut_off(problem: Problem) -> bytes:
    """Return the end of a stream that may be in the middle of a frame."""
    return _FRAME_END + error_frame(problem)


async def _tell(wire: _Wire, error: Exception, name: RequestName) -> None:
    problem = run_problem(error)
    tell_operator(error, name)
    if find_ours(error) is not None and not wire.has_begun:
        await wire.refuse(problem)
        return
    await wire.end(error_frame(problem))
