"""Serve a model service on a socket, and stop it in order.

When it is drained, the listener stays open and answers 503 until the last stream has ended or
`drain_s` have passed; what is left then is ended with an error that says so.  (uvicorn alone would
close the listener first, and leave the streams to their luck.)
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Iterator
from functools import partial

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from locktender.core.errors import ConfigError
from locktender.core.events import DrainStarted, Observer
from locktender.deploy.local import LocalModels
from locktender.deploy.stop import Stop
from locktender.model.answer import ABORT

__all__ = ["ModelServer", "listen"]

_STALLED_READER_MS = 120_000  # RFC 5482
_NO_LINGER = struct.pack("ii", 1, 0)  # on, for no time: the connection is reset; see socket(7)
_LAST_BYTES_S = 2  # for the answers that the gates have let go to reach their callers


def listen(host: str, port: int) -> socket.socket:
    """Bind the listener; port 0 takes any free one.  Raises: ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        # A caller that has stopped reading would keep its connection for ever: closing it waits
        # for it to read.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_READER_MS)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        message = f"Cannot listen on {host}:{port}: {error.strerror}."
        raise ConfigError(message) from error
    return listener


class ModelServer:
    """One model service on one socket: `serve`, until `drain` has been called."""

    def __init__(self, models: LocalModels, observer: Observer, *, drain_s: float) -> None:
        self._models = models
        self._observer = observer
        self._drain_s = drain_s
        self._server = _Uvicorn(
            uvicorn.Config(
                _abortable(models.service.app()),
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=_LAST_BYTES_S,
            )
        )
        for supervisor in models.supervisors.values():
            supervisor.subscribe(self._stop_if_misconfigured)

    async def serve(self, listener: socket.socket) -> None:
        """Serve until drained.  Raises: ConfigError when an engine finds it can never start."""
        await self._server.serve(sockets=[listener])
        if self._models.config_error is not None:
            raise self._models.config_error

    async def drain(self, stop: Stop) -> None:
        """Refuse what comes, see to its end what is there, and end the server."""
        self._models.service.drain()
        self._observer(DrainStarted(self._models.n_inside))
        drained = asyncio.create_task(self._models.service.wait_idle())
        hurried = asyncio.create_task(stop.wait_hurried())
        await asyncio.wait(
            [drained, hurried], timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        if not drained.done():
            await self._models.stop_engines()
            await asyncio.wait([drained], timeout=_LAST_BYTES_S)
            drained.cancel()
        self.end()

    def end(self) -> None:
        """End the server without waiting for anybody."""
        self._server.should_exit = True

    def _stop_if_misconfigured(self) -> None:
        if self._models.config_error is not None:
            self.end()


def _abortable(app: ASGIApp) -> ASGIApp:
    """Have `app` find, in each request's scope, how to cut its connection off.

    uvicorn closes a connection only when its caller has read all that was sent.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        cycle = getattr(send, "__self__", None)  # uvicorn's own, since no middleware is around us
        transport = getattr(cycle, "transport", None)
        if transport is not None:
            abort = {ABORT: {"connection": partial(_cut_off, transport)}}
            scope["extensions"] = {**scope.get("extensions", {}), **abort}
        await app(scope, receive, send)

    return call


def _cut_off(transport: asyncio.Transport) -> None:
    """Close a connection at once, and throw away what its caller has not read."""
    connection = transport.get_extra_info("socket")
    # Else the kernel would keep what it has, and the connection, for as long as it tries to send.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
