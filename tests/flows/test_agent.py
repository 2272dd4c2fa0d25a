"""Agents behind their routes, over real sockets: memory, tools, an interrupt, and its resumption.

The caller is a `RemoteRunnable` with extensions, synchronous and asynchronous, and what it gets is
compared with what the same agent gives without a server between.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.runnables import Runnable
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, Interrupt, interrupt

from harness.app_server import Serve
from harness.scripted_model import USAGE, ScriptedModel
from harness.service import Service
from locktender import ChatLocktender, RemoteRunnable, add_routes
from locktender.core.errors import QueueFull

MODES = ["updates", "messages", "values"]


@tool(response_format="content_and_artifact")
def book(place: str) -> tuple[str, Any]:
    """Book a room, once somebody agrees."""
    said = interrupt({"book": place})
    return f"{said}: {place}", ({"rooms": (1, 2)}, b"receipt")


@tool
def pay(amount: int) -> str:
    """Pay."""
    return f"paid {amount}"


def script(messages: Sequence[BaseMessage]) -> AIMessage:
    last = messages[-1]
    calls: dict[str, Any] = {"book": {"place": "Rome"}, "pay": {"amount": 5}}
    if isinstance(last, HumanMessage) and last.text in calls:
        call = {"name": last.text, "args": calls[last.text], "id": "call"}
        return AIMessage("", tool_calls=[call], usage_metadata=USAGE)
    return AIMessage(f"{last.text} after {len(messages)}", usage_metadata=USAGE)


def scripted(**options: Any) -> Any:
    model = ScriptedModel(script=script)
    return create_agent(model, tools=[book, pay], checkpointer=InMemorySaver(), **options)


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


def said(text: str) -> dict[str, Any]:
    return {"messages": [HumanMessage(text)]}


def known(value: Any) -> Any:
    """Return `value` without what differs from run to run: ids, and the places of tasks."""
    if isinstance(value, BaseMessage):
        return type(value), value.content, known(value.model_dump(exclude={"id", "content"}))
    if isinstance(value, Interrupt):
        return Interrupt, known(value.value)
    if isinstance(value, dict):
        return {key: known(item) for key, item in value.items() if key not in UNKNOWN}
    if isinstance(value, list | tuple):
        return type(value), [known(item) for item in value]
    return value.split(":")[0] if isinstance(value, str) else value


UNKNOWN = {
    *("id", "checkpoint_ns", "langgraph_checkpoint_ns", "run_id", "langgraph_path"),
    *("__useragent", "__langserve_version", "__langserve_endpoint"),
}


async def converse(agent: Runnable[Any, Any], *, in_threads: bool) -> list[Any]:
    """Have one conversation: an interrupt, its answer, a later call, another thread."""

    async def call(value: Any, name: str) -> Any:
        if in_threads:
            return await asyncio.to_thread(agent.invoke, value, thread(name))
        return await agent.ainvoke(value, thread(name))

    stopped = await call(said("book"), "a")
    resumed = await call(Command(resume="yes"), "a")
    later = await call(said("and now?"), "a")
    other = await call(said("hi"), "b")
    return [stopped, resumed, later, other]


@pytest.mark.parametrize("in_threads", [False, True])
async def test_a_conversation_is_the_same_with_a_server_between(
    serve: Serve, in_threads: bool
) -> None:
    app = FastAPI()
    add_routes(app, scripted(), path="/agent", guard="off")
    remote: Any = RemoteRunnable(f"{await serve(app)}/agent", extensions=True)
    told = await converse(remote, in_threads=in_threads)
    assert known(told) == known(await converse(scripted(), in_threads=False))
    stopped, resumed, later, other = told
    assert stopped["__interrupt__"][0].value == {"book": "Rome"}
    assert stopped["messages"][-1].tool_calls[0]["args"] == {"place": "Rome"}
    receipt = next(each for each in resumed["messages"] if isinstance(each, ToolMessage))
    assert receipt.artifact == ({"rooms": (1, 2)}, b"receipt")
    assert resumed["messages"][-1].content == "yes: Rome after 3"
    assert later["messages"][-1].content == "and now? after 5"
    assert later["messages"][-1].usage_metadata == USAGE
    assert other["messages"][-1].content == "hi after 1"


def within_a_graph(agent: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("agent", agent)
    builder.add_edge(START, "agent")
    return builder.compile(checkpointer=InMemorySaver())


@pytest.mark.parametrize("is_synchronous", [False, True])
async def test_streams_of_several_modes_and_subgraphs_are_the_same_too(
    serve: Serve, is_synchronous: bool
) -> None:
    app = FastAPI()
    add_routes(app, within_a_graph(scripted()), path="/graph", guard="off")
    remote: Any = RemoteRunnable(f"{await serve(app)}/graph", extensions=True)
    local = within_a_graph(scripted())
    more = {"stream_mode": MODES, "subgraphs": True}
    values: list[Any] = [said("book"), Command(resume="yes"), said("and now?")]
    for value in values:
        if is_synchronous:
            stream = remote.stream
            told = await asyncio.to_thread(
                lambda v, s: list(s(v, thread("a"), **more)), value, stream
            )
        else:
            told = [chunk async for chunk in remote.astream(value, thread("a"), **more)]
        expected = [chunk async for chunk in local.astream(value, thread("a"), **more)]
        assert {mode for _, mode, _ in told} <= set(MODES)
        assert known(told) == known(expected)


async def test_a_human_in_the_loop_decides(serve: Serve) -> None:
    app = FastAPI()
    ask_first = HumanInTheLoopMiddleware(interrupt_on={"pay": True})
    add_routes(app, scripted(middleware=[ask_first]), path="/agent", guard="off")
    remote: Any = RemoteRunnable(f"{await serve(app)}/agent", extensions=True)
    stopped = await remote.ainvoke(said("pay"), thread("a"))
    asked = stopped["__interrupt__"][0].value
    assert asked["action_requests"][0]["args"] == {"amount": 5}
    decisions = {"decisions": [{"type": "approve"}]}
    resumed = await remote.ainvoke(Command(resume=decisions), thread("a"))
    assert resumed["messages"][-1].content == "paid 5 after 3"
    await remote.ainvoke(said("pay"), thread("b"))
    refusal = {"decisions": [{"type": "reject", "message": "too much"}]}
    refused = await remote.ainvoke(Command(resume=refusal), thread("b"))
    assert refused["messages"][-1].content.endswith("too much after 3")


async def test_a_batch_of_threads_keeps_them_apart(serve: Serve) -> None:
    app = FastAPI()
    add_routes(app, scripted(), path="/agent", guard="off")
    remote: Any = RemoteRunnable(f"{await serve(app)}/agent", extensions=True)
    threads = [thread("a"), thread("b")]
    await remote.abatch([said("book"), said("hi")], threads)
    outputs = await remote.abatch([Command(resume="yes"), said("ho")], threads)
    assert [output["messages"][-1].content for output in outputs] == [
        "yes: Rome after 3",
        "ho after 3",
    ]


async def test_events_and_the_log_of_an_agent_reach_their_ends(serve: Serve) -> None:
    app = FastAPI()
    add_routes(app, scripted(), path="/agent", guard="off")
    remote: Any = RemoteRunnable(f"{await serve(app)}/agent", extensions=True)
    told = remote.astream_events(said("book"), thread("a"), version="v2")
    events = [event async for event in told]
    failed = next(event for event in events if event["event"] == "on_tool_error")
    assert failed["data"]["error"]["__interrupt__"][0].value == {"book": "Rome"}
    patches = [patch async for patch in remote.astream_log(said("book"), thread("b"))]
    assert "Interrupt(value={'book': 'Rome'}" in repr(patches[-1])


async def test_a_refusal_in_an_agent_reaches_its_remote_caller(serve: Serve) -> None:
    def refuse(_: Any) -> AIMessage:
        raise QueueFull("The line is full.", retry_after_s=7)

    app = FastAPI()
    agent = create_agent(ScriptedModel(script=refuse), tools=[])
    add_routes(app, within_a_graph(agent), path="/agent", guard="off")
    remote: Any = RemoteRunnable(f"{await serve(app)}/agent", extensions=True)
    with pytest.raises(QueueFull) as caught:
        await remote.ainvoke(said("hi"), thread("a"))
    assert caught.value.retry_after_s == 7
    with pytest.raises(QueueFull):
        async for _ in remote.astream_events(said("hi"), thread("b")):
            pass


class AskFirst(AgentMiddleware[Any, Any]):
    """Asks a human before the model may answer."""

    def before_model(self, state: Any, runtime: Any) -> Any:  # noqa: ARG002 - LangChain's signature
        """Stop until somebody has answered."""
        interrupt({"may it answer": state["messages"][-1].text})


async def test_the_real_model_remembers_and_waits_for_a_human(
    serve: Serve, smollm2_service: Service
) -> None:
    model = ChatLocktender(
        model=smollm2_service.model, base_url=smollm2_service.url, temperature=0, max_tokens=12
    )
    app = FastAPI()
    agent = create_agent(model, tools=[], middleware=[AskFirst()], checkpointer=InMemorySaver())
    add_routes(app, agent, path="/agent")
    remote: Any = RemoteRunnable(f"{await serve(app)}/agent", extensions=True)
    stopped = await remote.ainvoke(said("My name is Ann."), thread("a"))
    assert stopped["__interrupt__"][0].value == {"may it answer": "My name is Ann."}
    first = await remote.ainvoke(Command(resume="yes"), thread("a"))
    assert first["messages"][1].content
    assert first["messages"][1].usage_metadata["output_tokens"] > 0
    await asyncio.to_thread(remote.invoke, said("What is my name?"), thread("a"))
    modes = {"stream_mode": ["messages", "values"]}
    chunks = [chunk async for chunk in remote.astream(Command(resume=1), thread("a"), **modes)]
    tokens = [part[0].content for mode, part in chunks if mode == "messages"]
    *before, last = chunks[-1][1]["messages"]
    assert len(before) == 3
    assert len(tokens) > 3
    assert "".join(tokens) == last.content == (await model.ainvoke(before)).content


async def test_on_the_plain_wire_an_agent_has_its_memory(serve: Serve) -> None:
    app = FastAPI()
    add_routes(app, scripted(), path="/agent", guard="off")
    url = await serve(app)
    remote: Any = RemoteRunnable(f"{url}/agent")
    await remote.ainvoke(said("hi"), thread("a"))
    later = await remote.ainvoke(said("and now?"), thread("a"))
    assert later["messages"][-1].content == "and now? after 3"
    stopped = await remote.ainvoke(said("book"), thread("a"))
    assert stopped["__interrupt__"][0]["value"] == {"book": "Rome"}
    with pytest.raises(httpx.HTTPStatusError):
        await remote.ainvoke(None, thread("a"))
