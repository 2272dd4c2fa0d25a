"""A run's log: patches that build the state LangChain's own log builds, without its help."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import anyio
import jsonpatch
import pytest
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig, RunnableGenerator, RunnableLambda
from langchain_core.runnables.utils import AddableDict
from langchain_core.tools import tool
from langchain_core.tracers.log_stream import RunLogPatch

from locktender.app.run_log import run_log
from locktender.wire.event_filter import EventFilter

ALL = EventFilter()


async def patches_of(
    runnable: Runnable[Any, Any],
    value: Any,
    chosen: EventFilter = ALL,
    config: RunnableConfig | None = None,
) -> list[list[dict[str, Any]]]:
    return [patch["ops"] async for patch in run_log(runnable, value, config or {}, chosen)]


async def state_of(runnable: Runnable[Any, Any], value: Any, chosen: EventFilter = ALL) -> Any:
    patches = await patches_of(runnable, value, chosen)
    return jsonpatch.apply_patch(None, [op for ops in patches for op in ops])


def add_one(x: int) -> int:
    return x + 1


def boom(x: int) -> int:
    raise ValueError(x)


@tool
def times(a: int, b: int) -> int:
    """Multiply."""
    return a * b


def model() -> GenericFakeChatModel:
    return GenericFakeChatModel(messages=iter([AIMessage(content="Hello you")]))


async def test_the_first_patch_is_the_whole_state_and_each_chunk_changes_it() -> None:
    async def count(inputs: AsyncIterator[int]) -> AsyncIterator[dict[str, Any]]:
        async for n in inputs:
            for k in range(n):
                yield AddableDict({"k": k, f"k{k}": True})

    first, *rest = await patches_of(RunnableGenerator(count), 2, config={"run_name": "/count"})
    value = first[0].pop("value")
    assert first == [{"op": "replace", "path": ""}]
    assert list(value) == ["id", "streamed_output", "final_output", "logs", "name", "type"]
    assert (value["name"], value["type"]) == ("/count", "chain")
    assert rest == [
        [
            {"op": "add", "path": "/streamed_output/-", "value": {"k": 0, "k0": True}},
            {"op": "replace", "path": "/final_output", "value": {"k": 0, "k0": True}},
        ],
        [
            {"op": "add", "path": "/streamed_output/-", "value": {"k": 1, "k1": True}},
            {"op": "add", "path": "/final_output/k1", "value": True},
            {"op": "replace", "path": "/final_output/k", "value": 1},
        ],
    ]


async def test_chunks_that_cannot_be_added_begin_the_sum_anew() -> None:
    async def change(inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
        async for _ in inputs:
            yield 1
            yield "a"
            yield "b"

    state = await state_of(RunnableGenerator(change), 1)
    assert state["streamed_output"] == [1, "a", "b"]
    assert state["final_output"] == "ab"


async def test_runs_of_one_name_are_numbered() -> None:
    one = RunnableLambda(add_one)
    state = await state_of(one | one | one, 1)
    assert list(state["logs"]) == ["add_one", "add_one:2", "add_one:3"]
    assert [entry["final_output"] for entry in state["logs"].values()] == [
        {"output": 2},
        {"output": 3},
        {"output": 4},
    ]


async def test_a_chat_models_tokens_are_in_its_log_and_in_the_logs_of_those_after_it() -> None:
    prompt = ChatPromptTemplate.from_template("{q}")
    state = await state_of(prompt | model() | StrOutputParser(), {"q": "hi"})
    logs = state["logs"]
    assert [(name, entry["type"]) for name, entry in logs.items()] == [
        ("ChatPromptTemplate", "prompt"),
        ("GenericFakeChatModel", "llm"),
        ("StrOutputParser", "parser"),
    ]
    said = logs["GenericFakeChatModel"]
    assert said["streamed_output_str"] == ["Hello", " ", "you"]
    assert [type(chunk) for chunk in said["streamed_output"]] == [AIMessageChunk] * 3
    assert said["final_output"]["generations"][0][0]["message"].content == "Hello you"
    assert logs["ChatPromptTemplate"]["final_output"].messages[0].content == "hi"
    assert logs["StrOutputParser"]["streamed_output"] == ["Hello", " ", "you"]
    assert state["final_output"] == "Hello you"


async def test_an_inner_run_that_fails_has_ended_without_output() -> None:
    chain = RunnableLambda(boom).with_fallbacks([RunnableLambda(add_one)])
    logs = (await state_of(RunnableLambda(add_one) | chain, 1))["logs"]
    assert logs["boom"]["final_output"] == {}
    assert logs["boom"]["end_time"] is not None


async def test_what_a_run_raises_comes_after_the_patches_so_far() -> None:
    paths: list[str] = []

    async def read() -> None:
        async for patch in run_log(RunnableLambda(add_one) | boom, 1, {}, ALL):
            paths.extend(op["path"] for op in patch["ops"])

    with pytest.raises(ValueError, match="2"):
        await read()
    assert paths[-2:] == ["/logs/boom/final_output", "/logs/boom/end_time"]


async def test_times_are_in_utc_and_to_the_millisecond() -> None:
    patches = await patches_of(RunnableLambda(add_one) | add_one, 1)
    ends = [op["value"] for ops in patches for op in ops if op["path"].endswith("end_time")]
    assert len(ends) == 2
    assert all(len(end) == len("2026-01-01T00:00:00.000+00:00") for end in ends)
    assert all(end.endswith("+00:00") for end in ends)


@pytest.mark.parametrize(
    ("chosen", "names"),
    [
        (EventFilter(include_names=["times"]), ["times"]),
        (EventFilter(include_types=["tool"]), ["times"]),
        (EventFilter(include_tags=["seq:step:2"]), ["add_one"]),
        (EventFilter(exclude_types=["tool"]), ["add_one"]),
        (EventFilter(include_names=[]), []),
    ],
)
async def test_runs_that_the_caller_does_not_want_are_not_told_of(
    chosen: EventFilter, names: list[str]
) -> None:
    state = await state_of(times | RunnableLambda(add_one), {"a": 2, "b": 3}, chosen)
    assert list(state["logs"]) == names
    assert state["final_output"] == 7


async def test_steps_in_threads_are_told_of() -> None:
    def call(x: int, config: RunnableConfig) -> str:
        chain = RunnableLambda(add_one) | str
        return "".join(chain.stream(x, config)) + str(times.invoke({"a": 2, "b": 3}, config))

    state = await state_of(RunnableLambda(call), 1)
    assert state["final_output"] == "26"
    assert {"RunnableSequence", "add_one", "str", "times"} <= set(state["logs"])
    assert state["logs"]["str"]["streamed_output"] == ["2"]


@pytest.mark.parametrize("is_managed", [False, True])
async def test_callbacks_of_the_routes_author_are_called_beside_it(*, is_managed: bool) -> None:
    told: list[Any] = []

    class Listener(BaseCallbackHandler):
        def on_chain_end(self, outputs: Any, **_: Any) -> None:
            told.append(outputs)

    managed = AsyncCallbackManager(handlers=[Listener()], inheritable_handlers=[])
    config: RunnableConfig = {"callbacks": managed if is_managed else [Listener()]}
    await patches_of(RunnableLambda(add_one), 1, config=config)
    assert told == [2]


async def test_a_runnable_with_a_log_of_its_own_is_asked_for_it() -> None:
    class Elsewhere(RunnableLambda[int, int]):
        async def astream_log(self, input: Any, config: Any = None, **chosen: Any) -> Any:  # noqa: A002, ARG002 - LangChain's signature
            yield RunLogPatch({"op": "replace", "path": "", "value": chosen["include_names"]})

    elsewhere = Elsewhere(add_one)
    ops = await patches_of(elsewhere, 1, EventFilter(include_names=["far"]))
    assert ops == [[{"op": "replace", "path": "", "value": ["far"]}]]


async def test_leaving_cancels_the_run_and_leaves_no_task() -> None:
    is_cancelled = False

    async def wait(x: int) -> int:
        nonlocal is_cancelled
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled = True
            raise
        return x

    before = asyncio.all_tasks()
    patches = run_log(RunnableLambda(add_one) | wait, 1, {}, ALL)
    while True:
        ops = (await anext(patches))["ops"]
        if ops[0]["path"] == "/logs/wait":
            break
    for _ in range(100):  # until it is at its wait
        await asyncio.sleep(0)
    await patches.aclose()
    assert is_cancelled
    with anyio.fail_after(20):
        # The loop closes the generators that LangChain has dropped, in its next turns.
        while not asyncio.all_tasks() <= before:
            await anyio.lowlevel.checkpoint()
