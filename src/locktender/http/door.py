"""Stand in front of an app, and let in who may come in.

One look at a request's headers, before anything of its body is read: the host that it names, the
page that it comes from, the key that it carries.  What these must be is decided by `host` and
`key`; here are the order, and what is free.  A path that nobody has said is free is not, so that no
way of spelling one gets past the key.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from starlette.types import ASGIApp, Receive, Scope, Send

from locktender.core.errors import Forbidden, LocktenderError, Unauthenticated
from locktender.http.host import Hosts, Proxies, is_same_origin, parse_authority
from locktender.http.key import IS_STRANGER, KEY_IS_WANTED, Keys
from locktender.http.rejection import reject
from locktender.http.settings import DoorSettings
from locktender.wire.problem import Problem

__all__ = ["Door", "ProblemOf", "Wire"]

ProblemOf: TypeAlias = Callable[[BaseException], Problem]  # in the form that callers read

_HEALTH = frozenset({"/livez", "/readyz", "/health", "/healthz"})
_LOOKING = frozenset({"GET", "HEAD"})
_RUNS_NOTHING = _LOOKING | {"OPTIONS"}
_READ = frozenset({b"host", b"origin", b"x-forwarded-host"})
_MAX_SHOWN_CHARACTERS = 100


def _nothing_is_free(_scope: Scope) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Wire:
    """What the door must know of the app behind it."""

    problem_of: ProblemOf
    takes_x_api_key: bool
    is_free: Callable[[Scope], bool] = _nothing_is_free  # whether a scope asks for a page


class Door:
    """ASGI middleware: passes a request on, or answers it 401 or 403."""

    def __init__(self, app: ASGIApp, settings: DoorSettings, wire: Wire) -> None:
        self._app = app
        self._wire = wire
        self._keys = Keys(settings.api_keys, takes_x_api_key=wire.takes_x_api_key)
        self._hosts = None if settings.hosts is None else Hosts(settings.hosts)
        self._proxies = Proxies(settings.trusted_proxies)
        # What the last request had that was let in: nearly always the next one has it, too.
        self._passed: list[tuple[bytes, bytes]] | None = None
        self._pages = frozenset(map(str.lower, settings.cors_origins))  # whose calls CORS allows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request in, or say why not."""
        if scope["type"] != "lifespan":
            try:
                self._check(scope)
            except LocktenderError as error:
                if not _is_health(scope):
                    await reject(scope, send, self._wire.problem_of(error))
                    return
                scope[IS_STRANGER] = True
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        """Raise Forbidden or Unauthenticated for who may not come in."""
        if self._hosts is not None:
            self._check_host(scope, self._hosts)
        if not self._keys.is_needed or self._keys.open_for(scope["headers"]):
            return
        if not self._wire.is_free(scope):
            also = " or as `X-API-Key`" if self._wire.takes_x_api_key else ""
            message = f"This service asks for a key: send it as `Authorization: Bearer KEY`{also}."
            raise Unauthenticated(message)
        scope[KEY_IS_WANTED] = True

    def _check_host(self, scope: Scope, hosts: Hosts) -> None:
        read = [field for field in scope["headers"] if field[0] in _READ]
        if read == self._passed:
            return
        named: dict[bytes, list[str]] = {}
        for name, value in read:
            named.setdefault(name, []).append(value.decode("latin-1"))
        given = named.get(b"host", [])
        if not hosts.know(given):
            raise Forbidden(_unknown_host(given))
        origin = named.get(b"origin")
        if origin is None:
            self._passed = read
        elif scope["type"] != "http" or scope["method"] not in _RUNS_NOTHING:
            self._check_origin(scope, origin, [*given, *named.get(b"x-forwarded-host", [])])

    def _check_origin(self, scope: Scope, origins: Sequence[str], hosts: Sequence[str]) -> None:
        """Let only a page of this server, or one that CORS allows, run something."""
        if "*" in self._pages or self._pages.issuperset(map(str.lower, origins)):
            return
        client = scope.get("client")
        if not self._proxies.trust(client[0] if client else None):
            hosts = hosts[:1]
        own = [parse_authority(host.partition(",")[0]) for host in hosts]
        if len(origins) == 1 and any(each and is_same_origin(origins[0], each) for each in own):
            return
        shown = origins[0][:_MAX_SHOWN_CHARACTERS]
        message = (
            f"A page of `{shown}` may not run anything here: allow it by `cors_origins` "
            "(--cors-origin)."
        )
        raise Forbidden(message)


def _is_health(scope: Scope) -> bool:
    return scope["path"] in _HEALTH and scope["type"] == "http" and scope["method"] in _LOOKING


def _unknown_host(given: Sequence[str]) -> str:
    if len(given) != 1:
        return f"A request must have one `Host` header, and this one has {len(given)}."
    shown = given[0][:_MAX_SHOWN_CHARACTERS]
    return (
        f"This service does not answer to the Host `{shown}`: if the name is its own, or that of a "
        "proxy or tunnel in front of it, add it to `allowed_hosts` (--allowed-host)."
    )
