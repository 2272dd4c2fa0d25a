"""Answer an operator's probes on the app's port: ``/livez``, ``/readyz`` and ``/health``.

A worker lives if it answers at all.  Whether requests should come to it the model layer knows, in
the process that started it: which models can serve, and whether the service is about to end.  It is
asked each time, so that all workers say the same.
These are no routes of the app, and the app's own go first: a user's `/health` is the user's.  Only
a `/readyz` of the user is overruled while the service leaves, of which his app knows nothing.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import httpx
import orjson
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from locktender.app.routes import routes_of

__all__ = ["ModelHealth", "Probes", "Readiness"]

_LIVEZ = "/livez"
_READYZ = "/readyz"
_PATHS = frozenset({_LIVEZ, _READYZ, "/health"})
_LOOKING = frozenset({"GET", "HEAD"})
_NOT_FOUND = 404
_PATIENCE_S = 1.0  # Who probes gives up after a second, or a few.
_ALIVE = b'{"alive":true}'
_SILENT = "The model layer does not answer."


class Readiness(NamedTuple):
    """What `/readyz` answers."""

    status: int
    body: bytes  # JSON
    is_leaving: bool = False


# Of an app that was started by itself.
_READY = Readiness(200, b'{"ready":true,"draining":false,"models":{}}')


class ModelHealth:
    """Asks the model layer at `url` whether requests should come."""

    def __init__(
        self,
        url: str,
        *,
        shows_trouble: bool,
        transport: httpx.AsyncBaseTransport | None = None,  # other than by sockets
    ) -> None:
        self._url = url
        self._shows_trouble = shows_trouble  # which may name files
        # Not by the environment's proxies: it is on this machine.
        self._client = httpx.AsyncClient(timeout=_PATIENCE_S, trust_env=False, transport=transport)

    async def ask(self) -> Readiness:
        """Return what the model layer says; a silent one is not ready."""
        try:
            answer = await self._client.get(f"{self._url}{_READYZ}")
            told = answer.json()
            if not self._shows_trouble:
                for name in told["models"]:
                    told["models"][name]["trouble"] = None
            body = orjson.dumps(told)
            return Readiness(answer.status_code, body, is_leaving=told["draining"])
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            silence = {"ready": False, "draining": False, "models": {}, "trouble": _SILENT}
            return Readiness(503, orjson.dumps(silence))


class Probes:
    """ASGI middleware around an app, whose `routes` are known or not."""

    def __init__(
        self, app: ASGIApp, routes: Iterable[Any] | None, health: ModelHealth | None
    ) -> None:
        self._app = app
        self._routes = routes
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a probe, unless the app does; hand everything else on."""
        if scope["type"] != "http" or scope["method"] not in _LOOKING:
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path not in _PATHS:
            await self._app(scope, receive, send)
            return
        if path == _LIVEZ:
            readiness = Readiness(200, _ALIVE)
        else:
            readiness = await self._health.ask() if self._health else _READY
        is_overruled = path == _READYZ and readiness.is_leaving
        if is_overruled or not await self._is_answered_by_app(path, scope, receive, send):
            answer = Response(readiness.body, readiness.status, media_type="application/json")
            answer.headers["cache-control"] = "no-store"
            await answer(scope, receive, send)

    async def _is_answered_by_app(
        self, path: str, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        if self._routes is not None:
            # The app is not asked: what stands around its routes (a login, a page for every path)
            # would answer for ours.
            is_own = _has_route(self._routes, path)
            if is_own:
                await self._app(scope, receive, send)
            return is_own
        is_missing = False

        async def send_if_found(message: Message) -> None:
            nonlocal is_missing
            is_missing |= message.get("status") == _NOT_FOUND
            if not is_missing:
                await send(message)

        await self._app(scope, receive, send_if_found)
        return not is_missing


def _has_route(routes: Iterable[Any], path: str) -> bool:
    """Whether one of `routes` is for `path` itself, and not for any path that there is."""
    return any(
        place.rstrip("/") == path
        and not isinstance(route, WebSocketRoute)
        and "GET" in (getattr(route, "methods", None) or {"GET"})
        for place, route in _all_of(routes, "")
    )


def _all_of(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for place, route in routes_of(routes, prefix):
        yield place, route
        yield from _all_of(getattr(route, "routes", None) or (), place)
