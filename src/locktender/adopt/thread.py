"""Run jobs in a thread of their own: the replica whose engine is an object of the user's.

It has as many threads as calls of the object may run at once, one by default, and never gives a
thread a second call before the first has ended, be it cancelled or not: the slot follows the
engine, not the reader.  A job with a key joins the call of that key that runs already; while it
heads the line and cannot, nobody behind it is let by, so a call that others keep joining ends.
The threads know nothing of their object, which would else never be collected.
Above it, `owner` puts it behind a gate; `call` and `job` say what is run.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Self, TypeAlias

from locktender.adopt.call import Call
from locktender.adopt.job import Job
from locktender.core.errors import (
    CapacityError,
    EngineFailed,
    InvalidRequest,
    LocktenderError,
    ReplicaLost,
)
from locktender.core.request import Delta, FinishReason, GenerationRequest, Input
from locktender.model.engine import Output
from locktender.model.replica import Load

__all__ = ["JobRun", "SoloPool", "ThreadReplica"]

_AMPLE_TOKENS = 1 << 40  # the object counts its own memory
_MAX_END_S = 15.0  # for the calls that run when the interpreter ends


class JobRun:
    """A job in a replica, as the gate sees it: one delta, when it has ended."""

    def __init__(self, job: Job[Any]) -> None:
        self.job = job
        self._left = asyncio.get_running_loop().create_future()  # the thread has done with it
        self._error: LocktenderError | None = None
        self._is_read = False

    def leave(self) -> None:
        """Note that the thread has done with the job."""
        if not self._left.done():
            self._left.set_result(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        if self._is_read:
            raise StopAsyncIteration
        await asyncio.shield(self._left)
        self._is_read = True
        if self._error is not None:
            raise self._error
        failure = self.job.failure
        if failure is not None and issubclass(failure, asyncio.CancelledError):
            raise asyncio.CancelledError
        if failure is not None:
            # Never the job's own error: a `ReplicaLost` out of a user's model is not the gate's.
            message = f"The model failed: {failure.__name__}."
            raise EngineFailed(message)
        return Delta(
            n_tokens=self.job.n_tokens,
            prompt_tokens=self.job.prompt_tokens,
            finish_reason=FinishReason.STOP,
        )

    def fail(self, error: LocktenderError) -> None:
        # The one who waits is told now; the thread may take until its next token.
        self._error = error
        self.job.fail(error)
        self.job.cancel()
        self.job.let_go()

    def when_over(self, tell: Callable[[Output, int], None]) -> None:
        """Tell nothing: the owner reads the one delta as soon as it is there."""

    async def aclose(self) -> None:
        self.job.cancel()
        await asyncio.shield(self._left)


@dataclass(slots=True, eq=False)
class _Running:
    """A call in a thread."""

    key: Hashable | None  # of the jobs that may join it; None: nobody may
    runs: dict[Job[Any], JobRun]  # whose jobs the thread is not done with
    call: Call = field(init=False)


_Order: TypeAlias = tuple[Call, Callable[[], None]]  # and what to call at its end, on the loop


class ThreadReplica:
    """Threads that run jobs.  Used on one event loop."""

    def __init__(
        self,
        name: str,
        jobs: dict[str, Job[Any]],
        *,
        max_calls: int,
        max_batch: int,
        calling: AbstractContextManager[Any] | None = None,
    ) -> None:
        self._name = name
        self._jobs = jobs  # by the id of their request; whoever runs one takes it out
        self._max_calls = max_calls
        self._max_batch = max_batch
        self._loop = asyncio.get_running_loop()
        self._orders: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._running: list[_Running] = []
        self._is_full = False  # for the rest of this turn of the loop
        self._changed: Callable[[], None] = lambda: None
        self._threads = [
            threading.Thread(
                target=_live,
                args=(self._orders, self._loop, calling or nullcontext()),
                name=f"{name} {n}",
                daemon=True,
            )
            for n in range(max_calls)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def name(self) -> str:
        return self._name

    @property
    def progress_at(self) -> float:
        return self._loop.time()

    def on_change(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when there is room again."""
        self._changed = changed

    def load(self) -> Load:
        n_free = (self._max_calls - len(self._running)) * self._max_batch
        joinable = [running for running in self._running if running.key is not None]
        return Load(
            replica=self._name,
            running=sum(len(running.runs) for running in self._running),
            free_slots=n_free + sum(self._max_batch - len(running.runs) for running in joinable),
            free_tokens=_AMPLE_TOKENS,
            context_tokens=_AMPLE_TOKENS,
        )

    async def start(self) -> None:
        """Do nothing: the object is there."""

    def run(self, request: GenerationRequest, tokens: int) -> JobRun:  # noqa: ARG002 - the seam's signature
        job = self._jobs[request.id]
        run = None if self._is_full else self._joined(job) or self._begun(job)
        if run is None:
            # Those behind stay in line as well, even such as would fit: nobody is overtaken.
            self._is_full = True
            self._loop.call_soon(self._end_turn)
            message = "The model is taken."
            raise ReplicaLost(message)
        del self._jobs[request.id]
        return run

    async def tokenize(self, prompt: Input) -> Sequence[int]:  # noqa: ARG002 - the seam's signature
        """Raise InvalidRequest: the object is the user's, and so is its tokenizer."""
        raise InvalidRequest("A model in a chain is not asked for the tokens of a prompt.")

    async def wait_lost(self) -> str:
        never: asyncio.Future[str] = self._loop.create_future()
        return await never  # it lives as long as the process

    async def stop(self, *, drain_s: float) -> None:  # noqa: ARG002 - a thread cannot be ended by force
        self.close()

    def close(self) -> None:
        """End the threads, each after its call.  From any thread.

        When the interpreter ends, calls end at their next token, and are waited for: a thread that
        is cut off within native code of the object's takes the whole process with it.
        """
        for _ in self._threads:
            self._orders.put(None)
        if threading.main_thread().is_alive():
            return
        for running in tuple(self._running):
            for job in tuple(running.runs):
                job.cancel()
        ends_at = time.monotonic() + _MAX_END_S
        for thread in self._threads:
            thread.join(max(0.0, ends_at - time.monotonic()))

    def _joined(self, job: Job[Any]) -> JobRun | None:
        for running in self._alike(job):
            if len(running.runs) < self._max_batch and running.call.join(job):
                running.runs[job] = run = JobRun(job)
                return run
        return None

    def _begun(self, job: Job[Any]) -> JobRun | None:
        # What can be joined is joined, or waited for: its object takes one call at a time.
        if len(self._running) == self._max_calls or self._alike(job):
            return None
        run = JobRun(job)
        running = _Running(job.key, {job: run})
        left = partial(self._tell, partial(self._left, running))
        running.call = Call([job], left, is_open=job.key is not None)
        self._running.append(running)
        self._orders.put((running.call, partial(self._ended, running)))
        return run

    def _alike(self, job: Job[Any]) -> list[_Running]:
        if job.is_interlude:
            return [running for running in self._running if running.key is not None]
        if job.key is None:
            return []
        return [running for running in self._running if running.key == job.key]

    def _end_turn(self) -> None:
        self._is_full = False

    def _tell(self, hear: Callable[[Job[Any]], None], job: Job[Any]) -> None:
        with suppress(RuntimeError):  # The interpreter ends, and the loop has.
            self._loop.call_soon_threadsafe(hear, job)

    def _left(self, running: _Running, job: Job[Any]) -> None:
        run = running.runs.pop(job, None)
        if run is not None:
            run.leave()
            self._changed()

    def _ended(self, running: _Running) -> None:
        self._running.remove(running)
        for job, run in running.runs.items():
            job.fail(EngineFailed("The model gave no answer."))  # unless it has ended
            run.leave()
        self._changed()


