"""Receive each request of a server of ours: name it, see it through, and tell of it in the log.

It stands in front of everything, so that what the doors refuse has an id and a line of the access
log like any other.  An exception that nobody has answered becomes a 500 in the server's own form.
"""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from locktender.core.scope import RequestName
from locktender.http.access import is_asked_for, tell
from locktender.http.door import ProblemOf
from locktender.http.rejection import reject
from locktender.http.request_name import name_of, with_id

__all__ = ["Reception"]

_SWITCHING = 101  # protocols: what opens a WebSocket


class Reception:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, problem_of: ProblemOf) -> None:
        self._app = app
        self._problem_of = problem_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Have a request answered."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(name_of(scope), receive, send)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception as error:
            if exchange.status is None and scope["type"] == "http":
                await reject(scope, exchange.send, self._problem_of(error))
            raise  # The server writes it into the log.
        finally:
            if is_asked_for():
                exchange.tell(scope)


class _Exchange:
    """A request and its answer, as they pass."""

    def __init__(self, name: RequestName, receive: Receive, send: Send) -> None:
        self.status: int | None = None
        self._name = name
        self._receive = receive
        self._send = send
        self._n_bytes = 0
        self._is_over = False
        self._has_left = False
        self._began_at = time.monotonic()

    async def receive(self) -> Message:
        """Hand on what the caller sends."""
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._is_over:
            self._has_left = True
        return message

    async def send(self, message: Message) -> None:
        """Hand on what the caller is sent, with the request's id."""
        kind = message["type"]
        if kind.endswith("response.body"):
            self._n_bytes += len(message.get("body", b""))
            self._is_over = not message.get("more_body", False)
        elif kind.endswith("response.start"):
            self.status = message["status"]
            message = with_id(message, self._name)
        elif kind == "websocket.accept":
            self.status = _SWITCHING
            message = with_id(message, self._name)
        await self._send(message)

    def tell(self, scope: Scope) -> None:
        """Write the line of the access log."""
        method = scope.get("method", "WEBSOCKET")
        client = scope.get("client")
        tell(
            f"{method} {self._name.route} {self.status or '-'}",
            request_id=self._name.id,
            method=method,
            status=self.status,
            duration_s=round(time.monotonic() - self._began_at, 6),
            bytes=self._n_bytes,
            client=client[0] if client else None,
            left=self._has_left or None,  # before its answer was complete
        )
