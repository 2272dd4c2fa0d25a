"""What a client with extensions may ask of a route, over HTTP, and what it may not."""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import aiohttp
import httpx
import pytest
from fastapi import FastAPI
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import Runnable, RunnableGenerator, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.graph.message import REMOVE_ALL_MESSAGES, add_messages
from langgraph.runtime import Runtime
from langgraph.types import Command, Interrupt, Send, interrupt
from pydantic import BaseModel
from typing_extensions import TypedDict

from harness.app_server import Serve
from locktender import add_routes
from locktender.app.dialect import Rights
from locktender.app.extension import ExtensionSerializer
from locktender.app.serialization import WellKnownSerializer
from locktender.wire.extension import EXTENSIONS

SERIALIZER = ExtensionSerializer(WellKnownSerializer())
HEADERS = {"X-Locktender-Extensions": "1"}
THREAD = {"configurable": {"thread_id": "a"}}


class State(TypedDict):
    messages: Annotated[list[AnyMessage], add_messages]
    hidden: str


class Shown(TypedDict):
    messages: list[AnyMessage]


@dataclass
class Who:
    name: str


def ask(_: State, runtime: Runtime[Who | None]) -> Any:
    name = runtime.context.name if runtime.context is not None else "nobody"
    said = interrupt({"from": name})
    return {"messages": [AIMessage(f"{said!r}")], "hidden": "secret"}


def end(_: State) -> Any:
    return {}


def graph(**options: Any) -> Any:
    builder: Any = StateGraph(State, context_schema=Who, output_schema=Shown)
    builder.add_node("ask", ask)
    builder.add_node("end", end)
    builder.add_edge(START, "ask")
    builder.add_edge("ask", "end")
    return builder.compile(checkpointer=InMemorySaver(), **options)


Call: TypeAlias = Callable[..., Any]
Connect: TypeAlias = Callable[..., Call]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    """Give a function that serves a runnable and returns what calls it with extensions."""
    clients: list[httpx.AsyncClient] = []

    def serving(runnable: Runnable[Any, Any], **options: Any) -> Call:
        app = FastAPI()
        add_routes(app, runnable, path="/r", guard="off", **options)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://test", headers=HEADERS)
        clients.append(client)

        async def call(value: Any, name: str = "invoke", **kwargs: Any) -> Any:
            body = b'{"input":%b,"config":%b,"kwargs":%b}'
            written = SERIALIZER.dumps(value), json.dumps(THREAD).encode(), SERIALIZER.dumps(kwargs)
            response = await client.post(f"/r/{name}", content=body % written)
            if response.status_code != 200:
                assert "x-locktender-extensions" not in response.headers
                return response
            assert response.headers["x-locktender-extensions"] == "1"
            if name == "invoke":
                return SERIALIZER.loadd(response.json()["output"])
            events = [event.split("data: ") for event in response.text.split("event: data\r\n")]
            return [SERIALIZER.loads(event[1].split("\r\n")[0]) for event in events[1:]]

        return call

    yield serving
    for client in clients:
        await client.aclose()


def asked() -> dict[str, Any]:
    return {"messages": [HumanMessage("hi", id="1")]}


async def test_an_interrupt_comes_as_itself_and_is_resumed(connect: Connect) -> None:
    call = connect(graph())
    first = await call(asked())
    assert isinstance(first["__interrupt__"][0], Interrupt)
    assert first["__interrupt__"][0].value == {"from": "nobody"}
    second = await call(Command(resume=("yes", b"x")))
    assert second["messages"][1].content == "('yes', b'x')"


async def test_an_input_of_none_goes_on_where_the_graph_was_stopped(connect: Connect) -> None:
    call = connect(graph(interrupt_before=["ask"]))
    assert (await call(asked()))["messages"] == [HumanMessage("hi", id="1")]
    assert (await call(None))["__interrupt__"][0].value == {"from": "nobody"}


async def test_where_the_author_has_a_graph_stop_it_stops(connect: Connect) -> None:
    call = connect(graph(interrupt_before=["ask"]))
    output = await call(asked(), interrupt_before=["end"])
    assert "__interrupt__" not in output


async def test_a_context_reaches_the_graph_and_a_wrong_one_is_a_422(connect: Connect) -> None:
    call = connect(graph())
    output = await call(asked(), context={"name": "ann"})
    assert output["__interrupt__"][0].value == {"from": "ann"}
    assert (await call(asked(), context={"name": 5})).status_code == 422
    assert (await call(asked(), context={})).status_code == 422