class SoloPool:
    """A replica that is never lost, as a pool."""

    size = 1

    def __init__(self, replica: ThreadReplica) -> None:
        self._replica = replica

    def refusal(self) -> CapacityError | None:
        return None

    def loads(self) -> Sequence[Load]:
        return [self._replica.load()]

    def replica(self, name: str) -> ThreadReplica:  # noqa: ARG002 - there is only one
        return self._replica

    def excuse(self, name: str) -> None:
        """Do nothing: it does not die."""

    def subscribe(self, changed: Callable[[], None]) -> None:
        self._replica.on_change(changed)


def _live(
    orders: queue.SimpleQueue[_Order | None],
    loop: asyncio.AbstractEventLoop,
    calling: AbstractContextManager[Any],
) -> None:
    while (order := orders.get()) is not None:
        call, ended = order
        with calling:  # Somebody may have taken the object when nobody else wanted it.
            _run(call)
        with suppress(RuntimeError):  # The interpreter ends, and the loop has.
            loop.call_soon_threadsafe(ended)
        # Else what they refer to would live until the next call.
        del order, call, ended


def _run(call: Call) -> None:
    (job,) = call
    error: BaseException = EngineFailed("The model gave no answer.")
    if not (job.is_cancelled or job.has_ended):
        job.is_running = True
        try:
            job.context.run(job.work, call)
        except BaseException as raised:  # noqa: BLE001 - a boundary: whatever it is belongs to the callers
            error = raised
        job.is_running = False
    for left in (job, *call.abandon()):
        left.fail(error)  # unless it has ended
