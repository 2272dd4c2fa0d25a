"""What becomes of requests whose engines die: the poison is found, and nobody else is banned.

The deciders are asked as `line` asks them, without a loop or a clock: engines are sets of requests,
and a round of theirs either kills them or ends some of what they run.
"""

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.core.errors import PoisonedRequest, ReplicaLost
from locktender.core.request import GenerationRequest, TextInput
from locktender.model.backlog import Ticket
from locktender.model.isolation import Isolation
from locktender.model.quarantine import Quarantine
from locktender.model.replica import Load
from locktender.model.scheduler import plan

SLOTS = 16
MAX_ROUNDS = 1000
# Which of an engine's requests end in this round.
Dice = Callable[[int], bool]


@dataclass
class Pool:
    """Engines, the line before them, and what has become of everybody."""

    poisons: frozenset[int]
    n_replicas: int = 1
    waiting: dict[int, Ticket] = field(default_factory=dict)
    engines: dict[str, list[Ticket]] = field(default_factory=dict)
    answered: set[int] = field(default_factory=set)
    banned: set[int] = field(default_factory=set)
    deaths: list[list[Ticket]] = field(default_factory=list)
    held_up: dict[int, set[int]] = field(default_factory=dict)  # by which runs, who is no suspect
    n_runs: int = 0
    n_came: int = 0

    def __post_init__(self) -> None:
        self.quarantine = Quarantine(600.0)
        self.isolation = Isolation()
        self.engines = {f"m-{n}": [] for n in range(self.n_replicas)}

    def come(self, n: int) -> None:
        """Have so many callers ask, each for something of its own."""
        for _ in range(n):
            self.n_came += 1
            self.waiting[self.n_came] = Ticket(self.n_came, 1, leave_at=1.0)

    def dispatch(self) -> None:
        """Give the engines what `line` would."""
        while True:
            in_order = [self.waiting[key] for key in sorted(self.waiting)]
            ward = self.isolation.settle(in_order, self.loads(), newest=self.n_came, now=0.0)
            assignments = plan(in_order, self.loads(), ward, now=0.0)
            if not assignments:
                return
            if ward is not None and not ward.is_begun and any(a.ticket.group for a in assignments):
                self.n_runs += 1
            for each in assignments:
                del self.waiting[each.ticket.sequence]
                self.engines[each.replica].append(each.ticket)
                if each.ticket.group:
                    self.isolation.begin(each.ticket)

    def note_who_is_held_up(self) -> None:
        """Note the run of a group during which somebody waits who is no suspect."""
        runs_now = any(ticket.group for engine in self.engines.values() for ticket in engine)
        for key, ticket in self.waiting.items():
            if runs_now and not ticket.group:
                self.held_up.setdefault(key, set()).add(self.n_runs)

    def loads(self) -> list[Load]:
        return [
            Load(name, len(running), SLOTS - len(running), 1000, 1000)
            for name, running in self.engines.items()
        ]

    def die(self, name: str) -> None:
        """Lose an engine with all that runs in it."""
        lost, self.engines[name] = self.engines[name], []
        self.deaths.append(lost)
        present = tuple(request_of(ticket.sequence).digest() for ticket in lost)
        loss = ReplicaLost("", f"#{len(self.deaths)}", present)
        for ticket in lost:
            self.isolation.prove(ticket)
            request = request_of(ticket.sequence)
            try:
                group = self.quarantine.judge(request, loss, has_sent=False, now=0.0)
            except PoisonedRequest:
                self.banned.add(ticket.sequence)
            else:
                self.waiting[ticket.sequence] = replace(ticket, group=group)

    def end(self, name: str, ends: Dice) -> None:
        """End some of what an engine runs, at least one."""
        running = self.engines[name]
        for nth, ticket in enumerate(list(running)):
            if nth == 0 or ends(ticket.sequence):
                running.remove(ticket)
                self.isolation.prove(ticket)
                self.quarantine.clear(request_of(ticket.sequence))
                self.answered.add(ticket.sequence)

    def play(
        self, ends: Dice, comes: Sequence[int] = (), kills: Collection[int] = frozenset()
    ) -> None:
        """Go on until everybody has had an end.

        `comes` says how many come in each round; in those of `kills`, an engine is killed from
        outside.
        """
        for nth in range(MAX_ROUNDS):
            self.come(comes[nth] if nth < len(comes) else 0)
            self.dispatch()
            self.note_who_is_held_up()
            if not self.waiting and not any(self.engines.values()) and nth >= len(comes):
                return
            busy = [name for name, running in self.engines.items() if running]
            for name in busy:
                if (nth in kills and name == busy[0]) or self._is_killed(self.engines[name]):
                    self.die(name)
                else:
                    self.end(name, ends)
        pytest.fail("somebody is kept for ever")

    def _is_killed(self, running: Sequence[Ticket]) -> bool:
        return any(ticket.sequence in self.poisons for ticket in running)


