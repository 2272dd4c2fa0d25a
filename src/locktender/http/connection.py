"""One connection of a server, bounded: uvicorn's protocol over httptools, with what it lacks.

1. So many connections at once (`crowd`); one more is answered 503 with Retry-After.
2. So many bytes and fields of a request's head, answered 431 beyond it, and so much time for them,
   answered 408.  The bytes between two pieces of a body (chunk extensions, trailers) have the same
   bound, and trailers are dropped: an app reads its headers before they could come.
3. A request that offers another protocol (`Upgrade: h2c`, as Java's client does) is answered as
   the HTTP/1.1 that it also is, with its body.  WebSocket is left to uvicorn, where an app has it.
4. A caller that shuts its sending side counts as gone: it cannot be told from one that has left.

It reads what is private in uvicorn's class; the house's table of private parts has the names.
"""

from asyncio import Transport
from asyncio.events import TimerHandle
from collections.abc import Callable, Iterable
from typing import Any, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from locktender.core.errors import (
    HeadTooLarge,
    HeadTooSlow,
    InvalidRequest,
    LocktenderError,
    TooManyConnections,
)
from locktender.http.abort import offer
from locktender.http.crowd import Crowd
from locktender.http.refusal import Refusal
from locktender.http.settings import ConnectionSettings
from locktender.wire.problem import Problem

__all__ = ["BoundedProtocol"]

_CONNECT = b"CONNECT"
_UPGRADE = b"upgrade"
_BAD_REQUEST = 400  # of what is no HTTP at all, in any dialect


