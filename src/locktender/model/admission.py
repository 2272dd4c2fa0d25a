"""Decide who may enter the gate, and tell those who may not when to come again.

Synchronous, without a clock: time is an argument.  Whoever enters holds a `Permit` until the
request has ended, however it ends; no request reaches the backlog without one.  The order of those
inside is `backlog`'s.

Room is asked once for each outer request.  An app layer's agent calls the model many times for one
request of its caller, and a batch calls it many times at once; refusing the third call of an agent
whose tools have run would waste all that went before.  So a call that names an outer request which
was let in enters beyond the room, up to a bound of its own, and waits.
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

__all__ = ["Admission", "Permit", "Room", "max_total_tokens"]

_MAX_OUTERS = 4096  # outer requests remembered; beyond them the oldest asks for room again
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
    """What the gate holds at most."""

    max_running: int  # requests that run at once
    max_waiting: int
    max_tokens: int
    max_beyond: int

    @classmethod
    def of(cls, settings: GateSettings, *, n_replicas: int) -> "Room":
        """Return the room in front of so many replicas."""
        return cls(
            max_running=settings.max_running * n_replicas,
            max_waiting=settings.max_waiting,
            max_tokens=settings.max_gate_tokens,
            max_beyond=settings.max_beyond,
        )

    @property
    def max_requests(self) -> int:
        """Waiting and running together."""
        return self.max_running + self.max_waiting


@dataclass(slots=True, eq=False)
class Permit:
    """The right to be inside; given back once."""

    tokens: int


class Admission:
    """Counts who is inside.  A permit that was given out is in the counts until it comes back."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._permits: set[Permit] = set()
        self._tokens = 0
        self._outers: OrderedDict[str, float] = OrderedDict()  # name -> until when it is known
        self._ends: deque[float] = deque(maxlen=_N_ENDS)

    @property
    def n_inside(self) -> int:
        """Permits given out."""
        return len(self._permits)

    def knows(self, outer: str | None, *, now: float) -> bool:
        """Return whether `outer` names an outer request that was let in."""
        return outer is not None and self._outers.get(outer, -math.inf) > now

    def ask(self, tokens: int, *, outer: str | None, outer_until: float, now: float) -> Permit:
        """Let a request of at most `tokens` in.

        `outer` names the outer request that it is part of; one that is let in is known until
        `outer_until`.  Raises: QueueFull, with the seconds after which there may be room.
        """
        is_known = self.knows(outer, now=now)
        beyond = self._room.max_beyond if is_known else 0
        if self.n_inside >= self._room.max_requests + beyond:
            message = (
                f"The gate is full: {self._room.max_running} requests may run and "
                f"{self._room.max_waiting} wait. Try again later."
            )
            raise QueueFull(message, self.retry_after_s(now))
        # A request that is alone inside is let in whatever it asks: the engine has the last word.
        # Those of known outer requests are bounded by number, and each by the size of a body.
        is_over = self._tokens + tokens > self._room.max_tokens
        if self._permits and is_over and not is_known:
            message = "The gate holds as many tokens as it may. Try again later."
            raise QueueFull(message, self.retry_after_s(now))
        if outer is not None and not is_known:
            self._remember(outer, outer_until)
        permit = Permit(tokens)
        self._permits.add(permit)
        self._tokens += tokens
        return permit

    def correct(self, permit: Permit, tokens: int) -> None:
        """Replace the bound that `permit` was given on by what the engine has counted."""
        if permit in self._permits:
            self._tokens += tokens - permit.tokens
            permit.tokens = tokens

    def give_back(self, permit: Permit, *, now: float) -> None:
        """Take the permit back; a second time is a fault of the caller and changes nothing."""
        if permit in self._permits:
            self._permits.remove(permit)
            self._tokens -= permit.tokens
            self._ends.append(now)

    def retry_after_s(self, now: float) -> float | None:
        """Estimate when those who wait now will have left, from the measured drain rate."""
        ends = [at for at in self._ends if at > now - _ENDS_WINDOW_S]
        if len(ends) < 2 or now <= ends[0]:  # noqa: PLR2004 - a rate needs two instants
            return None
        rate = (len(ends) - 1) / (now - ends[0])  # The first end only opens the interval.
        n_waiting = max(1, self.n_inside - self._room.max_running)
        return float(min(_MAX_RETRY_AFTER_S, max(1, math.ceil(n_waiting / rate))))

    def _remember(self, outer: str, until: float) -> None:
        self._outers[outer] = until
        while len(self._outers) > _MAX_OUTERS:
            self._outers.popitem(last=False)
