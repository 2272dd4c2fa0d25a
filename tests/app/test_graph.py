"""Graphs and agents on LangServe's own wire: as well as it allows."""

import json
import operator
import typing
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import httpx
import pytest
from fastapi import FastAPI
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, BaseMessage, HumanMessage
from langchain_core.runnables import (
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableConfig,
    RunnableLambda,
    RunnablePassthrough,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import add_messages
from langgraph.types import Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from harness.scripted_model import USAGE, ScriptedModel
from locktender import add_routes
from locktender.app.graph import config_schema_of, first_graph, needs_thread
from locktender.core.errors import QueueFull

Post: typing.TypeAlias = Callable[..., httpx.AsyncClient]


@tool
def book(place: str) -> str:
    """Book a room."""
    return f"{interrupt({'book': place})} {place}"


@tool
def fail() -> str:
    """Fail."""
    raise RuntimeError("secret detail")


def script(messages: Sequence[BaseMessage]) -> AIMessage:
    last = messages[-1]
    if isinstance(last, HumanMessage) and last.text in {"book", "fail"}:
        args = {"place": "Rome"} if last.text == "book" else {}
        call = {"name": last.text, "args": args, "id": "call"}
        return AIMessage("", tool_calls=[call], usage_metadata=USAGE)
    return AIMessage(f"{last.text} {len(messages)}", usage_metadata=USAGE)


def agent(**options: Any) -> Runnable[Any, Any]:
    return create_agent(ScriptedModel(script=script), tools=[book, fail], **options)


class Item(typing.TypedDict):
    name: str


class OldState(typing.TypedDict):  # which pydantic refuses on Python 3.11
    messages: Annotated[list[AnyMessage], add_messages]
    n: Annotated[int, operator.add]
    items: list[Item]


class BaseState(TypedDict):
    messages: Annotated[Sequence[BaseMessage], add_messages]
    n: Annotated[int, operator.add]


class ModelState(BaseModel):
    messages: Annotated[list[AnyMessage], add_messages] = []
    n: Annotated[int, operator.add] = 0
    name: str = "nobody"


@dataclass
class ClassState:
    messages: Annotated[list[AnyMessage], add_messages]
    n: Annotated[int, operator.add] = 0
    name: str = "nobody"


def answer(state: Any) -> Any:
    messages = state["messages"] if isinstance(state, dict) else state.messages
    return {"messages": [AIMessage(f"{messages[-1].text} {len(messages)}")], "n": 1}


def graph(state: type, node: Any = answer, **options: Any) -> Any:
    builder: Any = StateGraph(state)
    builder.add_node("answer", node)
    builder.add_edge(START, "answer")
    return builder.compile(**options)


@pytest.fixture
async def post() -> AsyncIterator[Post]:
    """Give a function that serves a runnable and sends it one request after the other."""
    clients: list[httpx.AsyncClient] = []

    def serving(runnable: Runnable[Any, Any], **options: Any) -> httpx.AsyncClient:
        app = FastAPI()
        add_routes(app, runnable, path="/r", guard="off", **options)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        clients.append(httpx.AsyncClient(transport=transport, base_url="http://test"))
        return clients[-1]

    yield serving
    for client in clients:
        await client.aclose()


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


def texts(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return [message["content"] for message in response.json()["output"]["messages"]]


def data(response: httpx.Response) -> list[Any]:
    assert response.text.endswith("event: end\r\n\r\n"), response.text
    lines = response.text.splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]


@pytest.mark.parametrize("state", [OldState, BaseState, ModelState, ClassState])
async def test_a_graph_remembers_its_thread_whatever_its_state_is_made_of(
    post: Post, state: type
) -> None:
    client = post(graph(state, checkpointer=InMemorySaver()))
    ask = {"messages": [["human", "hi"]]}
    await client.post("/r/invoke", json={"input": {**ask, "n": 5}, "config": thread("a")})
    again = await client.post(
        "/r/invoke",
        json={"input": {"messages": [{"type": "human", "content": "ho"}]}, "config": thread("a")},
    )
    other = await client.post("/r/invoke", json={"input": ask, "config": thread("b")})
    assert texts(again) == ["hi", "hi 1", "ho", "ho 3"]
    assert again.json()["output"]["n"] == 7  # what a caller leaves out keeps its value
    assert texts(other) == ["hi", "hi 1"]
    batch = await client.post("/r/batch", json={"inputs": [ask], "config": [thread("c")]})
    assert len(batch.json()["output"][0]["messages"]) == 2


@pytest.mark.parametrize("state", [OldState, BaseState, ModelState, ClassState])
async def test_a_graph_is_described(post: Post, state: type) -> None:
    client = post(graph(state, checkpointer=InMemorySaver()))
    described = (await client.get("/r/input_schema")).json()
    assert "messages" in json.dumps(described)
    assert (await client.get("/r/output_schema")).status_code == 200
    config = (await client.get("/r/config_schema")).json()
    known = config["$defs"]["Configurable"]["properties"]
    assert set(known) == {"thread_id", "checkpoint_id", "checkpoint_ns"}
    assert (await client.get("/openapi.json")).status_code == 200


async def test_an_agent_is_described(post: Post) -> None:
    client = post(agent(checkpointer=InMemorySaver()))
    for part in ("input_schema", "output_schema", "config_schema"):
        assert (await client.get(f"/r/{part}")).status_code == 200
    assert (await client.get("/openapi.json")).status_code == 200


@pytest.mark.parametrize("value", [{"messages": 5}, {"n": "many"}, 5, None])
async def test_an_input_of_the_wrong_type_is_a_422_and_changes_nothing(
    post: Post, value: Any
) -> None:
    client = post(graph(OldState, checkpointer=InMemorySaver()))
    refused = await client.post("/r/invoke", json={"input": value, "config": thread("a")})
    assert refused.status_code == 422
    ask = {"input": {"messages": [["human", "hi"]]}, "config": thread("a")}
    assert texts(await client.post("/r/invoke", json=ask)) == ["hi", "hi 1"]


async def test_without_a_thread_a_graph_that_keeps_threads_is_a_422(post: Post) -> None:
    client = post(agent(checkpointer=InMemorySaver()))
    refused = await client.post("/r/invoke", json={"input": {"messages": []}})
    assert refused.status_code == 422
    assert refused.json()["detail"][0]["loc"] == ["configurable", "thread_id"]


async def test_a_modifier_may_choose_the_thread(post: Post) -> None:
    def choose(config: dict[str, Any], _: Any) -> dict[str, Any]:
        own = config.get("configurable", {}).get("thread_id", "lobby")
        return {**config, **thread(f"ann/{own}")}

    saver = InMemorySaver()
    client = post(agent(checkpointer=saver), per_req_config_modifier=choose)
    ask = {"messages": [["human", "hi"]]}
    await client.post("/r/invoke", json={"input": ask})
    await client.post("/r/invoke", json={"input": ask, "config": thread("a")})
    assert set(saver.storage) == {"ann/lobby", "ann/a"}


async def test_a_thread_is_refused_where_configurable_is(post: Post) -> None:
    client = post(agent(), config_keys=["recursion_limit"])
    body = {"input": {"messages": []}, "config": thread("a")}
    refused = await client.post("/r/invoke", json=body)
    assert refused.status_code == 422
    assert "config_keys" in refused.json()["detail"]


async def test_langgraphs_own_keys_of_a_config_do_not_pass(post: Post) -> None:
    seen: list[set[str]] = []

    def look(state: Any, config: RunnableConfig) -> Any:
        seen.append({key for key, value in config["configurable"].items() if value == "evil"})
        return answer(state)

    client = post(graph(OldState, look, checkpointer=InMemorySaver()))
    config = {"configurable": {"thread_id": "a", "__pregel_store": "evil", "user": "evil"}}
    body = {"input": {"messages": [["human", "hi"]]}, "config": config}
    assert (await client.post("/r/invoke", json=body)).status_code == 200
    assert seen == [{"user"}]


async def test_a_recursion_limit_passes_where_it_is_allowed(post: Post) -> None:
    limits: list[int] = []

    def look(state: Any, config: RunnableConfig) -> Any:
        limits.append(config["recursion_limit"])
        return answer(state)

    client = post(graph(OldState, look), config_keys=["recursion_limit"])
    body = {"input": {"messages": [["human", "hi"]]}, "config": {"recursion_limit": 7}}
    assert (await client.post("/r/invoke", json=body)).status_code == 200
    assert limits == [7]


@pytest.mark.parametrize("word", ["book", "fail", "hi"])
async def test_every_stream_of_an_agent_comes_to_its_end(post: Post, word: str) -> None:
    client = post(agent(checkpointer=InMemorySaver(), middleware=[]))
    for name in ("stream", "stream_log", "stream_events"):
        body = {"input": {"messages": [["human", word]]}, "config": thread(name)}
        response = await client.post(f"/r/{name}", json=body)
        assert "secret" not in response.text
        if word == "fail":  # a tool that fails ends the run, as it does without us
            assert response.text.count("event: error") == 1
        else:
            assert data(response)


async def test_an_interrupt_is_told_on_the_plain_wire(post: Post) -> None:
    client = post(agent(checkpointer=InMemorySaver()))
    body = {"input": {"messages": [["human", "book"]]}, "config": thread("a")}
    output = (await client.post("/r/invoke", json=body)).json()["output"]
    assert output["__interrupt__"][0]["value"] == {"book": "Rome"}
    assert output["messages"][1]["tool_calls"][0]["name"] == "book"
    assert output["messages"][1]["usage_metadata"] == USAGE
    body["config"] = thread("b")
    last = data(await client.post("/r/stream", json=body))[-1]
    assert last["__interrupt__"][0]["value"] == {"book": "Rome"}
    body["config"] = thread("c")
    events = data(await client.post("/r/stream_events", json=body))
    errors = [event["data"]["error"] for event in events if event["event"] == "on_tool_error"]
    assert errors[0]["__interrupt__"][0]["value"] == {"book": "Rome"}


async def test_a_send_is_told_on_the_plain_wire(post: Post) -> None:
    client = post(RunnableLambda(lambda _: [Send("a", {"n": 1})]))
    output = (await client.post("/r/invoke", json={"input": 1})).json()["output"]
    assert output == [{"node": "a", "arg": {"n": 1}}]


async def test_a_refusal_in_an_agents_model_keeps_its_status(post: Post) -> None:
    def refuse(_: Any) -> AIMessage:
        raise QueueFull("The line is full.", retry_after_s=7)

    model = ScriptedModel(script=refuse)
    inner = create_agent(model, tools=[])
    outer = graph(OldState, inner)  # a graph within a graph
    for runnable in (inner, outer):
        client = post(runnable)
        for name in ("invoke", "stream", "stream_events", "stream_log"):
            body = {"input": {"messages": [["human", "hi"]]}}
            response = await client.post(f"/r/{name}", json=body)
            if name in {"invoke", "stream"}:
                assert (response.status_code, response.headers["retry-after"]) == (503, "7")
                assert response.json()["code"] == "queue_full"
            else:  # events had come before
                error = json.loads(response.text.split("event: error\r\ndata: ")[1])
                assert (error["status_code"], error["code"]) == (503, "queue_full")


async def test_a_refusal_after_a_step_is_an_error_event_with_its_code(post: Post) -> None:
    def refuse_later(messages: Sequence[BaseMessage]) -> AIMessage:
        if len(messages) > 1:
            raise QueueFull("The line is full.", retry_after_s=7)
        return AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])

    @tool
    def look() -> str:
        """Look."""
        return "seen"

    client = post(create_agent(ScriptedModel(script=refuse_later), tools=[look]))
    response = await client.post("/r/stream", json={"input": {"messages": [["human", "hi"]]}})
    assert response.status_code == 200
    error = json.loads(response.text.split("event: error\r\ndata: ")[1])
    assert (error["status_code"], error["code"]) == (503, "queue_full")


