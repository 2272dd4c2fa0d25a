"""`/tokenize`: what a prompt costs is told by the engine that will read it, without a run of it."""

import asyncio
import os
import signal
from collections.abc import Mapping
from typing import Any

import aiohttp
import anyio
import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
    trim_messages,
)

from harness.service import Service, Starter
from harness.shared_service import Shared
from locktender.app.chat_model import ChatLocktender
from locktender.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NoReplicaReady,
    RequestTooLarge,
    Unauthenticated,
    UnknownModel,
)

CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is the capital of France?"},
]
HISTORY: list[BaseMessage] = [
    SystemMessage("Be brief."),
    *(
        message
        for n in range(40)
        for message in (HumanMessage(f"Question {n}?"), AIMessage(f"The answer to it is {n}."))
    ),
    HumanMessage("And now?"),
]


@pytest.fixture(params=["smollm2", "gemma"])
async def service(request: pytest.FixtureRequest, client: aiohttp.ClientSession) -> Service:
    """The real model in OpenVINO, and a strict one in transformers."""
    shared: Shared = request.getfixturevalue(f"shared_{request.param}")
    return await shared.lend(client)


async def told(service: Service, **body: Any) -> tuple[int, Mapping[str, Any]]:
    url = f"{service.url.removesuffix('/v1')}/tokenize"
    async with service.client.post(url, json={"model": service.model, **body}) as response:
        return response.status, await response.json()


def chat_model(service: Service, **settings: Any) -> ChatLocktender:
    return ChatLocktender(model=service.model, base_url=service.url, max_tokens=1, **settings)


async def test_a_chat_has_as_many_tokens_as_its_answer_says(service: Service) -> None:
    chat = CHAT[1:]
    with anyio.fail_after(30):
        status, body = await told(service, messages=chat)
        usage = (await service.ask("", messages=chat, max_tokens=1)).usage
        model = chat_model(service)
        counted = model.get_num_tokens_from_messages([HumanMessage(chat[0]["content"])])
    assert status == 200
    assert body.keys() == {"count", "max_model_len", "tokens", "token_strs"}
    assert body["count"] == len(body["tokens"]) == usage["prompt_tokens"] == counted
    assert body["max_model_len"] in (512, 8192)


async def test_a_text_is_counted_by_itself_whatever_its_length(service: Service) -> None:
    model = chat_model(service)
    with anyio.fail_after(30):
        word, many = model.get_token_ids(" sea"), model.get_token_ids(" sea" * 9000)
        assert many == word * 9000  # beyond the model's context
        assert model.get_num_tokens(" sea" * 9000) == len(many)
        assert model.get_num_tokens("") == 0
        assert model.get_num_tokens("\n") > 0
        # What looks like a control token is one where the prompt is the author's own.
        _, body = await told(service, prompt="<|im_end|>", add_special_tokens=False)
        assert body["count"] == 1


async def test_a_history_is_trimmed_to_what_fits(service: Service) -> None:
    # The strict template takes no system's turn, and no part that begins with an answer.
    history = HISTORY if service.model == "smollm2" else HISTORY[1:]
    model = chat_model(service)
    with anyio.fail_after(60):
        kept = trim_messages(
            history,
            max_tokens=150,
            strategy="last",
            token_counter=model,
            start_on="human",
            include_system=True,
        )
        usage = (await model.ainvoke(kept)).usage_metadata
    assert usage
    assert 2 < len(kept) < len(history)
    assert kept[-1].text == "And now?"
    assert usage["input_tokens"] <= 150


async def test_what_would_make_the_chat_another_one_is_refused_here_too(service: Service) -> None:
    for name, value in {
        "add_generation_prompt": False,
        "continue_final_message": True,
        "chat_template": "x",
        "tools": [{"type": "function"}],
        "add_special_tokens": True,
        "return_token_strs": True,
    }.items():
        status, body = await told(service, messages=CHAT[1:], **{name: value})
        assert (status, body["error"]["param"]) == (400, name)


