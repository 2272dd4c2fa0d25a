"""Say which error of ours a service means by its code: `wire.problem` read backwards.

Holds every code that a service of ours can send.  An answer without a code of ours is not judged
here: whoever reads it knows what its status may mean.
"""

from collections.abc import Mapping

from locktender.core.errors import (
    CapacityError,
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    EngineError,
    EngineFailed,
    Forbidden,
    HeadTooLarge,
    HeadTooSlow,
    InvalidRequest,
    LocktenderError,
    NoReplicaReady,
    PeerError,
    PoisonedRequest,
    QueueFull,
    ReplicaLost,
    RequestTooLarge,
    TooManyConnections,
    Unauthenticated,
    UnknownMethod,
    UnknownModel,
    UnknownPath,
    WaitTooLong,
)

__all__ = ["find_kind"]

_KINDS: Mapping[str, type[LocktenderError]] = {
    kind.code: kind
    for kind in (
        *(InvalidRequest, RequestTooLarge, UnknownModel, ContextTooLong),
        *(UnknownPath, UnknownMethod, Unauthenticated, Forbidden, HeadTooLarge, HeadTooSlow),
        *(CapacityError, QueueFull, WaitTooLong, NoReplicaReady, TooManyConnections, Draining),
        *(DeadlineExceeded, EngineError, EngineFailed, PoisonedRequest, ReplicaLost),
        *(PeerError, LocktenderError),
    )
}


def find_kind(code: object) -> type[LocktenderError] | None:
    """Return the class that has `code`; None for what is no code of ours."""
    return _KINDS.get(code) if isinstance(code, str) else None