async def test_stream_modes_and_subgraphs_give_langgraphs_own_tuples(connect: Connect) -> None:
    outer = StateGraph(State)
    outer.add_node("inner", graph())
    outer.add_edge(START, "inner")
    here: Any = outer.compile(checkpointer=InMemorySaver())
    call = connect(here)
    chunks = await call(asked(), "stream", stream_mode=["updates", "values"], subgraphs=True)
    assert all(type(chunk) is tuple and len(chunk) == 3 for chunk in chunks)
    assert {mode for _, mode, _ in chunks} == {"updates", "values"}
    assert any(space and space[0].startswith("inner:") for space, _, _ in chunks)
    interrupts = [part["__interrupt__"] for _, mode, part in chunks if "__interrupt__" in part]
    assert all(type(each) is tuple and isinstance(each[0], Interrupt) for each in interrupts)


async def test_events_take_keyword_arguments_too(connect: Connect) -> None:
    call = connect(graph())
    for name in ("stream_events", "stream_log"):
        told = repr(await call(asked(), name, context=Who("ann")))
        assert "Interrupt(value={'from': 'ann'}" in told


@pytest.mark.parametrize(
    ("kwargs", "sentence"),
    [
        ({"print_mode": "values"}, "adding `print_mode` to the list of `kwarg_keys`"),
        ({"stream_mode": "debug"}, "Input should be"),
        ({"output_keys": ["nothing"]}, "no such key"),
        ({"durability": "never"}, "Input should be"),
    ],
)
async def test_other_keyword_arguments_are_a_422(
    connect: Connect, kwargs: Any, sentence: str
) -> None:
    call = connect(graph())
    for name in ("invoke", "stream", "stream_events", "stream_log"):
        refused = await call(asked(), name, **kwargs)
        assert refused.status_code == 422
        assert sentence in refused.text


async def test_an_author_admits_others(connect: Connect) -> None:
    call = connect(RunnableLambda(shown), kwarg_keys=["pair"])
    assert await call(1, pair=(1, {2})) == {"pair": (1, {2})}
    assert (await call(1, stop=["x"])).status_code == 422
    call = connect(RunnableLambda(shown))
    assert await call(1, stop=["x"]) == {"stop": ["x"]}
    assert (await call(1, context=1)).status_code == 422  # what is no graph has its own names


async def test_a_route_that_does_not_stream_keeps_its_steps_to_itself(connect: Connect) -> None:
    call = connect(graph(), enabled_endpoints=["invoke"])
    for kwargs in ({"output_keys": "hidden"}, {"stream_mode": "updates"}):
        assert (await call(asked(), **kwargs)).status_code == 422
    assert "__interrupt__" in await call(asked())


@pytest.mark.parametrize(
    "command",
    [
        Command(update={"hidden": "x"}),
        Command(goto="end"),
        Command(resume=1, goto=[Send("ask", {})]),
        Command(graph=Command.PARENT),
    ],
)
async def test_a_command_that_writes_or_jumps_is_a_422(connect: Connect, command: Any) -> None:
    refused = await connect(graph())(command)
    assert refused.status_code == 422
    assert "`command_keys`" in refused.json()["detail"]


async def test_an_author_admits_commands(connect: Connect) -> None:
    call = connect(graph(), command_keys=["resume", "update", "goto"])
    await call(asked())
    command: Any = Command(update={"messages": [AIMessage("x", id="2")]}, goto=[Send("end", {})])
    output = await call(command)
    assert output["messages"][1] == AIMessage("x", id="2")


async def test_without_resume_nothing_goes_on(connect: Connect) -> None:
    call = connect(graph(interrupt_before=["ask"]), command_keys=[])
    await call(asked())
    assert (await call(None)).status_code == 422
    assert (await call(Command(resume=1))).status_code == 422


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [Command(resume=1)]},
        Command(resume=Command(goto="end")),
        {"messages": Send("ask", {})},
        {"messages": [Interrupt(value=1, id="1")]},
        {"messages": [5]},
    ],
)
async def test_a_command_stands_nowhere_but_in_its_place(connect: Connect, value: Any) -> None:
    assert (await connect(graph())(value)).status_code == 422


async def test_a_graph_takes_the_removal_of_messages(connect: Connect) -> None:
    call = connect(graph())
    await call(asked())
    output = await call({"messages": [RemoveMessage(REMOVE_ALL_MESSAGES), HumanMessage("ho")]})
    assert [message.content for message in output["messages"]] == ["ho"]


async def test_messages_come_in_every_form(connect: Connect) -> None:
    forms = [("human", "a"), ["human", "b"], {"role": "user", "content": "c"}, HumanMessage("d")]
    output = await connect(graph())({"messages": forms})
    assert [message.content for message in output["messages"]] == ["a", "b", "c", "d"]
    assert {type(message) for message in output["messages"]} == {HumanMessage}


async def test_values_cross_whole_both_ways(connect: Connect) -> None:
    value = {"pair": (1, b"x"), "set": {1}, 5: AIMessage("x", id="1"), "__locktender__": "tuple"}
    same: Runnable[Any, Any] = RunnableLambda(lambda given: given)
    assert await connect(same.with_types(input_type=Any))(value) == value


