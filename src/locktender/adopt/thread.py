"""Run jobs in a thread of their own: the replica whose engine is an object of the user's.

It has as many threads as calls of the object may run at once, one by default, and never gives a
thread a second call before the first has ended, be it cancelled or not: the slot follows the
engine, not the reader.  Jobs of equal keys that are assigned in one turn of the loop go into one
call.  The threads know nothing of their object, which would else never be collected.
Above it, `owner` puts it behind a gate; `job` says what is run.
"""

import asyncio
import queue
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Self, TypeAlias

from locktender.adopt.job import Job
from locktender.core.errors import CapacityError, EngineFailed, LocktenderError, ReplicaLost
from locktender.core.request import Delta, FinishReason, GenerationRequest
from locktender.model.replica import Load

__all__ = ["JobRun", "SoloPool", "ThreadReplica"]

_AMPLE_TOKENS = 1 << 40  # the object counts its own memory


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

    async def aclose(self) -> None:
        self.job.cancel()
        await asyncio.shield(self._left)


_Call: TypeAlias = list[JobRun]
_Order: TypeAlias = tuple[_Call, Callable[[_Call], None]]  # and whom to tell of its end


class ThreadReplica:
    """Threads that run jobs.  Used on one event loop."""

    def __init__(
        self, name: str, jobs: dict[str, Job[Any]], *, max_calls: int, max_batch: int
    ) -> None:
        self._name = name
        self._jobs = jobs  # by the id of their request; whoever runs one takes it out
        self._max_calls = max_calls
        self._max_batch = max_batch
        self._loop = asyncio.get_running_loop()
        self._calls: queue.SimpleQueue[_Order | None] = queue.SimpleQueue()
        self._n_calls = 0  # in the threads
        self._n_runs = 0
        self._next: _Call = []  # is put together in this turn of the loop
        self._is_full = False
        self._changed: Callable[[], None] = lambda: None
        for n in range(max_calls):
            threading.Thread(
                target=_live, args=(self._calls, self._loop), name=f"{name} {n}", daemon=True
            ).start()

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
        is_free = self._n_calls < self._max_calls and not self._next
        return Load(
            replica=self._name,
            running=self._n_runs,
            free_slots=(self._max_calls - self._n_calls) * self._max_batch if is_free else 0,
            free_tokens=_AMPLE_TOKENS,
            context_tokens=_AMPLE_TOKENS,
        )

    async def start(self) -> None:
        """Do nothing: the object is there."""

    def run(self, request: GenerationRequest, tokens: int) -> JobRun:  # noqa: ARG002 - the seam's signature
        job = self._jobs[request.id]
        if self._next and not self._may_join(job):
            self._launch()
        if self._is_full or self._n_calls == self._max_calls:
            # Those behind stay in line as well, even such as would fit: nobody is overtaken.
            self._is_full = True
            message = "The model is taken."
            raise ReplicaLost(message)
        del self._jobs[request.id]
        run = JobRun(job)
        if not self._next:
            self._loop.call_soon(self._end_turn)
        self._next.append(run)
        self._n_runs += 1
        return run

    async def wait_lost(self) -> str:
        never: asyncio.Future[str] = self._loop.create_future()
        return await never  # it lives as long as the process

    async def stop(self, *, drain_s: float) -> None:  # noqa: ARG002 - a thread cannot be ended by force
        self.close()

    def close(self) -> None:
        """End the threads, each after its call.  From any thread."""
        for _ in range(self._max_calls):
            self._calls.put(None)

    def _may_join(self, job: Job[Any]) -> bool:
        first = self._next[0].job
        return job.key is not None and job.key == first.key and len(self._next) < self._max_batch

    def _end_turn(self) -> None:
        self._launch()
        self._is_full = False

    def _launch(self) -> None:
        if not self._next:
            return
        call, self._next = self._next, []
        self._n_calls += 1
        self._calls.put((call, self._ended))

    def _ended(self, call: _Call) -> None:
        self._n_calls -= 1
        self._n_runs -= len(call)
        for run in call:
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


def _live(orders: queue.SimpleQueue[_Order | None], loop: asyncio.AbstractEventLoop) -> None:
    while (order := orders.get()) is not None:
        call, ended = order
        _run([run.job for run in call])
        with suppress(RuntimeError):  # The interpreter ends, and the loop has.
            loop.call_soon_threadsafe(ended, call)
        # Else what they refer to would live until the next call.
        del order, call, ended


def _run(jobs: Sequence[Job[Any]]) -> None:
    jobs = [job for job in jobs if not (job.is_cancelled or job.has_ended)]
    if not jobs:
        return
    for job in jobs:
        job.is_running = True
    try:
        jobs[0].context.run(jobs[0].work, jobs)
    except BaseException as error:  # noqa: BLE001 - a boundary: whatever it is belongs to the callers
        for job in jobs:
            job.fail(error)
    for job in jobs:
        job.is_running = False
        if not job.has_ended:
            job.fail(EngineFailed("The model gave no answer."))
