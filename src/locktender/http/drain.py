"""Count the requests inside an app and, once it drains, refuse new ones until those have ended.

uvicorn alone closes its listener first, so that whoever comes while others are being answered is
refused a connection, and is not told when to come again.  It cuts off what takes too long, too, in
the middle of a stream; here those are told first, where their answers have a way to say it.
A WebSocket is refused like a request, but not waited for: it may stay open for days, and the server
tells its peer to go (close code 1012) when it ends.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from locktender.core.errors import Draining
from locktender.http.rejection import reject
from locktender.wire.problem import Problem

__all__ = ["RETRY_AFTER_S", "SAYS_ERROR", "Drain"]

# In the scope of a stream: what writes a problem as its last part.
SAYS_ERROR = "locktender.says_error"
RETRY_AFTER_S = 5.0  # By then a proxy has found another server, or a new one has this port.


class Drain:
    """ASGI middleware; `begin` is called once, and `end` when what it begins takes too long."""

    def __init__(self, app: ASGIApp, problem_of: Callable[[BaseException], Problem]) -> None:
        self._app = app
        self._problem_of = problem_of
        self._inside: set[_Visit] = set()
        self._is_draining = False
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Refuse new requests from now on."""
        self._is_draining = True
        if not self._inside:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Return when it drains, and the last request has ended."""
        await self._idle.wait()

    async def end(self, within_s: float) -> None:
        """Tell those who are inside that it is over, where their answers can say so."""
        problem = self._refusal()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await asyncio.gather(
                    *(visit.end(problem) for visit in self._inside), return_exceptions=True
                )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or say that it is too late."""
        if scope["type"] != "lifespan" and self._is_draining:
            await reject(scope, send, self._refusal())
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            visit = _Visit(scope, send)
            self._inside.add(visit)
            try:
                await self._app(scope, receive, visit.send)
            finally:
                self._inside.remove(visit)
                if self._is_draining and not self._inside:
                    self._idle.set()

    def _refusal(self) -> Problem:
        error = Draining("The service is shutting down. Try again later.", RETRY_AFTER_S)
        problem = self._problem_of(error)
        # What comes next is not for a connection that ends with this server.
        return replace(problem, headers={**problem.headers, "connection": "close"})


class _Visit:
    """A request that is being answered."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._has_begun = False
        self._is_over = False

    async def send(self, message: Message) -> None:
        """Hand on what the caller is sent, until it is over."""
        if self._is_over:
            return
        if message["type"] == "http.response.start":
            self._has_begun = True
        elif message["type"] == "http.response.body":
            self._is_over = not message.get("more_body", False)
        await self._send(message)

    async def end(self, problem: Problem) -> None:
        """End the answer with `problem`; one that cannot say it is cut off with its connection."""
        says = self._scope.get(SAYS_ERROR)
        if self._is_over:
            return
        if not self._has_begun:
            self._is_over = True
            await reject(self._scope, self._send, problem)
        elif says is not None:
            self._is_over = True
            await self._send({"type": "http.response.body", "body": says(problem)})
