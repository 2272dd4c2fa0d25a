"""Own a heavy object: whoever wants it called hands in a job and waits for its turn.

The gate is the model layer's, on the event loop that all synchronous callers of the process share,
where no code of users runs; the object is called in a thread of the owner's.  Neither is made
before the first job, and both are made anew in a forked process.  A caller may be a thread or a
coroutine; either waits where it is, or has the object lent and calls it itself.  A job that is made
while its owner runs another of the same call, a chat model's for the pipeline inside, runs at once:
it is part of what has its turn.
"""

import asyncio
import os
import threading
import time
import uuid
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator, Sequence
from contextlib import ExitStack, aclosing, asynccontextmanager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from locktender.adopt.call import Call
from locktender.adopt.circle import awaiting
from locktender.adopt.job import Job
from locktender.adopt.loan import Loan
from locktender.adopt.own_copy import OwnCopies
from locktender.adopt.thread import SoloPool, ThreadReplica
from locktender.adopt.wait import (
    aiterate,
    ended_with_caller,
    iterate,
    reported,
    scope_of,
    waking,
)
from locktender.app.background import background
from locktender.app.completion import cancelled_with
from locktender.core.bounds import check_counts, check_flags
from locktender.core.errors import WaitTooLong
from locktender.core.events import Event, Observer
from locktender.core.request import GenerationRequest, TextInput
from locktender.core.scope import OuterRequest, outer_request
from locktender.model.dispatcher import Dispatcher
from locktender.model.settings import GateSettings

