"""Keep the requests that a replica has in hand: their runs, and the room that they take.

A `Desk` hands the engine's outputs to the runs that wait for them, merges what piles up, and counts
slots and tokens.  It knows nothing of how the engine is reached: `process` and `direct` do.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from locktender.core.errors import LocktenderError, ReplicaLost
from locktender.core.request import Delta, GenerationRequest
from locktender.model.engine import Limits, Output
from locktender.model.replica import Load

__all__ = ["Desk", "DeskRun"]


class DeskRun:
    """A `Run` that a `Desk` feeds."""

    def __init__(self, desk: "Desk", key: int) -> None:
        self._desk = desk
        self._key = key
        self._outputs: deque[Output] = deque()
        self._arrived = asyncio.Event()
        self._is_over = False
        self._last: Output | None = None
        self._tell: Callable[[Output, int], None] | None = None

    def feed(self, output: Output) -> None:
        """Take what the engine gave, merged into what the reader has not read yet."""
        if isinstance(output, Delta) and self._outputs and isinstance(self._outputs[-1], Delta):
            self._outputs[-1] += output
        else:
            self._outputs.append(output)
        self._arrived.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        if self._is_over:
            raise StopAsyncIteration
        while not self._outputs:
            self._arrived.clear()
            await self._arrived.wait()
        output = self._outputs.popleft()
        if isinstance(output, LocktenderError):
            self._is_over = True
            raise output
        self._is_over = output.finish_reason is not None
        return output

    def fail(self, error: LocktenderError) -> None:
        self.feed(error)
        self._desk.drop(self._key)
        self.end(error)

    def end(self, last: Output) -> None:
        """Note that the engine has done with it, and its room is free; `last` has been fed."""
        self._last = last
        if self._tell is not None:
            self._tell(last, self._n_unread())
            self._tell = None

    def when_over(self, tell: Callable[[Output, int], None]) -> None:
        self._tell = tell
        if self._last is not None:
            self.end(self._last)

    def _n_unread(self) -> int:
        deltas = (output for output in self._outputs if isinstance(output, Delta))
        return sum(len(delta.text.encode("utf-8", "surrogatepass")) for delta in deltas)

    async def aclose(self) -> None:
        self._is_over = True
        self._tell = None
        self._desk.drop(self._key)


@dataclass(slots=True)
class _Held:
    """A request in hand."""

    run: DeskRun
    request: GenerationRequest
    tokens: int  # what is charged for it


class Desk:
    """The requests in hand, by the keys under which the engine knows them."""

    def __init__(
        self, name: str, changed: Callable[[], None], cancel: Callable[[int], None]
    ) -> None:
        self._name = name
        self._changed = changed
        self._cancel = cancel
        self._keys = itertools.count(1)
        self._held: dict[int, _Held] = {}
        self._charged_tokens = 0

    @property
    def is_empty(self) -> bool:
        """Whether nothing is in hand."""
        return not self._held

    def load(self, limits: Limits | None) -> Load:
        """Report the room that `limits` leave; none while they are not known."""
        if limits is None:
            return Load(self._name, len(self._held), 0, 0, 0)
        return Load(
            replica=self._name,
            running=len(self._held),
            free_slots=limits.max_running - len(self._held),
            free_tokens=limits.kv_tokens - self._charged_tokens,
            context_tokens=limits.context_tokens,
        )

    def take(self, request: GenerationRequest, tokens: int) -> tuple[int, DeskRun]:
        """Open a run and charge `tokens` for it; return the key for the engine, and the run."""
        key = next(self._keys)
        run = DeskRun(self, key)
        self._held[key] = _Held(run, request, tokens)
        self._charged_tokens += tokens
        return key, run

    def feed(self, key: int, output: Output) -> None:
        """Hand `output` to its run; late ones, of a run that was dropped, are ignored."""
        held = self._held.get(key)
        if held is None:
            return
        held.run.feed(output)
        if isinstance(output, LocktenderError) or output.finish_reason is not None:
            self._close(key)
            held.run.end(output)
        elif output.prompt_tokens is not None:
            self._correct(held, output.prompt_tokens)

    def drop(self, key: int) -> None:
        """Forget the run and have the engine end it, if it is still open."""
        if key in self._held:
            self._cancel(key)
            self._close(key)

    def lose_all(self, reason: str, loss: str) -> None:
        """End every run with a `ReplicaLost` that tells what else was in hand."""
        present = tuple(held.request.digest() for held in self._held.values())
        for key in list(self._held):
            self.feed(key, ReplicaLost(reason, loss, present))

    def _correct(self, held: _Held, prompt_tokens: int) -> None:
        # The charge was an upper bound; now the engine has counted.
        counted = min(held.tokens, prompt_tokens + held.request.max_tokens)
        self._charged_tokens += counted - held.tokens
        held.tokens = counted
        self._changed()

    def _close(self, key: int) -> None:
        self._charged_tokens -= self._held.pop(key).tokens
        self._changed()