def request_of(sequence: int) -> GenerationRequest:
    return GenerationRequest(f"r{sequence}", "m", TextInput(f"t{sequence}"), max_tokens=5)


def dice(choice: object) -> Dice:
    return lambda _: choice.random() < 0.5  # type: ignore[attr-defined]  # hypothesis gives a Random


randoms = st.randoms(use_true_random=False)


@given(st.integers(1, SLOTS), st.data(), randoms)
def test_a_poison_is_found_in_two_deaths_more_than_halvings_and_the_others_are_answered(
    n: int, data: st.DataObject, choice: object
) -> None:
    poison = data.draw(st.integers(1, n))
    pool = Pool(frozenset({poison}))
    pool.come(n)
    pool.play(dice(choice))
    assert pool.banned == {poison}
    assert pool.answered == set(range(1, n + 1)) - {poison}
    assert len(pool.deaths) <= max(3, math.ceil(math.log2(n)) + 2)


@given(
    st.sets(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 2),
    st.lists(st.integers(0, 5), max_size=20),
    randoms,
)
def test_several_poisons_are_found_in_whatever_company_and_nobody_else_is_banned(
    poisons: set[int], n_replicas: int, comes: list[int], choice: object
) -> None:
    pool = Pool(frozenset(poisons), n_replicas)
    pool.come(SLOTS)
    pool.play(dice(choice), comes)
    there = set(range(1, pool.n_came + 1))
    assert pool.banned == poisons & there
    assert pool.answered == there - poisons


@given(
    st.integers(1, 40),
    st.integers(1, 2),
    st.lists(st.integers(0, 5), max_size=20),
    st.sets(st.integers(0, 30), max_size=2),
    randoms,
)
def test_two_kills_from_outside_ban_nobody_whenever_they_come(
    n: int, n_replicas: int, comes: list[int], kills: set[int], choice: object
) -> None:
    pool = Pool(frozenset(), n_replicas)
    pool.come(n)
    pool.play(dice(choice), comes, kills)
    assert pool.banned == set()
    assert pool.answered == set(range(1, pool.n_came + 1))


@given(st.sets(st.integers(1, 30), max_size=3), st.lists(st.integers(0, 5), max_size=20), randoms)
def test_whoever_is_no_suspect_is_held_up_by_one_run_of_a_group_at_most(
    poisons: set[int], comes: list[int], choice: object
) -> None:
    pool = Pool(frozenset(poisons))
    pool.come(SLOTS)
    pool.play(dice(choice), comes)
    assert all(len(runs) <= 1 for runs in pool.held_up.values())


@given(
    st.sets(st.integers(1, 30), max_size=3),
    st.integers(1, 3),
    st.lists(st.integers(0, 5), max_size=20),
    randoms,
)
def test_suspects_die_in_the_company_of_their_own_group_only(
    poisons: set[int], n_replicas: int, comes: list[int], choice: object
) -> None:
    pool = Pool(frozenset(poisons), n_replicas)
    pool.come(SLOTS)
    pool.play(dice(choice), comes)
    for lost in pool.deaths:
        groups = {ticket.group for ticket in lost}
        assert len(groups) == 1


def test_a_kill_from_outside_costs_one_run_of_all_together() -> None:
    pool = Pool(frozenset())
    pool.come(SLOTS)
    pool.play(lambda _: True, kills={0})
    assert [len(lost) for lost in pool.deaths] == [SLOTS]
    assert pool.n_runs == 1


def test_two_replicas_that_die_in_one_moment_leave_two_groups() -> None:
    pool = Pool(frozenset(), n_replicas=2)
    pool.come(2 * SLOTS)
    pool.dispatch()
    pool.die("m-0")
    pool.die("m-1")
    groups = [{pool.waiting[ticket.sequence].group for ticket in lost} for lost in pool.deaths]
    assert [len(group) for group in groups] == [1, 1]
    assert groups[0] != groups[1]
