"""Let an app cut its caller's connection off: an extension of ASGI, in a request's scope.

A server closes a connection only when its caller has read all that was sent, which one who does not
read never has.  `connection` offers it, and an app asks for it by `abort_of`.
"""

import socket
import struct
from asyncio import Transport
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

__all__ = ["abort_of", "cut_off", "offer"]

_NAME = "locktender.abort"
_NO_LINGER = struct.pack("ii", 1, 0)  # what is unsent is thrown away, and the caller told by RST


def offer(transport: Transport) -> dict[str, Any]:
    """Return the extensions of a scope whose connection is `transport`."""
    return {_NAME: {"connection": partial(cut_off, transport)}}


def abort_of(scope: Mapping[str, Any]) -> Callable[[], None] | None:
    """Return what cuts the connection off at once; None where the server has no such thing."""
    offered = scope.get("extensions", {}).get(_NAME)
    return None if offered is None else offered["connection"]


def cut_off(transport: Transport) -> None:
    """Close the connection of `transport` at once, whatever is unsent."""
    connection = transport.get_extra_info("socket")
    # Else the kernel would keep what it has, and the connection, for as long as it tries to send.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()
