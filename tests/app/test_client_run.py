"""The caller's callbacks hear of a stream what LangChain's own streams would tell them."""

from typing import Any
from uuid import uuid4

import pytest
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

from locktender.app.chunk_sum import sum_chunks
from locktender.app.client_run import AsyncLocalRun, LocalRun, ServerRun, tell_of_server_run

REMOTE = RunnableLambda(lambda x: x, name="remote")


class Heard(BaseCallbackHandler):
    def __init__(self) -> None:
        self.events: list[Any] = []

    def on_chain_start(self, serialized: Any, inputs: Any, **more: Any) -> None:  # noqa: ARG002 - LangChain's signature
        self.events.append(("start", inputs, more["name"]))

    def on_chain_end(self, outputs: Any, **_: Any) -> None:
        self.events.append(("end", outputs))

    def on_chain_error(self, error: BaseException, **_: Any) -> None:
        self.events.append(("error", type(error)))


class HeardAsync(AsyncCallbackHandler):
    def __init__(self) -> None:
        self.events: list[Any] = []

    async def on_chain_end(self, outputs: Any, **_: Any) -> None:
        self.events.append(("end", outputs))

    async def on_chain_error(self, error: BaseException, **_: Any) -> None:
        self.events.append(("error", type(error)))


def stream(heard: Heard, error: BaseException | None = None) -> None:
    config: RunnableConfig = {"callbacks": [heard], "run_name": "mine"}
    with LocalRun(REMOTE, "in", config, sum_chunks) as run:
        run.keep("a")
        run.keep("b")
        if error is not None:
            raise error


async def stream_async(heard: HeardAsync, error: BaseException | None = None) -> None:
    config: RunnableConfig = {"callbacks": [heard]}
    async with await AsyncLocalRun.begun(REMOTE, "in", config, sum_chunks) as run:
        run.keep("a")
        if error is not None:
            raise error


def test_a_stream_ends_with_the_sum_of_its_chunks() -> None:
    heard = Heard()
    stream(heard)
    assert heard.events == [("start", "in", "mine"), ("end", "ab")]


def test_a_stream_that_is_left_ends_with_what_has_come() -> None:
    heard = Heard()
    with pytest.raises(GeneratorExit):
        stream(heard, GeneratorExit())
    assert heard.events[1:] == [("end", "ab")]


def test_a_stream_that_fails_ends_with_its_error() -> None:
    heard = Heard()
    with pytest.raises(ValueError, match="x"):
        stream(heard, ValueError("x"))
    assert heard.events[1:] == [("error", ValueError)]


async def test_an_asynchronous_stream_ends_in_the_same_ways() -> None:
    heard = HeardAsync()
    await stream_async(heard)
    with pytest.raises(GeneratorExit):
        await stream_async(heard, GeneratorExit())
    with pytest.raises(ValueError, match="x"):
        await stream_async(heard, ValueError("x"))
    assert heard.events == [("end", "a"), ("end", "a"), ("error", ValueError)]


def test_a_run_has_the_id_that_its_caller_gives() -> None:
    run_id = uuid4()
    with LocalRun(REMOTE, "in", {"run_id": run_id}, sum_chunks) as run:
        assert run.manager.run_id == run_id


def test_the_server_s_run_is_written_into_traces_and_told() -> None:
    collector, told = RunCollectorCallbackHandler(), list[ServerRun]()
    token = {"key": "k", "token_url": "u"}
    with LocalRun(REMOTE, "in", {"callbacks": [collector]}, sum_chunks) as run:
        server_run = {"run_id": "r", "feedback_tokens": [token]}
        tell_of_server_run(run.manager, server_run, told.append)
    assert [trace.metadata["server_run_id"] for trace in collector.traced_runs] == ["r"]
    assert told == [ServerRun("r", run.manager.run_id, (token,))]


@pytest.mark.parametrize("server_run", [{}, {"run_id": None}, {"run_id": 1}])
def test_a_server_that_names_no_run_is_not_told_of(server_run: dict[str, Any]) -> None:
    told: list[ServerRun] = []
    with LocalRun(REMOTE, "in", {}, sum_chunks) as run:
        tell_of_server_run(run.manager, server_run, told.append)
    assert told == []
