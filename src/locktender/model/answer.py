"""Send one chat completion over HTTP: as server-sent events, or whole.

Holds back the status line until there is something to say, so that a refusal, a passed deadline or
an engine's objection is an HTTP status wherever it still can be; once it is out, an error is one
``event: error`` frame and a cleanly ended stream.  A caller that leaves cancels everything below.
One that does not read has its text collected, and merged, by `desk`: its place is free when the
engine has done, and it has a bounded time from then on, after which its connection is cut off.
Above it, `service` has read and checked the body; below, `dispatcher` has the gate.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import Response
from starlette.types import Receive, Send
from starlette.types import Scope as HttpScope

from locktender.core.errors import AnswerUnread, LocktenderError
from locktender.core.request import Delta, FinishReason, GenerationRequest
from locktender.core.scope import Scope
from locktender.http.abort import abort_of
from locktender.model.dispatcher import Dispatcher
from locktender.wire.header import REQUEST_ID, SHARE
from locktender.wire.openai_reply import DONE, ChunkEncoder, Usage, completion, error_frame
from locktender.wire.problem import Problem, openai_problem
from locktender.wire.sse import encode_comment

__all__ = ["Answer", "Asked"]

_log = logging.getLogger(__name__)


_PIECE_BYTES = 64 * 1024

_STREAM_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-store",
    "x-accel-buffering": "no",  # nginx would collect the tokens
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A checked request, and how its answer is to be sent."""

    request: GenerationRequest
    scope: Scope
    include_usage: bool
    keep_alive_s: float  # between comments while a stream waits for its first token
    # When the engine has done: how much text may be unread, and how long that may take to be read.
    max_unread_bytes: int
    unread_s: float


class Answer(Response):
    """One chat completion; made when the request is known to be good, worked when it is sent."""

    def __init__(self, dispatcher: Dispatcher, asked: Asked) -> None:
        super().__init__()
        self._dispatcher = dispatcher
        self._asked = asked
        self._id = f"chatcmpl-{asked.request.id}"
        self._created = int(time.time())

    async def __call__(self, scope: HttpScope, receive: Receive, send: Send) -> None:
        """Work and send, until the last byte or until the caller has left."""
        named = {
            REQUEST_ID.lower(): self._asked.scope.caller_id or self._asked.request.id,
            SHARE.lower(): str(self._dispatcher.share),
        }
        out = _Reply(send, named)
        work = self._stream(out) if self._asked.request.stream else self._whole(out)
        try:
            await _unless_left(receive, self._answered(work, out))
        except AnswerUnread as error:
            _log.warning("request %s: %s", self._asked.request.id, error.message)
            await _cut_off(scope, receive)

    async def _answered(self, work: Awaitable[None], out: "_Reply") -> None:
        """Raises: AnswerUnread."""
        try:
            await work
        except AnswerUnread:
            raise
        except LocktenderError as error:
            await self._sent(out.fail(openai_problem(error)))
        except Exception as error:  # noqa: BLE001 - the ASGI boundary: a fault of ours is answered
            _log.exception("request %s failed", self._asked.request.id)
            await self._sent(out.fail(openai_problem(error)))

    async def _sent(self, sending: Awaitable[None]) -> None:
        """Send what is left of an answer.  Raises: AnswerUnread."""
        try:
            async with asyncio.timeout(self._asked.unread_s):
                await sending
        except TimeoutError as error:
            raise self._unread() from error

    def _unread(self) -> AnswerUnread:
        return AnswerUnread(
            f"Its answer was not read within {self._asked.unread_s:g} s of its end, or left more "
            f"than {self._asked.max_unread_bytes:,} bytes to be read."
        )

    async def _whole(self, out: "_Reply") -> None:
        request = self._asked.request
        async with self._dispatcher.open(request, self._asked.scope) as deltas:
            answer = await anext(deltas)
        body = completion(
            id=self._id,
            model=request.model,
            created=self._created,
            text=answer.text,
            finish_reason=answer.finish_reason or FinishReason.STOP,
            usage=Usage(answer.prompt_tokens or 0, answer.n_tokens),
        )
        await self._sent(out.send_whole(200, {"content-type": "application/json"}, body))

    async def _stream(self, out: "_Reply") -> None:
        asked, loop = self._asked, asyncio.get_running_loop()
        frames = _Frames(
            self._id, asked.request.model, self._created, include_usage=asked.include_usage
        )
        limit = asyncio.timeout(None)  # until the engine has done, the request's own limit holds

        def engine_has_done(n_unread: int) -> None:
            is_much = n_unread + out.n_held > asked.max_unread_bytes
            limit.reschedule(loop.time() + (0.0 if is_much else asked.unread_s))

        async with self._dispatcher.open(asked.request, asked.scope, engine_has_done) as deltas:
            try:
                async with limit, aclosing(_with_pauses(deltas, asked.keep_alive_s)) as pieces:
                    async for delta in pieces:
                        frame = encode_comment("waiting") if delta is None else frames.of(delta)
                        if frame:
                            await out.send_part(frame)
                    await out.end()
            except TimeoutError as error:
                raise self._unread() from error


