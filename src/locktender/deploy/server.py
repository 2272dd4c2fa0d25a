"""Serve a model service on a socket, and stop it in order.

When it is drained, the listener stays open and answers 503 until the last stream has ended or
`drain_s` have passed; what is left then is ended with an error that says so.  (uvicorn alone would
close the listener first, and leave the streams to their luck.)
"""

import asyncio
import socket

from locktender.core.events import DrainStarted, Observer
from locktender.deploy.local import LocalModels
from locktender.deploy.stop import Stop
from locktender.http.door import Wire
from locktender.http.settings import Doors
from locktender.http.stack import SignalFreeServer, server_config
from locktender.wire.problem import openai_problem

__all__ = ["ModelServer"]

_LAST_BYTES_S = 2  # for the answers that the gates have let go to reach their callers


class ModelServer:
    """One model service on one socket: `serve`, until `drain` has been called."""

    def __init__(
        self, models: LocalModels, observer: Observer, doors: Doors, *, drain_s: float
    ) -> None:
        self._models = models
        self._observer = observer
        self._drain_s = drain_s
        self._server = SignalFreeServer(
            server_config(
                models.service.app(),
                doors,
                Wire(openai_problem, takes_x_api_key=False),
                lifespan="off",
                ws="none",
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
