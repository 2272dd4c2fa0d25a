"""Serve a model service on a socket, and stop it in order.

On SIGTERM or SIGINT it drains: the listener stays open and answers 503 until the last stream has
ended or `drain_s` have passed; what is left then is ended with an error that says so.  A second
signal does not wait.  (uvicorn alone would close the listener first, and leave the streams to
their luck.)
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator

import uvicorn

from locktender.core.errors import ConfigError
from locktender.core.events import DrainStarted, Observer
from locktender.deploy.local import LocalModels

__all__ = ["ModelServer", "listen"]

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LAST_BYTES_S = 2  # for the answers that the gates have let go to reach their callers


def listen(host: str, port: int) -> socket.socket:
    """Bind the listener; port 0 takes any free one.  Raises: ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        message = f"Cannot listen on {host}:{port}: {error.strerror}."
        raise ConfigError(message) from error
    return listener


class ModelServer:
    """One service on one socket; served once.  It owns the process's stop signals from then on."""

    def __init__(self, models: LocalModels, observer: Observer, *, drain_s: float) -> None:
        self._models = models
        self._observer = observer
        self._drain_s = drain_s
        self._stop = asyncio.Event()
        self._stop_now = asyncio.Event()
        self._server = _Uvicorn(
            uvicorn.Config(
                models.service.app(),
                log_level="warning",
                access_log=False,
                lifespan="off",
                server_header=False,
                timeout_graceful_shutdown=_LAST_BYTES_S,
            )
        )

    async def serve(self, listener: socket.socket) -> None:
        """Serve until a signal has come and the last request has ended.

        Raises: ConfigError when an engine finds that it can never start.
        """
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled)
        for supervisor in self._models.supervisors.values():
            supervisor.subscribe(self._stop_if_misconfigured)
        stopping = asyncio.create_task(self._stop_in_order())
        try:
            await self._server.serve(sockets=[listener])
        finally:
            stopping.cancel()
        if self._models.config_error is not None:
            raise self._models.config_error

    def _signalled(self) -> None:
        if self._stop.is_set():
            self._stop_now.set()
        self._stop.set()

    def _stop_if_misconfigured(self) -> None:
        if self._models.config_error is not None:
            self._stop.set()
            self._stop_now.set()

    async def _stop_in_order(self) -> None:
        await self._stop.wait()
        self._models.service.drain()
        self._observer(DrainStarted(self._models.n_inside))
        drained = asyncio.create_task(self._models.service.wait_idle())
        hurried = asyncio.create_task(self._stop_now.wait())
        await asyncio.wait(
            [drained, hurried], timeout=self._drain_s, return_when=asyncio.FIRST_COMPLETED
        )
        hurried.cancel()
        if not drained.done():
            await self._models.stop_engines()
            await asyncio.wait([drained], timeout=_LAST_BYTES_S)
            drained.cancel()
        self._server.should_exit = True


class _Uvicorn(uvicorn.Server):
    """A uvicorn server that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
