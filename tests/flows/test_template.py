"""What a chat template refuses reaches the caller and the operator's log, in its own words."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest

from harness.service import Service, Starter
from harness.shared_service import Shared
from harness.tiny_model import make_tiny_model, served_by_transformers
from locktender.app.chat_model import ChatLocktender
from locktender.core.errors import InvalidRequest

HELLO = {"role": "user", "content": "hi"}
SYSTEM = {"role": "system", "content": "Be brief."}
ALTERNATE = "Conversation roles must alternate user/assistant/user/assistant/"
REFUSED = "The model's chat template does not take these messages: "
# The template of a user's own, with a fault in it.
FAULTY = "{{ messages[0]['content'] + none }}"


@pytest.fixture
async def gemma(shared_gemma: Shared, client: aiohttp.ClientSession) -> Service:
    return await shared_gemma.lend(client)


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        ([SYSTEM, HELLO], "System role not supported"),
        ([{**SYSTEM, "role": "developer"}, HELLO], "System role not supported"),
        ([HELLO, HELLO], ALTERNATE),
        ([{**HELLO, "role": "assistant"}], ALTERNATE),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_the_templates_own_reason_is_told_to_both(
    gemma: Service, messages: Sequence[Mapping[str, str]], reason: str, *, stream: bool
) -> None:
    with anyio.fail_after(30):
        reply = await gemma.ask("", messages=messages, stream=stream)
        assert (reply.status, reply.error["param"]) == (400, "messages")
        assert reply.error["message"] == f"{REFUSED}{reason}."
        assert await gemma.outcomes(1) == {"invalid": 1}
    assert gemma.events("RequestEnded")[0]["reason"] == reply.error["message"]


async def test_a_chat_model_raises_it_and_what_the_template_takes_is_answered(
    gemma: Service,
) -> None:
    model = ChatLocktender(model=gemma.model, base_url=gemma.url, max_tokens=2)
    with anyio.fail_after(30):
        with pytest.raises(InvalidRequest, match="System role not supported"):
            await model.ainvoke([("system", "x"), ("human", "hi")])
        answer = await model.ainvoke([("human", "hi"), ("ai", "ho"), ("human", "hi")])
    assert answer.usage_metadata
    assert answer.usage_metadata["output_tokens"] == 2


@pytest.mark.parametrize(
    ("template", "said"),
    [(None, "The model has no chat template, so it takes no chats: "), (FAULTY, REFUSED)],
)
async def test_a_model_without_a_template_or_with_a_faulty_one_says_so(
    start_service: Starter, tmp_path: Path, template: str | None, said: str
) -> None:
    folder = make_tiny_model(tmp_path / "tiny", template)
    # Nobody waits for its engine: what the template refuses needs none.
    service = start_service(served_by_transformers(folder), "tiny")
    reply: Any = await service.ask("hi")
    assert (reply.status, reply.error["code"]) == (400, "invalid_request")
    assert str(reply.error["message"]).startswith(said)
    assert await service.outcomes(1) == {"invalid": 1}
    assert service.events("RequestEnded")[0]["reason"] == reply.error["message"]
