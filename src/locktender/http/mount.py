"""Tell an app below which prefix its callers find it, when a proxy has taken that off the path.

As ASGI has it, `root_path` is the prefix and the path begins with it: so the app's links, its
redirects and its OpenAPI document name what callers can reach.  What a trusted proxy says in
`X-Forwarded-Prefix` goes before the setting `root_path`, of which it is the newer word.
"""

from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from locktender.core.errors import InvalidRequest
from locktender.http.host import Proxies
from locktender.http.prefix import HEADER, parse_prefix
from locktender.http.rejection import reject
from locktender.http.settings import DoorSettings
from locktender.wire.problem import Problem

__all__ = ["Mounted"]

_HEADER = HEADER.lower().encode()


class Mounted:
    """ASGI middleware: stands where the peer is still the proxy, and not whom it speaks for."""

    def __init__(
        self,
        app: ASGIApp,
        settings: DoorSettings,
        problem_of: Callable[[BaseException], Problem],
    ) -> None:
        self._app = app
        self._root_path = settings.root_path
        self._proxies = Proxies(settings.trusted_proxies)
        self._problem_of = problem_of

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand the request on, with its prefix."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        try:
            prefix = self._prefix_of(scope)
        except InvalidRequest as error:
            await reject(scope, send, self._problem_of(error))
            return
        if prefix:
            # In place: `reception` reads there for whom a proxy calls, which is written further in.
            scope.update(_below(prefix, scope))
        await self._app(scope, receive, send)

    def _prefix_of(self, scope: Scope) -> str:
        # An empty one, as of a proxy's variable that is not set, says nothing of the prefix.
        given = [value for name, value in scope["headers"] if name == _HEADER and value.strip()]
        if given:
            client = scope.get("client")
            if self._proxies.trust(client[0] if client else None):
                return parse_prefix([value.decode("latin-1") for value in given])
        return self._root_path


def _below(prefix: str, scope: Scope) -> Scope:
    raw_path = scope.get("raw_path")
    below = {"root_path": prefix, "path": prefix + scope["path"]}
    if raw_path is not None:
        below["raw_path"] = prefix.encode() + raw_path
    return below
