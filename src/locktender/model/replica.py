"""The seam to an engine that lives somewhere: `Replica`, its `Run`s, and what it reports, `Load`.

A replica has bounded room and runs requests in it.  `ProcessReplica` (in `process`) is an engine in
a process of its own; `DirectReplica` (in `direct`) is its twin on the caller's event loop.  Which
replica runs what is decided by `scheduler`; starting and replacing them is `supervisor`'s, whom
`dispatcher` sees as a `Pool`.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from locktender.core.errors import CapacityError, LocktenderError
from locktender.core.request import Delta, GenerationRequest, Input
from locktender.model.engine import Output

__all__ = ["Load", "Pool", "Replica", "Run"]


@dataclass(frozen=True, slots=True)
class Load:
    """What a replica reports of itself."""

    replica: str
    running: int
    free_slots: int  # requests
    free_tokens: int  # KV, by the upper bounds of those that run
    context_tokens: int  # no single request needs more


class Run(Protocol):
    """One request in a replica: its deltas, as they come.

    Deltas that pile up are merged, so that a slow reader costs no memory beyond the text itself.
    Raises: ReplicaLost, or the error that ended the request, in place of the last delta.
    """

    def __aiter__(self) -> AsyncIterator[Delta]: ...

    async def __anext__(self) -> Delta: ...

    def fail(self, error: LocktenderError) -> None:
        """End the request; its reader finds `error` behind what has come."""
        ...

    def when_over(self, tell: Callable[[Output, int], None]) -> None:
        """Have `tell` called once the engine has done with the request, now if it has.

        It is given the last output, and how many bytes of text wait to be read; that may come
        much later.  Not called for a run that is closed before, nor by one whose reader reads its
        last output as soon as it is there.
        """
        ...

    async def aclose(self) -> None:
        """End the request; its slot is free when this returns.  Safe to call twice."""
        ...


class Replica(Protocol):
    """An engine somewhere, with bounded room; started once and stopped once."""

    @property
    def name(self) -> str: ...

    @property
    def progress_at(self) -> float:
        """The instant, on the loop's clock, of the last sign of life."""
        ...

    def load(self) -> Load: ...

    def run(self, request: GenerationRequest, tokens: int) -> Run:
        """Start `request` now; its slot and `tokens` are taken when this returns.

        Raises: ReplicaLost.
        """
        ...

    async def tokenize(self, prompt: Input) -> Sequence[int]:
        """Return the tokens of `prompt`, which takes no slot.

        Raises: InvalidRequest, EngineFailed, ReplicaLost.
        """
        ...

    async def start(self) -> None:
        """Raises: EngineStartError; ConfigError if no other try can go better."""
        ...

    async def wait_lost(self) -> str:
        """Return, when the engine is gone, what became of it."""
        ...

    async def stop(self, *, drain_s: float) -> None:
        """End the engine: by request, and by force after `drain_s`.  Safe to call twice."""
        ...


class Pool(Protocol):
    """The replicas of one model, as the dispatcher sees them."""

    @property
    def size(self) -> int:
        """Replicas that there are when all are well."""
        ...

    def refusal(self) -> CapacityError | None:
        """Return why nobody is to wait for a replica; None while one runs, or may soon."""
        ...

    def loads(self) -> Sequence[Load]: ...

    def replica(self, name: str) -> Replica: ...

    def excuse(self, name: str) -> None:
        """Do not hold against the replica `name` the deaths that a banned prompt brought."""
        ...

    def subscribe(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever room may have come, or the last replica gone."""
        ...
