"""Keep what is known of one request's stay in the gate, and tell it when the request ends.

It holds and counts; `dispatcher` decides nothing by it but acts through it.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from locktender.core.errors import (
    AnswerUnread,
    CapacityError,
    DeadlineExceeded,
    LocktenderError,
    RequestError,
)
from locktender.core.events import Outcome, RequestEnded
from locktender.core.request import Delta, GenerationRequest
from locktender.model.backlog import Ticket
from locktender.model.replica import Run
from locktender.model.share import Permit

__all__ = ["Visit", "outcome_of"]

_MARGIN_TOKENS = 8  # that an engine may have made, when it died, without having told


def outcome_of(error: LocktenderError) -> Outcome:
    """Return the outcome of a request that ended with `error`."""
    match error:
        case RequestError():
            return Outcome.INVALID
        case CapacityError():
            return Outcome.REFUSED
        case DeadlineExceeded():
            return Outcome.EXPIRED
        case AnswerUnread():
            return Outcome.CANCELLED
        case _:
            return Outcome.FAILED


@dataclass(slots=True, eq=False)
class Visit:
    """One request, from its arrival to its end.  Instants are on the loop's clock."""

    request: GenerationRequest
    caller_id: str | None
    came_at: float
    deadline: float
    permit: Permit
    ticket: Ticket
    turn: asyncio.Future[Run | None]  # None when it has waited long enough
    replica: str = ""  # that has it now, or had it last
    waited_s: float | None = None
    ttft_s: float | None = None
    prompt_tokens: int | None = None
    n_tokens: int = 0
    has_sent: bool = False  # text has left to the caller
    is_complete: bool = False  # the last delta has
    proof_tokens: int = 0  # with so many it is beyond the place where its engine died; 0: proven
    # Told when its engine has done, with the bytes of text that are unread then.
    on_done: Callable[[int], None] = lambda _: None

    def note(self, delta: Delta, now: float) -> None:
        """Count what `delta` brings."""
        if delta.prompt_tokens is not None:
            self.prompt_tokens = delta.prompt_tokens
        if delta.n_tokens and self.ttft_s is None:
            self.ttft_s = now - self.came_at
        self.n_tokens += delta.n_tokens
        self.is_complete = delta.finish_reason is not None

    @property
    def is_proof(self) -> bool:
        """Whether it has just got beyond the place where its engine died."""
        return 0 < self.proof_tokens <= self.n_tokens

    def return_to_line(self, turn: asyncio.Future[Run | None], group: int) -> None:
        """Begin again, with a `group` of suspects, at the old place and with a new `turn`."""
        self.ticket = replace(self.ticket, group=group, leave_at=self.deadline)
        self.proof_tokens = self.n_tokens + _MARGIN_TOKENS
        self.turn = turn
        self.waited_s = self.ttft_s = self.prompt_tokens = None
        self.n_tokens = 0

    def ended(self, error: LocktenderError | None, now: float) -> RequestEnded:
        """Describe the end: by `error`, or complete, or else left by the caller."""
        if error is not None:
            outcome = outcome_of(error)
        else:
            outcome = Outcome.COMPLETED if self.is_complete else Outcome.CANCELLED
        return RequestEnded(
            request_id=self.request.id,
            model=self.request.model,
            outcome=outcome,
            total_s=now - self.came_at,
            code=error.code if error else None,
            caller_id=self.caller_id,
            waited_s=self.waited_s,
            ttft_s=self.ttft_s,
            prompt_tokens=self.prompt_tokens,
            n_tokens=self.n_tokens,
        )
