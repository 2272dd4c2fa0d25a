"""What a route takes from its callers for LangSmith."""

from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from requests import JSONDecodeError
from starlette.exceptions import HTTPException

from harness.langsmith_twin import LangSmithTwin
from locktender.app import feedback
from locktender.app.feedback import FeedbackDesk
from locktender.app.feedback_body import (
    FeedbackCreateRequest,
    FeedbackCreateRequestTokenBased,
    PublicTraceLinkCreateRequest,
)
from locktender.core.errors import DeadlineExceeded, PeerError

# LangSmith's client says so of the calls that it has had all along, and that users replace.
pytestmark = pytest.mark.filterwarnings("ignore:.*is deprecated and will")

RUN_ID = UUID(int=10)
GIVEN = FeedbackCreateRequest(run_id=RUN_ID, key="k", score=1, comment="c")
TOKEN = FeedbackCreateRequestTokenBased(token_or_url=RUN_ID, metadata={"from_langserve": False})
RUN = PublicTraceLinkCreateRequest(run_id=RUN_ID)


def desk(**more: Any) -> FeedbackDesk:
    return FeedbackDesk(takes_feedback=True, gives_links=True, takes_tokens=True, **more)


async def test_feedback_is_sent_on_and_what_was_sent_is_told(langsmith: LangSmithTwin) -> None:
    told = await desk().create(GIVEN)
    (sent,) = langsmith.of("/feedback")
    assert (told.run_id, told.key, told.score, told.comment) == (RUN_ID, "k", 1, "c")
    assert (sent["id"], sent["run_id"]) == (str(told.id), str(RUN_ID))
    assert sent["feedback_source"]["metadata"] == {"from_langserve": True}


async def test_feedback_by_a_token_says_whence_it_comes(langsmith: LangSmithTwin) -> None:
    await desk().create_from_token(TOKEN)
    (sent,) = langsmith.of(f"/feedback/tokens/{RUN_ID}")
    assert sent["metadata"] == {"from_langserve": True}


async def test_a_trace_is_made_public_without_feedback(langsmith: LangSmithTwin) -> None:
    told = await FeedbackDesk(gives_links=True).share(RUN)
    (sent,) = langsmith.of(f"/runs/{RUN_ID}/share")
    assert sent["share_token"] in told.public_url


async def test_what_is_not_switched_on_is_not_there(langsmith: LangSmithTwin) -> None:
    closed = FeedbackDesk()
    calls = (closed.create(GIVEN), closed.share(RUN), closed.create_from_token(TOKEN))
    statuses = [await _status(call) for call in calls]
    assert statuses == [404, 404, 400]
    assert langsmith.asked == []


async def test_nothing_works_while_langsmith_is_off(
    langsmith: LangSmithTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "tracing_is_enabled", lambda: False)
    opened = desk()
    calls = (opened.create(GIVEN), opened.share(RUN), opened.create_from_token(TOKEN))
    assert [await _status(call) for call in calls] == [400, 400, 400]
    for check in (opened.check_feedback, opened.check_links):
        with pytest.raises(HTTPException) as raised:
            check()
        assert raised.value.status_code == 400
    assert langsmith.asked == []


async def test_what_langsmith_cannot_place_is_the_caller_s_fault(langsmith: LangSmithTwin) -> None:
    no_run = FeedbackCreateRequest(run_id=None, key="k")
    no_token = FeedbackCreateRequestTokenBased(token_or_url="x")
    assert await _status(desk().create(no_run)) == 422
    assert await _status(desk().create_from_token(no_token)) == 422
    langsmith.refused = {"/runs": 404}
    assert await _status(desk().share(RUN)) == 404


@pytest.mark.parametrize("status", [401, 403])
async def test_what_langsmith_refuses_is_its_word(langsmith: LangSmithTwin, status: int) -> None:
    langsmith.refused = {"/runs": status}
    with pytest.raises(PeerError, match="did not take it"):
        await desk().share(RUN)


@pytest.mark.usefixtures("langsmith")
async def test_an_answer_of_langsmith_s_that_is_no_json_is_not_the_caller_s_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: UUID) -> str:
        raise JSONDecodeError("Expecting value", "<html>", 0)

    client = SimpleNamespace(share_run=fail)
    monkeypatch.setattr(feedback, "ls_client", SimpleNamespace(Client=lambda: client))
    with pytest.raises(PeerError, match="as it should"):
        await desk().share(RUN)


async def test_a_langsmith_that_does_not_answer_is_not_waited_for(
    langsmith: LangSmithTwin,
) -> None:
    langsmith.may_give_links.clear()
    with pytest.raises(DeadlineExceeded, match="LangSmith took too long"):
        await desk(timeout_s=0.05).share(RUN)


async def test_a_client_is_made_when_it_is_needed_and_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[object] = []

    def client() -> object:
        made.append(SimpleNamespace(share_run=lambda _: "u"))
        return made[-1]

    monkeypatch.setattr(feedback, "ls_client", SimpleNamespace(Client=client))
    monkeypatch.setattr(feedback, "tracing_is_enabled", lambda: True)
    opened = desk()
    assert made == []
    assert [(await opened.share(RUN)).public_url for _ in range(2)] == ["u", "u"]
    assert len(made) == 1


async def _status(call: Any) -> int:
    with pytest.raises(HTTPException) as raised:
        await call
    return raised.value.status_code
