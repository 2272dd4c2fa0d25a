from dataclasses import replace

import pytest

from locktender.core.errors import QueueFull
from locktender.core.request import (
    ChatInput,
    GenerationRequest,
    Input,
    Message,
    RenderedInput,
    TextInput,
    TokenInput,
)
from locktender.model.admission import Admission, Room, max_total_tokens
from locktender.model.settings import GateSettings
from locktender.model.share import Part, Permit

ROOM = Room(max_running=1, max_waiting=2, max_tokens=100, max_share=2, max_shared=2, max_outside=2)
UNTIL = 60.0  # what is signed for in these tests is signed for so long


def ask(
    admission: Admission,
    *,
    tokens: int = 1,
    outer: str | None = None,
    until: float | None = UNTIL,
    now: float = 0.0,
) -> Permit:
    return admission.ask(tokens, Part(outer, until) if outer else None, now=now)


def knows(admission: Admission, outer: str, *, now: float = 0.0) -> bool:
    return admission.knows(Part(outer, UNTIL), now=now)


def test_so_many_are_let_in_as_may_run_and_wait_and_no_more() -> None:
    admission = Admission(ROOM)
    for _ in range(3):
        ask(admission)
    with pytest.raises(QueueFull, match=r"1 requests may run and 2 wait"):
        ask(admission)
    assert admission.n_inside == 3


def test_a_permit_that_comes_back_makes_room_for_one() -> None:
    admission = Admission(ROOM)
    permits = [ask(admission) for _ in range(3)]
    admission.give_back(permits[0], now=1.0)
    admission.give_back(permits[0], now=1.0)
    ask(admission)
    with pytest.raises(QueueFull):
        ask(admission)


def test_tokens_are_bounded_too() -> None:
    admission = Admission(ROOM)
    ask(admission, tokens=60)
    with pytest.raises(QueueFull, match="as many tokens as it may"):
        ask(admission, tokens=41)
    ask(admission, tokens=40)


def test_a_request_that_is_alone_is_let_in_whatever_it_asks() -> None:
    admission = Admission(ROOM)
    ask(admission, tokens=10_000)
    with pytest.raises(QueueFull):
        ask(admission)


def test_the_engines_count_replaces_the_bound() -> None:
    admission = Admission(ROOM)
    first = ask(admission, tokens=100)
    admission.correct(first, 10)
    ask(admission, tokens=90)
    with pytest.raises(QueueFull):
        ask(admission)


def test_calls_beyond_the_share_stand_outside_until_one_of_theirs_has_left() -> None:
    admission = Admission(ROOM)
    inside = [ask(admission, outer="batch") for _ in range(2)]
    outside = ask(admission, outer="batch")
    assert [permit.is_inside for permit in (*inside, outside)] == [True, True, False]
    assert (admission.n_inside, admission.n_outside) == (2, 1)
    assert ask(admission).is_inside  # there is room for one that comes alone
    admission.give_back(inside[0], now=1.0)
    assert admission.let_in() == [outside]
    assert (admission.n_inside, admission.n_outside) == (3, 0)


def test_nobody_is_let_in_from_outside_while_every_place_is_taken() -> None:
    admission = Admission(ROOM)
    first = ask(admission, outer="agent")
    others = [ask(admission) for _ in range(2)]
    later = ask(admission, outer="agent")
    admission.give_back(first, now=1.0)
    ask_in_vain(admission, after=admission.let_in())
    assert later.is_inside
    admission.give_back(later, now=1.0)
    ask(admission)
    claim = ask(admission, outer="agent")
    assert not claim.is_inside
    admission.give_back(others[0], now=1.0)
    assert admission.let_in() == [claim]


def ask_in_vain(admission: Admission, *, after: list[Permit]) -> None:
    """See that `after` has left no room for one that comes."""
    assert len(after) == 1
    with pytest.raises(QueueFull):
        ask(admission)


def test_without_a_signature_an_outer_request_has_no_claim_when_it_has_no_call_inside() -> None:
    admission = Admission(ROOM)
    admission.give_back(ask(admission, outer="agent", until=None), now=0.0)
    for _ in range(3):
        ask(admission)
    with pytest.raises(QueueFull):
        ask(admission, outer="agent", until=None)


def test_who_uses_the_id_of_a_signed_request_without_its_signature_is_somebody_else() -> None:
    admission = Admission(ROOM)
    for _ in range(2):
        ask(admission, outer="agent")
    assert ask(admission, outer="agent", until=None).is_inside
    with pytest.raises(QueueFull):
        ask(admission, outer="another", until=None)


