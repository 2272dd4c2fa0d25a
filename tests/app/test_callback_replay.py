"""A server's callbacks, told to the caller's."""

import json
from itertools import cycle
from typing import Any
from uuid import UUID

import pytest
from langchain_core.callbacks import (
    AsyncCallbackHandler,
    AsyncCallbackManager,
    BaseCallbackHandler,
    CallbackManager,
)
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, ToolMessage
from langchain_core.outputs import LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.schemas import Run

from locktender.app.callback_event import CallbackEventWriter
from locktender.app.callback_object import ServerSideException
from locktender.app.callback_replay import replay, replay_async
from locktender.app.serialization import WellKnownSerializer

SERIALIZER = WellKnownSerializer()
A, B, C = (f"00000000-0000-0000-0000-00000000000{n}" for n in "abc")


class Tracer(BaseTracer):
    def __init__(self) -> None:
        super().__init__()
        self.roots: list[Run] = []

    def _persist_run(self, run: Run) -> None:
        self.roots.append(run)


class Listener(BaseCallbackHandler):
    """Writes down what it is told, in order."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("on_"):
            return super().__getattribute__(name)
        return lambda *given, **told: self.heard.append((name, given, told))


class AsyncListener(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.heard: list[str] = []

    async def on_chain_start(self, *_: Any, **told: Any) -> None:
        self.heard.append(told["name"])


async def told_of(runnable: Runnable[Any, Any], value: Any) -> Any:
    writer = CallbackEventWriter(SERIALIZER)
    await runnable.ainvoke(value, {"callbacks": [writer]})
    return json.loads(writer.json())


def replayed(told: Any, *handlers: BaseCallbackHandler) -> UUID:
    """Replay within a run of the caller's and end that; return its id."""
    run = CallbackManager(list(handlers), list(handlers)).on_chain_start({}, 1, name="caller")
    replay(told, run, SERIALIZER)
    run.on_chain_end(2)
    return run.run_id


