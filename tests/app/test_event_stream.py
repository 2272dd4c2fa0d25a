"""A run's events: LangChain's, with a hold on the run; and both streams over a real socket."""

import asyncio
import io
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import anyio
import pytest
from fastapi import FastAPI
from langchain_core.callbacks import AsyncCallbackManager, adispatch_custom_event
from langchain_core.language_models.fake_chat_models import GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableGenerator,
    RunnableLambda,
)
from langchain_core.tools import tool

from harness.app_server import Serve
from locktender import add_routes
from locktender.app.event_stream import EventsVersion, event_stream, is_told_of
from locktender.core.errors import QueueFull
from locktender.wire.event_filter import EventFilter

ALL = EventFilter()
ENDPOINTS = ("stream_log", "stream_events")
VERSIONS: tuple[EventsVersion, ...] = ("v1", "v2")
# LangChain says so to whoever chooses v1.
pytestmark = pytest.mark.filterwarnings("ignore:astream_events version='v1'")


async def events_of(
    runnable: Runnable[Any, Any],
    value: Any,
    config: RunnableConfig | None = None,
    version: EventsVersion = "v2",
    chosen: EventFilter = ALL,
) -> list[Any]:
    stream = event_stream(runnable, value, config or {}, chosen, version)
    return [event async for event in stream]


def add_one(x: int) -> int:
    return x + 1


async def double(x: int) -> int:
    return 2 * x


def app_of(runnable: Runnable[Any, Any], **parameters: Any) -> FastAPI:
    app = FastAPI()
    add_routes(app, runnable, path="/run", **parameters)
    return app


@pytest.mark.parametrize("version", VERSIONS)
async def test_each_run_starts_streams_and_ends(version: EventsVersion) -> None:
    chain = RunnableLambda(add_one) | RunnableLambda(double)
    events = await events_of(chain, 1, {"run_name": "/run"}, version)
    assert sorted((event["event"], event["name"]) for event in events) == sorted(
        (f"on_chain_{what}", name)
        for name in ("/run", "add_one", "double")
        for what in ("start", "stream", "end")
    )
    assert events[0]["data"] == {"input": 1}
    assert events[-1]["data"] == {"output": 4}


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_the_server_notes_in_the_metadata_is_not_told(version: EventsVersion) -> None:
    config: RunnableConfig = {"metadata": {"__useragent": "x", "mine": 1}}
    events = await events_of(RunnableLambda(add_one), 1, config, version)
    assert [event["metadata"] for event in events] == [{"mine": 1}] * 3
    assert config["metadata"] == {"__useragent": "x", "mine": 1}


@pytest.mark.parametrize("version", VERSIONS)
async def test_only_wanted_events_come(version: EventsVersion) -> None:
    chain = RunnableLambda(add_one) | RunnableLambda(double)
    chosen = EventFilter(include_names=["double"])
    events = await events_of(chain, 1, version=version, chosen=chosen)
    assert {event["name"] for event in events} == {"double"}


async def test_custom_events_come() -> None:
    async def tell(x: int, config: RunnableConfig) -> int:
        await adispatch_custom_event("progress", {"done": x}, config=config)
        await adispatch_custom_event("list", [x], config=config)
        return x

    events = await events_of(RunnableLambda(tell), 1)
    assert [(e["name"], e["data"]) for e in events if e["event"] == "on_custom_event"] == [
        ("progress", {"done": 1}),
        ("list", [1]),
    ]


async def test_a_tool_that_fails_is_told_of_without_its_secrets() -> None:
    @tool
    def fail(x: int) -> int:
        """Fail."""
        raise ValueError(f"secret {x}")

    def recover(asked: Any) -> Any:
        return asked["x"]

    chain = fail.with_fallbacks([RunnableLambda(recover)])
    events = await events_of(chain, {"x": 1})
    told = [event["data"]["error"] for event in events if event["event"] == "on_tool_error"]
    assert told == [{"status_code": 500, "message": "Internal Server Error"}]
    assert events[-1]["data"] == {"output": 1}


@pytest.mark.parametrize("version", VERSIONS)
async def test_what_is_bound_to_a_runnable_counts(version: EventsVersion) -> None:
    def add(x: int, **more: int) -> int:
        return x + more["more"]

    adding: Runnable[int, int] = RunnableLambda(add)
    bound = adding.bind(more=2).with_config(tags=["t"], run_name="named")
    events = await events_of(bound, 1, version=version)
    assert [(e["name"], e["tags"]) for e in events] == [("named", ["t"])] * 3
    assert events[-1]["data"] == {"output": 3}


async def test_callbacks_may_be_a_manager_of_langchains() -> None:
    managed = AsyncCallbackManager(handlers=[], inheritable_handlers=[])
    events = await events_of(RunnableLambda(add_one) | double, 1, {"callbacks": managed})
    assert len(events) == 9
    assert managed.handlers == []


