"""What answers tell of their runs beside the outputs, over a real socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from itertools import cycle
from typing import Any

import aiohttp
import anyio
import pytest
from fastapi import FastAPI
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda

from harness.app_server import Serve
from harness.langsmith_twin import EXPIRES_AT, LangSmithTwin
from locktender import add_routes
from locktender.app.callback_event import AsyncEventAggregatorCallback
from locktender.wire.sse import ServerSentEvent, SseDecoder

TOKENS = {"key_configs": [{"key": "foo"}]}


def app_of(runnable: Runnable[Any, Any], **parameters: Any) -> FastAPI:
    app = FastAPI()
    add_routes(app, runnable, path="/run", **parameters)
    return app


async def asked(client: aiohttp.ClientSession, url: str, body: Any) -> Any:
    async with client.post(url, json=body) as answer:
        assert answer.status == 200
        return await answer.json()


class Gate:
    """A runnable whose chunks come when the test says so."""

    def __init__(self, *, fails: bool = False) -> None:
        self.goes_on = asyncio.Event()
        self._fails = fails

    async def chunks(self, inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for x in inputs:
            yield x
            await self.goes_on.wait()
            if self._fails:
                raise ValueError("secret")
            yield x + 1


class Reader:
    """The events of a stream, one by one."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self._answer = answer
        self._decoder = SseDecoder()
        self._events: list[ServerSentEvent] = []

    async def next(self) -> tuple[str, Any]:
        with anyio.fail_after(20):
            while not self._events:
                piece = await self._answer.content.readany()
                assert piece
                self._events = self._decoder.feed(piece)
        event = self._events.pop(0)
        return event.event, json.loads(event.data) if event.data else None


