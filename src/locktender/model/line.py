"""Have requests wait in line until the scheduler gives each an engine.

It acts on what `backlog` and `scheduler` decide: whenever room may have come it asks for a plan,
takes the planned requests out of line and starts them on their replicas.  Who may stand in line is
`dispatcher`'s, above, and so is what becomes of a run.
"""

import asyncio

from locktender.core.errors import NoReplicaReady, ReplicaLost
from locktender.core.events import Observer, RequestAssigned
from locktender.model.backlog import Backlog
from locktender.model.replica import Pool, Run
from locktender.model.scheduler import Assignment, plan
from locktender.model.visit import Visit

__all__ = ["Line", "no_replica"]

_NO_REPLICA_RETRY_S = 30.0  # somebody must act first


def no_replica() -> NoReplicaReady:
    """Return the refusal of a model whose engines are gone for good."""
    message = "The model's engine cannot be started. The operator's log has the cause."
    return NoReplicaReady(message, _NO_REPLICA_RETRY_S)


class Line:
    """Those who wait for one pool of replicas."""

    def __init__(self, pool: Pool, observer: Observer) -> None:
        self._pool = pool
        self._observer = observer
        self._backlog = Backlog()
        self._visits: dict[int, Visit] = {}  # that wait, by the sequence of their ticket
        self._secluded: set[str] = set()  # replicas that run a suspect
        self._wake: asyncio.Handle | None = None
        pool.subscribe(self._pool_changed)

    def __len__(self) -> int:
        return len(self._backlog)

    async def turn(self, visit: Visit) -> Run | None:
        """Stand in line until an engine has the request; None when its `leave_at` has passed.

        The caller closes the run.  Raises: NoReplicaReady.
        """
        if self._pool.has_given_up:
            raise no_replica()
        loop = asyncio.get_running_loop()
        self._visits[visit.ticket.sequence] = visit
        self._backlog.add(visit.ticket)
        self._wake_up()
        try:
            # Not `wait_for`: it would cancel the future, and a run that is just being handed over
            # would be lost.
            await asyncio.wait([visit.turn], timeout=max(0, visit.ticket.leave_at - loop.time()))
        except asyncio.CancelledError:
            await self._withdraw(visit)
            raise
        if not visit.turn.done():
            await self._withdraw(visit)
            return None
        run = visit.turn.result()
        visit.waited_s = loop.time() - visit.came_at
        return run

    async def _withdraw(self, visit: Visit) -> None:
        """Take `visit` out of the line, or back from the engine that it was just given to."""
        if visit.ticket.sequence in self._visits:
            self._take_out(visit)
            self._wake_up()
        elif visit.turn.exception() is None:
            await visit.turn.result().aclose()

    def _pool_changed(self) -> None:
        if not self._pool.has_given_up:
            self._wake_up()
            return
        for visit in list(self._visits.values()):
            self._take_out(visit)
            visit.turn.set_exception(no_replica())

    def _wake_up(self) -> None:
        # Soon, and once for all that changes meanwhile: what calls this may be halfway through
        # changing what a plan is made from.
        if self._wake is None and self._backlog:
            self._wake = asyncio.get_running_loop().call_soon(self._dispatch)

    def _dispatch(self) -> None:
        self._wake = None
        loads = self._pool.loads()
        # A suspect is alone until its engine has done with it, however slowly it is read.
        self._secluded.intersection_update(load.replica for load in loads if load.running)
        loads = [load for load in loads if load.replica not in self._secluded]
        now = asyncio.get_running_loop().time()
        for assignment in plan(self._backlog.in_order(), loads, now=now):
            self._assign(assignment, now)

    def _assign(self, assignment: Assignment, now: float) -> None:
        visit = self._visits[assignment.ticket.sequence]
        try:
            run = self._pool.replica(assignment.replica).run(visit.request, assignment.tokens)
        except ReplicaLost:
            return  # It went since it reported its room; the request was in no engine and waits on.
        self._take_out(visit)
        if assignment.ticket.is_suspect:
            self._secluded.add(assignment.replica)
        visit.turn.set_result(run)
        waited_s = now - visit.came_at
        request = visit.request
        self._observer(RequestAssigned(request.id, request.model, assignment.replica, waited_s))

    def _take_out(self, visit: Visit) -> None:
        del self._visits[visit.ticket.sequence]
        self._backlog.remove(visit.ticket)
