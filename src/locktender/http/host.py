"""Decide whether a request names a host of ours, and comes from a page of ours.

Against two ways in which a web page reaches a server that listens on the loopback only.  By
rebinding, a page's own name is made to mean 127.0.0.1: the browser takes our answers for the page's
own, but sends its name in `Host`.  From a page of another origin a browser sends simple requests
without asking, and says in `Origin` where they come from.  Pure: headers in, a verdict out.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = [
    "Authority",
    "Hosts",
    "Proxies",
    "is_host",
    "is_loopback",
    "is_network",
    "is_origin",
    "is_same_origin",
    "parse_authority",
]

_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
_ANY_ADDRESS = frozenset({"0.0.0.0", "::"})  # noqa: S104 - what a listener on all of them is told
_ALL = "*"
_OPAQUE = "null"  # of pages in a sandbox, or from a file
_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?:\*\.)?[a-z0-9._-]+")
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*")
_AUTHORITY = re.compile(
    r"(?:\[(?P<six>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::(?P<port>\d{1,5}))?"
)


class Authority(NamedTuple):
    """A host, in lower case, and its port where one is named."""

    host: str
    port: int | None


class Hosts:
    """The hosts that a server answers to: the loopback's names, and `named`.

    A server that listens on every address answers to each number of one as well: by rebinding only
    names can be made to mean another machine.
    """

    def __init__(self, named: Sequence[str]) -> None:
        names = {name.lower().strip("[]") for name in named}
        self._takes_all = _ALL in names
        self._takes_numbers = bool(names & _ANY_ADDRESS)
        self._suffixes = tuple(name[1:] for name in names if name.startswith("*."))
        self._names = _LOOPBACK | names

    def know(self, given: Sequence[str]) -> bool:
        """Whether the `Host` headers of a request, of which there must be one, name one of them."""
        if self._takes_all:
            return True
        authority = parse_authority(given[0]) if len(given) == 1 else None
        if authority is None:
            return False
        host = authority.host
        return (
            host in self._names
            or (bool(self._suffixes) and host.endswith(self._suffixes))
            or (self._takes_numbers and _address(host) is not None)
        )


class Proxies:
    """Whose X-Forwarded-Host is believed: addresses and networks; "*" is everybody."""

    def __init__(self, trusted: Iterable[str]) -> None:
        named = tuple(trusted)
        self._trusts_all = _ALL in named
        self._networks = [network for each in named if (network := _network(each)) is not None]

    def trust(self, client: str | None) -> bool:
        """Whether the peer at the address `client` is one of them."""
        address = _address(client or "")
        return self._trusts_all or (
            address is not None and any(address in network for network in self._networks)
        )


def is_loopback(host: str) -> bool:
    """Whether nobody but this machine reaches a listener on `host`."""
    address = _address(host.strip("[]"))
    return host.lower() == "localhost" or (address is not None and address.is_loopback)


def parse_authority(text: str) -> Authority | None:
    """Read what stands in `Host`; None for what no client means to send."""
    match = _AUTHORITY.fullmatch(text.strip().lower())
    if match is None:
        return None
    port = match["port"]
    return Authority(match["six"] or match["name"], int(port) if port else None)


def is_same_origin(text: str, own: Authority) -> bool:
    """Whether the origin `text` is that of the server at `own`, whatever the scheme.

    A proxy in front ends TLS, so that the scheme that the browser sees is not ours to know; where
    one side names no port, it has that of the origin's scheme.
    """
    scheme, mark, rest = text.strip().lower().partition("://")
    origin = parse_authority(rest) if mark else None
    if origin is None or origin.host != own.host:
        return False
    default = _PORTS.get(scheme)
    return (origin.port or default) == (own.port or default)


def is_host(text: str) -> bool:
    """Whether `Hosts` could ever know a request by `text`, which has neither scheme nor port."""
    named = text.lower()
    is_name = named == _ALL or _NAME.fullmatch(named) is not None
    return is_name or _address(named.strip("[]")) is not None


def is_origin(text: str) -> bool:
    """Whether a browser could send `text` as the origin of a page, or it means all of them."""
    scheme, mark, rest = text.lower().partition("://")
    is_page = bool(mark and _SCHEME.fullmatch(scheme) and parse_authority(rest))
    return text in (_ALL, _OPAQUE) or is_page


def is_network(text: str) -> bool:
    """Whether `text` is an address, a network of them, or "*"."""
    return text == _ALL or _network(text) is not None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None
