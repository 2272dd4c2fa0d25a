"""Answer an operator's probes on the app's port: ``/livez``, ``/readyz`` and ``/health``.

A worker lives if it answers at all.  Whether requests should come to it the model layer knows, in
the process that started it: which models can serve, and whether the service is about to end.  It is
asked each time, so that all workers say the same.
These are no routes of the app, and the app's own go first: a user's `/health` is the user's.  Only
a `/readyz` of the user is overruled while the service leaves, of which his app knows nothing.
Strangers, whom `http.door` knows, are told states and no reasons.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import httpx
import orjson
from starlette.responses import Response
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from locktender.app.routes import routes_of
from locktender.core.errors import UnknownMethod
from locktender.http.door import ProblemOf
from locktender.http.key import IS_STRANGER, NOT_FOR_STRANGERS
from locktender.http.rejection import reject

__all__ = ["ModelHealth", "Probes", "Readiness"]

_LIVEZ = "/livez"
_READYZ = "/readyz"
_PATHS = frozenset({_LIVEZ, _READYZ, "/health"})
_LOOKING = ("GET", "HEAD")
_ALLOWED = ", ".join(_LOOKING)
_NOT_FOUND = 404
_PATIENCE_S = 1.0  # Who probes gives up after a second, or a few.
_ALIVE = b'{"alive":true}'


class Readiness(NamedTuple):
    """What `/readyz` answers."""

    status: int
    told: Mapping[str, Any]
    is_leaving: bool = False

    def body(self, *, hides_trouble: bool) -> bytes:
        """Return it as JSON; `trouble` may name files."""
        models = dict(self.told["models"])
        if hides_trouble:
            models = {
                name: {**model, "trouble": model["trouble"] and NOT_FOR_STRANGERS}
                for name, model in models.items()
            }
        return orjson.dumps({**self.told, "models": models})


# Of an app that was started by itself.
_READY = Readiness(200, {"ready": True, "draining": False, "models": {}})
_SILENCE = Readiness(
    503,
    {
        "ready": False,
        "draining": False,
        "models": {},
        "trouble": "The model layer does not answer.",
    },
)


class ModelHealth:
    """Asks the model layer at `url` whether requests should come."""

    def __init__(
        self,
        url: str,
        key: str | None = None,  # which opens it, and with which it says what is wrong
        *,
        transport: httpx.AsyncBaseTransport | None = None,  # other than by sockets
    ) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        # Not by the environment's proxies: it is on this machine.
        self._client = httpx.AsyncClient(timeout=_PATIENCE_S, trust_env=False, transport=transport)

    async def ask(self) -> Readiness:
        """Return what the model layer says; a silent one is not ready."""
        try:
            answer = await self._client.get(f"{self._url}{_READYZ}", headers=self._headers)
            told = answer.json()
            readiness = Readiness(answer.status_code, told, is_leaving=told["draining"])
            readiness.body(hides_trouble=True)  # It can be told to everybody.
        except (httpx.HTTPError, ValueError, KeyError, TypeError):
            return _SILENCE
        return readiness


class Probes:
    """ASGI middleware around an app, whose `routes` are known or not."""

    def __init__(
        self,
        app: ASGIApp,
        routes: Iterable[Any] | None,
        health: ModelHealth | None,
        problem_of: ProblemOf,
    ) -> None:
        self._app = app
        self._routes = routes
        self._health = health
        self._problem_of = problem_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a probe, unless the app does; hand everything else on."""
        path = scope.get("path", "").removeprefix(scope.get("root_path", ""))
        if scope["type"] != "http" or path not in _PATHS:
            await self._app(scope, receive, send)
        elif scope["method"] in _LOOKING:
            await self._tell(path, scope, receive, send)
        elif not await self._is_found(scope, receive, send):
            method, shown = scope["method"], scope["path"]
            message = f"There is no {method} {shown} here; there is {_ALLOWED}."
            await reject(scope, send, self._problem_of(UnknownMethod(message, _ALLOWED)))

    async def _tell(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        status, body, is_overruled = 200, _ALIVE, False
        if path != _LIVEZ:
            readiness = await self._health.ask() if self._health else _READY
            status = readiness.status
            body = readiness.body(hides_trouble=scope.get(IS_STRANGER, False))
            is_overruled = path == _READYZ and readiness.is_leaving
        if is_overruled or not await self._is_answered_by_app(path, scope, receive, send):
            answer = Response(body, status, media_type="application/json")
            answer.headers["cache-control"] = "no-store"
            await answer(scope, receive, send)

    async def _is_answered_by_app(
        self, path: str, scope: Scope, receive: Receive, send: Send
    ) -> bool:
        if self._routes is None:
            return await self._is_found(scope, receive, send)
        # The app is not asked: what stands around its routes (a login, a page for every path)
        # would answer for ours.
        methods = _methods_at(self._routes, path)
        if "GET" not in methods:
            return False
        if scope["method"] not in methods:  # HEAD: what GET answers, whose body the server drops.
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
        return True

    async def _is_found(self, scope: Scope, receive: Receive, send: Send) -> bool:
        """Have the app answer, unless it says that there is no such path."""
        is_missing = False

        async def send_if_found(message: Message) -> None:
            nonlocal is_missing
            is_missing |= message.get("status") == _NOT_FOUND
            if not is_missing:
                await send(message)

        await self._app(scope, receive, send_if_found)
        return not is_missing


def _methods_at(routes: Iterable[Any], path: str) -> set[str]:
    """Return, of those that probes have, the methods of the routes for `path` itself.

    Routes for any path that there is do not count.
    """
    return {
        method
        for place, route in _all_of(routes, "")
        if place.rstrip("/") == path and not isinstance(route, WebSocketRoute)
        for method in (getattr(route, "methods", None) or _LOOKING)
    }


def _all_of(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for place, route in routes_of(routes, prefix):
        yield place, route
        yield from _all_of(getattr(route, "routes", None) or (), place)
