"""Have requests wait in line until the scheduler gives each an engine.

It acts on what `backlog`, `isolation`, `scheduler` and `quarantine` decide: whenever room may have
come it asks for a plan, takes the planned requests out of line and starts them on their replicas.
Who may stand in line is `dispatcher`'s, above, and so is what becomes of a run.
"""

import asyncio
import logging
from dataclasses import replace

from locktender.core.errors import EngineFailed, LocktenderError, PoisonedRequest, ReplicaLost
from locktender.core.events import Observer, RequestAssigned
from locktender.model.backlog import NO_GROUP, Backlog, Ticket
from locktender.model.isolation import Isolation
from locktender.model.quarantine import Quarantine
from locktender.model.replica import Pool, Run
from locktender.model.scheduler import Assignment, plan
from locktender.model.visit import Visit

__all__ = ["Line"]

_log = logging.getLogger(__name__)


class Line:
    """Those who wait for one pool of replicas."""

    def __init__(self, pool: Pool, quarantine: Quarantine, observer: Observer) -> None:
        self._pool = pool
        self._quarantine = quarantine
        self._observer = observer
        self._backlog = Backlog()
        self._visits: dict[int, Visit] = {}  # that wait, by the sequence of their ticket
        self._isolation = Isolation()
        self._newest = 0  # the last ticket that came
        self._wake: asyncio.Handle | None = None
        pool.subscribe(self._pool_changed)

    def __len__(self) -> int:
        return len(self._backlog)

    async def turn(self, visit: Visit) -> Run | None:
        """Stand in line until an engine has the request; None when its `leave_at` has passed.

        The caller closes the run.  Raises: NoReplicaReady, Draining, PoisonedRequest, EngineFailed.
        """
        refusal = self._pool.refusal()
        if refusal is not None:
            raise refusal
        loop = asyncio.get_running_loop()
        self._visits[visit.ticket.sequence] = visit
        self._newest = max(self._newest, visit.ticket.sequence)
        self._backlog.add(visit.ticket)
        self._wake_up()
        timer = loop.call_at(visit.ticket.leave_at, self._settle, visit, None)
        try:
            run = await visit.turn
        except asyncio.CancelledError:
            await self._withdraw(visit)
            raise
        finally:
            timer.cancel()
        visit.waited_s = loop.time() - visit.came_at
        return run

    def prove(self, ticket: Ticket) -> None:
        """Let a suspect's replica have company, as far as it is for this one to say.

        It has ended, or got beyond the place at which its engine died.
        """
        self._isolation.prove(ticket)
        self._wake_up()

    async def _withdraw(self, visit: Visit) -> None:
        """Take `visit` out of the line, or back from the engine that it was just given to."""
        if visit.ticket.sequence in self._visits:
            self._take_out(visit)
            self._wake_up()
            return
        is_given = not visit.turn.cancelled() and visit.turn.exception() is None
        run = visit.turn.result() if is_given else None
        if run is not None:
            await run.aclose()
            self.prove(visit.ticket)

    def _pool_changed(self) -> None:
        refusal = self._pool.refusal()
        if refusal is None:
            self._wake_up()
            return
        for visit in list(self._visits.values()):
            self._settle(visit, refusal)

    def _wake_up(self) -> None:
        # Soon, and once for all that changes meanwhile: what calls this may be halfway through
        # changing what a plan is made from.
        if self._wake is None and self._backlog:
            self._wake = asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._wake = None
        loads = self._pool.loads()
        now = asyncio.get_running_loop().time()
        suspects = self._backlog.in_order() if self._backlog.n_suspects else ()
        ward = self._isolation.settle(suspects, loads, newest=self._newest, now=now)
        for assignment in plan(self._backlog.in_order(), loads, ward, now=now):
            self._assign(assignment, now)

    def _assign(self, assignment: Assignment, now: float) -> None:
        visit = self._visits[assignment.ticket.sequence]
        if visit.turn.done() or not self._is_placed(visit, now):
            return  # Done: its caller has left, and is about to withdraw.
        request = visit.request
        try:
            run = self._pool.replica(assignment.replica).run(request, assignment.tokens)
        except ReplicaLost:
            return  # It went since it reported its room; the request was in no engine and waits on.
        except Exception:  # noqa: BLE001 - what cannot be sent must not hold up those behind it
            # This turn of the loop may be another request's.
            named = {"request_id": visit.caller_id or request.id, "route": None}
            what = "request %s could not be given to an engine"
            _log.exception(what, request.id, extra={"fields": named})
            self._settle(visit, EngineFailed("The engine failed to take this request."))
            return
        self._take_out(visit)
        visit.replica = assignment.replica
        if visit.ticket.group != NO_GROUP:
            self._isolation.begin(visit.ticket)
        visit.turn.set_result(run)
        waited_s = now - visit.came_at
        self._observer(RequestAssigned(request.id, request.model, assignment.replica, waited_s))

    def _is_placed(self, visit: Visit, now: float) -> bool:
        """Return whether the request is still in the group that its ticket says; else mend it.

        Another request with the same prompt may have been in an engine that died, or answered.
        """
        try:
            group = self._quarantine.admit(visit.request, now=now)
        except PoisonedRequest as error:
            self._settle(visit, error)
            return False
        if group == visit.ticket.group:
            return True
        self._backlog.remove(visit.ticket)
        visit.ticket = replace(visit.ticket, group=group)
        self._backlog.add(visit.ticket)
        self._wake_up()
        return False

    def _settle(self, visit: Visit, error: LocktenderError | None) -> None:
        """Let `visit` go without a run: with `error`, or with None for having waited too long."""
        if visit.turn.done():
            return
        self._take_out(visit)
        self._wake_up()
        if error is None:
            visit.turn.set_result(None)
        else:
            visit.turn.set_exception(error)

    def _take_out(self, visit: Visit) -> None:
        del self._visits[visit.ticket.sequence]
        self._backlog.remove(visit.ticket)
