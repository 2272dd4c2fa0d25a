"""Decide who may enter the gate, and tell those who may not when to come again.

Synchronous, without a clock: time is an argument.  Whoever enters holds a `Permit`, which is a
place, until the request has ended, however it ends; no request reaches the backlog without one.
The order of those inside is `backlog`'s.

A request on its own finds a place or is refused.  Of the calls that an app layer makes for one
request of its caller only the first asks for room: while one of them has a place, and for as long
as their signature says, none is refused for want of one.  An agent that is refused at its third
call has run its tools for nothing.  But nobody gets more room by it: such calls have their share
(`share`), and stand outside for the rest.
"""

import math
from collections import OrderedDict, deque
from dataclasses import dataclass

from locktender.core.errors import QueueFull
from locktender.core.request import (
    ChatInput,
    GenerationRequest,
    Input,
    RenderedInput,
    TextInput,
)
from locktender.model.settings import GateSettings
from locktender.model.share import Part, Permit, Shares

__all__ = ["Admission", "Room", "max_total_tokens"]

_MAX_KNOWN = 65_536  # outer requests remembered; beyond them the one longest silent asks again
_N_ENDS = 64  # ends that the drain rate is measured over
_ENDS_WINDOW_S = 60.0  # older ends say nothing about now
_MAX_RETRY_AFTER_S = 120.0
# What a chat template adds: a default system prompt, and marks around each message.
_TEMPLATE_TOKENS = 64
_MESSAGE_TOKENS = 8


def max_total_tokens(request: GenerationRequest) -> int:
    """Return how many tokens prompt and answer can have at most, without a tokenizer."""
    return _max_prompt_tokens(request.input) + request.max_tokens


def _max_prompt_tokens(source: Input) -> int:
    # No token is shorter than a byte.
    match source:
        case ChatInput(messages):
            n_bytes = sum(len(message.content.encode()) for message in messages)
            return n_bytes + _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(messages)
        case TextInput(text) | RenderedInput(text):
            return len(text.encode()) + 1  # a start token
        case token_input:
            return len(token_input.ids)


@dataclass(frozen=True, slots=True)
class Room:
    """What the gate holds at most.  Requests that run and those that wait have a place each."""

    max_running: int  # requests that run at once
    max_waiting: int
    max_tokens: int
    max_share: int  # places of one outer request
    max_shared: int  # places of all outer requests that have, or want, more than one
    max_outside: int  # calls of outer requests that stand outside

    @classmethod
    def of(cls, settings: GateSettings, *, n_replicas: int) -> "Room":
        """Return the room in front of so many replicas."""
        n_slots = settings.max_running * n_replicas
        n_places = n_slots + settings.max_waiting
        max_shared = n_places * settings.batches_share
        if settings.batches_slots < 1:
            # Who comes alone would else wait for a batch's call to end, however short the line is.
            max_shared = min(max_shared, math.ceil(n_slots * settings.batches_slots))
        return cls(
            max_running=n_slots,
            max_waiting=settings.max_waiting,
            max_tokens=settings.max_gate_tokens,
            max_share=max(1, int(n_places * settings.batch_share)),
            max_shared=max(1, int(max_shared)),
            max_outside=settings.max_outside,
        )

    @property
    def max_requests(self) -> int:
        """Waiting and running together."""
        return self.max_running + self.max_waiting


