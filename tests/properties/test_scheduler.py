"""The promises of a plan, for whatever waits and whatever room there is."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from locktender.model.backlog import Ticket
from locktender.model.replica import Load
from locktender.model.scheduler import Assignment, plan

NOW = 100.0


@st.composite
def queues(draw: st.DrawFn) -> list[Ticket]:
    """Draw tickets in order of arrival; some are late, some are suspects."""
    sequences = sorted(draw(st.sets(st.integers(1, 50), max_size=12)))
    return [
        Ticket(
            sequence,
            tokens=draw(st.integers(1, 120)),
            leave_at=draw(st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 60])),
            is_suspect=draw(st.integers(0, 3)) == 0,
        )
        for sequence in sequences
    ]


@st.composite
def replicas(draw: st.DrawFn) -> list[Load]:
    """Draw loads as replicas report them; an engine that is starting has no room at all."""
    loads = []
    for index in range(draw(st.integers(0, 4))):
        running, free_slots = draw(st.integers(0, 3)), draw(st.integers(0, 4))
        context_tokens = draw(st.integers(1, 100))
        # An engine that runs nothing holds nothing; its memory is at least one context.
        least = context_tokens if running == 0 else 0
        free_tokens = draw(st.integers(least, 250))
        loads.append(Load(f"m-{index}", running, free_slots, free_tokens, context_tokens))
    return loads


@given(queues(), replicas())
def test_no_replica_is_given_more_than_it_reported_free(
    queue: list[Ticket], loads: list[Load]
) -> None:
    assignments = plan(queue, loads, now=NOW)
    for load in loads:
        given_it = [each for each in assignments if each.replica == load.replica]
        assert len(given_it) <= load.free_slots
        assert sum(each.tokens for each in given_it) <= load.free_tokens
        assert all(each.tokens == min(each.ticket.tokens, load.context_tokens) for each in given_it)


@given(queues(), replicas())
def test_no_ticket_overtakes_an_earlier_live_one(queue: list[Ticket], loads: list[Load]) -> None:
    assigned = [each.ticket for each in plan(queue, loads, now=NOW)]
    live = [ticket for ticket in queue if ticket.leave_at > NOW]
    assert assigned == live[: len(assigned)]


@given(queues(), replicas())
def test_a_ticket_whose_time_has_passed_is_never_assigned(
    queue: list[Ticket], loads: list[Load]
) -> None:
    assert all(each.ticket.leave_at > NOW for each in plan(queue, loads, now=NOW))


@given(queues(), replicas())
def test_a_suspect_runs_on_an_idle_replica_and_has_no_company(
    queue: list[Ticket], loads: list[Load]
) -> None:
    assignments = plan(queue, loads, now=NOW)
    running = {load.replica: load.running for load in loads}
    given_to = Counter(each.replica for each in assignments)
    for each in assignments:
        if each.ticket.is_suspect:
            assert running[each.replica] == 0
            assert given_to[each.replica] == 1


@given(queues(), replicas())
def test_the_first_ticket_left_waiting_fits_no_replica(
    queue: list[Ticket], loads: list[Load]
) -> None:
    assignments = plan(queue, loads, now=NOW)
    live = [ticket for ticket in queue if ticket.leave_at > NOW]
    left = live[len(assignments) :]
    if left:
        assert not any(_fits(left[0], load, assignments) for load in loads)


@given(queues(), replicas(), st.randoms(use_true_random=False))
def test_equal_inputs_give_equal_plans_in_whatever_order_the_replicas_report(
    queue: list[Ticket], loads: list[Load], choice: object
) -> None:
    shuffled = list(loads)
    choice.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    assert plan(queue, loads, now=NOW) == plan(queue, shuffled, now=NOW)


def _fits(ticket: Ticket, load: Load, assignments: list[Assignment]) -> bool:
    """Return whether `load` has room for `ticket` beside what it was given."""
    given_it = [each for each in assignments if each.replica == load.replica]
    has_company = load.running + len(given_it) > 0
    return (
        len(given_it) < load.free_slots
        and not any(each.ticket.is_suspect for each in given_it)
        and not (ticket.is_suspect and has_company)
        and min(ticket.tokens, load.context_tokens)
        <= load.free_tokens - sum(each.tokens for each in given_it)
    )
