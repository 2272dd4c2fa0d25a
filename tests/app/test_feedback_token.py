"""Tokens for the runs of a route: there if they can be had, and never in the way."""

from typing import Any

import pytest

from harness.langsmith_twin import EXPIRES_AT, LangSmithTwin
from locktender.app import feedback
from locktender.app.feedback import FeedbackDesk
from locktender.app.feedback_token import TokenSource

CONFIG = {"key_configs": [{"key": "foo"}]}
RUN_ID = "00000000-0000-0000-0000-0000000000aa"


def source(**more: Any) -> TokenSource:
    return TokenSource(FeedbackDesk(takes_tokens=True), CONFIG, **more)


async def test_a_run_s_token_is_fetched(langsmith: LangSmithTwin) -> None:
    (token,) = await source().begin(RUN_ID)
    (asked,) = langsmith.of("/feedback/tokens")
    assert (asked["run_id"], asked["feedback_key"]) == (RUN_ID, "foo")
    assert (token.key, token.token_url[-36:]) == ("foo", RUN_ID)
    assert token.expires_at is not None
    assert token.expires_at.isoformat() == EXPIRES_AT


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_refused_token_is_none(langsmith: LangSmithTwin, status: int) -> None:
    langsmith.refused = {"/feedback/tokens": status}
    assert await source().begin(RUN_ID) == ()


async def test_a_token_that_takes_too_long_is_none(langsmith: LangSmithTwin) -> None:
    langsmith.may_give_tokens.clear()
    assert await source(timeout_s=0.05).begin(RUN_ID) == ()


async def test_there_are_no_tokens_while_langsmith_is_off(
    langsmith: LangSmithTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "tracing_is_enabled", lambda: False)
    assert await source().begin(RUN_ID) == ()
    assert langsmith.asked == []


async def test_a_client_that_cannot_be_made_gives_no_token(
    langsmith: LangSmithTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "ls_client", None)  # whatever is wrong with it
    assert await source().begin(RUN_ID) == ()
    assert langsmith.asked == []


@pytest.mark.parametrize("keys", [[], [{"key": "a"}, {"key": "b"}]])
def test_there_must_be_one_key(keys: list[dict[str, str]]) -> None:
    with pytest.raises(NotImplementedError, match="Only one key"):
        TokenSource(FeedbackDesk(), {"key_configs": keys})
