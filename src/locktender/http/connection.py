"""One connection of a server, bounded: uvicorn's protocol over httptools, with what it lacks.

1. So many connections at once (`crowd`); one more is answered 503 with Retry-After.
2. So many bytes and fields of a request's head, answered 431 beyond it, and so much time for them,
   answered 408.  The bytes between two pieces of a body (chunk extensions, trailers) have the same
   bound, and trailers are dropped: an app reads its headers before they could come.
3. A caller that shuts its sending side counts as gone: it cannot be told from one that has left.
4. A caller that does not read is cut off after a time; and before that, like one that does not send
   the rest of a body, where another wants the connection.

How the bytes become requests is `upgrade`'s.

It reads what is private in uvicorn's class; the house's table of private parts has the names.
"""

from asyncio import Transport
from asyncio.events import TimerHandle
from collections.abc import Callable
from typing import Any, cast

from locktender.core.errors import (
    HeadTooLarge,
    HeadTooSlow,
    InvalidRequest,
    LocktenderError,
    TooManyConnections,
)
from locktender.http.abort import cut_off, offer
from locktender.http.crowd import Crowd
from locktender.http.reader import Reader
from locktender.http.refusal import Refusal
from locktender.http.settings import ConnectionSettings
from locktender.http.upgrade import PlainProtocol
from locktender.wire.problem import Problem

__all__ = ["BoundedProtocol"]

_CONNECT = b"CONNECT"
_BAD_REQUEST = 400  # of what is no HTTP at all, in any dialect


class _TurnedAwayError(Exception):
    """Raised within the parser, which stops at it."""


class BoundedProtocol(PlainProtocol):
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
        self._head_timer: TimerHandle | None = None
        self._refusal: Refusal | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Take the connection in, and let another go for it if there are too many."""
        leaver = self._crowd.enter(self, len(self.connections), self.loop.time())
        super().connection_made(transport)
        self._reader = Reader(self.transport, self.loop, self._settings.send_timeout_s)
        if leaver is self:
            after_s = self._crowd.retry_after_s(self.loop.time())
            message = "The service has as many connections as it may, and all are in use."
            self._turn_away(TooManyConnections(message, after_s))
            return
        if leaver is not None:
            cast("BoundedProtocol", leaver).give_way()
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._stop_head_timer()
        self._reader.end()
        self._crowd.leave(self)
        if self._refusal is not None:
            self._refusal.end()

    def eof_received(self) -> None:
        """Count the caller as gone; the transport is closed when this returns."""
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
            self.flow.resume_writing()

    def give_way(self) -> None:
        """Close the connection for another one."""
        if self._is_answering() or self.transport.get_write_buffer_size():
            cut_off(self.transport)  # To close it would wait for the caller to read.
        else:
            self.transport.close()

    def pause_writing(self) -> None:
        """Have the app wait until the caller has read, who has a time for it."""
        super().pause_writing()
        self._crowd.stall(self, self.loop.time())
        self._reader.expect()

    def resume_writing(self) -> None:
        """Let the app go on."""
        super().resume_writing()
        self._crowd.move(self)
        self._reader.end()

    def data_received(self, data: bytes) -> None:
        """Read on, within the bounds."""
        if self._refusal is not None:
            self._refusal.discard(len(data))
            return
        self._unset_keepalive_if_required()
        self._n_unread += len(data)
        self.feed(data)
        if self._has_ended():
            return
        if not self._is_in_head and self._is_answering():
            self._crowd.stall(self, self.loop.time())
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
        if self.parser.should_upgrade():
            self._check_method()
        super().on_headers_complete()
        if not self.is_offer:
            self._crowd.begin(self)

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of a body."""
        self._n_unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, and wait for the next."""
        self._n_unread = 0
        if not self.is_offer:
            self._is_in_head = True
            self._crowd.move(self)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Keep the connection for a next request, if it is kept."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._reader.expect()
        is_kept = not self.transport.is_closing() and self.cycle.response_complete
        self._crowd.end(self, self.loop.time(), is_kept=is_kept)

    def timeout_keep_alive_handler(self) -> None:
        """Close a connection on which nothing was asked."""
        super().timeout_keep_alive_handler()
        self._reader.expect()

    def send_400_response(self, msg: str) -> None:
        """Say in the server's own form that what came is no HTTP."""
        if self._refusal is None:
            self._turn_away(InvalidRequest(msg), _BAD_REQUEST)

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
        return self._refusal is not None or self.is_websocket

    def _turn_away(self, error: LocktenderError, status: int | None = None) -> None:
        """Answer with `error`, and close."""
        self._stop_head_timer()
        answer = None
        # Nothing can be put into an answer that is under way.
        if not self._is_answering() and not self.transport.is_closing():
            problem = self._problem_of(error)
            answer = Refusal.answer(problem, status or problem.status, self.client)
        self._reader.expect()
        may_linger = self._crowd.linger(self)
        self._refusal = Refusal(self.transport, self.loop, answer, may_linger=may_linger)


def _too_large(settings: ConnectionSettings) -> HeadTooLarge:
    return HeadTooLarge(
        f"A request's headers may be {settings.max_header_bytes:,} bytes, and "
        f"{settings.max_headers} in number."
    )
