"""Coordinate the gate of one model: let requests in, line them up, and see each to its one end.

Everything is decided elsewhere: who enters by `admission`, when an engine is free by `line`, what
a dead engine means for its requests by `quarantine`.  Here their decisions are carried out, on one
event loop.  Above, `service` turns HTTP into requests; below, a `Pool` of replicas runs them.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from functools import partial

from locktender.core.errors import (
    DeadlineExceeded,
    Draining,
    LocktenderError,
    PoisonedRequest,
    ReplicaLost,
    WaitTooLong,
)
from locktender.core.events import (
    Observer,
    RequestEnded,
    RequestReceived,
    RequestReturned,
)
from locktender.core.request import Delta, GenerationRequest
from locktender.core.scope import Scope
from locktender.model.admission import Room, max_total_tokens
from locktender.model.backlog import NO_GROUP, Ticket
from locktender.model.engine import Output
from locktender.model.entrance import Entrance
from locktender.model.line import Line
from locktender.model.quarantine import Quarantine
from locktender.model.replica import Pool, Run
from locktender.model.settings import GateSettings
from locktender.model.visit import Visit, outcome_of

__all__ = ["Dispatcher"]


class Dispatcher:
    """The gate of one model."""

    def __init__(self, model: str, settings: GateSettings, pool: Pool, observer: Observer) -> None:
        self._model = model
        self._settings = settings
        self._pool = pool
        self._observer = observer
        self._entrance = Entrance(Room.of(settings, n_replicas=pool.size))
        self._quarantine = Quarantine(settings.ban_s)
        self._line = Line(pool, self._quarantine, observer)
        self._sequences = itertools.count(1)
        self._n_visits = 0
        self._is_draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.share = self._entrance.share  # places of the calls of one outer request, at most
        self.n_tokens = 0  # new tokens handed over since the start

    def __repr__(self) -> str:
        return f"<Dispatcher {self._model} [waiting {self.n_waiting} | running {self.n_running}]>"

    @property
    def n_waiting(self) -> int:
        """Places to wait in that are taken; who is in line beyond them has a place to run in."""
        return min(len(self._line), self._settings.max_waiting)

    @property
    def n_running(self) -> int:
        """Places to run in that are taken."""
        return self._entrance.n_inside - self.n_waiting

    @property
    def n_outside(self) -> int:
        """Calls of outer requests that wait for a place."""
        return self._entrance.n_outside

    @property
    def n_sending(self) -> int:
        """Answers that wait to be read, and have no place any more."""
        return self._n_visits - self._entrance.n_inside - self.n_outside

    def drain(self) -> None:
        """Refuse new requests from now on; those inside are seen to their end."""
        self._is_draining = True

    async def wait_idle(self) -> None:
        """Return when everybody has left."""
        await self._idle.wait()

    @asynccontextmanager
    async def open(
        self,
        request: GenerationRequest,
        scope: Scope,
        on_done: Callable[[int], None] = lambda _: None,
    ) -> AsyncIterator[AsyncIterator[Delta]]:
        """Let `request` in and give its deltas; leaving the block ends it, wherever it is.

        A request that does not stream gets its answer as one delta, so that it can be tried again
        until its engine has finished.  Its place is free when the engine has done with it, however
        slowly its deltas are read; `on_done` is told then how many bytes of text are unread.

        Raises, on entry: QueueFull, Draining, NoReplicaReady, PoisonedRequest.  While its deltas
        are read: WaitTooLong, DeadlineExceeded, NoReplicaReady, PoisonedRequest, ReplicaLost, and
        what the engine has against it.
        """
        visit = self._enter(request, scope)
        visit.on_done = on_done
        error: LocktenderError | None = None
        try:
            async with aclosing(self._deltas(visit)) as deltas:
                yield deltas
        except LocktenderError as raised:
            error = raised
            raise
        except Exception:
            error = LocktenderError("A fault of ours ended the request.")
            raise
        finally:
            self._leave(visit, error)

    def _enter(self, request: GenerationRequest, scope: Scope) -> Visit:
        """Give `request` a permit and a ticket, or refuse it."""
        self._observer(RequestReceived(request.id, self._model, scope.caller_id, scope.tenant))
        try:
            visit = self._admit(request, scope)
        except LocktenderError as error:
            self._observer(_refused(request, scope, error))
            raise
        self._n_visits += 1
        self._idle.clear()
        return visit

    def _admit(self, request: GenerationRequest, scope: Scope) -> Visit:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._is_draining:
            message = "The service is shutting down. Try again later."
            raise Draining(message, self._entrance.retry_after_s)
        refusal = self._pool.refusal()
        if refusal is not None:
            raise refusal
        group = self._quarantine.admit(request, now=now)
        # Whoever names a time limit, for himself or for a caller of his, gets no longer by it.
        timeout_s = self._settings.timeout_s
        deadline = now + (timeout_s if scope.timeout_s is None else min(timeout_s, scope.timeout_s))
        tokens = max_total_tokens(request)
        permit, has_claim = self._entrance.ask(tokens, scope, now=now)
        # A later call of a request that was let in waits for as long as that request may take.
        leave_at = deadline if has_claim else min(deadline, now + self._settings.max_wait_s)
        ticket = Ticket(next(self._sequences), tokens, leave_at, group)
        turn: asyncio.Future[Run | None] = loop.create_future()
        return Visit(request, scope.caller_id, now, deadline, permit, ticket, turn)

    def _leave(self, visit: Visit, error: LocktenderError | None) -> None:
        now = asyncio.get_running_loop().time()
        if visit.is_complete:  # Whether or not the caller read on to see that nothing follows.
            self._quarantine.clear(visit.request)
        self._entrance.give_back(visit.permit)
        self._n_visits -= 1
        if self._n_visits == 0:
            self._idle.set()
        self._observer(visit.ended(error, now))

    def _engine_has_done(self, visit: Visit, last: Output, n_unread: int) -> None:
        """Free the place of `visit`, unless it may be tried again."""
        if isinstance(last, ReplicaLost) and not visit.has_sent:
            return
        self._entrance.give_back(visit.permit)
        visit.on_done(n_unread)

    async def _deltas(self, visit: Visit) -> AsyncGenerator[Delta, None]:
        """Give the answer, trying again for as long as nothing of it has been given."""
        loop = asyncio.get_running_loop()
        while True:
            run = await self._turn(visit)
            run.when_over(partial(self._engine_has_done, visit))
            # One timer for the whole answer: a time limit around each piece would cost more.
            timer = loop.call_at(visit.deadline, _expire, run, visit)
            try:
                if not visit.request.stream:
                    yield await self._whole(run, visit)
                    return
                async for delta in run:
                    self._note(visit, delta)
                    visit.has_sent = visit.has_sent or bool(delta.text)
                    yield delta
            except ReplicaLost as loss:
                self._return_to_line(visit, loss)
            else:
                return
            finally:
                timer.cancel()
                await run.aclose()
                if visit.ticket.group != NO_GROUP:
                    self._line.prove(visit.ticket)

    async def _whole(self, run: Run, visit: Visit) -> Delta:
        whole = Delta()
        async for delta in run:
            self._note(visit, delta)
            whole += delta
        return whole

    def _note(self, visit: Visit, delta: Delta) -> None:
        visit.note(delta, asyncio.get_running_loop().time())
        self.n_tokens += delta.n_tokens
        if visit.is_proof:
            visit.proof_tokens = 0
            self._quarantine.clear(visit.request)
            self._line.prove(visit.ticket)
        if delta.prompt_tokens is not None:
            counted = delta.prompt_tokens + visit.request.max_tokens
            self._entrance.correct(visit.permit, counted)

    def _return_to_line(self, visit: Visit, loss: ReplicaLost) -> None:
        """Make ready for another try.  Raises: PoisonedRequest, ReplicaLost."""
        loop = asyncio.get_running_loop()
        try:
            group = self._quarantine.judge(
                visit.request, loss, has_sent=visit.has_sent, now=loop.time()
            )
        except PoisonedRequest:
            self._pool.excuse(visit.replica)
            raise
        visit.return_to_line(loop.create_future(), group)
        self._observer(RequestReturned(visit.request.id, self._model))

    async def _turn(self, visit: Visit) -> Run:
        """Wait for a place, and in line.  Raises: WaitTooLong, and what `Line.turn` does."""
        has_place = visit.permit.is_inside or await _is_let_in(
            visit, self._entrance, self._sequences
        )
        run = await self._line.turn(visit) if has_place else None
        if run is None:
            raise _late(visit, self._settings.max_wait_s, self._entrance.retry_after_s)
        return run


async def _is_let_in(visit: Visit, entrance: Entrance, sequences: Iterator[int]) -> bool:
    """Wait for a place; return whether one came in time."""
    try:
        await entrance.wait(visit.permit, visit.ticket.leave_at)
    except TimeoutError:
        return False
    # Its place in the line is that of one who comes now.
    visit.ticket = replace(visit.ticket, sequence=next(sequences))
    return True


def _refused(request: GenerationRequest, scope: Scope, error: LocktenderError) -> RequestEnded:
    return RequestEnded(
        request_id=request.id,
        model=request.model,
        outcome=outcome_of(error),
        total_s=0.0,
        code=error.code,
        caller_id=scope.caller_id,
    )


def _late(
    visit: Visit, max_wait_s: float, retry_after_s: float | None
) -> WaitTooLong | DeadlineExceeded:
    """Describe a wait that was too long."""
    if visit.ticket.leave_at >= visit.deadline:
        return _deadline_exceeded(visit, "waited")
    message = f"No engine was free within {max_wait_s:g} s. Try again later."
    return WaitTooLong(message, retry_after_s)


def _expire(run: Run, visit: Visit) -> None:
    run.fail(_deadline_exceeded(visit, "ran"))


def _deadline_exceeded(visit: Visit, what: str) -> DeadlineExceeded:
    limit_s = visit.deadline - visit.came_at
    return DeadlineExceeded(f"The time limit of {limit_s:g} s passed while the request {what}.")