def test_a_graph_is_found_where_the_input_goes() -> None:
    here = graph(OldState, checkpointer=InMemorySaver())
    say = RunnableLambda(lambda value: value)
    assert first_graph(here) is here
    assert first_graph((here | say).with_config(tags=["x"])) is here
    assert first_graph(say | here) is None
    assert first_graph(say) is None


def test_a_thread_is_needed_where_a_graph_keeps_one() -> None:
    keeping = graph(OldState, checkpointer=InMemorySaver())
    say: Runnable[Any, Any] = RunnableLambda(lambda value: value)
    assert needs_thread(keeping)
    assert needs_thread(say | {"a": keeping})
    assert needs_thread(say.with_fallbacks([keeping]))
    assert needs_thread(RunnablePassthrough.assign(a=keeping))
    assert needs_thread(cast("Any", RouterRunnable({"a": keeping})))
    assert needs_thread(keeping.map())
    assert needs_thread(RunnableBranch((lambda _: True, keeping), keeping))
    assert not needs_thread(RunnableBranch((lambda _: True, say), keeping))
    assert not needs_thread(cast("Any", RouterRunnable({"a": keeping, "b": say})))
    assert not needs_thread(graph(OldState))
    assert not needs_thread(keeping.with_config(configurable={"thread_id": "always"}))
    assert not needs_thread(say)


async def test_a_thread_is_asked_for_wherever_every_run_needs_it(post: Post) -> None:
    chain = RunnablePassthrough.assign(a=graph(OldState, checkpointer=InMemorySaver()))
    client = post(chain)
    wish = {"input": {"messages": [["human", "hi"]]}}
    missing = await client.post("/r/invoke", json=wish)
    assert missing.status_code == 422
    assert missing.json()["detail"][0]["loc"] == ["configurable", "thread_id"]
    found = await client.post("/r/invoke", json={**wish, "config": thread("a")})
    assert found.status_code == 200


def test_a_graph_within_a_chain_takes_a_thread_too() -> None:
    schema = config_schema_of(RunnableLambda(answer) | graph(OldState), ["configurable"])
    assert schema.model_validate(thread("a")).model_dump()["configurable"]["thread_id"] == "a"
