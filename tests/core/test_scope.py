"""The cancel token: each callback once, whether it came before or after."""

from locktender.core.scope import CancelToken, OuterRequest, outer_request


def test_a_callback_is_called_once_when_the_token_is_set() -> None:
    token, calls = CancelToken(), list[str]()
    token.on_set(lambda: calls.append("early"))
    token.set()
    token.set()
    token.on_set(lambda: calls.append("late"))
    assert calls == ["early", "late"]
    assert token.is_set


def test_a_callback_that_was_undone_is_not_called() -> None:
    token, calls = CancelToken(), list[str]()
    undo = token.on_set(lambda: calls.append("undone"))
    undo()
    undo()
    token.set()
    assert calls == []


def test_an_outer_request_knows_how_long_it_may_still_take() -> None:
    assert OuterRequest("a").remaining_s(now=5.0) is None
    assert OuterRequest("a", deadline_at=65.0).remaining_s(now=5.0) == 60.0
    assert outer_request.get() is None
