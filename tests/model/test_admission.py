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
from locktender.model.admission import Admission, Permit, Room, max_total_tokens
from locktender.model.settings import GateSettings

ROOM = Room(max_running=1, max_waiting=2, max_tokens=100, max_beyond=2)


def ask(
    admission: Admission, *, tokens: int = 1, outer: str | None = None, now: float = 0.0
) -> Permit:
    return admission.ask(tokens, outer=outer, outer_until=60.0, now=now)


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


def test_a_later_call_of_a_request_that_was_let_in_enters_beyond_the_room() -> None:
    admission = Admission(ROOM)
    ask(admission, tokens=100, outer="batch")
    for _ in range(4):
        ask(admission, tokens=100, outer="batch")
    with pytest.raises(QueueFull):
        ask(admission, outer="batch")
    with pytest.raises(QueueFull):
        ask(admission, outer="another")


def test_an_outer_request_that_was_refused_is_not_known() -> None:
    admission = Admission(ROOM)
    for _ in range(3):
        ask(admission)
    for _ in range(2):
        with pytest.raises(QueueFull):
            ask(admission, outer="batch")
    assert not admission.knows("batch", now=0.0)


def test_an_outer_request_is_known_until_the_latest_time_it_named() -> None:
    admission = Admission(ROOM)
    admission.ask(1, outer="agent", outer_until=60.0, now=0.0)
    admission.ask(1, outer="agent", outer_until=30.0, now=0.0)
    assert admission.knows("agent", now=59.9)
    assert not admission.knows("agent", now=60.0)
    assert not admission.knows(None, now=0.0)


def test_the_oldest_of_very_many_outer_requests_asks_for_room_again() -> None:
    admission = Admission(ROOM)
    for nth in range(4097):
        admission.give_back(ask(admission, outer=str(nth)), now=0.0)
    assert not admission.knows("0", now=0.0)
    assert admission.knows("1", now=0.0)


def test_before_two_have_left_nothing_is_said_about_when_to_come_again() -> None:
    admission = Admission(ROOM)
    assert admission.retry_after_s(0.0) is None
    admission.give_back(ask(admission), now=1.0)
    assert admission.retry_after_s(2.0) is None


def test_those_who_wait_now_will_have_left_when_one_is_told_to_come_again() -> None:
    admission = Admission(Room(max_running=1, max_waiting=20, max_tokens=100, max_beyond=0))
    for at in (0.0, 2.0, 4.0):
        admission.give_back(ask(admission), now=at)
    for _ in range(11):
        ask(admission)
    assert admission.retry_after_s(4.0) == 20.0  # ten wait, and one leaves every two seconds


def test_nobody_is_told_to_come_again_in_less_than_a_second_or_more_than_two_minutes() -> None:
    admission = Admission(Room(max_running=1, max_waiting=200, max_tokens=1000, max_beyond=0))
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