async def test_callback_events_stand_in_the_answers_of_a_route_that_tells_them(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    model = GenericFakeChatModel(messages=cycle([AIMessage("hi")]))
    url = await serve(app_of(model, include_callback_events=True))
    told = await asked(client, f"{url}/run/invoke", {"input": "x"})
    kinds = [event["type"] for event in told["callback_events"]]
    assert kinds == ["on_chat_model_start", "on_llm_end"]
    assert told["callback_events"][0]["run_id"] == told["metadata"]["run_id"]
    told = await asked(client, f"{url}/run/batch", {"inputs": ["x", "y"]})
    ids = [events[0]["run_id"] for events in told["callback_events"]]
    assert ids == told["metadata"]["run_ids"]


async def test_other_routes_tell_none(serve: Serve, client: aiohttp.ClientSession) -> None:
    url = await serve(app_of(RunnableLambda(lambda x: x)))
    told = await asked(client, f"{url}/run/invoke", {"input": 1})
    assert told.keys() == {"output", "metadata"}


async def test_a_modifier_s_callbacks_hear_of_the_run_too(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    mine = AsyncEventAggregatorCallback()
    app = app_of(
        RunnableLambda(lambda x: x),
        include_callback_events=True,
        per_req_config_modifier=lambda config, _: {**config, "callbacks": [mine]},
    )
    told = await asked(client, f"{await serve(app)}/run/invoke", {"input": 1})
    assert len(mine.callback_events) == len(told["callback_events"]) == 2


async def test_each_run_of_a_batch_has_its_own_token(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(RunnableLambda(lambda x: x), token_feedback_config=TOKENS))
    told = await asked(client, f"{url}/run/batch", {"inputs": [1, 2]})
    runs = told["metadata"]["responses"]
    assert [run["feedback_tokens"][0]["token_url"][-36:] for run in runs] == [
        run["run_id"] for run in runs
    ]
    assert len(langsmith.of("/feedback/tokens")) == 2


async def test_a_chunk_does_not_wait_for_a_token_and_the_token_not_for_a_chunk(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    gate = Gate()
    langsmith.may_give_tokens.clear()
    runnable = RunnableGenerator(gate.chunks)
    url = await serve(app_of(runnable, token_feedback_config=TOKENS, input_type=int))
    async with client.post(f"{url}/run/stream", json={"input": 1}) as answer:
        reader = Reader(answer)
        assert await reader.next() == ("data", 1)
        langsmith.may_give_tokens.set()
        event, told = await reader.next()  # while the run waits
        assert (event, told["feedback_tokens"][0]["expires_at"]) == ("metadata", EXPIRES_AT)
        gate.goes_on.set()
        assert [await reader.next(), await reader.next()] == [("data", 2), ("end", None)]


async def test_a_token_that_is_there_in_time_goes_first(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    has_token = asyncio.Event()

    async def late(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for x in inputs:
            await has_token.wait()
            yield x

    app = app_of(RunnableGenerator(late), token_feedback_config=TOKENS, input_type=int)
    url = await serve(app)
    async with anyio.create_task_group() as group:

        async def read() -> None:
            async with client.post(f"{url}/run/stream", json={"input": 1}) as answer:
                reader = Reader(answer)
                assert [(await reader.next())[0] for _ in range(3)] == ["metadata", "data", "end"]

        group.start_soon(read)
        with anyio.fail_after(20):
            while not any(task.get_name() == "token" for task in asyncio.all_tasks()):
                await anyio.lowlevel.checkpoint()
            while any(task.get_name() == "token" for task in asyncio.all_tasks()):
                await anyio.lowlevel.checkpoint()
        has_token.set()
    assert len(langsmith.of("/feedback/tokens")) == 1


async def test_a_stream_that_fails_before_its_token_comes_still_names_its_run(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    gate = Gate(fails=True)
    langsmith.may_give_tokens.clear()
    runnable = RunnableGenerator(gate.chunks)
    url = await serve(app_of(runnable, token_feedback_config=TOKENS, input_type=int))
    async with client.post(f"{url}/run/stream", json={"input": 1}) as answer:
        reader = Reader(answer)
        assert await reader.next() == ("data", 1)
        gate.goes_on.set()
        event, told = await reader.next()
        assert (event, told.keys()) == ("metadata", {"run_id"})
        assert (await reader.next())[0] == "error"


@pytest.mark.parametrize("endpoint", ["stream_log", "stream_events"])
async def test_logs_and_events_have_the_token_before_their_end(
    endpoint: str, langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(RunnableLambda(lambda x: x), token_feedback_config=TOKENS))
    events: list[tuple[str, Any]] = []
    async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as answer:
        reader = Reader(answer)
        while not events or events[-1][0] != "end":
            events.append(await reader.next())
    (told,) = [told for event, told in events if event == "metadata"]
    assert told["feedback_tokens"][0]["key"] == "foo"
    assert len(langsmith.of("/feedback/tokens")) == 1


async def test_a_stream_without_a_chunk_waits_for_no_token(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    async def nothing(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for _ in inputs:
            pass
        return
        yield

    langsmith.may_give_tokens.clear()
    app = app_of(RunnableGenerator(nothing), token_feedback_config=TOKENS, input_type=int)
    async with client.post(f"{await serve(app)}/run/stream", json={"input": 1}) as answer:
        assert await Reader(answer).next() == ("end", None)


async def test_a_caller_that_leaves_leaves_no_token_behind(
    langsmith: LangSmithTwin, serve: Serve, client: aiohttp.ClientSession
) -> None:
    gate = Gate()
    langsmith.may_give_tokens.clear()
    runnable = RunnableGenerator(gate.chunks)
    url = await serve(app_of(runnable, token_feedback_config=TOKENS, input_type=int))
    async with client.post(f"{url}/run/stream", json={"input": 1}) as answer:
        assert await Reader(answer).next() == ("data", 1)
        answer.close()
    with anyio.fail_after(20):
        while any(task.get_name() == "token" for task in asyncio.all_tasks()):
            await anyio.lowlevel.checkpoint()