async def test_a_runnable_with_events_of_its_own_is_asked_for_them() -> None:
    class Elsewhere(RunnableLambda[int, int]):
        async def astream_events(self, input: Any, config: Any = None, **_: Any) -> Any:  # noqa: A002, ARG002 - LangChain's signature
            yield {"event": "far", "data": {}, "metadata": {"__far": 1, "near": 2}}
            yield {"event": "away", "data": {}}

    events = await events_of(Elsewhere(add_one), 1)
    assert [event["event"] for event in events] == ["far", "away"]
    assert events[0]["metadata"] == {"near": 2}


class Counter:
    """Steps that stream numbers, and how far they have come."""

    def __init__(self, piece: Any = "x") -> None:
        self.piece = piece
        self.n_made = 0

    async def count(self, inputs: AsyncIterator[int]) -> AsyncIterator[Any]:
        async for n in inputs:
            for part in self.count_now(iter([n])):
                yield part

    def count_now(self, inputs: Iterator[int]) -> Iterator[Any]:
        for n in inputs:
            for self.n_made in range(1, n + 1):
                yield self.piece

    def stream(self, n: int, config: RunnableConfig) -> str:
        return "".join(RunnableGenerator(self.count_now).stream(n, config))

    async def until_it_stands_still(self) -> None:
        seen = -1
        with anyio.fail_after(20):
            while seen < self.n_made or not self.n_made:
                seen = self.n_made
                for _ in range(2000):
                    await anyio.lowlevel.checkpoint()
                await asyncio.to_thread(threading.Event().wait, 0.1)  # for a step in a thread


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("is_in_a_thread", [False, True])
@pytest.mark.parametrize("is_collected", [False, True])
async def test_a_run_whose_events_nobody_reads_does_not_go_on(
    version: EventsVersion, *, is_in_a_thread: bool, is_collected: bool
) -> None:
    counter = Counter()
    chain: Runnable[int, Any] = (
        RunnableLambda(counter.stream) if is_in_a_thread else RunnableGenerator(counter.count)
    )
    if is_collected:  # by a step that gives nothing before it has all
        chain |= RunnableLambda(len)
    events = event_stream(chain, 2000, {}, ALL, version)
    while (await anext(events))["event"] != "on_chain_stream":
        pass
    await counter.until_it_stands_still()
    assert 0 < counter.n_made < 400
    await events.aclose()


@pytest.mark.parametrize("version", VERSIONS)
async def test_leaving_cancels_the_run_and_leaves_no_task(version: EventsVersion) -> None:
    is_waiting, is_cancelled = asyncio.Event(), asyncio.Event()

    async def wait(x: int) -> int:
        is_waiting.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            raise
        return x

    before = asyncio.all_tasks()
    events = event_stream(RunnableLambda(add_one) | wait, 1, {}, ALL, version)
    await anext(events)
    with anyio.fail_after(20):
        await is_waiting.wait()
        await events.aclose()
        assert is_cancelled.is_set()
        # The loop closes the generators that LangChain has dropped, in its next turns.
        while not asyncio.all_tasks() <= before:
            await anyio.lowlevel.checkpoint()


