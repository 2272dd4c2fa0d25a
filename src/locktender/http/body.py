"""Read a request's body, within bounds of bytes, of JSON values and of time.

Values are counted while the body comes in, before anything is parsed: whoever parses it knows then
whether that holds up the other requests (`is_heavy`), and a body of too many is not kept.  What a
body means is `wire.langserve`'s and `wire.openai`'s to say.
"""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from locktender.core.errors import InvalidRequest, RequestTooLarge
from locktender.wire.json_count import JsonCount, most_values

__all__ = ["Body", "BodyBounds", "read_body"]

# What is parsed, validated and written on the event loop takes some 20 ms at most: that is what
# so many values cost as LangChain's messages in their short form, the dearest there are.
_LIGHT_VALUES = 512
_LIGHT_BYTES = 1_000_000  # of texts, most of it
_FREE_BYTES = 16_384  # up to which a body of few commas is not looked at further
_PIECE_BYTES = 65_536  # counted at a time, within a millisecond
_BARE_BYTES_A_VALUE = 64  # on average: a number may have 4,300 digits, and be slow to read
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

    Raises: RequestTooLarge, InvalidRequest when it does not arrive, starlette's ClientDisconnect.
    """
    arrival = _Arrival(bounds)
    try:
        async with asyncio.timeout(bounds.timeout_s):
            async for chunk in request.stream():
                arrival.n_bytes += len(chunk)
                if arrival.n_bytes > bounds.max_body_bytes + _MAX_DISCARDED_BYTES:
                    break
                await arrival.take(chunk)
    except TimeoutError as error:
        message = f"The body did not arrive within {bounds.timeout_s:g} s."
        raise arrival.refusal() or InvalidRequest(message) from error
    body = await arrival.body()
    request._body = body.content  # noqa: SLF001 - where starlette's own `body()` keeps and finds it
    return body


class _Arrival:
    """What has come of a body."""

    def __init__(self, bounds: BodyBounds) -> None:
        self.n_bytes = 0
        self._bounds = bounds
        self._chunks: list[bytes] = []
        self._count: JsonCount | None = None  # of a body that is longer than what is free

    async def take(self, chunk: bytes) -> None:
        """Count `chunk`, and keep it unless the body is refused already."""
        self._chunks.append(chunk)
        if self._count is not None:
            await self._add(self._count, chunk)
        elif self.n_bytes > _FREE_BYTES:
            self._count = JsonCount()
            await self._add(self._count, b"".join(self._chunks))
        if self.refusal():
            self._chunks.clear()

    async def body(self) -> Body:
        """Return the whole.  Raises: RequestTooLarge."""
        content = b"".join(self._chunks)
        n_free = min(_LIGHT_VALUES, self._bounds.max_body_values)
        if self._count is None and most_values(content) > n_free:
            self._count = JsonCount()
            await self._add(self._count, content)
        refusal = self.refusal()
        if refusal:
            raise refusal
        is_light = self._count is None or (
            self._count.n_values <= _LIGHT_VALUES and self.n_bytes <= _LIGHT_BYTES
        )
        return Body(content, is_heavy=not is_light)

    def refusal(self) -> RequestTooLarge | None:
        """Return why the body is not taken, as far as it has come."""
        bounds, count = self._bounds, self._count
        found = [(self.n_bytes, "bytes", "max_body_bytes", bounds.max_body_bytes)]
        if count is not None:
            most = bounds.max_body_values
            bare = count.n_bare_bytes, "bytes outside of texts", "max_body_values"
            found += [
                (count.n_values, "JSON values", "max_body_values", most),
                (*bare, most * _BARE_BYTES_A_VALUE),
            ]
        for n, what, setting, most in found:
            if n > most:
                return RequestTooLarge(
                    f"The body has {n:,} {what} or more; `{setting}` allows {most:,}."
                )
        return None

    async def _add(self, count: JsonCount, chunk: bytes) -> None:
        for at in range(0, len(chunk), _PIECE_BYTES):
            count.add(chunk[at : at + _PIECE_BYTES])
            await asyncio.sleep(0)  # others have their turn
