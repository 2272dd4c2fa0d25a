from collections.abc import Sequence

from locktender.model.backlog import Ticket
from locktender.model.isolation import Isolation, Ward
from locktender.model.replica import Load


def ticket(sequence: int, group: int = 0, *, leave_at: float = 10.0) -> Ticket:
    return Ticket(sequence, 10, leave_at, group)


def load(replica: str = "a", *, running: int = 0, tokens: int = 100) -> Load:
    return Load(replica, running, 4, free_tokens=tokens, context_tokens=100)


GONE = Load("a", 0, 0, 0, 0)  # listed, until another is in its place


def ward_of(
    isolation: Isolation, waiting: Sequence[Ticket], *loads: Load, newest: int = 9
) -> Ward | None:
    return isolation.settle(waiting, loads, newest=newest, now=0.0)


def begun(*members: Ticket) -> Isolation:
    """Return an isolation whose ward, on the replica a, was given `members`."""
    isolation = Isolation()
    ward_of(isolation, members, load())
    for member in members:
        isolation.begin(member)
    return isolation


def test_without_suspects_there_is_no_ward() -> None:
    assert ward_of(Isolation(), [ticket(1)], load()) is None


def test_the_first_group_of_the_line_has_a_ward() -> None:
    waiting = [ticket(1), ticket(2, 7), ticket(3, 8)]
    assert ward_of(Isolation(), waiting, load()) == Ward("a", 7, newest=9)


def test_whoever_has_stopped_waiting_has_no_ward() -> None:
    waiting = [ticket(1, 7, leave_at=0.0), ticket(2, 8)]
    assert ward_of(Isolation(), waiting, load()) == Ward("a", 8, newest=9)


def test_a_replica_that_is_idle_is_taken_before_one_that_must_be_emptied() -> None:
    waiting = [ticket(1, 7)]
    assert ward_of(Isolation(), waiting, load("a", running=1), load("b")) == Ward("b", 7, 9)


def test_the_replica_that_is_being_emptied_stays_the_one_until_another_is_idle() -> None:
    isolation, waiting = Isolation(), [ticket(1, 7)]
    assert ward_of(isolation, waiting, load("a", running=3), load("b", running=4)) == Ward(
        "a", 7, 9
    )
    assert ward_of(isolation, waiting, load("a", running=3), load("b", running=1)) == Ward(
        "a", 7, 9
    )
    assert ward_of(isolation, waiting, load("a", running=3), load("b")) == Ward("b", 7, 9)


def test_while_no_engine_is_there_there_is_no_ward() -> None:
    assert ward_of(Isolation(), [ticket(1, 7)], GONE) is None
    assert ward_of(Isolation(), [ticket(1, 7)]) is None


def test_a_ward_that_nobody_needs_any_more_is_given_up() -> None:
    isolation = Isolation()
    ward_of(isolation, [ticket(1, 7)], load(running=1))
    assert ward_of(isolation, [], load(running=1)) is None


def test_a_ward_lasts_while_its_members_run() -> None:
    isolation = begun(ticket(1, 7), ticket(2, 7))
    isolation.prove(ticket(1, 7))
    assert ward_of(isolation, [], load(running=2)) == Ward("a", 7, newest=9, is_begun=True)


def test_a_ward_ends_when_its_engine_runs_nothing_however_slowly_it_is_read() -> None:
    assert ward_of(begun(ticket(1, 7)), [], load()) is None


def test_a_ward_ends_when_every_member_is_beyond_the_place_where_its_engine_died() -> None:
    isolation = begun(ticket(1, 7), ticket(2, 7))
    isolation.prove(ticket(1, 7))
    isolation.prove(ticket(2, 7))
    assert ward_of(isolation, [], load(running=2)) is None


def test_between_two_groups_all_have_a_turn_who_waited_at_the_end_of_the_first() -> None:
    isolation = begun(ticket(1, 7))
    waiting = [ticket(2, 8), ticket(3), ticket(4)]
    assert ward_of(isolation, waiting, load(), newest=4) is None
    assert ward_of(isolation, [ticket(2, 8), ticket(4)], load(running=1), newest=5) is None
    later = [ticket(2, 8), ticket(5)]
    assert ward_of(isolation, later, load(running=1), newest=5) == Ward("a", 8, newest=5)
