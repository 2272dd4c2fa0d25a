"""Decide which waiting request runs on which replica.

A pure function of what it is shown: it owns no state, reads no clock and never waits.  Above it,
`line` asks for a plan whenever the answer may have changed, and carries it out.  Below it,
`backlog` has put the tickets in order, `isolation` has chosen the ward of the suspects, and
`replica` reports what is free.  What an engine does with the requests it was given, batching and
its KV cache, is decided in the engine and not here.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from locktender.model.backlog import NO_GROUP, Ticket
from locktender.model.isolation import Ward
from locktender.model.replica import Load

__all__ = ["Assignment", "plan"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One ticket, the replica that is to run it, and the tokens it is charged there."""

    ticket: Ticket
    replica: str
    tokens: int


def plan(
    waiting: Iterable[Ticket], loads: Sequence[Load], ward: Ward | None = None, *, now: float
) -> list[Assignment]:
    """Return the assignments that can be made at `now`, reading no further than it must.

    Four promises hold for every input:

    1. No replica is given more slots or tokens than it reported free.
    2. No ticket overtakes an earlier live one of its kind, so a large request cannot be starved by
       a stream of small ones: the kinds are the ward's group, and those who are no suspects.
    3. A ticket whose `leave_at` has passed is never assigned.
    4. A suspect is only given to the ward of its own group, once that runs nothing else; and a
       ward is given nobody else.
    """
    free = {load.replica: load for load in loads if load.free_slots > 0}
    kept = free.pop(ward.replica, None) if ward is not None else None
    is_ready = kept is not None and ward is not None and (ward.is_begun or kept.running == 0)
    apart = {kept.replica: kept} if kept is not None and is_ready else {}
    assignments: list[Assignment] = []
    for ticket in waiting if free or apart else ():
        room = free if ticket.group == NO_GROUP else apart
        if ticket.leave_at <= now or not room or not _may_run(ticket, ward):
            continue
        load = _roomiest(ticket, room.values())
        if load is None:
            room.clear()  # Promise 2.
        else:
            tokens = _charge(ticket, load)
            assignments.append(Assignment(ticket, load.replica, tokens))
            _take(room, load, tokens)
        if not free and not apart:
            break
    return assignments


def _may_run(ticket: Ticket, ward: Ward | None) -> bool:
    return ticket.group == NO_GROUP or (ward is not None and ward.admits(ticket))


def _charge(ticket: Ticket, load: Load) -> int:
    # The ticket's bound comes from bytes; no engine lets a request grow beyond its context.
    return min(ticket.tokens, load.context_tokens)


def _take(room: dict[str, Load], load: Load, tokens: int) -> None:
    """Take one slot and `tokens` of `load` from `room`."""
    if load.free_slots == 1:
        del room[load.replica]
        return
    room[load.replica] = replace(
        load,
        running=load.running + 1,
        free_slots=load.free_slots - 1,
        free_tokens=load.free_tokens - tokens,
    )


def _roomiest(ticket: Ticket, loads: Iterable[Load]) -> Load | None:
    """Return the replica with most room for `ticket`, or None if it fits nowhere."""
    fitting = [load for load in loads if load.free_tokens >= _charge(ticket, load)]
    # Few running first, then much memory; the name breaks ties, so that equal inputs give equal
    # plans.
    return min(
        fitting, key=lambda load: (load.running, -load.free_tokens, load.replica), default=None
    )
