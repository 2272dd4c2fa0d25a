"""Let an app cut its caller's connection off: an extension of ASGI, in a request's scope.

A server closes a connection only when its caller has read all that was sent, which one who does not
read never has.  `connection` offers it, and an app asks for it by `abort_of`.
"""

from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["abort_of", "offer"]

_NAME = "locktender.abort"


def offer(abort: Callable[[], None]) -> dict[str, Any]:
    """Return the extensions of a scope whose connection `abort` cuts off."""
    return {_NAME: {"connection": abort}}


def abort_of(scope: Mapping[str, Any]) -> Callable[[], None] | None:
    """Return what cuts the connection off at once; None where the server has no such thing."""
    offered = scope.get("extensions", {}).get(_NAME)
    return None if offered is None else offered["connection"]