class _TurnedAwayError(Exception):
    """Raised within the parser, which stops at it."""


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's, with the bounds of `settings`."""

    def __init__(
        self,
        settings: ConnectionSettings,
        crowd: Crowd,
        problem_of: Callable[[BaseException], Problem],
        **uvicorns: Any,
    ) -> None:
        super().__init__(**uvicorns)
        self.timeout_keep_alive = cast("int", settings.idle_timeout_s)
        self._settings = settings
        self._crowd = crowd
        self._problem_of = problem_of
        self._n_unread = 0  # bytes since the last thing that was made of some
        self._is_in_head = True
        self._is_offer = False  # of a protocol that we do not speak
        self._is_websocket = False  # another protocol has the transport
        self._head_timer: TimerHandle | None = None
        self._refusal: Refusal | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take the connection in, and let another go for it if there are too many."""
        leaver = self._crowd.enter(self, len(self.connections))
        super().connection_made(transport)
        if leaver is self:
            after_s = self._crowd.retry_after_s(self.loop.time())
            message = "The service has as many connections as it may, and all are in use."
            self._turn_away(TooManyConnections(message, after_s))
            return
        if leaver is not None:
            cast("BoundedProtocol", leaver).transport.close()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        self._crowd.leave(self)
        if self._refusal is not None:
            self._refusal.end()

    def eof_received(self) -> None:
        """Count the caller as gone; the transport is closed when this returns."""
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()

    def data_received(self, data: bytes) -> None:
        """Read on, within the bounds."""
        if self._refusal is not None:
            self._refusal.discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._n_unread += len(data)
        self._feed(data)
        if self._has_ended():
            return
        if self._n_unread > self._settings.max_header_bytes:
            self._turn_away(_too_large(self._settings))
        elif self._is_answering():
            return
        elif self._n_unread and self._is_in_head:
            self._expect_head()
        else:  # The rest of a body whose answer did not wait for it.
            self._wait_for_request()

    def on_message_begin(self) -> None:
        """Begin a request."""
        super().on_message_begin()
        self.scope["extensions"] = offer(self.transport)

    def on_headers_complete(self) -> None:
        """Begin to answer, unless the head is too large."""
        settings = self._settings
        if self._n_unread > settings.max_header_bytes or len(self.headers) > settings.max_headers:
            self._check_head()
        self._is_in_head = False
        self._n_unread = 0
        self._stop_head_timer()
        self._is_offer = has_upgrade = self.parser.should_upgrade()
        if has_upgrade:
            self._check_method()
            self._is_offer = not self._should_upgrade()
            if self._is_offer:  # The parser stops here, and `_feed` goes on.
                return
        self._crowd.begin(self)
        super().on_headers_complete()
        if not has_upgrade:
            self.headers = []  # for the trailers, which nobody reads

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of a body."""
        self._n_unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, and wait for the next."""
        self._n_unread = 0
        if not self._is_offer:
            self._is_in_head = True
            super().on_message_complete()

    def on_response_complete(self) -> None:
        """Keep the connection for a next request, if it is kept."""
        super().on_response_complete()
        is_kept = not self.transport.is_closing() and self.cycle.response_complete
        self._crowd.end(self, self.loop.time(), is_kept=is_kept)

    def send_400_response(self, msg: str) -> None:
        """Say in the server's own form that what came is no HTTP."""
        self._turn_away(InvalidRequest(msg), _BAD_REQUEST)

    def _feed(self, data: bytes) -> None:
        """Parse to the end of what has come, or until another protocol has it."""
        rest = memoryview(data)  # A copy for each of many small requests would take its square.
        while (n_read := self._parse(rest)) is not None:
            if not self._is_offer:
                self._is_websocket = True
                self.handle_websocket_upgrade()
                return
            head = _head_without_offer(self.parser, self.url, self.headers)
            self.parser = httptools.HttpRequestParser(self)
            # As uvicorn's own: a caller may send on after a request with `Connection: close`.
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self._parse(head)
            rest = rest[n_read:]

    def _parse(self, data: bytes | memoryview) -> int | None:
        """Parse, and return after how many bytes the parser stopped at an upgrade, if it did."""
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as stopped:
            n_read: int = stopped.args[0]
            return n_read
        except httptools.HttpParserError:
            if self._refusal is None:
                self.send_400_response("Invalid HTTP request received.")
        return None

    def _check_head(self) -> None:
        """Raise _TurnedAwayError, with the caller told, for a head that is none of ours."""
        settings = self._settings
        n_bytes = self._n_unread
        if n_bytes > settings.max_header_bytes:  # There may be a body in it.
            fields = sum(len(name) + len(value) for name, value in self.headers)
            n_bytes = len(self.url) + fields
        if n_bytes > settings.max_header_bytes or len(self.headers) > settings.max_headers:
            self._turn_away(_too_large(settings))
            raise _TurnedAwayError

    def _check_method(self) -> None:
        """Raise as `_check_head` for a method after which there would be no HTTP."""
        if self.parser.get_method() == _CONNECT:
            self._turn_away(InvalidRequest("This server is no proxy."), _BAD_REQUEST)
            raise _TurnedAwayError

    def _expect_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self._settings.header_timeout_s, self._be_late)

    def _wait_for_request(self) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(
            self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _be_late(self) -> None:
        self._head_timer = None
        if self._is_answering():  # The head is that of a request after the one that runs.
            self._expect_head()
            return
        limit = f"{self._settings.header_timeout_s:g}"
        self._turn_away(HeadTooSlow(f"The headers did not arrive within {limit} s."))

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever uvicorn's type says
        return cycle is not None and not cycle.response_complete

    def _has_ended(self) -> bool:
        """Whether nothing that comes is for us any more."""
        return self._refusal is not None or self._is_websocket

    def _turn_away(self, error: LocktenderError, status: int | None = None) -> None:
        """Answer with `error`, and close."""
        self._stop_head_timer()
        answer = None
        # Nothing can be put into an answer that is under way.
        if not self._is_answering() and not self.transport.is_closing():
            problem = self._problem_of(error)
            answer = Refusal.answer(problem, status or problem.status, self.client)
        may_linger = self._crowd.linger(self)
        self._refusal = Refusal(self.transport, self.loop, answer, may_linger=may_linger)


def _head_without_offer(
    parser: httptools.HttpRequestParser, url: bytes, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Return the head that `parser` has read last, without `Upgrade`."""
    version = parser.get_http_version().encode()
    head = [parser.get_method(), b" ", url, b" HTTP/", version, b"\r\n"]
    for name, value in headers:
        if name != _UPGRADE:
            head += [name, b": ", value, b"\r\n"]
    return b"".join([*head, b"\r\n"])


def _too_large(settings: ConnectionSettings) -> HeadTooLarge:
    return HeadTooLarge(
        f"A request's headers may be {settings.max_header_bytes:,} bytes, and "
        f"{settings.max_headers} in number."
    )
