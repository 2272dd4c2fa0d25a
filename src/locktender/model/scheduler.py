"""Decide which waiting request runs on which replica.

A pure function of what it is shown: it owns no state, reads no clock and never waits.  Above it,
`dispatcher` asks for a plan whenever the answer may have changed, and carries it out.  Below it,
`backlog` has put the tickets in order and `replica` reports what is free.  What an engine does with
the requests it was given, batching and its KV cache, is decided in the engine and not here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from locktender.model.backlog import Ticket
from locktender.model.replica import Load

__all__ = ["Assignment", "plan"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One ticket, the replica that is to run it, and the tokens it is charged there."""

    ticket: Ticket
    replica: str
    tokens: int


def plan(waiting: Iterable[Ticket], loads: Sequence[Load], *, now: float) -> list[Assignment]:
    """Return the assignments that can be made at `now`, reading no further than it must.

    Four promises hold for every input:

    1. No replica is given more slots or tokens than it reported free.
    2. No ticket overtakes an earlier live one, so a large request cannot be starved by a stream
       of small ones.
    3. A ticket whose `leave_at` has passed is never assigned.
    4. A suspect is only given to a replica that runs nothing, and is given no company.
    """
    free = {load.replica: load for load in loads if load.free_slots > 0}
    assignments: list[Assignment] = []
    for ticket in waiting if free else ():
        if ticket.leave_at <= now:
            continue
        load = _roomiest(ticket, free.values())
        if load is None:
            break  # Promise 2.
        tokens = _charge(ticket, load)
        assignments.append(Assignment(ticket, load.replica, tokens))
        if ticket.is_suspect or load.free_slots == 1:
            del free[load.replica]
        else:
            free[load.replica] = _after(load, tokens)
        if not free:
            break
    return assignments


def _charge(ticket: Ticket, load: Load) -> int:
    # The ticket's bound comes from bytes; no engine lets a request grow beyond its context.
    return min(ticket.tokens, load.context_tokens)


def _after(load: Load, tokens: int) -> Load:
    return replace(
        load,
        running=load.running + 1,
        free_slots=load.free_slots - 1,
        free_tokens=load.free_tokens - tokens,
    )


def _roomiest(ticket: Ticket, loads: Iterable[Load]) -> Load | None:
    """Return the replica with most room for `ticket`, or None if it fits nowhere."""
    fitting = [
        load
        for load in loads
        if load.free_tokens >= _charge(ticket, load)
        and (load.running == 0 or not ticket.is_suspect)
    ]
    # Few running first, then much memory; the name breaks ties, so that equal inputs give equal
    # plans.
    return min(
        fitting, key=lambda load: (load.running, -load.free_tokens, load.replica), default=None
    )
