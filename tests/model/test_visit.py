import asyncio

import pytest

from locktender.core.errors import (
    AnswerUnread,
    ConfigError,
    ContextTooLong,
    DeadlineExceeded,
    Draining,
    EngineFailed,
    InvalidRequest,
    LocktenderError,
    NoReplicaReady,
    PoisonedRequest,
    QueueFull,
    ReplicaLost,
    WaitTooLong,
)
from locktender.core.events import Outcome, RequestEnded
from locktender.core.request import Delta, FinishReason, GenerationRequest, TextInput
from locktender.model.backlog import Ticket
from locktender.model.replica import Run
from locktender.model.share import Permit
from locktender.model.visit import Visit, outcome_of


@pytest.fixture
async def visit() -> Visit:
    """Give a visit that came at 100 and may last until 160."""
    turn: asyncio.Future[Run | None] = asyncio.get_running_loop().create_future()
    request = GenerationRequest("r1", "m", TextInput("a"), max_tokens=10)
    ticket = Ticket(7, 20, leave_at=110.0)
    return Visit(request, "theirs", 100.0, 160.0, Permit(20), ticket, turn)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidRequest("a"), Outcome.INVALID),
        (ContextTooLong("a"), Outcome.INVALID),
        (QueueFull("a"), Outcome.REFUSED),
        (WaitTooLong("a"), Outcome.REFUSED),
        (NoReplicaReady("a"), Outcome.REFUSED),
        (Draining("a"), Outcome.REFUSED),
        (DeadlineExceeded("a"), Outcome.EXPIRED),
        (AnswerUnread("a"), Outcome.CANCELLED),
        (EngineFailed("a"), Outcome.FAILED),
        (PoisonedRequest("a"), Outcome.FAILED),
        (ReplicaLost("a"), Outcome.FAILED),
        (ConfigError("a"), Outcome.FAILED),
        (LocktenderError("a"), Outcome.FAILED),
    ],
)
def test_every_error_has_its_outcome(error: LocktenderError, outcome: Outcome) -> None:
    assert outcome_of(error) is outcome


async def test_a_visit_whose_last_delta_was_given_is_complete(visit: Visit) -> None:
    visit.waited_s = 1.0
    visit.note(Delta("", 0, 5), 101.5)
    visit.note(Delta("one", 1), 102.0)
    visit.note(Delta(" two", 1, finish_reason=FinishReason.STOP), 103.0)
    assert visit.ended(None, 104.0) == RequestEnded(
        request_id="r1",
        model="m",
        outcome=Outcome.COMPLETED,
        total_s=4.0,
        caller_id="theirs",
        waited_s=1.0,
        ttft_s=2.0,
        prompt_tokens=5,
        n_tokens=2,
    )


async def test_a_visit_that_ends_early_without_an_error_was_left_by_the_caller(
    visit: Visit,
) -> None:
    visit.note(Delta("one", 1, 5), 101.0)
    assert visit.ended(None, 102.0).outcome is Outcome.CANCELLED


async def test_a_visit_that_ended_with_an_error_has_its_code(visit: Visit) -> None:
    ended = visit.ended(WaitTooLong("No engine was free."), 111.0)
    assert (ended.outcome, ended.code) == (Outcome.REFUSED, "wait_too_long")
    assert (ended.waited_s, ended.ttft_s, ended.prompt_tokens) == (None, None, None)


async def test_back_in_line_a_visit_has_its_place_all_its_time_and_nothing_of_the_first_try(
    visit: Visit,
) -> None:
    visit.waited_s = 1.0
    visit.note(Delta("one", 1, 5), 101.0)
    turn: asyncio.Future[Run | None] = visit.turn.get_loop().create_future()
    visit.return_to_line(turn, 3)
    assert visit.ticket == Ticket(7, 20, leave_at=160.0, group=3)
    assert visit.turn is turn
    ended = visit.ended(None, 102.0)
    assert (ended.waited_s, ended.ttft_s, ended.prompt_tokens, ended.n_tokens) == (
        None,
        None,
        None,
        0,
    )
