"""The budgets of the gate, through any run of arrivals, corrections and departures."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from locktender.core.errors import QueueFull
from locktender.model.admission import Admission, Permit, Room

ROOM = Room(max_running=2, max_waiting=3, max_tokens=100, max_beyond=4)
OUTERS = (None, "a", "b")
PAUSES_S = st.floats(0.01, 1) | st.integers(1, 70).map(float)


class GateMachine(RuleBasedStateMachine):
    """An admission beside what it must equal: the permits that are out, with their tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(ROOM)
        self.inside: dict[Permit, int] = {}
        self.gone: list[Permit] = []
        self.known: dict[str, float] = {}
        self.now = 0.0

    @rule(passed_s=st.floats(0, 30))
    def let_time_pass(self, passed_s: float) -> None:
        self.now += passed_s

    @rule(tokens=st.integers(1, 130), outer=st.sampled_from(OUTERS), lasts_s=st.floats(0, 60))
    def ask(self, tokens: int, outer: str | None, lasts_s: float) -> None:
        is_known = outer is not None and self.known.get(outer, -1.0) > self.now
        assert self.admission.knows(outer, now=self.now) == is_known
        has_room = self._has_room(tokens, is_known=is_known)
        until = self.now + lasts_s
        if not has_room:
            with pytest.raises(QueueFull) as caught:
                self.admission.ask(tokens, outer=outer, outer_until=until, now=self.now)
            assert _is_sound(caught.value.retry_after_s)
            return
        permit = self.admission.ask(tokens, outer=outer, outer_until=until, now=self.now)
        self.inside[permit] = tokens
        if outer is not None and not is_known:
            self.known[outer] = until

    @precondition(lambda self: self.inside)
    @rule(at=st.integers(0), tokens=st.integers(1, 130))
    def correct(self, at: int, tokens: int) -> None:
        permit = list(self.inside)[at % len(self.inside)]
        self.admission.correct(permit, tokens)
        self.inside[permit] = tokens

    @precondition(lambda self: self.inside)
    @rule(at=st.integers(0))
    def give_back(self, at: int) -> None:
        permit = list(self.inside)[at % len(self.inside)]
        self.admission.give_back(permit, now=self.now)
        del self.inside[permit]
        self.gone.append(permit)

    @precondition(lambda self: self.gone)
    @rule(at=st.integers(0), tokens=st.integers(1, 130))
    def touch_one_that_is_gone(self, at: int, tokens: int) -> None:
        permit = self.gone[at % len(self.gone)]
        self.admission.correct(permit, tokens)
        self.admission.give_back(permit, now=self.now)

    @invariant()
    def as_many_are_inside_as_permits_are_out(self) -> None:
        assert self.admission.n_inside == len(self.inside)
        assert len(self.inside) <= ROOM.max_requests + ROOM.max_beyond

    @invariant()
    def the_wait_that_is_told_is_sound(self) -> None:
        assert _is_sound(self.admission.retry_after_s(self.now))

    def teardown(self) -> None:
        """Empty the gate, and find the whole room there again."""
        for permit in self.inside:
            self.admission.give_back(permit, now=self.now)
        assert self.admission.n_inside == 0
        for _ in range(ROOM.max_requests):
            tokens = ROOM.max_tokens // ROOM.max_requests
            self.admission.ask(tokens, outer=None, outer_until=0.0, now=self.now)

    def _has_room(self, tokens: int, *, is_known: bool) -> bool:
        beyond = ROOM.max_beyond if is_known else 0
        fits = is_known or not self.inside
        fits = fits or sum(self.inside.values()) + tokens <= ROOM.max_tokens
        return fits and len(self.inside) < ROOM.max_requests + beyond


def test_what_is_inside_is_what_was_let_in_less_what_has_left() -> None:
    run_state_machine_as_test(GateMachine)


@given(
    n_ends=st.integers(1, 100),
    pauses_s=st.tuples(PAUSES_S, PAUSES_S).map(sorted),
    since_s=st.floats(0.01, 50),
    n_waiting=st.integers(0, 200),
)
# Three ends within the last minute, then two: the pauses are what counts, not their ends.
@example(n_ends=3, pauses_s=[29.0, 30.0], since_s=0.01, n_waiting=1)
def test_the_faster_the_gate_drains_the_sooner_it_tells_to_come_again(
    n_ends: int, pauses_s: list[float], since_s: float, n_waiting: int
) -> None:
    quick, slow = (
        _retry_after_s(n_ends, pause_s, since_s=since_s, n_waiting=n_waiting)
        for pause_s in pauses_s
    )
    if quick is None:
        assert slow is None
    if quick is not None and slow is not None:
        assert quick <= slow


def _retry_after_s(n_ends: int, pause_s: float, *, since_s: float, n_waiting: int) -> float | None:
    """Return what is told when so many have left, one each `pause_s`, the last `since_s` ago."""
    room = Room(max_running=2, max_waiting=1000, max_tokens=10**6, max_beyond=0)
    admission = Admission(room)
    now = 1000.0
    for nth in reversed(range(n_ends)):
        permit = admission.ask(1, outer=None, outer_until=0.0, now=0.0)
        admission.give_back(permit, now=now - since_s - nth * pause_s)
    for _ in range(n_waiting + room.max_running):
        admission.ask(1, outer=None, outer_until=0.0, now=now)
    return admission.retry_after_s(now)


def _is_sound(retry_after_s: float | None) -> bool:
    return retry_after_s is None or (retry_after_s >= 1 and retry_after_s.is_integer())
