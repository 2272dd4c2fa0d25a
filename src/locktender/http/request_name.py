"""Name a request: the id that its caller gave it or one of ours, and the path as logs may have it.

Whoever stands outermost names it, our server or a route of ours in a server of the user's; those
inside find the name in the request's scope, and each line of a log by `core.scope.current_request`.
"""

import re
import secrets
from collections.abc import Awaitable, Iterable, Mapping, MutableMapping
from typing import Any

from starlette.types import Message, Scope, Send

from locktender.core.scope import RequestName, current_request
from locktender.wire.header import REQUEST_ID, parse_id

__all__ = ["ID_HEADER", "is_named", "name_of", "naming", "with_id"]

ID_HEADER = REQUEST_ID.lower()

_KEY = "locktender.request_name"
_RAW = ID_HEADER.encode("ascii")
_STARTS = frozenset({"http.response.start", "websocket.http.response.start"})
# A config in a path is its caller's, who may have put a key into it.
_CONFIG, _CONFIG_BEGINS = re.compile(r"/c/[^/]+(?=/)"), "/c/"
_MAX_ROUTE_CHARACTERS = 500
_ID_BYTES = 16  # as a UUID has


def name_of(scope: MutableMapping[str, Any]) -> RequestName:
    """Return the name of a request, which it gets if it has none."""
    name: RequestName | None = scope.get(_KEY)
    if name is None:
        request_id = _given_id(scope.get("headers", ())) or secrets.token_hex(_ID_BYTES)
        route = scope["path"]
        if _CONFIG_BEGINS in route:
            route = _CONFIG.sub("/c/*", route)
        name = scope[_KEY] = RequestName(request_id, route[:_MAX_ROUTE_CHARACTERS])
        current_request.set(name)
    return name


def is_named(scope: Mapping[str, Any]) -> bool:
    """Whether somebody further out has named the request."""
    return _KEY in scope


def naming(scope: Scope, send: Send) -> Send:
    """Return a `send` that puts the request's id into its answer."""
    name = name_of(scope)

    def named(message: Message) -> Awaitable[None]:  # No coroutine more for each piece of a stream.
        return send(with_id(message, name) if message["type"] in _STARTS else message)

    return named


def with_id(start: Message, name: RequestName) -> Message:
    """Return the start of an answer with the id, unless it has one."""
    headers = start.get("headers", ())
    for field, _ in headers:
        if field.lower() == _RAW:
            return start
    return {**start, "headers": [*headers, (_RAW, name.id.encode("ascii"))]}


def _given_id(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    for field, value in headers:
        if field == _RAW:
            return parse_id(value.decode("latin-1"))
    return None