def heard(told: Any) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Return what the caller's callbacks hear of the server's run alone."""
    listener = Listener()
    replayed(told, listener)
    return listener.heard[1:-1]


def start(run_id: str = A, **changes: Any) -> dict[str, Any]:
    event = {"type": "on_chain_start", "run_id": run_id, "serialized": None, "inputs": 1}
    return {**event, "kwargs": {"name": "n"}, **changes}


def end(run_id: str = A, **changes: Any) -> dict[str, Any]:
    return {"type": "on_chain_end", "run_id": run_id, "outputs": 2, **changes}


async def test_a_tracer_sees_the_server_s_runs_below_the_caller_s() -> None:
    add_one: Runnable[int, int] = RunnableLambda(lambda x: x + 1, name="add_one")
    told = await told_of((add_one | add_one).with_config(run_name="/add"), 1)
    tracer = Tracer()
    replayed(told, tracer)
    (root,) = tracer.roots
    (server,) = root.child_runs
    assert (root.name, server.name) == ("caller", "/add")
    assert [(run.name, run.outputs) for run in server.child_runs] == [
        ("add_one", {"output": 2}),
        ("add_one", {"output": 3}),
    ]
    assert server.inputs == {"input": 1}
    assert server.outputs == {"output": 3}
    assert tracer.run_map == {}


async def test_a_tracer_sees_models_tools_and_retrievers() -> None:
    class Retriever(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:  # noqa: ARG002 - LangChain's signature
            return [Document(page_content=query)]

    @tool(response_format="content_and_artifact")
    def look(at: str) -> tuple[str, int]:
        """Look."""
        return at, 5

    answer = AIMessage("", tool_calls=[{"name": "look", "args": {"at": "x"}, "id": "1"}])
    chain = (
        Retriever()
        | RunnableLambda(lambda found: found[0].page_content)
        | GenericFakeChatModel(messages=cycle([answer]))
        | RunnableLambda(lambda message: message.tool_calls[0])
        | look
        | RunnableLambda(lambda message: message.content)
        | FakeListLLM(responses=["end"])
    )
    tracer, listener = Tracer(), Listener()
    replayed(await told_of(chain, "q"), tracer, listener)
    (server,) = tracer.roots[0].child_runs
    kinds = [run.run_type for run in server.child_runs]
    assert kinds == ["retriever", "chain", "llm", "chain", "tool", "chain", "llm"]
    given = {name: args for name, args, _ in listener.heard}
    assert given["on_retriever_end"] == ([Document(page_content="q")],)
    (told_message,) = given["on_tool_end"]
    assert isinstance(told_message, ToolMessage)
    assert (told_message.content, told_message.artifact) == ("x", 5)
    results = [args[0] for name, args, _ in listener.heard if name == "on_llm_end"]
    assert all(isinstance(result, LLMResult) for result in results)
    assert results[0].generations[0][0].message.tool_calls == answer.tool_calls


async def test_an_error_arrives_with_its_status_and_no_more() -> None:
    def fail(_: int) -> int:
        raise ValueError("secret")

    runnable = RunnableLambda(fail).with_fallbacks([RunnableLambda(lambda _: 1)])
    errors = [
        given[0] for name, given, _ in heard(await told_of(runnable, 1)) if name == "on_chain_error"
    ]
    assert [(type(error), str(error)) for error in errors] == [
        (ServerSideException, "500: Internal Server Error")
    ]


def test_langserve_s_own_form_of_an_error_is_read() -> None:
    error = {"status_code": 500, "message": "Internal Server Error", "type": "error"}
    (_, (_, given, _)) = heard([start(), end(type="on_chain_error", error=error)])
    assert str(given[0]) == "500: Internal Server Error"


async def test_async_callbacks_hear_the_same() -> None:
    listener, async_listener = Listener(), AsyncListener()
    manager = AsyncCallbackManager([listener, async_listener], [listener, async_listener])
    run = await manager.on_chain_start({}, 1, name="caller")
    told = await told_of(RunnableLambda(lambda x: x, name="inner"), 1)
    await replay_async(told, run, SERIALIZER)
    assert [name for name, _, _ in listener.heard[1:]] == ["on_chain_start", "on_chain_end"]
    assert async_listener.heard == ["caller", "inner"]


def test_run_ids_are_new_and_stay_together() -> None:
    told = [start(A), start(B, parent_run_id=A), end(B, parent_run_id=A), end(A)]
    listener = Listener()
    caller_id = replayed(told, listener)
    wheres = [(each["run_id"], each["parent_run_id"]) for _, _, each in listener.heard[1:-1]]
    outer, inner = wheres[0], wheres[1]
    assert wheres == [outer, inner, inner, outer]
    assert outer[1] == caller_id
    assert inner[1] == outer[0]
    assert not {str(outer[0]), str(inner[0])} & {A, B}


def test_a_run_below_one_that_is_unknown_hangs_under_the_caller_s() -> None:
    listener = Listener()
    caller_id = replayed([start(A, parent_run_id=C), end(A)], listener)
    assert {each["parent_run_id"] for _, _, each in listener.heard[1:-1]} == {caller_id}


def test_tags_metadata_and_further_arguments_arrive() -> None:
    (_, given, told), _ = heard(
        [start(tags=["t"], metadata={"m": 1}, kwargs={"name": "n", "run_type": None}), end()]
    )
    assert given == (None, 1)
    assert (told["tags"], told["metadata"], told["name"]) == (["t"], {"m": 1}, "n")


@pytest.mark.parametrize(
    "bad",
    [
        end(B),  # never begun
        start(A),  # begun before
        end(A, type="on_llm_end", response={"generations": []}),  # of another kind
        start(B, type="on_llm_start", prompts=[5]),
        start(B, type="on_chat_model_start", messages=[["hi"]]),
        start(B, type="on_chat_model_start", messages="hi"),
        start(B, type="on_retriever_start", query=5),
        start(B, type="on_tool_start", input_str={}),
        start(B, serialized="x"),
        start(B, kwargs={"name": 5}),
        start(B, kwargs={"run_type": ["chain"]}),
        {"type": "on_agent_action", "run_id": A, "action": {"tool": 5}},
        5,
        "x",
        None,
    ],
)
def test_what_makes_no_sense_is_left_out(bad: Any) -> None:
    names = [name for name, _, _ in heard([start(A), bad, end(A)])]
    assert names == ["on_chain_start", "on_chain_end"]


def test_what_comes_after_a_run_s_end_is_left_out() -> None:
    names = [name for name, _, _ in heard([start(A), end(A), end(A), start(A)])]
    assert names == ["on_chain_start", "on_chain_end"]


def test_arguments_cannot_take_the_place_of_the_caller_s_own() -> None:
    taken = {"run_id": C, "parent_run_id": C, "tags": 5, "metadata": 5, "inputs": "x"}
    more = {"self": 1, "handlers": 1, "event_name": 1, "ignore_condition_name": 1, "name": "n"}
    (_, given, told), _ = heard([start(A, kwargs={**taken, **more}), end(A)])
    assert given == (None, 1)
    assert str(told["run_id"]) != C
    assert told.keys() == {"run_id", "parent_run_id", "tags", "metadata", "name"}


def test_a_run_whose_end_is_not_told_ends_with_an_error() -> None:
    tracer = Tracer()
    replayed([start(A), start(B, parent_run_id=A)], tracer)
    (server,) = tracer.roots[0].child_runs
    assert server.error is not None
    assert "did not tell how this run ended" in server.error
    assert server.child_runs[0].error is not None
    assert tracer.run_map == {}


@pytest.mark.parametrize("told", [None, 5, {}, "x", []])
def test_what_holds_no_events_tells_nothing(told: Any) -> None:
    assert heard(told) == []


def test_a_serializer_that_fails_leaves_the_event_out() -> None:
    class Picky(WellKnownSerializer):
        def loadd(self, obj: Any) -> Any:  # noqa: ARG002 - the serializer's signature
            raise RuntimeError("no")

    listener = Listener()
    run = CallbackManager([listener], [listener]).on_chain_start({}, 1)
    replay([start(A), end(A)], run, Picky())
    assert len(listener.heard) == 1


def test_a_handler_that_fails_does_not_fail_the_call() -> None:
    class Failing(BaseCallbackHandler):
        def on_chain_start(self, *_: Any, **told: Any) -> None:
            if told["name"] == "n":
                raise RuntimeError("mine")

    listener = Listener()
    replayed([start(A), end(A)], Failing(), listener)
    assert len(listener.heard) == 4


def test_handlers_that_are_not_inherited_do_not_hear_of_the_server() -> None:
    mine = Listener()
    run = CallbackManager([mine], []).on_chain_start({}, 1)
    replay([start(A), end(A)], run, SERIALIZER)
    assert len(mine.heard) == 1
