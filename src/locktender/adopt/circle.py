"""Keep those who have one object and wait for another from waiting in a circle.

A model that is asked within a call of a second one, and asks that one within its own calls, would
have two callers wait for one another.  Whoever comes last to such a circle does not wait: they call
the object as they would without a guard.  Who has what is `owner`'s to know.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, Self

__all__ = ["Awaited", "awaiting"]

_lock = threading.Lock()  # of all arrows there are


class Awaited(Protocol):
    """What may be waited for: it knows what those who have it are waiting for."""

    awaits: list[Self]


@contextmanager
def awaiting(held: Sequence[Awaited], wanted: Awaited) -> Iterator[bool]:
    """Note that who has `held` waits for `wanted` while the block lasts; give whether they may."""
    with _lock:
        may_wait = not _leads_to(wanted, held)
        if may_wait:
            for each in held:
                each.awaits.append(wanted)
    try:
        yield may_wait
    finally:
        if may_wait:
            with _lock:
                for each in held:
                    each.awaits.remove(wanted)


def _leads_to(start: Awaited, ends: Sequence[Awaited]) -> bool:
    known, waiting = {id(start)}, [start]
    while waiting:
        each = waiting.pop()
        if any(each is end for end in ends):
            return True
        waiting += [other for other in each.awaits if id(other) not in known]
        known.update(map(id, each.awaits))
    return False