async def test_chunks_cross_whole(connect: Connect) -> None:
    async def twice(given: AsyncIterator[Any]) -> AsyncIterator[Any]:
        async for each in given:
            yield each
            yield (each, each)

    call = connect(RunnableGenerator(twice), input_type=Any)
    assert await call({1}, "stream") == [{1}, ({1}, {1})]


async def test_an_input_is_still_checked(connect: Connect) -> None:
    class Given(BaseModel):
        n: int

    call = connect(RunnableLambda(lambda given: given), input_type=Given)
    assert await call({"n": 1}) == {"n": 1}
    assert await call(Given(n=1)) == {"n": 1}
    assert (await call({"n": (1,)})).status_code == 422
    assert (await call(Command(resume=1))).status_code == 422


async def test_without_the_header_nothing_is_extended() -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(lambda given: (given, 1)), path="/r", input_type=Any)
    transport = httpx.ASGITransport(app)
    written = {"__locktender__": "tuple", "value": [1]}
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        body = {"input": written, "kwargs": {"foo": 1}}
        plain = await client.post("/r/invoke", json=body)
        newer = await client.post("/r/invoke", json=body, headers={**HEADERS, **NEWER})
    for response in (plain, newer):
        assert response.json()["output"] == [written, 1]
        assert "x-locktender-extensions" not in response.headers


NEWER = {"X-Locktender-Extensions": "2"}


async def test_switched_off_extensions_are_what_they_are_to_langserve() -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(shown), path="/r", input_type=Any, extensions=False)
    transport = httpx.ASGITransport(app)
    written = {"__locktender__": "tuple", "value": [1]}
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        body = {"input": written, "kwargs": {"stop": ["x"]}}
        answer = await client.post("/r/invoke", json=body, headers=HEADERS)
        assert (await client.get("/r/extensions")).status_code == 404
    assert answer.json()["output"] == {}
    assert "x-locktender-extensions" not in answer.headers


def shown(_: Any, **kwargs: Any) -> Any:
    return kwargs


async def test_a_stop_that_nothing_takes_is_refused_by_name(connect: Connect) -> None:
    model = FakeListChatModel(responses=["one, two"])
    prompt = PromptTemplate.from_template("{n}")
    for chain in (prompt | model, RunnableLambda(lambda n: n), graph()):
        call = connect(chain)
        for name in ("invoke", "stream", "stream_log", "stream_events"):
            refused = await call({"n": "1"}, name, stop=["x"])
            assert refused.status_code == 422
            assert refused.json()["detail"][0]["loc"] == ["kwargs", "stop"]
            assert "`stop`" in refused.json()["detail"][0]["msg"]
    assert (await connect(model)("hi", stop=["x"])).content == "one, two"


async def test_a_route_says_what_it_admits() -> None:
    app = FastAPI()
    say: Runnable[Any, Any] = RunnableLambda(lambda given: given)
    add_routes(app, say, path="/r", kwarg_keys=["stop"])
    add_routes(app, say, path="/deaf")
    add_routes(app, say, path="/none", enabled_endpoints=["input_schema"])
    add_routes(app, say, path="/some", enabled_endpoints=["invoke"])
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        told = {"version": 1, "kwarg_keys": ["stop"], "command_keys": ["resume"]}
        assert (await client.get("/r/extensions")).json() == told
        assert (await client.get("/r/c/N4XyA/extensions")).json() == told
        assert (await client.get("/deaf/extensions")).json() == {**told, "kwarg_keys": []}
        assert (await client.get("/none/extensions")).status_code == 404
        assert (await client.get("/some/extensions")).status_code == 404
        assert "extensions" not in json.dumps((await client.get("/openapi.json")).json()["paths"])


@pytest.mark.parametrize(
    "rights",
    [
        {"kwarg_keys": ["config"]},
        {"kwarg_keys": "stop"},
        {"command_keys": ["jump"]},
        {"command_keys": "resume"},
    ],
)
def test_rights_that_cannot_be_are_a_value_error(rights: Any) -> None:
    with pytest.raises(ValueError, match=r"kwarg_keys|command_keys"):
        Rights(**rights)


async def test_an_input_whose_keys_json_does_not_know_is_told_of(
    serve: Serve, client: aiohttp.ClientSession
) -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(lambda x: x).with_types(input_type=int), path="/run")
    pair = [{"__locktender__": "tuple", "value": [1]}, 3]
    body = {"input": {"__locktender__": "dict", "value": [pair]}}
    post = client.post(f"{await serve(app)}/run/invoke", json=body, headers={EXTENSIONS: "1"})
    async with post as answer:
        assert answer.status == 422
        assert (await answer.json())["detail"][0]["type"] == "int_type"
