"""What travels with a request beside its body.

A `Scope` is handed on from hand to hand inside the model layer.  The app layer cannot hand anything
on: between a route and a model call lies the user's chain.  So it keeps the `OuterRequest` in a
ContextVar, which asyncio tasks and the threads that LangChain starts inherit.  In the same way each
line of a log finds the name of the request that it was written for.
"""

import threading
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = [
    "CancelToken",
    "OuterRequest",
    "RequestName",
    "Scope",
    "current_request",
    "outer_request",
]


class RequestName(NamedTuple):
    """What a log calls a request, in all the processes that it goes through."""

    id: str  # its caller's X-Request-Id, or one of ours
    route: str  # its path, as far as it may be shown


@dataclass(frozen=True, slots=True)
class Scope:
    """The circumstances of one call to a model."""

    # From arrival to the last token; it only shortens the model's own.  None: the model's.
    timeout_s: float | None = None
    # The request, of an app layer, that this call is made for.  The calls of each of them have one
    # share of the gate.  None: a request of its own.
    outer: str | None = None
    # For how long, from arrival, somebody who may be believed has said so: for so long an outer
    # request that was let in has a claim to a place.  None: it is the caller's word alone.
    outer_s: float | None = None
    caller_id: str | None = None  # the X-Request-Id that the caller sent; for logs only
    tenant: str | None = None  # whom the call is made for; None: nobody in particular


class CancelToken:
    """Says, to code in any thread, that a request's caller has gone.  Set once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[], None]] = []
        self._is_set = False

    @property
    def is_set(self) -> bool:
        """Whether the caller has gone."""
        return self._is_set

    def set(self) -> None:
        """Call every callback, once, in this thread."""
        with self._lock:
            callbacks, self._callbacks = self._callbacks, []
            self._is_set = True
        for callback in callbacks:
            callback()

    def on_set(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have `callback` called when the token is set, now if it is; return how to undo that."""
        with self._lock:
            if not self._is_set:
                self._callbacks.append(callback)
                return lambda: self._forget(callback)
        callback()
        return lambda: None

    def _forget(self, callback: Callable[[], None]) -> None:
        with self._lock:
            if callback in self._callbacks:
                self._callbacks.remove(callback)


@dataclass(frozen=True, slots=True)
class OuterRequest:
    """A request of the app layer, as the model calls that are made for it see it."""

    id: str
    deadline_at: float | None = None  # on `time.monotonic`, which asyncio's loops share
    tenant: str | None = None
    caller_id: str | None = None  # its X-Request-Id, or the one that it was given
    traceparent: str | None = None  # W3C Trace Context
    cancel: CancelToken = field(default_factory=CancelToken)
    # The gates that have let a call of it in, by whatever names the caller of them.
    entered: set[tuple[str, str]] = field(default_factory=set)

    def remaining_s(self, now: float) -> float | None:
        """Return how long the request may still take; None: as long as the model allows."""
        return None if self.deadline_at is None else self.deadline_at - now


outer_request: ContextVar[OuterRequest | None] = ContextVar("outer_request", default=None)
current_request: ContextVar[RequestName | None] = ContextVar("current_request", default=None)