class Admission:
    """Counts who is inside.  A permit that was given out is in the counts until it comes back."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._n_inside = 0
        self._tokens = 0
        self._shares = Shares(room.max_share, room.max_shared)
        self._known: OrderedDict[str, float] = OrderedDict()  # signed, let in -> until when
        self._ends: deque[float] = deque(maxlen=_N_ENDS)

    @property
    def n_inside(self) -> int:
        """Places taken."""
        return self._n_inside

    @property
    def n_outside(self) -> int:
        """Permits that wait for a place."""
        return self._shares.n_outside

    @property
    def max_share(self) -> int:
        """Places of one outer request."""
        return self._room.max_share

    def knows(self, part: Part | None, *, now: float) -> bool:
        """Return whether `part` is of an outer request that has a claim to a place."""
        return part is not None and part.is_signed and self._known.get(part.outer, -math.inf) > now

    def ask(self, tokens: int, part: Part | None, *, now: float) -> Permit:
        """Let a request of at most `tokens` in; or have it stand outside, if it may.

        Raises: QueueFull, with the seconds after which there may be room.
        """
        permit = Permit(tokens, part)
        if part is not None and (self._shares.has(part) or self.knows(part, now=now)):
            self._shares.stand_outside(permit)
            self.let_in()
            self._refuse_crowd(permit, part, now)
        else:
            self._refuse_newcomer(tokens, now)
            self._enter(permit)
        if part is not None and part.until is not None:
            self._remember(part.outer, part.until)
        return permit

    def let_in(self) -> list[Permit]:
        """Let in those outside whose turn it is, and return their permits.

        To be called whenever something has come back.
        """
        entered: list[Permit] = []
        while self._shares.is_waited_for and self.n_inside < self._room.max_requests:
            permit = self._shares.next(self._fits)
            if permit is None:
                break
            self._enter(permit)
            entered.append(permit)
        return entered

    def correct(self, permit: Permit, tokens: int) -> None:
        """Replace the bound that `permit` was given on by what the engine has counted."""
        if permit.is_inside and not permit.is_over:
            self._tokens += tokens - permit.tokens
            permit.tokens = tokens

    def give_back(self, permit: Permit, *, now: float) -> None:
        """Take the permit back; a second time changes nothing.  Others may be let in then."""
        if permit.is_over:
            return
        permit.is_over = True
        if permit.is_inside:
            self._n_inside -= 1
            self._tokens -= permit.tokens
            self._ends.append(now)
        if permit.part is not None:
            self._shares.leave(permit)

    def retry_after_s(self, now: float) -> float | None:
        """Estimate when those who wait now will have left, from the measured drain rate."""
        ends = [at for at in self._ends if at > now - _ENDS_WINDOW_S]
        if len(ends) < 2 or now <= ends[0]:  # noqa: PLR2004 - a rate needs two instants
            return None
        rate = (len(ends) - 1) / (now - ends[0])  # The first end only opens the interval.
        n_waiting = max(1, self.n_inside - self._room.max_running)
        return float(min(_MAX_RETRY_AFTER_S, max(1, math.ceil(n_waiting / rate))))

    def _refuse_newcomer(self, tokens: int, now: float) -> None:
        """Raises: QueueFull."""
        if self.n_inside >= self._room.max_requests:
            message = (
                f"The gate is full: {self._room.max_running} requests may run and "
                f"{self._room.max_waiting} wait. Try again later."
            )
            raise QueueFull(message, self.retry_after_s(now))
        if not self._fits(tokens):
            message = "The gate holds as many tokens as it may. Try again later."
            raise QueueFull(message, self.retry_after_s(now))

    def _refuse_crowd(self, permit: Permit, part: Part, now: float) -> None:
        """Raises: QueueFull if `permit` is one too many of those outside."""
        room = self._room
        if not permit.is_inside and self._shares.is_crowded(
            part, room.max_outside, room.max_tokens
        ):
            self._shares.leave(permit)
            message = "Too many calls wait for a place in the gate already. Try again later."
            raise QueueFull(message, self.retry_after_s(now))

    def _fits(self, tokens: int) -> bool:
        # A request that is alone inside is let in whatever it asks: the engine has the last word.
        return not self._n_inside or self._tokens + tokens <= self._room.max_tokens

    def _enter(self, permit: Permit) -> None:
        permit.is_inside = True
        self._n_inside += 1
        self._tokens += permit.tokens
        if permit.part is not None:
            self._shares.enter(permit)

    def _remember(self, outer: str, until: float) -> None:
        self._known[outer] = max(until, self._known.get(outer, until))
        self._known.move_to_end(outer)
        while len(self._known) > _MAX_KNOWN:
            self._known.popitem(last=False)
