"""Bind what a server listens on, and say where that is."""

import socket
from dataclasses import dataclass

from locktender.core.errors import ConfigError
from locktender.http.host import is_loopback

__all__ = ["Place", "listen", "place_of"]

_STALLED_READER_MS = 120_000  # RFC 5482
_BACKLOG = 1024  # connections that wait in the kernel
# Where this machine finds a listener on all of its addresses.
_LOOPBACKS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - nothing is bound by it


def listen(host: str, port: int) -> socket.socket:
    """Listen, so that who comes waits; port 0 takes any free one.  Raises: ConfigError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        # A caller that has stopped reading would keep its connection for ever: closing it waits
        # for it to read.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _STALLED_READER_MS)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except (OSError, ValueError) as error:  # the latter, where `host` can be no name at all
        listener.close()
        reason = error.strerror if isinstance(error, OSError) else error
        message = f"Cannot listen on {_authority(host, port)}: {reason}."
        raise ConfigError(message) from error
    return listener


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server listens, for its users."""

    url: str  # at which this machine reaches it
    is_open: bool  # whether others do, too
    bound: str  # address and port

    @property
    def told(self) -> str:
        """Who reaches it where, in words, of which the last is the URL."""
        if not self.is_open:
            return f"to this machine only, at {self.url}"
        is_elsewhere = not self.url.endswith(f"//{self.bound}")
        return f"to the network{f' ({self.bound})' if is_elsewhere else ''}, at {self.url}"


def place_of(listener: socket.socket) -> Place:
    """Return where `listener` is."""
    host, port = listener.getsockname()[:2]
    return Place(
        url=f"http://{_authority(_LOOPBACKS.get(host, host), port)}",
        is_open=not is_loopback(host),
        bound=_authority(host, port),
    )


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
