from collections.abc import Iterator

from locktender.model.backlog import Ticket
from locktender.model.isolation import Ward
from locktender.model.replica import Load
from locktender.model.scheduler import Assignment, plan


def ticket(sequence: int, *, tokens: int = 10, group: int = 0) -> Ticket:
    return Ticket(sequence, tokens, leave_at=10.0, group=group)


def load(replica: str = "a", *, running: int = 0, free_slots: int = 4, tokens: int = 100) -> Load:
    return Load(replica, running, free_slots, free_tokens=tokens, context_tokens=100)


def placed(assignments: list[Assignment]) -> list[tuple[int, str]]:
    return [(each.ticket.sequence, each.replica) for each in assignments]


def test_the_replica_that_runs_least_is_given_the_next() -> None:
    loads = [load("a", running=2), load("b", running=1)]
    assert placed(plan([ticket(1), ticket(2), ticket(3)], loads, now=0.0)) == [
        (1, "b"),
        (2, "a"),
        (3, "b"),
    ]


def test_of_replicas_that_run_as_little_the_one_with_most_memory_is_given_the_next() -> None:
    loads = [load("a", tokens=50), load("b", tokens=60)]
    assert placed(plan([ticket(1)], loads, now=0.0)) == [(1, "b")]


def test_the_name_breaks_the_last_tie() -> None:
    assert placed(plan([ticket(1)], [load("b"), load("a")], now=0.0)) == [(1, "a")]


def test_a_large_request_at_the_front_is_not_overtaken_by_small_ones() -> None:
    waiting = [ticket(1, tokens=90), ticket(2, tokens=1)]
    assert plan(waiting, [load(running=1, tokens=80)], now=0.0) == []


def test_no_request_is_charged_more_than_the_context() -> None:
    (assignment,) = plan([ticket(1, tokens=5000)], [load(tokens=100)], now=0.0)
    assert assignment.tokens == 100


def test_who_stops_waiting_now_is_passed_over() -> None:
    late, live = Ticket(1, 10, leave_at=5.0), Ticket(2, 10, leave_at=5.1)
    assert placed(plan([late, live], [load()], now=5.0)) == [(2, "a")]


def test_a_suspect_waits_for_its_ward_and_holds_up_nobody_else() -> None:
    waiting = [ticket(1, group=7), ticket(2)]
    assert placed(plan(waiting, [load()], now=0.0)) == [(2, "a")]


def test_a_group_goes_into_its_ward_together_and_nobody_else_does() -> None:
    waiting = [ticket(1, group=7), ticket(2), ticket(3, group=7), ticket(4, group=8)]
    loads = [load("a"), load("b", running=2)]
    assignments = plan(waiting, loads, Ward("a", 7, newest=4), now=0.0)
    assert placed(assignments) == [(1, "a"), (2, "b"), (3, "a")]


def test_a_ward_is_empty_before_its_group_comes() -> None:
    waiting = [ticket(1, group=7), ticket(2)]
    assert plan(waiting, [load(running=1)], Ward("a", 7, newest=2), now=0.0) == []


def test_members_for_whom_there_was_no_room_follow_into_the_ward() -> None:
    ward = Ward("a", 7, newest=2, is_begun=True)
    assert placed(plan([ticket(2, group=7)], [load(running=1)], ward, now=0.0)) == [(2, "a")]


def test_a_copy_that_came_later_waits_for_the_next_run() -> None:
    ward = Ward("a", 7, newest=2, is_begun=True)
    assert plan([ticket(3, group=7)], [load(running=1)], ward, now=0.0) == []


def test_the_line_is_read_no_further_than_there_is_room() -> None:
    read = []

    def line() -> Iterator[Ticket]:
        for sequence in range(1, 1000):
            read.append(sequence)
            yield ticket(sequence, tokens=1)

    assert len(plan(line(), [load(free_slots=2)], now=0.0)) == 2
    assert plan(line(), [load(free_slots=0)], now=0.0) == []
    assert read == [1, 2]