@pytest.mark.parametrize(
    ("runnable", "is_told"),
    [
        (RunnableLambda(add_one).with_config(run_name="known"), True),
        (RunnableLambda(add_one).with_config(run_name="other"), False),
        (RunnableLambda(add_one, name="known").with_config(tags=["t"]), False),  # as LangServe
        (RunnableLambda(add_one, name="known"), True),
        (RunnableLambda(add_one), False),
        (GenericFakeChatModel(messages=iter([])), False),
    ],
)
def test_a_list_of_names_decides_of_whom_is_told(
    runnable: Runnable[Any, Any], *, is_told: bool
) -> None:
    assert is_told_of(runnable, ["known"]) is is_told
    assert is_told_of(runnable, None)
    assert not is_told_of(runnable, [])


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_runnable_that_is_not_on_the_list_does_not_run(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    called: list[int] = []
    url = await serve(app_of(RunnableLambda(called.append), stream_log_name_allow_list=["known"]))
    async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as response:
        assert await response.text() == "event: end\r\n\r\n"
    assert called == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_caller_who_leaves_ends_the_run_and_everything_of_it(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    is_cancelled = asyncio.Event()

    async def wait(x: int) -> int:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            is_cancelled.set()
            raise
        return x

    url = await serve(app_of(RunnableLambda(add_one) | wait))
    async with client.get(f"{url}/run/input_schema") as response:
        await response.read()
    tasks, threads = asyncio.all_tasks(), set(threading.enumerate())
    with anyio.fail_after(20):
        async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as response:
            while b"wait" not in await response.content.readline():
                pass
        await is_cancelled.wait()
        while not asyncio.all_tasks() <= tasks:
            await anyio.lowlevel.checkpoint()
    # The loop's own pool, where synchronous steps are run, is there to stay.
    assert all("asyncio" in thread.name for thread in set(threading.enumerate()) - threads)


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_slow_reader_holds_the_run_and_gets_all_of_it(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    # Pieces that cannot be added up: with texts LangChain does so, from the first, at each of them.
    counter = Counter({"piece": "x" * 40_000})
    chain = RunnableGenerator(counter.count) | RunnableLambda(len)
    url = await serve(app_of(chain, ping_s=60))
    with anyio.fail_after(60):
        async with client.post(f"{url}/run/{endpoint}", json={"input": 1000}) as response:
            await counter.until_it_stands_still()  # the connection is full, and so is the feed
            assert counter.n_made < 750
            body = await response.read()
    assert counter.n_made == 1000
    assert body.endswith(b"event: end\r\n\r\n")
    assert body.count(b"x" * 40_000) >= 1000


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_refusal_within_the_run_is_an_error_event_with_its_code(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    def refuse(_: int) -> int:
        raise QueueFull("The gate is full.", 2.0)

    url = await serve(app_of(RunnableLambda(add_one) | refuse))
    async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as response:
        assert response.status == 200
        *_, last, _ = (await response.text()).split("\r\n\r\n")
    name, told = last.split("\r\n")
    assert name == "event: error"
    assert json.loads(told.removeprefix("data: ")) == {
        "status_code": 503,
        "message": "The gate is full.",
        "code": "queue_full",
    }


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_refusal_before_the_run_begins_is_a_status(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    url = await serve(app_of(RunnableLambda(add_one), max_body_bytes=10))
    async with client.post(f"{url}/run/{endpoint}", json={"input": 123456}) as response:
        assert response.status == 413
    async with client.post(f"{url}/run/{endpoint}", json={"input": "x"}) as response:
        assert response.status == 413
    async with client.post(f"{url}/run/{endpoint}", data="[") as response:
        assert response.status == 422


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_a_deadline_that_passes_ends_the_stream_with_its_code(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    async def wait(x: int) -> int:
        await asyncio.Event().wait()
        return x

    url = await serve(app_of(RunnableLambda(wait)))
    headers = {"X-Request-Timeout-Seconds": "0.5"}
    async with client.post(f"{url}/run/{endpoint}", json={"input": 1}, headers=headers) as response:
        body = await response.text()
    assert body.startswith("event: data\r\n")
    assert '"code": "deadline_exceeded"' in body
    assert body.endswith("}\r\n\r\n")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_silence_is_broken_by_pings(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    is_heard = asyncio.Event()

    async def wait(x: int) -> int:
        await is_heard.wait()
        return x

    url = await serve(app_of(RunnableLambda(wait), ping_s=0.01))
    with anyio.fail_after(20):
        async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as response:
            while not (await response.content.readline()).startswith(b": ping"):
                pass
            is_heard.set()
            assert (await response.read()).endswith(b"event: end\r\n\r\n")


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_an_inner_value_that_is_no_json_is_an_error_event_and_a_clean_end(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    chain: Runnable[Any, Any] = RunnableLambda(lambda _: io.StringIO()) | str
    url = await serve(app_of(chain))
    async with client.post(f"{url}/run/{endpoint}", json={"input": 1}) as response:
        body = await response.read()
    assert body.endswith(
        b'event: error\r\ndata: {"status_code": 500, "message": "Internal Server Error"}\r\n\r\n'
    )


@pytest.mark.parametrize("version", VERSIONS)
async def test_an_input_is_quoted_that_only_the_schema_makes_no_json(
    version: EventsVersion, serve: Serve, client: aiohttp.ClientSession
) -> None:
    for kind, value, told in (
        (dict[int, list[str]], {"7": ["x"]}, {"7": ["x"]}),
        (set[str], ["x", "x"], ["x"]),
    ):
        chain = RunnableLambda(len).with_types(input_type=kind)
        url = await serve(app_of(chain, astream_events_version=version))
        async with client.post(f"{url}/run/stream_events", json={"input": value}) as response:
            body = await response.text()
        lines = [line for line in body.split("\r\n") if line.startswith("data: ")]
        events = [json.loads(line.removeprefix("data: ")) for line in lines]
        assert events[0]["data"]["input"] == told
        assert events[-1]["event"] == "on_chain_end"
        assert events[-1]["data"]["output"] == 1


@pytest.mark.parametrize("endpoint", ENDPOINTS)
async def test_many_callers_at_once_each_get_their_own_run(
    endpoint: str, serve: Serve, client: aiohttp.ClientSession
) -> None:
    async def said(x: int) -> AIMessage:
        return AIMessage(content=f"mine is {x}")

    url = await serve(app_of(RunnableLambda(add_one) | said))

    async def call(n: int) -> str:
        async with client.post(f"{url}/run/{endpoint}", json={"input": n}) as response:
            return await response.text()

    bodies = await asyncio.gather(*(call(n) for n in range(40)))
    for n, body in enumerate(bodies):
        assert f"mine is {n + 1}" in body
        assert body.count("mine is ") == body.count(f'mine is {n + 1}"')
