"""Hold the tickets that wait, in the order in which they are to be served.

A ticket's place is its `sequence`, given on arrival and kept for life, so that a request that comes
back after its engine died stands where it stood.  The backlog decides the order and nothing else:
who may enter is `admission`'s, who goes where is `scheduler`'s.  Adding and removing cost O(log n).
"""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass

__all__ = ["NO_GROUP", "Backlog", "Ticket"]

NO_GROUP = 0  # of those who are no suspects


@dataclass(frozen=True, slots=True)
class Ticket:
    """A request's place in the line, and what the deciders must know of it."""

    sequence: int
    tokens: int  # upper bound of prompt and answer together
    leave_at: float  # the instant at which it stops waiting
    # It is a suspect, which was in an engine that died: it runs with this group of them only.
    group: int = NO_GROUP


class Backlog:
    """The line.  Each sequence stands in it at most once."""

    def __init__(self) -> None:
        self._tickets: dict[int, Ticket] = {}
        # May hold sequences that have left; they are skipped, and swept when they are the most.
        self._heap: list[int] = []
        self.n_suspects = 0  # among those who stand in it

    def __len__(self) -> int:
        return len(self._tickets)

    def add(self, ticket: Ticket) -> None:
        """Put `ticket` in its place."""
        self._tickets[ticket.sequence] = ticket
        self.n_suspects += ticket.group != NO_GROUP
        heapq.heappush(self._heap, ticket.sequence)

    def remove(self, ticket: Ticket) -> bool:
        """Take `ticket` out, wherever it stands; return whether it stood there."""
        stood = self._tickets.pop(ticket.sequence, None)
        if stood is None:
            return False
        self.n_suspects -= stood.group != NO_GROUP
        while self._heap and self._heap[0] not in self._tickets:
            heapq.heappop(self._heap)
        if len(self._heap) > 2 * len(self._tickets) + 64:
            self._heap = sorted(self._tickets)
        return True

    def in_order(self) -> Iterator[Ticket]:
        """Yield the tickets from the front; reading only the first few costs little.

        The backlog must not change while it is read.
        """
        front = [(self._heap[0], 0)] if self._heap else []
        last = None
        while front:
            sequence, at = heapq.heappop(front)
            for child in (2 * at + 1, 2 * at + 2):
                if child < len(self._heap):
                    heapq.heappush(front, (self._heap[child], child))
            # A ticket that left and came back has its sequence in the heap twice.
            if sequence != last and sequence in self._tickets:
                yield self._tickets[sequence]
            last = sequence
