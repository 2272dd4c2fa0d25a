"""The promises of a plan, for whatever waits and whatever room there is."""

from hypothesis import given
from hypothesis import strategies as st

from locktender.model.backlog import Ticket
from locktender.model.isolation import Ward
from locktender.model.replica import Load
from locktender.model.scheduler import Assignment, plan

NOW = 100.0


@st.composite
def queues(draw: st.DrawFn) -> list[Ticket]:
    """Draw tickets in order of arrival; some are late, some are suspects of either group."""
    sequences = sorted(draw(st.sets(st.integers(1, 50), max_size=12)))
    return [
        Ticket(
            sequence,
            tokens=draw(st.integers(1, 120)),
            leave_at=draw(st.sampled_from([NOW - 1, NOW, NOW + 1, NOW + 60])),
            group=draw(st.sampled_from([0, 0, 0, 1, 2])),
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


wards = st.none() | st.builds(
    Ward, st.sampled_from(["m-0", "m-1"]), st.integers(1, 2), st.integers(1, 50), st.booleans()
)


@given(queues(), replicas(), wards)
def test_no_replica_is_given_more_than_it_reported_free(
    queue: list[Ticket], loads: list[Load], ward: Ward | None
) -> None:
    assignments = plan(queue, loads, ward, now=NOW)
    for load in loads:
        given_it = [each for each in assignments if each.replica == load.replica]
        assert len(given_it) <= load.free_slots
        assert sum(each.tokens for each in given_it) <= load.free_tokens
        assert all(each.tokens == min(each.ticket.tokens, load.context_tokens) for each in given_it)


@given(queues(), replicas(), wards)
def test_no_ticket_overtakes_an_earlier_live_one_of_its_kind(
    queue: list[Ticket], loads: list[Load], ward: Ward | None
) -> None:
    assigned = [each.ticket for each in plan(queue, loads, ward, now=NOW)]
    for kind in _kinds(queue, ward):
        there = [ticket for ticket in assigned if ticket in kind]
        assert there == kind[: len(there)]


@given(queues(), replicas(), wards)
def test_a_ticket_whose_time_has_passed_is_never_assigned(
    queue: list[Ticket], loads: list[Load], ward: Ward | None
) -> None:
    assert all(each.ticket.leave_at > NOW for each in plan(queue, loads, ward, now=NOW))


@given(queues(), replicas(), wards)
def test_a_suspect_is_given_to_its_ward_once_that_is_empty_and_a_ward_to_nobody_else(
    queue: list[Ticket], loads: list[Load], ward: Ward | None
) -> None:
    running = {load.replica: load.running for load in loads}
    for each in plan(queue, loads, ward, now=NOW):
        is_in_ward = ward is not None and each.replica == ward.replica
        assert is_in_ward == bool(each.ticket.group)
        if ward is not None and is_in_ward:
            assert ward.admits(each.ticket)
            assert ward.is_begun or running[each.replica] == 0


@given(queues(), replicas(), wards)
def test_the_first_of_a_kind_that_is_left_waiting_fits_no_replica(
    queue: list[Ticket], loads: list[Load], ward: Ward | None
) -> None:
    assignments = plan(queue, loads, ward, now=NOW)
    assigned = [each.ticket for each in assignments]
    for kind in _kinds(queue, ward):
        left = [ticket for ticket in kind if ticket not in assigned]
        if left:
            assert not any(_fits(left[0], load, ward, assignments) for load in loads)


@given(queues(), replicas(), wards, st.randoms(use_true_random=False))
def test_equal_inputs_give_equal_plans_in_whatever_order_the_replicas_report(
    queue: list[Ticket], loads: list[Load], ward: Ward | None, choice: object
) -> None:
    shuffled = list(loads)
    choice.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis gives a Random
    assert plan(queue, loads, ward, now=NOW) == plan(queue, shuffled, ward, now=NOW)


def _kinds(queue: list[Ticket], ward: Ward | None) -> tuple[list[Ticket], list[Ticket]]:
    """Return those who are no suspects and those whom the ward admits, the late left out."""
    live = [ticket for ticket in queue if ticket.leave_at > NOW]
    members = [ticket for ticket in live if ward is not None and ward.admits(ticket)]
    return [ticket for ticket in live if not ticket.group], members


def _fits(ticket: Ticket, load: Load, ward: Ward | None, assignments: list[Assignment]) -> bool:
    """Return whether `load` is for `ticket` and has room beside what it was given."""
    given_it = [each for each in assignments if each.replica == load.replica]
    is_ward = ward is not None and load.replica == ward.replica
    is_open = not is_ward or load.running == 0 or (ward is not None and ward.is_begun)
    return (
        len(given_it) < load.free_slots
        and is_ward == bool(ticket.group)
        and is_open
        and min(ticket.tokens, load.context_tokens)
        <= load.free_tokens - sum(each.tokens for each in given_it)
    )
