"""Count the requests inside an app and, once it drains, refuse new ones until those have ended.

uvicorn alone closes its listener first, so that whoever comes while others are being answered is
refused a connection, and is not told when to come again.  A WebSocket is refused like a request,
but not waited for: it may stay open for days, and the server tells its peer to go (close code
1012) when it ends.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace

from starlette.types import ASGIApp, Receive, Scope, Send

from locktender.core.errors import Draining
from locktender.http.rejection import reject
from locktender.wire.problem import Problem

__all__ = ["RETRY_AFTER_S", "Drain"]

RETRY_AFTER_S = 5.0  # By then a proxy has found another server, or a new one has this port.


class Drain:
    """ASGI middleware; `begin` is called once, at the end."""

    def __init__(self, app: ASGIApp, problem_of: Callable[[BaseException], Problem]) -> None:
        self._app = app
        self._problem_of = problem_of
        self._n_inside = 0
        self._is_draining = False
        self._idle = asyncio.Event()

    def begin(self) -> None:
        """Refuse new requests from now on."""
        self._is_draining = True
        if not self._n_inside:
            self._idle.set()

    async def wait_idle(self) -> None:
        """Return when it drains, and the last request has ended."""
        await self._idle.wait()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or say that it is too late."""
        if scope["type"] != "lifespan" and self._is_draining:
            await reject(scope, send, self._refusal())
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            self._n_inside += 1
            try:
                await self._app(scope, receive, send)
            finally:
                self._n_inside -= 1
                if self._is_draining and not self._n_inside:
                    self._idle.set()

    def _refusal(self) -> Problem:
        error = Draining("The service is shutting down. Try again later.", RETRY_AFTER_S)
        problem = self._problem_of(error)
        # What comes next is not for a connection that ends with this server.
        return replace(problem, headers={**problem.headers, "connection": "close"})