def test_a_claim_is_not_refused_for_tokens_and_a_batch_waits_for_them() -> None:
    admission = Admission(ROOM)
    admission.give_back(ask(admission, outer="agent"), now=0.0)
    single = ask(admission, tokens=60)
    assert ask(admission, tokens=50, outer="agent").is_inside
    extra = ask(admission, tokens=10, outer="agent")
    assert not extra.is_inside
    admission.give_back(single, now=1.0)
    assert admission.let_in() == [extra]


def test_batches_have_a_part_of_the_places_together_and_get_alike() -> None:
    admission = Admission(
        Room(max_running=4, max_waiting=8, max_tokens=100, max_share=4, max_shared=6, max_outside=9)
    )
    inside = {"a": [ask(admission, outer="a") for _ in range(6)]}
    assert [permit.is_inside for permit in inside["a"]] == [True] * 4 + [False] * 2
    inside["b"] = [ask(admission, outer="b") for _ in range(4)]
    assert [permit.is_inside for permit in inside["b"]] == [True] * 2 + [False] * 2
    admission.give_back(inside["a"][0], now=1.0)
    assert admission.let_in() == [inside["b"][2]]
    singles = [ask(admission) for _ in range(6)]
    assert all(single.is_inside for single in singles)


def test_a_batch_of_one_place_each_is_never_without_it() -> None:
    admission = Admission(
        Room(max_running=2, max_waiting=2, max_tokens=99, max_share=1, max_shared=1, max_outside=9)
    )
    firsts = [ask(admission, outer=outer) for outer in "abc"]
    more = [ask(admission, outer=outer) for outer in "abc"]
    assert [permit.is_inside for permit in (*firsts, *more)] == [True] * 3 + [False] * 3
    admission.give_back(firsts[1], now=1.0)
    assert admission.let_in() == [more[1]]


def test_batches_have_no_more_together_however_many_they_are() -> None:
    room = replace(ROOM, max_waiting=9, max_share=4, max_shared=2, max_outside=99)
    for until in (None, UNTIL):
        admission = Admission(room)
        firsts = [ask(admission, outer=str(nth), until=until) for nth in range(5)]
        for nth in range(10):
            ask(admission, outer=str(nth % 5), until=until)
        for first in firsts:
            admission.give_back(first, now=1.0)
            admission.let_in()
        assert admission.n_inside == 2
        assert all(ask(admission).is_inside for _ in range(8))


def test_what_is_signed_goes_before_what_strangers_say() -> None:
    admission = Admission(replace(ROOM, max_waiting=9, max_share=4, max_shared=2))
    stranger = [ask(admission, outer="stranger", until=None) for _ in range(3)]
    batch = [ask(admission, outer="batch") for _ in range(3)]
    assert [permit.is_inside for permit in stranger] == [True, True, False]
    assert [permit.is_inside for permit in batch] == [True, False, False]
    admission.give_back(stranger[0], now=1.0)
    assert admission.let_in() == []
    admission.give_back(stranger[1], now=1.0)
    assert admission.let_in() == [batch[1]]


def test_what_stands_outside_is_bounded_in_number_and_in_tokens() -> None:
    admission = Admission(ROOM)
    for _ in range(4):
        ask(admission, outer="batch")
    for tokens in (1, 200):
        with pytest.raises(QueueFull, match="Too many calls wait for a place"):
            ask(admission, tokens=tokens, outer="batch")
    assert (admission.n_inside, admission.n_outside) == (2, 2)


def test_strangers_outside_do_not_crowd_out_those_who_have_signed_and_no_batch_a_claim() -> None:
    admission = Admission(ROOM)
    admission.give_back(ask(admission, outer="agent"), now=0.0)
    for outer, until, n_calls in (("stranger", None, 4), ("batch", UNTIL, 3)):
        for _ in range(n_calls):
            ask(admission, outer=outer, until=until)
    assert (admission.n_inside, admission.n_outside) == (3, 4)
    claim = ask(admission, outer="agent")
    assert not claim.is_inside
    assert admission.n_outside == 5


def test_who_leaves_from_outside_makes_room_for_those_behind() -> None:
    admission = Admission(ROOM)
    first, second = ask(admission, outer="batch"), ask(admission, outer="batch")
    waiting = [ask(admission, outer="batch") for _ in range(2)]
    admission.give_back(waiting[0], now=1.0)
    admission.give_back(waiting[0], now=1.0)
    assert (admission.n_inside, admission.n_outside) == (2, 1)
    for permit in (first, second):
        admission.give_back(permit, now=1.0)
        admission.let_in()
    assert waiting[1].is_inside
    assert (admission.n_inside, admission.n_outside) == (1, 0)


