"""The budgets of the gate, through any run of arrivals, corrections and departures."""

from collections import Counter
from dataclasses import replace

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
from locktender.model.admission import Admission, Room
from locktender.model.share import Part, Permit

ROOM = Room(max_running=2, max_waiting=6, max_tokens=100, max_share=3, max_shared=4, max_outside=5)
OUTERS = (None, "a", "b", "c")
PAUSES_S = st.floats(0.01, 1) | st.integers(1, 70).map(float)


class GateMachine(RuleBasedStateMachine):
    """An admission, and what is known of the permits that are out, whatever it thinks."""

    def __init__(self) -> None:
        super().__init__()
        self.admission = Admission(ROOM)
        self.out: list[Permit] = []
        self.gone: list[Permit] = []
        self.claims: dict[str, float] = {}
        self.now = 0.0

    @rule(passed_s=st.floats(0, 30))
    def let_time_pass(self, passed_s: float) -> None:
        self.now += passed_s

    @rule(
        tokens=st.integers(1, 130),
        outer=st.sampled_from(OUTERS),
        lasts_s=st.none() | st.floats(0, 60),
    )
    def ask(self, tokens: int, outer: str | None, lasts_s: float | None) -> None:
        part = None
        if outer is not None:
            part = Part(outer, None if lasts_s is None else self.now + lasts_s)
        has_claim = (
            part is not None and part.is_signed and self.claims.get(part.outer, -1.0) > self.now
        )
        assert self.admission.knows(part, now=self.now) == has_claim
        is_full = len(self.inside) == ROOM.max_requests
        has_tokens = not self.inside or self.n_tokens + tokens <= ROOM.max_tokens
        permit = self._permit(tokens, part)
        if permit is None:
            # Whoever has nothing inside and no claim is refused only where there is no room.
            assert is_full or not has_tokens or has_claim or self.same(part, self.out)
            return
        self.out.append(permit)
        assert permit.is_inside or has_claim or self.same(part, self.out[:-1])
        if part is not None and part.until is not None:
            self.claims[part.outer] = max(part.until, self.claims.get(part.outer, 0.0))

    @precondition(lambda self: self.out)
    @rule(at=st.integers(0), tokens=st.integers(1, 130))
    def correct(self, at: int, tokens: int) -> None:
        permit = self.out[at % len(self.out)]
        before = permit.tokens
        self.admission.correct(permit, tokens)
        assert permit.tokens == (tokens if permit.is_inside else before)
        self.let_in()

    @precondition(lambda self: self.out)
    @rule(at=st.integers(0))
    def give_back(self, at: int) -> None:
        permit = self.out.pop(at % len(self.out))
        self.admission.give_back(permit, now=self.now)
        self.gone.append(permit)
        self.let_in()

    @precondition(lambda self: self.gone)
    @rule(at=st.integers(0), tokens=st.integers(1, 130))
    def touch_one_that_is_gone(self, at: int, tokens: int) -> None:
        permit = self.gone[at % len(self.gone)]
        self.admission.correct(permit, tokens)
        self.admission.give_back(permit, now=self.now)
        assert self.admission.let_in() == []

    @invariant()
    def places_are_as_many_as_permits_inside_and_never_too_many(self) -> None:
        assert self.admission.n_inside == len(self.inside) <= ROOM.max_requests
        assert self.admission.n_outside == len(self.out) - len(self.inside)

    @invariant()
    def no_outer_request_has_more_than_its_share(self) -> None:
        n_places = Counter(permit.part.key for permit in self.inside if permit.part)
        assert all(n <= ROOM.max_share for n in n_places.values())
        n_shared = sum(n for n in n_places.values() if n > 1)
        assert n_shared <= ROOM.max_shared

    @invariant()
    def what_stands_outside_is_bounded(self) -> None:
        for is_signed in (False, True):
            crowd = [
                each for each in self.outside if each.part and each.part.is_signed is is_signed
            ]
            assert len(crowd) <= 2 * ROOM.max_outside

    @invariant()
    def nobody_with_a_claim_to_a_free_place_stands_outside(self) -> None:
        if len(self.inside) < ROOM.max_requests:
            n_outside = Counter(each.part.key for each in self.outside if each.part)
            for permit in self.outside:
                is_signed = permit.part is not None and permit.part.is_signed
                is_one = permit.part is not None and n_outside[permit.part.key] == 1
                assert not (is_signed and is_one and not self.same(permit.part))

    @invariant()
    def the_wait_that_is_told_is_sound(self) -> None:
        assert _is_sound(self.admission.retry_after_s(self.now))

    def teardown(self) -> None:
        """Empty the gate, and find the whole room there again."""
        while self.out:
            self.give_back(0)
        assert (self.admission.n_inside, self.admission.n_outside) == (0, 0)
        for _ in range(ROOM.max_requests):
            tokens = ROOM.max_tokens // ROOM.max_requests
            assert self.admission.ask(tokens, None, now=self.now).is_inside

    def _permit(self, tokens: int, part: Part | None) -> Permit | None:
        """Return the permit that is given; None for a refusal."""
        try:
            return self.admission.ask(tokens, part, now=self.now)
        except QueueFull:
            return None

    def let_in(self) -> None:
        """Have those let in whose turn it is."""
        before = self.outside
        entered = self.admission.let_in()
        assert [permit for permit in before if permit.is_inside] == sorted(
            entered, key=before.index
        )

    @property
    def inside(self) -> list[Permit]:
        return [permit for permit in self.out if permit.is_inside]

    @property
    def outside(self) -> list[Permit]:
        return [permit for permit in self.out if not permit.is_inside]

    @property
    def n_tokens(self) -> int:
        return sum(permit.tokens for permit in self.inside)

    def same(self, part: Part | None, among: list[Permit] | None = None) -> list[Permit]:
        """Return the permits that are of the same outer request: of those inside, or `among`."""
        them = self.inside if among is None else among
        return [each for each in them if part and each.part and each.part.key == part.key]


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
    room = replace(ROOM, max_waiting=1000, max_tokens=10**6)
    admission = Admission(room)
    now = 1000.0
    for nth in reversed(range(n_ends)):
        permit = admission.ask(1, None, now=0.0)
        admission.give_back(permit, now=now - since_s - nth * pause_s)
    for _ in range(n_waiting + room.max_running):
        admission.ask(1, None, now=now)
    return admission.retry_after_s(now)


def _is_sound(retry_after_s: float | None) -> bool:
    return retry_after_s is None or (retry_after_s >= 1 and retry_after_s.is_integer())