async def test_whoever_asks_is_counted_by_what_came_of_it(service: Service) -> None:
    with anyio.fail_after(30):
        _, body = await told(service, prompt="a b c")
        await told(service, prompt="a", temprature=0)
        await told(service, messages=[{"role": "assistant", "content": "hi"}])
        while len(service.events("TokensTold")) < 3:
            await anyio.lowlevel.checkpoint()
    events = service.events("TokensTold")
    strict = service.model == "gemma"
    assert [event["outcome"] for event in events] == [
        *("completed", "invalid", "invalid" if strict else "completed")
    ]
    assert [event.get("code") for event in events[:2]] == [None, "invalid_request"]
    assert events[0]["n_tokens"] == body["count"]
    assert {event["model"] for event in events[::2]} == {service.model}
    assert ("must alternate" in events[2].get("reason", "")) is strict


@pytest.mark.parametrize(
    "body",
    [{}, {"prompt": "a", "messages": CHAT}, {"prompt": 5}, {"messages": []}, {"messages": [1]}],
)
async def test_a_wrong_body_is_refused_in_a_sentence(
    shared_smollm2: Shared, client: aiohttp.ClientSession, body: Mapping[str, Any]
) -> None:
    service = await shared_smollm2.lend(client)
    status, answer = await told(service, **body)
    assert (status, answer["error"]["code"]) == (400, "invalid_request")


async def test_what_a_chat_model_cannot_count_is_an_error_and_no_zero(
    shared_smollm2: Shared, client: aiohttp.ClientSession
) -> None:
    service = await shared_smollm2.lend(client)
    model = chat_model(service)
    with pytest.raises(InvalidRequest, match="`tools` is not supported"):
        model.get_num_tokens_from_messages([HumanMessage("hi")], [{"name": "f"}])
    with pytest.raises(InvalidRequest, match="kind `tool`"):
        model.get_num_tokens_from_messages([ToolMessage("42", tool_call_id="1")])
    with pytest.raises(UnknownModel):
        chat_model(service).model_copy(update={"model": "other"}).get_num_tokens("hi")
    with pytest.raises(RequestTooLarge):
        model.get_num_tokens("word " * 300_000)
    assert model.get_num_tokens_from_messages([]) == 0


def test_without_a_service_it_is_said_at_once_and_a_users_own_count_stands() -> None:
    nobody = ChatLocktender(base_url="http://127.0.0.1:9/v1")
    with pytest.raises(NoReplicaReady, match="No model service answers"):
        nobody.get_num_tokens("hi")
    own = nobody.model_copy(update={"custom_get_token_ids": lambda text: [7] * len(text)})
    assert own.get_num_tokens("four") == 4
    assert own.get_num_tokens_from_messages([HumanMessage("hi")]) > 2


async def test_tokens_are_told_while_every_slot_is_taken_and_take_none(
    start_service: Starter,
) -> None:
    service = start_service({"max_running": 1, "max_waiting": 0, "options": {"tokens_per_s": 20}})
    await service.until(lambda status: status["ready"])
    with anyio.fail_after(30):
        running = asyncio.create_task(service.ask("repeat 4000: on", stream=True))
        await service.until(lambda status: status["running"] == 1)
        counts = await asyncio.gather(*(told(service, prompt="a b c") for _ in range(20)))
        assert [body["count"] for _, body in counts] == [3] * 20
        assert (await service.status())["running"] == 1
        running.cancel()


async def test_an_engine_that_stands_still_or_dies_is_told(start_service: Starter) -> None:
    service = start_service()
    await service.until(lambda status: status["ready"])
    (engine,) = service.engine_pids()
    os.kill(engine, signal.SIGSTOP)
    with anyio.fail_after(30):
        with pytest.raises(DeadlineExceeded):
            await asyncio.to_thread(chat_model(service, timeout_s=0.2).get_num_tokens, "a")
        asked = [asyncio.create_task(told(service, prompt="a")) for _ in range(5)]
        os.kill(engine, signal.SIGKILL)
        statuses = {status for status, _ in await asyncio.gather(*asked)}
    # Some may come so late that another engine has been started.
    assert statuses <= {503, 200}


async def test_it_needs_the_key_that_every_route_needs(start_service: Starter) -> None:
    service = start_service(api_key="sesame")
    status, body = await told(service, prompt="a b")
    assert (status, body["error"]["code"]) == (401, "invalid_api_key")
    model = chat_model(service, api_key="sesame")
    with anyio.fail_after(30):
        with pytest.raises(Unauthenticated):
            await asyncio.to_thread(chat_model(service).get_num_tokens, "a b")
        # Its engine may still be being started.
        assert await asyncio.to_thread(model.get_num_tokens, "a b") == 2
