"""Bound the bodies that are still arriving, those of an application together.

Each has its own bound (`body`), and many connections could hold one each.  Beyond this one the body
that has been arriving for longest is given up: who sends slowly keeps out only others who do.
"""

from collections.abc import Hashable, Iterator
from typing import Any

from locktender.http.app_state import kept_on

__all__ = ["Arrivals", "arrivals_of"]

_MAX_BYTES = 512 * 1024 * 1024


class Arrivals:
    """What has come of bodies that are not whole.  Pure: members are any values."""

    def __init__(self, max_bytes: int = _MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._held: dict[Hashable, int] = {}  # bytes, in the order of arrival
        self._n_bytes = 0

    def add(self, member: Hashable, n_bytes: int) -> Iterator[Hashable]:
        """Count more of the body of `member`; yield those that are given up for it."""
        self._held[member] = self._held.get(member, 0) + n_bytes
        self._n_bytes += n_bytes
        while self._n_bytes > self._max_bytes:
            oldest = next(iter(self._held))
            self.leave(oldest)
            yield oldest

    def leave(self, member: Hashable) -> None:
        """Hear that a body is whole, or comes no more."""
        self._n_bytes -= self._held.pop(member, 0)


def arrivals_of(application: Any) -> Arrivals:
    """Return those of an ASGI application."""
    return kept_on(application, "locktender_arrivals", Arrivals)
