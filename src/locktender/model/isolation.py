"""Decide which replica a group of suspects has to itself, and when.

One group at a time, in the order of the line, has a replica to itself: its ward.  The replica is
chosen when the group is due, and given nobody new until it runs nothing; with several replicas the
others go on serving meanwhile.  The ward ends when the group's run does: the members that it was
given have ended, or each has got beyond the place at which its engine died.  What they still have
to say is then no more suspect than anybody's, and company is let in.

Nobody starves: between two groups, everybody who waited at the end of the first has a turn, so no
newcomer is held up by more than one group's run; and who comes later than that waits, so the next
group is held up by those few.

Which requests are one group is `quarantine`'s, and who goes where is `scheduler`'s.  Synchronous.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from locktender.model.backlog import NO_GROUP, Ticket
from locktender.model.replica import Load

__all__ = ["Isolation", "Ward"]


@dataclass(frozen=True, slots=True)
class Ward:
    """A replica that is kept for one group of suspects."""

    replica: str
    group: int
    newest: int  # the last ticket of this run; a copy that comes later is in the next
    is_begun: bool = False  # members were given to it, so nobody else runs in it

    def admits(self, ticket: Ticket) -> bool:
        """Return whether `ticket` is one of this run's members."""
        return ticket.group == self.group and ticket.sequence <= self.newest


class Isolation:
    """The ward, if there is one, and who goes before the next."""

    def __init__(self) -> None:
        self._ward: Ward | None = None
        self._unproven: set[int] = set()  # the members in it, by sequence
        self._turn = 0  # those up to this ticket go before the next group

    def settle(
        self, waiting: Iterable[Ticket], loads: Sequence[Load], *, newest: int, now: float
    ) -> Ward | None:
        """Return the ward of the next plan.

        `waiting` is the line, in order; it may be left out if no suspect is in it.  `newest` is
        the last ticket that came.
        """
        if self._ward is not None and self._ward.is_begun:
            if self._unproven and _find(self._ward.replica, loads).running:
                return self._ward
            self._ward = None
            self._unproven.clear()
            self._turn = newest
        group = self._due(waiting, now)
        self._ward = self._chosen(group, loads, newest) if group != NO_GROUP else None
        return self._ward

    def begin(self, ticket: Ticket) -> None:
        """Note that a member was given to the ward."""
        if self._ward is not None and ticket.group == self._ward.group:
            self._ward = replace(self._ward, is_begun=True)
            self._unproven.add(ticket.sequence)

    def prove(self, ticket: Ticket) -> None:
        """Note that a request has ended, or has got beyond the place at which its engine died."""
        self._unproven.discard(ticket.sequence)

    def _due(self, waiting: Iterable[Ticket], now: float) -> int:
        """Return the group whose turn it is."""
        group = NO_GROUP
        for ticket in waiting:
            if ticket.leave_at <= now:
                continue
            if ticket.group == NO_GROUP and ticket.sequence <= self._turn:
                return NO_GROUP
            if group == NO_GROUP:
                group = ticket.group
        return group

    def _chosen(self, group: int, loads: Sequence[Load], newest: int) -> Ward | None:
        """Return a ward for `group`: one that is idle, or the one that is emptied already."""
        alive = [load for load in loads if load.context_tokens]
        if not alive:
            return None
        best = min(alive, key=lambda load: (load.running, -load.free_tokens, load.replica))
        if best.running and self._ward is not None and _find(self._ward.replica, alive).running:
            return Ward(self._ward.replica, group, newest)
        return Ward(best.replica, group, newest)


def _find(replica: str, loads: Iterable[Load]) -> Load:
    nothing = Load(replica, 0, 0, 0, 0)
    return next((load for load in loads if load.replica == replica), nothing)
