"""Decide which outer request is given the next place, and which of its calls stand outside.

An app layer makes many calls for one request of its caller: an agent one after another, a batch all
at once.  One such outer request has a share of the gate's places, and all that have, or want, more
than one have a part of them together; calls beyond that stand outside.  When a place comes free:

1. Whoever claims its one place is first: an agent whose tools have run, if that is signed.
2. Of batches those that are signed go before those of strangers.
3. The one that holds fewest places is next, and among equals the one served longest ago.

Synchronous, without a clock.  Above it, `admission` has the places.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

__all__ = ["Part", "Permit", "Shares"]

_Key: TypeAlias = tuple[str, bool]


@dataclass(frozen=True, slots=True)
class Part:
    """The outer request that a call is part of."""

    outer: str
    until: float | None = None  # how long its claim lasts; None: nobody has signed for it

    @property
    def is_signed(self) -> bool:
        """Whether there is more to it than the caller's word."""
        return self.until is not None

    @property
    def key(self) -> _Key:
        """Who uses the id of a signed one without its signature is somebody else."""
        return self.outer, self.is_signed


@dataclass(slots=True, eq=False)
class Permit:
    """The right to be inside, now or when there is a place; given back once."""

    tokens: int
    part: Part | None = None  # None: a request of its own
    is_inside: bool = False
    is_over: bool = False  # it has been given back


@dataclass(slots=True, eq=False)
class _Outer:
    """The calls of one outer request that have not ended."""

    is_signed: bool
    n_inside: int = 0
    outside: dict[Permit, None] = field(default_factory=dict)  # in the order of their arrival

    @property
    def n_shared(self) -> int:
        """The places that count as a batch's: of those who have, or want, more than one."""
        return self.n_inside if self.n_inside > 1 or self.outside else 0

    @property
    def is_claimant(self) -> bool:
        """Whether it wants its one place, and may be believed to have been let in before."""
        return self.is_signed and self.n_inside == 0 and len(self.outside) == 1

    @property
    def rank(self) -> tuple[bool, bool, int]:
        """Return what is smaller for those who come before others."""
        return not self.is_claimant, not self.is_signed, self.n_inside


@dataclass(slots=True)
class _Crowd:
    """What stands outside."""

    n_calls: int = 0
    tokens: int = 0

    def add(self, permit: Permit, sign: int = 1) -> None:
        """Count `permit` in, or out."""
        self.n_calls += sign
        self.tokens += sign * permit.tokens


class Shares:
    """The outer requests of which calls are inside or outside."""

    def __init__(self, max_share: int, max_shared: int) -> None:
        self._max_share = max_share
        self._max_shared = max_shared
        self._outers: dict[_Key, _Outer] = {}
        self._waiting: dict[_Key, _Outer] = {}  # those with calls outside, the last served last
        self._n_shared = 0
        # Apart: strangers cannot crowd out those who have signed.
        self._crowds = {is_signed: _Crowd() for is_signed in (False, True)}

    @property
    def is_waited_for(self) -> bool:
        """Whether any call stands outside."""
        return bool(self._waiting)

    @property
    def n_outside(self) -> int:
        """Calls that stand outside."""
        return sum(crowd.n_calls for crowd in self._crowds.values())

    def has(self, part: Part) -> bool:
        """Return whether calls of the outer request are inside, or stand outside."""
        return part.key in self._outers

    def enter(self, permit: Permit) -> None:
        """Count the place that `permit` has been given."""
        self._leave_outside(permit)
        self._change(permit, 1)

    def leave(self, permit: Permit) -> None:
        """Count the place out, or have the call stand outside no longer."""
        if permit.is_inside:
            self._change(permit, -1)
        else:
            self._leave_outside(permit)

    def stand_outside(self, permit: Permit) -> None:
        """Have a call of an outer request wait for a place."""
        if permit.part is None:
            message = "A request of its own has no share to wait for."
            raise ValueError(message)
        outer = self._outers.setdefault(permit.part.key, _Outer(permit.part.is_signed))
        self._n_shared -= outer.n_shared
        outer.outside[permit] = None
        self._crowds[permit.part.is_signed].add(permit)
        self._settle(permit.part.key, outer)

    def is_crowded(self, part: Part, max_calls: int, max_tokens: int) -> bool:
        """Return whether more stands outside beside `part`'s than may.

        Claimants may stand beside as many again: they are not refused for the batches that wait.
        """
        crowd = self._crowds[part.is_signed]
        times = 2 if self._outers[part.key].is_claimant else 1
        return crowd.n_calls > times * max_calls or crowd.tokens > times * max_tokens

    def next(self, fits: Callable[[int], bool]) -> Permit | None:
        """Return who is given the next place; None if it is nobody of those outside.

        `fits` says whether there is room for so many tokens.
        """
        able = (outer for outer in self._waiting.values() if outer.n_inside < self._max_share)
        outer = min(able, key=lambda outer: outer.rank, default=None)
        if outer is None:
            return None
        permit = next(iter(outer.outside))
        if outer.is_claimant:
            return permit  # Bounded by the number of places, and each by the size of a body.
        return permit if self._n_shared < self._max_shared and fits(permit.tokens) else None

    def _change(self, permit: Permit, change: int) -> None:
        if permit.part is None:
            return
        outer = self._outers.setdefault(permit.part.key, _Outer(permit.part.is_signed))
        self._n_shared -= outer.n_shared
        outer.n_inside += change
        self._settle(permit.part.key, outer)

    def _leave_outside(self, permit: Permit) -> None:
        part = permit.part
        outer = self._outers.get(part.key) if part else None
        if part is None or outer is None or permit not in outer.outside:
            return
        self._n_shared -= outer.n_shared
        del outer.outside[permit]
        self._crowds[part.is_signed].add(permit, -1)
        self._waiting.pop(part.key)  # to come behind the others, if it still waits
        self._settle(part.key, outer)

    def _settle(self, key: _Key, outer: _Outer) -> None:
        """Count `outer` again, and forget it if nothing of it is left."""
        self._n_shared += outer.n_shared
        if outer.outside:
            self._waiting[key] = outer
        elif not outer.n_inside:
            del self._outers[key]
