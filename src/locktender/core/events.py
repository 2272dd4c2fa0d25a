"""What happened, as values: a closed union of frozen dataclasses, told to one observer.

Observers `match` on the class, so a forgotten event is a type error.  Durations are in seconds.
The law that every reader may rely on: each `RequestReceived` is followed by exactly one
`RequestEnded` of the same `request_id`.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, TypeAlias

__all__ = [
    "DrainStarted",
    "EnginesDown",
    "Event",
    "Observer",
    "Outcome",
    "ReplicaLeft",
    "ReplicaReady",
    "RequestAssigned",
    "RequestEnded",
    "RequestReceived",
    "RequestReturned",
    "SupervisorGaveUp",
    "TokensTold",
    "tell_all",
]


class Outcome(StrEnum):
    """The one end of a request."""

    COMPLETED = "completed"  # the last delta was handed over
    CANCELLED = "cancelled"  # the caller left
    INVALID = "invalid"  # a RequestError: the caller's fault
    REFUSED = "refused"  # a CapacityError: no room, or none in time
    EXPIRED = "expired"  # its deadline passed
    FAILED = "failed"  # an EngineError, or a fault of ours


@dataclass(frozen=True, slots=True)
class RequestReceived:
    """A request has come, good or bad."""

    request_id: str
    model: str  # empty when the body did not say
    caller_id: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class RequestAssigned:
    """A request has left the line for an engine."""

    request_id: str
    model: str
    replica: str
    waited_s: float


@dataclass(frozen=True, slots=True)
class RequestReturned:
    """A request lost its engine before a token left, and is back in line at its old place."""

    request_id: str
    model: str


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """A request has ended."""

    request_id: str
    model: str
    outcome: Outcome
    total_s: float
    code: str | None = None  # of the error that ended it
    caller_id: str | None = None
    waited_s: float | None = None  # None: it was never assigned
    ttft_s: float | None = None  # from arrival to the first token; None: there was none
    prompt_tokens: int | None = None
    n_tokens: int = 0
    reason: str | None = None  # the template's own, where the error was a TemplateRefusal


@dataclass(frozen=True, slots=True)
class TokensTold:
    """Somebody has asked for the tokens of a prompt, which passes no gate and ran no model."""

    request_id: str
    model: str  # empty when the body did not say
    outcome: Outcome
    total_s: float
    n_tokens: int = 0
    code: str | None = None  # of the error, if there was one
    caller_id: str | None = None
    reason: str | None = None  # as `RequestEnded`'s


@dataclass(frozen=True, slots=True)
class ReplicaReady:
    """An engine has started."""

    model: str
    replica: str
    took_s: float


@dataclass(frozen=True, slots=True)
class ReplicaLeft:
    """An engine died, hung or could not be started, and is started again after a pause."""

    model: str
    replica: str
    reason: str
    retry_in_s: float | None  # None: the supervisor has given up on it


@dataclass(frozen=True, slots=True)
class EnginesDown:
    """To start an engine has failed many times in a row; requests are refused until one is ready.

    The supervisor tries on.
    """

    model: str
    reason: str  # of the last time


@dataclass(frozen=True, slots=True)
class SupervisorGaveUp:
    """No engine can start as the model is configured, and none will be tried again."""

    model: str


@dataclass(frozen=True, slots=True)
class DrainStarted:
    """The service takes no new requests and waits for those it has."""

    in_flight: int


Event: TypeAlias = (
    RequestReceived
    | RequestAssigned
    | RequestReturned
    | RequestEnded
    | TokensTold
    | ReplicaReady
    | ReplicaLeft
    | EnginesDown
    | SupervisorGaveUp
    | DrainStarted
)


class Observer(Protocol):
    """Told of every event, in order; must not block and must not raise."""

    def __call__(self, event: Event, /) -> None: ...


def tell_all(*observers: Observer) -> Observer:
    """Return one observer that tells each of `observers`, in this order."""

    def tell(event: Event, /) -> None:
        for observer in observers:
            observer(event)

    return tell
