from locktender.core.events import (
    Outcome,
    RequestAssigned,
    RequestEnded,
    RequestReceived,
    RequestReturned,
)
from locktender.ops.tally import Tally


def ended(outcome: Outcome, model: str = "m") -> RequestEnded:
    return RequestEnded("1", model, outcome, total_s=1.0)


def test_received_is_the_sum_of_all_outcomes_and_those_in_flight() -> None:
    tally = Tally()
    for _ in range(4):
        tally(RequestReceived("1", "m"))
    for outcome in (Outcome.COMPLETED, Outcome.REFUSED, Outcome.COMPLETED):
        tally(ended(outcome))
    assert tally.received("m") == 4
    assert tally.ended("m") == {Outcome.COMPLETED: 2, Outcome.REFUSED: 1}
    assert tally.in_flight("m") == 1


def test_models_are_counted_apart() -> None:
    tally = Tally()
    tally(RequestReceived("1", "a"))
    tally(RequestReceived("2", "b"))
    tally(ended(Outcome.FAILED, "b"))
    assert (tally.in_flight("a"), tally.in_flight("b")) == (1, 0)
    assert tally.ended("a") == {}


def test_what_happens_between_begin_and_end_changes_no_count() -> None:
    tally = Tally()
    tally(RequestReceived("1", "m"))
    tally(RequestAssigned("1", "m", "m-0", 0.0))
    tally(RequestReturned("1", "m"))
    assert (tally.received("m"), tally.in_flight("m")) == (1, 1)


def test_a_model_that_nobody_asked_for_has_no_counts() -> None:
    tally = Tally()
    assert (tally.received("m"), tally.ended("m"), tally.in_flight("m")) == (0, {}, 0)
