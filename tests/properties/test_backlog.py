"""Whatever comes, leaves and comes back, the line is the sorted line of those who wait."""

from dataclasses import replace
from itertools import islice

from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    precondition,
    rule,
    run_state_machine_as_test,
)

from locktender.model.backlog import Backlog, Ticket


class LineMachine(RuleBasedStateMachine):
    """A backlog beside what it must equal: a dictionary that is sorted when it is read."""

    left = Bundle("left")

    def __init__(self) -> None:
        super().__init__()
        self.backlog = Backlog()
        self.standing: dict[int, Ticket] = {}

    @rule(first=st.integers(1, 300), n=st.integers(1, 90))
    def come(self, first: int, n: int) -> None:
        for sequence in range(first, first + n):
            if sequence not in self.standing:
                self._add(Ticket(sequence, 1, leave_at=1.0))

    @precondition(lambda self: self.standing)
    @rule(target=left, choice=st.randoms(use_true_random=False), n=st.integers(1, 60))
    def leave(self, choice: object, n: int) -> object:
        tickets = list(self.standing.values())
        choice.shuffle(tickets)  # type: ignore[attr-defined]  # hypothesis gives a Random
        for ticket in tickets[:n]:
            assert self.backlog.remove(ticket)
            del self.standing[ticket.sequence]
        return multiple(*tickets[:n])

    @rule(ticket=consumes(left))
    def come_back_as_a_suspect(self, ticket: Ticket) -> None:
        if ticket.sequence not in self.standing:
            self._add(replace(ticket, group=1))

    @rule(ticket=left)
    def leave_again(self, ticket: Ticket) -> None:
        if ticket.sequence not in self.standing:
            assert not self.backlog.remove(ticket)

    @rule(n=st.integers(1, 8))
    def read_the_front(self, n: int) -> None:
        assert list(islice(self.backlog.in_order(), n)) == self._sorted()[:n]

    @invariant()
    def the_line_is_sorted_and_whole(self) -> None:
        assert list(self.backlog.in_order()) == self._sorted()
        assert len(self.backlog) == len(self.standing)
        assert self.backlog.n_suspects == sum(bool(each.group) for each in self.standing.values())

    @invariant()
    def those_who_left_take_little_memory(self) -> None:
        assert len(self.backlog._heap) <= 2 * len(self.standing) + 64  # noqa: SLF001 - memory shows nowhere else

    def _add(self, ticket: Ticket) -> None:
        self.backlog.add(ticket)
        self.standing[ticket.sequence] = ticket

    def _sorted(self) -> list[Ticket]:
        return [self.standing[sequence] for sequence in sorted(self.standing)]


def test_the_line_is_always_that_of_those_who_wait_in_order_of_arrival() -> None:
    run_state_machine_as_test(LineMachine)
