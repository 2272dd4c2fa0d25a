"""Give uvicorn an app with its doors in front: the one place where their order is decided.

From outside in: what each request is called (`reception`), what a browser asks before it calls
(CORS), who may come in (`door`), below which prefix (`mount`) and for whom a trusted proxy calls,
the app.  Below all of them `connection` bounds the sockets themselves.
"""

import contextlib
from collections.abc import Iterator
from functools import partial
from inspect import signature
from typing import Any, cast

import uvicorn
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from locktender.http.connection import BoundedProtocol
from locktender.http.crowd import Crowd
from locktender.http.descriptors import possible_connections
from locktender.http.door import Door, Wire
from locktender.http.mount import Mounted
from locktender.http.reception import Reception
from locktender.http.settings import Doors, DoorSettings

__all__ = ["SignalFreeServer", "server_config"]

_PREFLIGHT_S = 600  # for which a browser need not ask again
# Of our answers, what a page's script may read beside the body.
_SHOWN_HEADERS = ("Retry-After", "X-Request-Id", "X-Locktender-Extensions")


class SignalFreeServer(uvicorn.Server):
    """A uvicorn server that leaves the signals to us."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def server_config(app: ASGIApp, doors: Doors, wire: Wire, **options: Any) -> uvicorn.Config:
    """Return what a `uvicorn.Server` is made of; `options` are uvicorn's own."""
    crowd = Crowd(possible_connections(doors.connections.max_connections))
    protocol = partial(BoundedProtocol, doors.connections, crowd, wire.problem_of)
    return uvicorn.Config(
        _behind(app, doors.door, wire),
        # uvicorn asks for a class, and calls it.
        http=cast("Any", protocol),
        log_config=None,  # `deploy.logs` has seen to it
        log_level="warning",
        access_log=False,  # ours is `reception`'s
        proxy_headers=False,  # it is asked for further in, where the door has seen who speaks
        **options,
    )


def _behind(app: ASGIApp, settings: DoorSettings, wire: Wire) -> ASGIApp:
    proxies = list(settings.trusted_proxies)
    behind = cast("ASGIApp", ProxyHeadersMiddleware(cast("Any", app), proxies))
    behind = Mounted(behind, settings, wire.problem_of)
    if settings.api_keys or settings.hosts is not None:
        behind = Door(behind, settings, wire)
    if settings.cors_origins:
        # Of a page on the internet that calls the loopback, a browser asks that as well; a
        # Starlette that does not know it says nothing against it.
        knows_private = "allow_private_network" in signature(CORSMiddleware).parameters
        private: dict[str, Any] = {"allow_private_network": True} if knows_private else {}
        behind = CORSMiddleware(
            behind,
            allow_origins=[
                origin.lower() for origin in settings.cors_origins
            ],  # as browsers send them
            allow_methods=["*"],
            allow_headers=["*"],  # the key, and the deadline, among them
            expose_headers=_SHOWN_HEADERS,
            max_age=_PREFLIGHT_S,
            **private,
        )
    return Reception(behind, wire.problem_of)
