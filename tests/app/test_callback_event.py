"""What is remembered of a run's callbacks, and how it is written."""

import asyncio
import json
from functools import partial
from typing import Any

import anyio
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.tools import tool

from locktender.app.callback_event import AsyncEventAggregatorCallback, CallbackEventWriter
from locktender.app.serialization import WellKnownSerializer
from locktender.core.errors import QueueFull
from locktender.wire.callback_event import PAYLOADS

RUN: dict[str, Any] = {"run_id": "r", "parent_run_id": None, "tags": []}


async def events_of(runnable: Runnable[Any, Any], value: Any) -> list[dict[str, Any]]:
    writer = CallbackEventWriter(WellKnownSerializer())
    await runnable.ainvoke(value, {"callbacks": [writer]})
    events: list[dict[str, Any]] = json.loads(writer.json())
    return events


async def test_a_large_event_is_written_elsewhere_and_keeps_its_place() -> None:
    is_first_written, worked = asyncio.Event(), []

    async def work(write: Any, *arguments: Any) -> Any:
        await is_first_written.wait()
        worked.append(arguments[0])
        return write(*arguments)

    writer = CallbackEventWriter(WellKnownSerializer(), work)
    async with anyio.create_task_group() as tasks, asyncio.timeout(20):
        tasks.start_soon(partial(writer.on_chain_start, None, [[]] * 1000, **RUN))
        await anyio.wait_all_tasks_blocked()
        await writer.on_chain_end(1, **RUN)
        is_first_written.set()
    assert worked == ["on_chain_start"]
    assert [event["type"] for event in json.loads(writer.json())] == [
        "on_chain_start",
        "on_chain_end",
    ]


def test_every_kind_of_event_is_listened_to() -> None:
    callback = AsyncEventAggregatorCallback()
    inherited = [
        kind
        for kind in PAYLOADS
        if getattr(type(callback), kind) is getattr(AsyncCallbackHandler, kind)
    ]
    assert inherited == []


async def test_the_aggregator_keeps_values_as_they_are() -> None:
    callback = AsyncEventAggregatorCallback()
    message = HumanMessage("x")
    give: Runnable[int, Any] = RunnableLambda(lambda _: message, name="f")
    await give.ainvoke(1, {"callbacks": [callback]})
    start, end = callback.callback_events
    run_id = start["run_id"]
    assert start == {
        "type": "on_chain_start",
        "serialized": None,
        "inputs": 1,
        "run_id": run_id,
        "parent_run_id": None,
        "tags": [],
        "metadata": {},
        "kwargs": {"run_type": None, "name": "f"},
    }
    assert end == {
        "type": "on_chain_end",
        "outputs": message,
        "run_id": run_id,
        "parent_run_id": None,
        "tags": [],
        "kwargs": {},
    }
    assert end["outputs"] is message


async def test_what_is_replayed_by_name_is_kept_too() -> None:
    callback = AsyncEventAggregatorCallback()
    await callback.on_chain_start(inputs=1, serialized=None, **RUN, name="n")
    (event,) = callback.callback_events
    assert (event["inputs"], event["serialized"], event["kwargs"]) == (1, None, {"name": "n"})


async def test_a_value_is_told_as_it_was_and_not_as_it_became() -> None:
    def grow(values: list[int]) -> list[int]:
        values.append(2)
        return values

    events = await events_of(RunnableLambda(grow), [1])
    assert [event.get("inputs", event.get("outputs")) for event in events] == [[1], [1, 2]]


async def test_a_generator_between_two_steps_is_left_to_the_next() -> None:
    rows: Runnable[int, Any] = RunnableLambda(lambda _: {"rows": (n for n in [1, 2])})
    total: Runnable[Any, Any] = RunnableLambda(lambda value: sum(value["rows"]))
    events = await events_of(rows | total, 1)
    assert events[-1]["outputs"] == 3
    assert {"rows": "<generator>"} in [event.get("outputs") for event in events]


async def test_a_model_s_answer_is_whole_and_has_no_type_of_its_own() -> None:
    writer = CallbackEventWriter(WellKnownSerializer())
    message = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": "1"}])
    result = LLMResult(generations=[[ChatGeneration(message=message)]], llm_output={"n": 1})
    await writer.on_llm_end(result, **RUN)
    (event,) = json.loads(writer.json())
    assert event["response"].keys() == {"generations", "llm_output", "run"}
    ((generation,),) = event["response"]["generations"]
    assert generation["message"]["tool_calls"][0]["name"] == "f"


async def test_a_tool_s_output_is_a_text_beside_what_it_is() -> None:
    @tool
    def give() -> Any:
        """Give."""
        return {"a": 1}

    end = (await events_of(give, {}))[-1]
    assert end["output"] == '{"a":1}'
    assert end["kwargs"]["output"] == {"a": 1}


async def test_what_an_agent_decides_is_told() -> None:
    writer = CallbackEventWriter(WellKnownSerializer())
    await writer.on_agent_action(AgentAction("f", "x", "log"), **RUN)
    await writer.on_agent_finish(AgentFinish({"a": 1}, "log"), **RUN)
    action, finish = json.loads(writer.json())
    assert (action["type"], action["action"]["tool"]) == ("on_agent_action", "f")
    assert (finish["type"], finish["finish"]["return_values"]) == ("on_agent_finish", {"a": 1})


async def test_nothing_is_told_of_an_exception() -> None:
    def fail(_: int) -> int:
        raise ValueError("secret")

    runnable = RunnableLambda(fail).with_fallbacks([RunnableLambda(lambda _: 1)])
    events = await events_of(runnable, 1)
    assert "secret" not in json.dumps(events)
    (error,) = [event["error"] for event in events if event["type"] == "on_chain_error"]
    assert error == {"status": 500, "message": "Internal Server Error"}


async def test_a_refusal_of_the_model_layer_keeps_its_code() -> None:
    def refuse(_: int) -> int:
        raise QueueFull("Too many are waiting.")

    runnable = RunnableLambda(refuse).with_fallbacks([RunnableLambda(lambda _: 1)])
    events = await events_of(runnable, 1)
    (error,) = [event["error"] for event in events if event["type"] == "on_chain_error"]
    assert error == {"status": 503, "message": "Too many are waiting.", "code": "queue_full"}
