import asyncio

import anyio
import pytest

from harness.gate import Berth, request_for, until
from locktender.core.errors import NoReplicaReady
from locktender.core.events import Event, RequestAssigned
from locktender.core.request import Delta, FinishReason
from locktender.model.backlog import Ticket
from locktender.model.line import Line
from locktender.model.quarantine import Quarantine
from locktender.model.replica import Run
from locktender.model.share import Permit
from locktender.model.visit import Visit


@pytest.fixture
async def berth() -> Berth:
    """Give a pool whose one engine runs one request at a time."""
    berth = Berth()
    await berth.engine.start()
    return berth


def visit_of(sequence: int, *, max_wait_s: float = 60.0) -> Visit:
    loop = asyncio.get_running_loop()
    turn: asyncio.Future[Run | None] = loop.create_future()
    now = loop.time()
    ticket = Ticket(sequence, 20, leave_at=now + max_wait_s)
    return Visit(request_for("a"), None, now, now + 60.0, Permit(20), ticket, turn)


async def run_of(line: Line, visit: Visit) -> Run:
    with anyio.fail_after(5):
        run = await line.turn(visit)
    assert run is not None
    return run


async def test_whoever_has_its_turn_has_a_run_and_is_out_of_the_line(berth: Berth) -> None:
    events: list[Event] = []
    line = Line(berth, Quarantine(600.0), events.append)
    visit = visit_of(1)
    run = await run_of(line, visit)
    assert len(line) == 0
    berth.tap.is_open = True
    with anyio.fail_after(5):
        assert [delta async for delta in run] == [Delta("a", 1, 1, FinishReason.STOP)]
    (assigned,) = events
    assert isinstance(assigned, RequestAssigned)
    assert (assigned.request_id, assigned.replica) == (visit.request.id, "m-0")
    assert visit.waited_s is not None


async def test_whoever_stops_waiting_has_no_run_and_is_out_of_the_line(berth: Berth) -> None:
    line = Line(berth, Quarantine(600.0), lambda _: None)
    await run_of(line, visit_of(1))
    with anyio.fail_after(5):
        assert await line.turn(visit_of(2, max_wait_s=0.01)) is None
    assert len(line) == 0


async def test_a_run_that_is_closed_is_the_next_ones_turn(berth: Berth) -> None:
    line = Line(berth, Quarantine(600.0), lambda _: None)
    run = await run_of(line, visit_of(1))
    waiting = asyncio.create_task(line.turn(visit_of(2)))
    await until(lambda: len(line) == 1)
    await run.aclose()
    with anyio.fail_after(5):
        assert await waiting is not None


async def test_an_engine_that_went_since_it_reported_leaves_the_line_as_it_was(
    berth: Berth,
) -> None:
    line = Line(berth, Quarantine(600.0), lambda _: None)
    berth.stale = berth.engine.load()
    await berth.engine.stop(drain_s=0)
    visit = visit_of(1)
    waiting = asyncio.create_task(line.turn(visit))
    await until(lambda: len(line) == 1)
    berth.tell()
    for _ in range(10):
        await asyncio.sleep(0)
    assert not waiting.done()
    assert len(line) == 1
    fresh = Berth()
    await fresh.engine.start()
    berth.engine, berth.stale = fresh.engine, None
    berth.tell()
    with anyio.fail_after(5):
        assert await waiting is not None


async def test_when_the_pool_gives_up_nobody_waits_and_nobody_comes_to_wait(berth: Berth) -> None:
    line = Line(berth, Quarantine(600.0), lambda _: None)
    await run_of(line, visit_of(1))
    waiting = [asyncio.create_task(line.turn(visit_of(sequence))) for sequence in (2, 3)]
    await until(lambda: len(line) == 2)
    berth.has_given_up = True
    berth.tell()
    for each in waiting:
        with anyio.fail_after(5), pytest.raises(NoReplicaReady):
            await each
    with pytest.raises(NoReplicaReady):
        await line.turn(visit_of(4))
    assert len(line) == 0


async def test_who_comes_back_stands_where_it_stood(berth: Berth) -> None:
    events: list[Event] = []
    line = Line(berth, Quarantine(600.0), events.append)
    first = await run_of(line, visit_of(1))
    later, earlier = visit_of(3), visit_of(2)
    waiting = [asyncio.create_task(line.turn(visit)) for visit in (later, earlier)]
    await until(lambda: len(line) == 2)
    await first.aclose()
    with anyio.fail_after(5):
        assert await waiting[1] is not None
    assert not waiting[0].done()
    waiting[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[0]
    assert len(line) == 0
