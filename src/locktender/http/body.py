"""Read a request's body, within bounds of bytes, of JSON values and of time.

Values are counted while the body comes in, before anything is parsed: whoever parses it knows then
whether that holds up the other requests (`is_heavy`), and a body of too many is not kept.  What a
body means is `wire.langserve`'s and `wire.openai`'s to say.
"""

import asyncio
from dataclasses import dataclass
from typing import cast

from starlette.requests import Request

from locktender.core.errors import InvalidRequest, QueueFull, RequestTooLarge
from locktender.http.arrivals import Arrivals, arrivals_of
from locktender.wire.json_count import JsonCount, most_values

__all__ = ["Body", "BodyBounds", "read_body"]

# What is parsed, validated and written on the event loop takes some 20 ms at most: that is what
# so many values cost as LangChain's messages in their short form, the dearest there are.
_LIGHT_VALUES = 512
_LIGHT_BYTES = 256 * 1024  # of texts, most of it; they may be numbers of thousands of digits
_FREE_BYTES = 16_384  # up to which a body of few commas is not looked at further
_PIECE_BYTES = 65_536  # counted at a time, within a millisecond
# On average; a number may have 4,300 digits, and be slow to read.  So are escapes in texts, of
# which there may be as many: 32 MB of nothing else hold the interpreter for 0.1 s in one call.
_SLOW_BYTES_A_VALUE = 64
# A body over a bound is read on for so long, that the caller can hear why it is refused.
_MAX_DISCARDED_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BodyBounds:
    """How much of a body is read; the names are those of the settings."""

    max_body_bytes: int
    max_body_values: int  # JSON's: each object, array, text, number, true, false and null
    timeout_s: float  # for the whole body to arrive


@dataclass(frozen=True, slots=True)
class Body:
    """A body that is within its bounds."""

    content: bytes
    is_heavy: bool  # what is made of it is made beside the event loop


async def read_body(request: Request, bounds: BodyBounds) -> Body:
    """Return the body; `request` keeps it as well, so that a modifier may read it again.

    Raises: RequestTooLarge, InvalidRequest when it does not arrive, QueueFull when it is slow and
    too many others arrive, starlette's ClientDisconnect.
    """
    arrival = _Arrival(bounds)
    arrivals: Arrivals | None = None  # those it is among, once it is no short one
    try:
        async with asyncio.timeout(bounds.timeout_s) as arrival.limit:
            async for chunk in request.stream():
                if arrival.is_over:
                    break
                if not arrival.takes_free(chunk):
                    arrivals = arrivals or arrivals_of(request.scope.get("app"))
                    for slowest in arrivals.add(arrival, len(chunk)):
                        cast("_Arrival", slowest).give_up()
                    await arrival.take_counted()
    except TimeoutError as error:
        if arrival.is_given_up:
            raise QueueFull("Too many bodies are arriving; this one was the slowest.") from error
        message = f"The body did not arrive within {bounds.timeout_s:g} s."
        raise arrival.refusal() or InvalidRequest(message) from error
    finally:
        if arrivals is not None:
            arrivals.leave(arrival)
    body = await arrival.body()
    request._body = body.content  # noqa: SLF001 - where starlette's own `body()` keeps and finds it
    return body


class _Arrival:
    """What has come of a body."""

    def __init__(self, bounds: BodyBounds) -> None:
        self._bounds = bounds
        self._n_bytes = 0
        self._chunks: list[bytes] = []
        self._count = JsonCount()
        self._n_counted = 0  # of the chunks
        self._is_counted = False  # what is free is not
        self.limit: asyncio.Timeout | None = None  # while it is waited for
        self.is_given_up = False

    def give_up(self) -> None:
        """Wait for it no longer."""
        if self.limit is not None:
            self.is_given_up = True
            self.limit.reschedule(asyncio.get_running_loop().time())

    @property
    def is_over(self) -> bool:
        """Whether so much has come that the rest is not even looked at."""
        return self._n_bytes > self._bounds.max_body_bytes + _MAX_DISCARDED_BYTES

    def takes_free(self, chunk: bytes) -> bool:
        """Take `chunk`; return whether it need not be counted, since the body is a short one."""
        self._n_bytes += len(chunk)
        self._chunks.append(chunk)
        return self._n_bytes <= min(_FREE_BYTES, self._bounds.max_body_bytes)

    async def take_counted(self) -> None:
        """Count what was not, and keep what has come unless it is refused already."""
        self._is_counted = True
        for chunk in self._chunks[self._n_counted :]:
            for at in range(0, len(chunk), _PIECE_BYTES):
                self._count.add(chunk[at : at + _PIECE_BYTES])
                await asyncio.sleep(0)  # others have their turn
        if self.refusal():
            self._chunks.clear()
        self._n_counted = len(self._chunks)

    async def body(self) -> Body:
        """Return the whole.  Raises: RequestTooLarge."""
        content = b"".join(self._chunks)
        if not self._is_counted:
            if most_values(content) <= min(_LIGHT_VALUES, self._bounds.max_body_values):
                return Body(content, is_heavy=False)
            await self.take_counted()
        refusal = self.refusal()
        if refusal:
            raise refusal
        is_light = self._count.n_values <= _LIGHT_VALUES and self._n_bytes <= _LIGHT_BYTES
        return Body(content, is_heavy=not is_light)

    def refusal(self) -> RequestTooLarge | None:
        """Return why the body is not taken, as far as it has come."""
        max_bytes, max_values = self._bounds.max_body_bytes, self._bounds.max_body_values
        max_slow = max_values * _SLOW_BYTES_A_VALUE
        for n, what, setting, most in (
            (self._n_bytes, "bytes", "max_body_bytes", max_bytes),
            (self._count.n_values, "JSON values", "max_body_values", max_values),
            (self._count.n_bare_bytes, "bytes outside of texts", "max_body_values", max_slow),
            (self._count.n_escapes, "escapes in texts", "max_body_values", max_slow),
        ):
            if n > most:
                return RequestTooLarge(
                    f"The body has {n:,} {what} or more; `{setting}` allows {most:,}."
                )
        return None
