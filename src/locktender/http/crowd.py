"""Decide who may stay when a server has as many connections as it may.

Connections that are being answered stay.  The others (kept for a next request, or still sending
their headers) go in the order in which they last did something, so that whoever opens connections
and asks for nothing keeps nobody out.  After them go those that keep their server waiting, for the
rest of a body or until some of the answer is read, the one that has done so longest first.
Pure: members are any values, and time is an argument.
"""

from collections import deque
from collections.abc import Hashable

__all__ = ["Crowd"]

_N_REMEMBERED = 64  # answers whose ends tell how fast places become free
_UNKNOWN_S = 5.0  # to come again, where nothing has ended yet
_LONGEST_S = 60.0
_MAX_LINGERING = 64
_PATIENCE_S = 2.0  # with a member that keeps its server waiting, before another may have its place


class Crowd:
    """The connections of one server."""

    def __init__(self, max_open: int) -> None:
        self._max_open = max_open
        self._idle: dict[Hashable, None] = {}  # in the order in which they became so
        self._stalled: dict[Hashable, float] = {}  # since when, in that order
        self._ended_at: deque[float] = deque(maxlen=_N_REMEMBERED)
        self._n_refused = 0  # since the last end
        self._lingering: set[Hashable] = set()

    def enter(self, member: Hashable, n_open: int, now: float) -> Hashable | None:
        """Take a member in beside `n_open`; return who must go for it, itself if all are busy."""
        leaver = None if n_open < self._max_open else self._leaver(member, now)
        if leaver is member:
            self._n_refused += 1
            return member
        self._idle[member] = None
        return leaver

    def _leaver(self, member: Hashable, now: float) -> Hashable:
        oldest = next(iter(self._idle), None)
        if oldest is not None:
            del self._idle[oldest]
            return oldest
        longest = next(iter(self._stalled), None)
        if longest is None or self._stalled[longest] > now - _PATIENCE_S:
            return member
        del self._stalled[longest]
        return longest

    def begin(self, member: Hashable) -> None:
        """Hear that a request of a member is being answered."""
        self._idle.pop(member, None)

    def stall(self, member: Hashable, now: float) -> None:
        """Hear that a member keeps its server waiting from now on."""
        self._stalled.setdefault(member, now)

    def move(self, member: Hashable) -> None:
        """Hear that it does so no longer."""
        self._stalled.pop(member, None)

    def end(self, member: Hashable, now: float, *, is_kept: bool) -> None:
        """Hear that an answer has ended, and whether its connection is kept."""
        self._stalled.pop(member, None)
        if is_kept:
            self._idle[member] = None
        self._ended_at.append(now)
        self._n_refused = 0

    def linger(self, member: Hashable) -> bool:
        """Say whether a member that is turned away may stay to hear it; a few at a time may."""
        self._idle.pop(member, None)
        if len(self._lingering) >= _MAX_LINGERING:
            return False
        self._lingering.add(member)
        return True

    def leave(self, member: Hashable) -> None:
        """Hear that a member has gone."""
        self._idle.pop(member, None)
        self._stalled.pop(member, None)
        self._lingering.discard(member)

    def retry_after_s(self, now: float) -> float:
        """Return when a place should be free for the last one that was refused."""
        ended_at = [at for at in self._ended_at if at > now - _LONGEST_S]
        if not ended_at:
            return _UNKNOWN_S
        pace_s = (now - ended_at[0]) / len(ended_at)
        return min(max(pace_s * max(1, self._n_refused), 1.0), _LONGEST_S)
