from dataclasses import replace

from locktender.model.backlog import Backlog, Ticket


def ticket(sequence: int) -> Ticket:
    return Ticket(sequence, tokens=1, leave_at=1.0)


def line(*sequences: int) -> Backlog:
    backlog = Backlog()
    for sequence in sequences:
        backlog.add(ticket(sequence))
    return backlog


def order(backlog: Backlog) -> list[int]:
    return [each.sequence for each in backlog.in_order()]


def test_tickets_stand_in_order_of_arrival_whenever_they_are_added() -> None:
    assert order(line(3, 1, 5, 2, 4)) == [1, 2, 3, 4, 5]


def test_reading_the_line_takes_nobody_out() -> None:
    backlog = line(2, 1)
    assert order(backlog) == order(backlog) == [1, 2]
    assert len(backlog) == 2


def test_a_ticket_leaves_from_wherever_it_stands() -> None:
    backlog = line(1, 2, 3)
    assert backlog.remove(ticket(2))
    assert order(backlog) == [1, 3]
    assert backlog.remove(ticket(1))
    assert order(backlog) == [3]


def test_a_ticket_that_does_not_stand_in_line_is_not_removed() -> None:
    backlog = line(1)
    assert not backlog.remove(ticket(2))
    assert backlog.remove(ticket(1))
    assert not backlog.remove(ticket(1))
    assert not backlog


def test_a_ticket_that_comes_back_stands_where_it_stood_and_once() -> None:
    backlog = line(1, 2, 3)
    backlog.remove(ticket(2))
    suspect = replace(ticket(2), group=1)
    backlog.add(suspect)
    assert order(backlog) == [1, 2, 3]
    assert list(backlog.in_order())[1] is suspect


def test_an_empty_line_has_nobody_in_order() -> None:
    assert order(line()) == []