__all__ = ["GuardSettings", "Owner"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """The bounds of the gate in front of one object."""

    max_running: int = 1  # calls of the object at once
    max_waiting: int = 64  # beside those that run
    max_wait_s: float = 60.0  # for a turn
    timeout_s: float = 600.0  # from arrival to the last token; a caller may only name less
    batch: bool = True  # whether texts may be answered together, where the class can do that
    # For keys and values of the texts that are answered together; None: 1 GiB, 256 MiB on a CPU.
    kv_bytes: int | None = None

    def gate(self, max_batch: int = 1) -> GateSettings:
        """Return them as the gate's.  Raises: ConfigError for bounds that cannot work."""
        check_counts(self, 1, "max_running", "kv_bytes")
        check_flags(self, "batch")
        return GateSettings(
            max_running=self.max_running * max_batch,
            max_waiting=self.max_waiting,
            max_wait_s=self.max_wait_s,
            timeout_s=self.timeout_s,
            # A crowd's bound is `_Gate.place`, in which its jobs spend no time of their own.
            batch_share=1.0,
            batches_share=1.0,
            batches_slots=1.0,
        )


@dataclass(slots=True)
class _Places:
    """How many jobs of one crowd may be in the gate at once."""

    free: asyncio.Semaphore
    n_users: int = 0


@dataclass(frozen=True, slots=True)
class _Gate:
    """What an owner has on one event loop."""

    loop: asyncio.AbstractEventLoop
    dispatcher: Dispatcher
    jobs: dict[str, Job[Any]]
    places: dict[str, _Places]  # by crowd: an outer request's jobs, or those who call directly

    async def visit(self, job: Job[Any], name: str, outer: OuterRequest | None) -> None:
        """See `job` through the gate."""
        request = GenerationRequest(uuid.uuid4().hex, name, TextInput(job.prompt), job.max_tokens)
        self.jobs[request.id] = job
        try:
            async with self.dispatcher.open(request, scope_of(outer)) as deltas:
                async for _ in deltas:
                    pass
        finally:
            self.jobs.pop(request.id, None)

    @asynccontextmanager
    async def place(self, crowd: str | None, n_places: int) -> AsyncIterator[None]:
        """Keep a crowd from filling the gate, and from spending its jobs' time in it."""
        if crowd is None:
            yield
            return
        places = self.places.setdefault(crowd, _Places(asyncio.Semaphore(n_places)))
        places.n_users += 1
        try:
            async with places.free:
                yield
        finally:
            places.n_users -= 1
            if not places.n_users:
                del self.places[crowd]


@dataclass(frozen=True, slots=True)
class _Hold:
    """A job, and the owner whose turn it has, or waits for."""

    owner: "Owner"
    job: Job[Any]


class _ForkedLock:
    """A lock that is free in a forked process, whoever has it in the other one."""

    def __init__(self) -> None:
        self._process, self._lock = os.getpid(), threading.Lock()

    def here(self) -> threading.Lock:
        """Return the lock of this process."""
        if self._process != os.getpid():
            self._process, self._lock = os.getpid(), threading.Lock()
        return self._lock


# What the code at hand is part of, by the numbers of the owners.
_held: ContextVar[dict[int, _Hold] | None] = ContextVar("held", default=None)
# The crowd of a job that is no request's: those who call the object directly are one.
_DIRECT = {False: None, True: "direct"}


class Owner:
    """The only one that has a heavy object called.

    Raises, where a job is waited for: QueueFull, WaitTooLong, DeadlineExceeded, and whatever the
    job has failed with.  A wait that is left cancels its job.  A deep copy owns another
    object and has the same settings; pickled, an owner is None.
    """

    def __init__(
        self,
        name: str,
        settings: GuardSettings,
        observer: Observer | None = None,
        *,
        max_batch: int = 1,
    ) -> None:
        settings.gate()  # says now what is wrong with them
        self.name = name
        self.settings = settings
        self.max_batch = max_batch  # jobs in one call
        self.copies = OwnCopies()  # of what the calls use
        self._observer = observer or _ignore
        self._gate: _Gate | None = None
        self.awaits: list[Owner] = []  # what those who have this object are waiting for
        self._inside: set[Job[Any]] = set()  # in the gate, or on their way to it
        self._calling = _ForkedLock()  # whoever calls the object, in whichever thread

    def __repr__(self) -> str:
        return f"<Owner of {self.name} {self._gate.dispatcher if self._gate else 'at rest'}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(self.name, self.settings, self._observer, max_batch=self.max_batch)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # What it hangs on can be read where there is no locktender.

    def widen(self, max_batch: int) -> None:
        """Let so many jobs be in one call, if there has been none yet."""
        if self._gate is None:
            self.max_batch = max(self.max_batch, max_batch)

    def turn(self) -> Job[Any] | None:
        """Return the job of this owner that the code at hand is part of, if it is of any.

        Raises: CancelledError if nobody waits for that job any more.
        """
        hold = (_held.get() or {}).get(id(self))
        if hold is None or not hold.job.is_running:
            return None
        mine = hold.job
        # Who has been lent the object, and is no request of anybody's, may take their time.
        is_free = mine.is_interlude and outer_request.get() is None
        if not is_free and (mine.is_cancelled or mine.has_ended):
            raise asyncio.CancelledError
        return mine

    @contextmanager
    def lent(self) -> Iterator[None]:
        """Have the object to oneself while the block lasts, in the thread that one is in."""
        if self.turn() is not None:
            yield
            return
        with awaiting(_owners_held(), self) as may_wait, ExitStack() as stack:
            if not may_wait:
                yield
                return
            job = self._taken(stack) or self._borrowed(stack)
            held = _held.set((_held.get() or {}) | {id(self): _Hold(self, job)})
            try:
                yield
            finally:
                _held.reset(held)

    def _taken(self, stack: ExitStack) -> Job[Any] | None:
        """Take the object at once, if nobody is at the gate and it can have one caller only."""
        if self.settings.max_running > 1 or self._inside:
            return None
        calling = self._calling.here()
        if not calling.acquire(blocking=False):
            return None
        stack.callback(calling.release)
        job: Job[Any] = Job(_no_work, is_interlude=True)
        job.is_running = True
        stack.callback(setattr, job, "is_running", False)  # for contexts that are copied meanwhile
        return job

    def _borrowed(self, stack: ExitStack) -> Job[Any]:
        """Wait for a turn, which ends with `stack`.

        Who is no request of anybody's is not sent away for having waited long for others, up to
        the time that a whole call may take.
        """
        ends_at = time.monotonic() + self.settings.timeout_s
        while True:
            loan = Loan()
            with ExitStack() as attempt:
                attempt.enter_context(self._waited_for(loan.job))
                attempt.enter_context(ended_with_caller(loan.job))
                try:
                    loan.wait()
                except WaitTooLong:
                    if outer_request.get() is not None or time.monotonic() > ends_at:
                        raise
                    continue
                attempt.callback(loan.give_back)
                stack.push(attempt.pop_all())
            return loan.job

    def run(self, jobs: Sequence[Job[_Result]]) -> list[_Result]:
        """Wait for the results of all `jobs`; one that fails ends the others."""
        woken = threading.Event()
        with ExitStack() as stack:
            for job in jobs:
                job.watch(woken.set)
                stack.enter_context(self._waited_for(job))
                stack.enter_context(ended_with_caller(job))
            while _are_awaited(jobs):
                woken.wait()  # bounded: the gate ends each job at its deadline
                woken.clear()
            return _results(jobs)

    def iterate(self, job: Job[Any]) -> Generator[Any, None, None]:
        """Yield the pieces of `job`; when this ends, it has ended."""
        with self._waited_for(job):
            yield from iterate(job)

    async def arun(self, jobs: Sequence[Job[_Result]]) -> list[_Result]:
        """Wait for the results of all `jobs`; one that fails ends the others."""
        news = asyncio.Event()
        with ExitStack() as stack:
            stack.enter_context(cancelled_with(outer_request.get(), asyncio.current_task()))
            for job in jobs:
                job.watch(waking(news))
                stack.enter_context(self._waited_for(job))
            while _are_awaited(jobs):
                await news.wait()
                news.clear()
            return _results(jobs)

    async def aiterate(self, job: Job[Any]) -> AsyncGenerator[Any, None]:
        """Yield the pieces of `job`; when this ends, it has ended."""
        with self._waited_for(job):
            async with aclosing(aiterate(job)) as pieces:
                async for piece in pieces:
                    yield piece

    @contextmanager
    def _waited_for(self, job: Job[Any]) -> Iterator[None]:
        """Have `job` see its turn while the block lasts."""
        with awaiting(_owners_held(), self) as may_wait:
            if self.turn() is not None or not may_wait:
                job.work(Call([job]))
                job.let_go()
                yield
                return
            job.context.run(_held.set, (_held.get() or {}) | {id(self): _Hold(self, job)})
            self._inside.add(job)
            visit = background.submit(self._see_through(job))
            try:
                yield
            finally:
                job.cancel()
                self._inside.discard(job)
                if not job.is_over or job.failure is asyncio.CancelledError:
                    visit.cancel()

    async def _see_through(self, job: Job[Any]) -> None:
        with reported(job):
            gate, outer = self._gate_here(), outer_request.get()
            n_places = self.settings.max_running * self.max_batch + 1
            async with gate.place(outer.id if outer else _DIRECT[job.is_interlude], n_places):
                await gate.visit(job, self.name, outer)

    def _gate_here(self) -> _Gate:
        loop = asyncio.get_running_loop()
        if self._gate is None or self._gate.loop is not loop:  # in a forked process there is none
            settings, jobs = self.settings, dict[str, Job[Any]]()
            calling = self._calling.here() if settings.max_running == 1 else nullcontext()
            replica = ThreadReplica(
                self.name,
                jobs,
                max_calls=settings.max_running,
                max_batch=self.max_batch,
                calling=calling,
            )
            pool = SoloPool(replica)
            bounds = settings.gate(self.max_batch)
            dispatcher = Dispatcher(self.name, bounds, pool, self._observer)
            self._gate = _Gate(loop, dispatcher, jobs, {})
            weakref.finalize(self, replica.close)
        return self._gate


def _are_awaited(jobs: Sequence[Job[Any]]) -> bool:
    has_failed = any(job.is_over and job.failure for job in jobs)
    return not (has_failed or all(job.is_over for job in jobs))


def _results(jobs: Sequence[Job[_Result]]) -> list[_Result]:
    for job in jobs:
        if job.is_over and job.failure:
            job.result()  # raises
    return [job.result() for job in jobs]


def _owners_held() -> list[Owner]:
    """Return the owners whose objects the code at hand has."""
    return [hold.owner for hold in (_held.get() or {}).values() if hold.job.is_running]


def _no_work(call: Call) -> None:
    """Do nothing: what is done is in the thread of who has taken the object."""


def _ignore(event: Event, /) -> None:
    """Observe nothing."""
