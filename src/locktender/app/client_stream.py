"""Read a stream of server-sent events over httpx, synchronously or not.

Holds the exchange: a refusal is raised with its body, an `error` event is raised where it stands,
and a stream that ends without its `end` event is an error, never the end.  Whoever stops reading
closes the response, and so the connection, at once.  What a chunk means is its reader's business.
"""

import functools
import logging
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Any

import httpx

from locktender.app.client_error import Response, broken, event_error, status_error
from locktender.core.errors import PeerError
from locktender.wire.sse import ServerSentEvent, SseDecoder

__all__ = ["ChunkReader", "read_chunks", "read_chunks_async"]

_log = logging.getLogger(__name__)

# Of one event.  The first one of stream_log may hold a whole state, but not a machine's memory.
_MAX_EVENT_BYTES = 64 * 1024 * 1024


class ChunkReader:
    """One stream's bytes made chunks, up to its end."""

    def __init__(
        self,
        read: Callable[[str], Any],
        on_metadata: Callable[[str], None],
        check: Callable[[Response], None] = lambda _: None,  # raises for an answer not to be read
    ) -> None:
        self.has_ended = False
        self.check = check
        self._read = read
        self._on_metadata = on_metadata
        self._decoder = SseDecoder(max_event_bytes=_MAX_EVENT_BYTES)

    def feed(self, piece: bytes, request: Any) -> Iterator[Any]:
        """Give the chunks that the next bytes complete.

        Raises: httpx.HTTPStatusError for an error event; PeerError; what `read` does.
        """
        for event in self._events(piece):
            if event.event == "data":
                yield self._read(event.data)
            elif event.event == "metadata":
                self._on_metadata(event.data)
            elif event.event == "error":
                raise event_error(request, event.data)
            elif event.event == "end":
                self.has_ended = True
                return
            else:
                _tell_of_unknown(event.event)

    def _events(self, piece: bytes) -> list[ServerSentEvent]:
        try:
            return self._decoder.feed(piece)
        except PeerError as error:
            raise broken(error.message, ValueError) from error


def read_chunks(
    exchange: AbstractContextManager[httpx.Response], reader: ChunkReader
) -> Generator[Any, None, None]:
    """Give the chunks of a stream that is yet to be opened.

    Raises: httpx.HTTPStatusError, PeerError, and httpx's errors of a connection.
    """
    with exchange as response:
        if not response.is_success:
            response.read()
            raise status_error(response)
        _check_is_stream(response)
        reader.check(response)
        for piece in response.iter_bytes():
            yield from reader.feed(piece, response.request)
            if reader.has_ended:
                return
    raise _cut()


async def read_chunks_async(
    exchange: AbstractAsyncContextManager[httpx.Response], reader: ChunkReader
) -> AsyncGenerator[Any, None]:
    """Do as `read_chunks`."""
    async with exchange as response:
        if not response.is_success:
            await response.aread()
            raise status_error(response)
        _check_is_stream(response)
        reader.check(response)
        async for piece in response.aiter_bytes():
            for chunk in reader.feed(piece, response.request):
                yield chunk
            if reader.has_ended:
                return
    raise _cut()


def _check_is_stream(response: Response) -> None:
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        message = f"The server's answer is not a stream of events: its content type is {kind!r}."
        raise broken(message, AssertionError)


def _cut() -> httpx.RemoteProtocolError:
    return broken("The server's stream was cut off before its end.", httpx.RemoteProtocolError)


@functools.lru_cache(maxsize=64)  # a server may make names up, and the log is not its own
def _tell_of_unknown(name: str) -> None:
    _log.error("Events of the type %r are not known here and are skipped.", name[:80])
