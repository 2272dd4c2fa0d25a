"""Bound the calls of one outer request that are under way at one gate.

They are as many as the gate has places for, which it says in its answers; more would only wait
there.  And they know of one another, so that a refusal can be told from a wait: room is asked once,
by whichever call comes first, and when that is let in the others only have to wait for theirs.
Used on one event loop; above it, `completion` makes the calls.
"""

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Places"]


class Places:
    """The places that the calls of one outer request share, given in the order of asking."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._n_taken = 0
        self._n_asking = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def are_asking(self) -> bool:
        """Whether any of the calls has been sent and not been refused, nor ended."""
        return self._n_asking > 0

    def limit(self, n_places: int) -> None:
        """Have so many places from now on; calls that are under way are left alone."""
        self._limit = n_places
        self._give()

    async def take(self) -> None:
        """Wait for a place."""
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        self._give()
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():  # It was given in this very moment.
                self.give_back()
            else:
                self._waiting.remove(place)
            raise

    def give_back(self) -> None:
        """Give a place back."""
        self._n_taken -= 1
        self._give()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Be a call that has been sent, while the block lasts."""
        self._n_asking += 1
        try:
            yield
        finally:
            self._n_asking -= 1

    def _give(self) -> None:
        while self._waiting and self._n_taken < self._limit:
            place = self._waiting.popleft()
            if not place.done():
                self._n_taken += 1
                place.set_result(None)
