"""What an operator may set about the doors of a server: who comes in, and how many at a time.

Frozen values with their defaults; `config` reads them from file, environment and flags, and nobody
else does.  The workers of an app get theirs as JSON, from the process that starts them.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from locktender.core.bounds import check_counts, check_seconds
from locktender.core.errors import ConfigError
from locktender.http.host import is_host, is_network, is_origin
from locktender.http.prefix import FORM, is_prefix

__all__ = ["ConnectionSettings", "DoorSettings", "Doors", "is_key"]

_MAX_KEY_LENGTH = 512
# A request of the smallest client has about as much: its line, `Host`, what it sends and how long.
_MIN_HEADER_BYTES = 256
_MIN_HEADERS = 8
_HOSTS = (
    "names and addresses, as `chains.example.com` or `*.example.com`, without scheme and port, "
    "like `host`"
)
_ORIGINS = "origins of pages, as `https://example.com`, without a path"
_VISIBLE = range(ord("!"), ord("~") + 1)


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Who may come in."""

    # Each opens; none: everybody may come in.  Never shown: `repr` is what logs would have.
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    # What `Host` may name beside the loopback; "*" is everything.  None: it is not looked at,
    # nor is `Origin`, because the app is its author's.
    hosts: tuple[str, ...] | None = ()
    cors_origins: tuple[str, ...] = ()  # pages of other origins that may call; "*": all of them
    # Addresses and networks of proxies whose X-Forwarded-* is believed; "*": all of them.
    trusted_proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    root_path: str = ""  # that a proxy takes off each path

    def __post_init__(self) -> None:
        """Refuse what could not be sent, or is in no form that is understood."""
        if not all(is_key(key) for key in self.api_keys):
            message = f"A key is 1 to {_MAX_KEY_LENGTH} visible ASCII characters without spaces."
            raise ConfigError(message)
        for name, values, is_one, form in (
            ("allowed_hosts", self.hosts or (), is_host, _HOSTS),
            ("cors_origins", self.cors_origins, is_origin, _ORIGINS),
            ("trusted_proxies", self.trusted_proxies, is_network, "addresses and networks"),
        ):
            wrong = next((value for value in values if not is_one(value)), None)
            if wrong is not None:
                raise ConfigError(f"`{name}` has {form}, not {wrong!r}.")
        if not is_prefix(self.root_path):
            raise ConfigError(f"`root_path` is {FORM}, not {self.root_path!r}.")


@dataclass(frozen=True, slots=True)
class ConnectionSettings:
    """How many may come in, and how long they may take to say what they want."""

    max_connections: int = 2048  # open at once, in each process that serves
    # Of one request: its first line and its headers, together.  uvicorn's own default for h11.
    max_header_bytes: int = 64 * 1024
    max_headers: int = 100
    header_timeout_s: float = 10.0  # from a request's first byte to the end of its headers
    # A connection without a request is kept for so long.  Load balancers keep theirs for 60 s, and
    # must be the first to close: else they send a request into a connection that is just closed.
    idle_timeout_s: float = 75.0
    # An answer of which next to nothing is read for so long is cut off, and its run is cancelled.
    send_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse bounds that cannot work."""
        check_counts(self, 1, "max_connections")
        check_counts(self, _MIN_HEADERS, "max_headers")
        check_counts(self, _MIN_HEADER_BYTES, "max_header_bytes")
        check_seconds(self, 0.001, "header_timeout_s", "idle_timeout_s", "send_timeout_s")


@dataclass(frozen=True, slots=True)
class Doors:
    """Both, for one server."""

    door: DoorSettings = field(default_factory=DoorSettings)
    connections: ConnectionSettings = field(default_factory=ConnectionSettings)

    def to_json(self) -> str:
        """Write them, keys and all, for a process that is told of nobody else."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read what `to_json` has written."""
        told = json.loads(text)
        door: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in told["door"].items()
        }
        return cls(DoorSettings(**door), ConnectionSettings(**told["connections"]))


def is_key(text: str) -> bool:
    """Whether `text` can be sent as a key."""
    return 0 < len(text) <= _MAX_KEY_LENGTH and all(ord(letter) in _VISIBLE for letter in text)