class _Frames:
    """Turns the deltas of one stream into its frames."""

    def __init__(self, answer_id: str, model: str, created: int, *, include_usage: bool) -> None:
        self._encoder = ChunkEncoder(
            id=answer_id, model=model, created=created, include_usage=include_usage
        )
        self._include_usage = include_usage
        self._has_spoken = False
        self._prompt_tokens = 0
        self._n_tokens = 0

    def of(self, delta: Delta) -> bytes:
        """Return the frames that `delta` makes; none for one without text or end."""
        if delta.prompt_tokens is not None:
            # The first piece; or the first again, of a second try after tokens without text.
            self._prompt_tokens, self._n_tokens = delta.prompt_tokens, 0
        self._n_tokens += delta.n_tokens
        parts = []
        if not self._has_spoken and (delta.text or delta.finish_reason):
            self._has_spoken = True
            parts.append(self._encoder.first())
        if delta.text:
            parts.append(self._encoder.text(delta.text))
        if delta.finish_reason is not None:
            parts.append(self._encoder.last(delta.finish_reason))
            if self._include_usage:
                parts.append(self._encoder.usage(Usage(self._prompt_tokens, self._n_tokens)))
            parts.append(DONE)
        return b"".join(parts)


class _Reply:
    """The HTTP answer: knows whether the status line is out."""

    def __init__(self, send: Send, headers: Mapping[str, str]) -> None:
        self._send = send
        self._headers = headers  # of every answer
        self.n_held = 0  # bytes of the part at hand that the server has not taken
        self._has_begun = False

    async def send_part(self, body: bytes) -> None:
        """Send a part of a stream, which begins with the first."""
        if not self._has_begun:
            await self._begin(200, _STREAM_HEADERS)
        self.n_held = len(body)
        # In pieces, since the server takes each whole before it waits for the caller to read.
        for start in range(0, len(body), _PIECE_BYTES):
            piece = body[start : start + _PIECE_BYTES]
            self.n_held -= len(piece)
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def send_whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send an answer that is no stream."""
        await self._begin(status, {**headers, "content-length": str(len(body))})
        await self._send({"type": "http.response.body", "body": body})

    async def fail(self, problem: Problem) -> None:
        """Say what went wrong: as the status if that can still be said, or else as a frame."""
        if self._has_begun:
            await self.send_part(error_frame(problem))
            await self.end()
        else:
            await self.send_whole(problem.status, problem.headers, problem.body)

    async def end(self) -> None:
        """End a stream."""
        await self._send({"type": "http.response.body", "body": b""})

    async def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._has_begun = True
        named = {**headers, **self._headers}
        raw = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": raw})


async def _with_pauses(
    deltas: AsyncIterator[Delta], pause_s: float
) -> AsyncGenerator[Delta | None, None]:
    """Yield `deltas`, and None after each `pause_s` without one until there is text."""
    has_text = False
    while not has_text:
        waiting = asyncio.ensure_future(anext(deltas, None))
        try:
            while not (await asyncio.wait([waiting], timeout=pause_s))[0]:
                yield None
            delta = waiting.result()
        finally:
            # Left in a pause: the generator below must have stopped before it is closed.
            if not waiting.done():
                waiting.cancel()
                await asyncio.wait([waiting])
        if delta is None:
            return
        yield delta
        has_text = bool(delta.text)
    # From here on pauses are a step long, and a task for each token would cost more than it.
    async for delta in deltas:
        yield delta


async def _unless_left(receive: Receive, work: Coroutine[None, None, None]) -> None:
    """Do `work`, and cancel it when the caller goes away."""
    task = asyncio.ensure_future(work)
    left = asyncio.ensure_future(_left(receive))
    try:
        await asyncio.wait([task, left], return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not task.done():
            task.cancel()
        # Bounded: what is below ends on cancellation without waiting for anybody.
        await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _cut_off(scope: HttpScope, receive: Receive) -> None:
    """Close the caller's connection without waiting for it to read, where the server can."""
    abort = abort_of(scope)
    if abort is not None:
        abort()
        await _left(receive)  # at once: the server would miss the rest of the answer


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
