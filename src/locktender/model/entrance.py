"""Have calls that were let in, and have no place yet, wait outside until there is one.

It acts on what `admission` decides, on one event loop: whenever a place or tokens have come back,
those whose turn it is are told.  Whose request a permit is, `dispatcher` knows, above.
"""

import asyncio

from locktender.core.scope import Scope
from locktender.model.admission import Admission, Room
from locktender.model.share import Part, Permit

__all__ = ["Entrance"]


class Entrance:
    """The permits of one gate, and those who wait for theirs to be a place."""

    def __init__(self, room: Room) -> None:
        self._admission = Admission(room)
        self._entries: dict[Permit, asyncio.Future[None]] = {}  # done when they are let in
        self.share = room.max_share  # places that the calls of one outer request may have at once

    @property
    def n_inside(self) -> int:
        """Places taken."""
        return self._admission.n_inside

    @property
    def n_outside(self) -> int:
        """Calls that wait for a place."""
        return self._admission.n_outside

    @property
    def retry_after_s(self) -> float | None:
        """The seconds after which there may be room; None if nobody can tell."""
        return self._admission.retry_after_s(_now())

    def ask(self, tokens: int, scope: Scope, *, now: float) -> tuple[Permit, bool]:
        """Return a permit for a call of at most `tokens`, and whether it had a claim to one.

        Raises: QueueFull.
        """
        part = None
        if scope.outer is not None:
            part = Part(scope.outer, None if scope.outer_s is None else now + scope.outer_s)
        has_claim = self._admission.knows(part, now=now)
        return self._admission.ask(tokens, part, now=now), has_claim

    async def wait(self, permit: Permit, until: float) -> None:
        """Wait until `permit` is a place.  Raises: TimeoutError at `until`, on the loop's clock."""
        if permit.is_inside:
            return
        entry = self._entries[permit] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout_at(until):
                await entry
        finally:
            self._entries.pop(permit, None)

    def correct(self, permit: Permit, tokens: int) -> None:
        """Replace the bound that `permit` was given on by what the engine has counted."""
        self._admission.correct(permit, tokens)
        self._let_in()

    def give_back(self, permit: Permit) -> None:
        """Take the permit back; a second time changes nothing."""
        if not permit.is_over:
            self._admission.give_back(permit, now=_now())
            self._let_in()

    def _let_in(self) -> None:
        for permit in self._admission.let_in():
            entry = self._entries.pop(permit, None)
            if entry is not None and not entry.done():  # Done: who waited is about to leave.
                entry.set_result(None)


def _now() -> float:
    return asyncio.get_running_loop().time()