def test_an_outer_request_that_was_refused_is_not_known() -> None:
    admission = Admission(ROOM)
    for _ in range(3):
        ask(admission)
    for _ in range(2):
        with pytest.raises(QueueFull):
            ask(admission, outer="batch")
    assert not knows(admission, "batch")


def test_an_outer_request_is_known_until_the_latest_time_it_named() -> None:
    admission = Admission(ROOM)
    ask(admission, outer="agent", until=60.0)
    ask(admission, outer="agent", until=30.0)
    assert knows(admission, "agent", now=59.9)
    assert not knows(admission, "agent", now=60.0)
    assert not admission.knows(None, now=0.0)
    assert not admission.knows(Part("agent"), now=0.0)


def test_the_one_longest_silent_of_very_many_outer_requests_asks_for_room_again() -> None:
    admission = Admission(ROOM)
    for nth in (*range(65_536), 0, 65_536):
        admission.give_back(ask(admission, outer=str(nth)), now=0.0)
    assert not knows(admission, "1")
    assert knows(admission, "0")


def test_before_two_have_left_nothing_is_said_about_when_to_come_again() -> None:
    admission = Admission(ROOM)
    assert admission.retry_after_s(0.0) is None
    admission.give_back(ask(admission), now=1.0)
    assert admission.retry_after_s(2.0) is None


def test_those_who_wait_now_will_have_left_when_one_is_told_to_come_again() -> None:
    admission = Admission(replace(ROOM, max_waiting=20))
    for at in (0.0, 2.0, 4.0):
        admission.give_back(ask(admission), now=at)
    for _ in range(11):
        ask(admission)
    assert admission.retry_after_s(4.0) == 20.0  # ten wait, and one leaves every two seconds


def test_nobody_is_told_to_come_again_in_less_than_a_second_or_more_than_two_minutes() -> None:
    admission = Admission(replace(ROOM, max_waiting=200, max_tokens=1000))
    for at in (0.0, 0.001):
        admission.give_back(ask(admission), now=at)
    assert admission.retry_after_s(0.001) == 1.0
    for _ in range(200):
        ask(admission)
    assert admission.retry_after_s(59.0) == 120.0


def test_what_left_more_than_a_minute_ago_says_nothing() -> None:
    admission = Admission(ROOM)
    for at in (0.0, 1.0):
        admission.give_back(ask(admission), now=at)
    assert admission.retry_after_s(59.0) is not None
    assert admission.retry_after_s(62.0) is None


def test_the_room_grows_with_the_replicas_but_the_line_does_not() -> None:
    room = Room.of(GateSettings(max_running=8, max_waiting=16), n_replicas=3)
    assert (room.max_running, room.max_waiting, room.max_requests) == (24, 16, 40)


@pytest.mark.parametrize(
    ("max_running", "max_waiting", "max_share", "max_shared"),
    [
        (16, 128, 36, 14),  # a quarter of 144; and a slot in eight is left to who comes alone
        (8, 4, 3, 6),  # half of twelve
        (2, 100, 25, 2),
        (1, 0, 1, 1),
    ],
)
def test_of_the_places_a_batch_has_a_quarter_and_all_of_them_half(
    max_running: int, max_waiting: int, max_share: int, max_shared: int
) -> None:
    gate = GateSettings(max_running=max_running, max_waiting=max_waiting)
    room = Room.of(gate, n_replicas=1)
    assert (room.max_share, room.max_shared) == (max_share, max_shared)
    whole = replace(gate, batch_share=1.0, batches_share=1.0, batches_slots=1.0)
    room = Room.of(whole, n_replicas=1)
    assert room.max_share == room.max_shared == room.max_requests


@pytest.mark.parametrize(
    ("prompt", "n_tokens"),
    [
        (TextInput("four"), 4 + 1),
        (RenderedInput("four"), 4 + 1),
        (TextInput("né"), 3 + 1),  # bytes, not characters
        (TokenInput((1, 2, 3)), 3),
        (ChatInput((Message("user", "four"), Message("assistant", ""))), 4 + 64 + 2 * 8),
    ],
)
def test_a_request_is_charged_the_bytes_of_its_prompt_and_its_longest_answer(
    prompt: Input, n_tokens: int
) -> None:
    request = GenerationRequest("1", "m", prompt, max_tokens=100)
    assert max_total_tokens(request) == n_tokens + 100
