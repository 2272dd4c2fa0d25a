"""`RemoteRunnable` keeps LangServe's face, works without a server's packages, and fails well.

What it gives for each call is compared with LangServe's own client in `compat/test_our_client`.
"""

import asyncio
import gc
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpx
import pytest
from fastapi import FastAPI
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.runnables import RunnableConfig, RunnableGenerator, RunnableLambda
from langchain_core.runnables.utils import AddableDict
from langchain_core.tracers.log_stream import RunLogPatch
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from starlette.testclient import TestClient

from harness.app_server import Serve
from locktender import RemoteRunnable, add_routes
from locktender.app.client import ServerRun
from locktender.app.serialization import Serializer
from locktender.core.errors import CapacityError, PeerError, QueueFull

EVENTS = {"content-type": "text/event-stream"}
WITHOUT_A_SERVER = """
import sys
for name in ("fastapi", "starlette", "uvicorn", "sse_starlette"):
    sys.modules[name] = None
import httpx
from locktender import RemoteRunnable
remote = RemoteRunnable("http://localhost/x")
answer = httpx.Response(200, json={"output": 2})
remote.sync_client = httpx.Client(
    base_url=remote.url, transport=httpx.MockTransport(lambda request: answer)
)
print(remote.invoke(1))
"""
UNTIL_THE_END = """
import asyncio, sys
from locktender import RemoteRunnable
remote = RemoteRunnable(sys.argv[1] + "/it")
print(remote.invoke(1), asyncio.run(remote.ainvoke(1)))
"""


def remote_at(answer: Callable[[httpx.Request], httpx.Response], **more: Any) -> Any:
    """Return a remote whose server is a function."""
    transport = httpx.MockTransport(answer)
    return RemoteRunnable("http://localhost/x", client_kwargs={"transport": transport}, **more)


def always(status: int, **more: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, **more)


@pytest.fixture
def served() -> Iterator[Callable[..., Any]]:
    """Give a function that serves a runnable and returns a remote, both in this process."""
    clients: list[TestClient] = []

    def serve(runnable: Any, **more: Any) -> Any:
        app = FastAPI()
        add_routes(app, runnable, path="/it", **more)
        remote: Any = RemoteRunnable("http://testserver/it")
        remote.sync_client = TestClient(app, base_url="http://testserver/it")
        clients.append(remote.sync_client)
        return remote

    yield serve
    for client in clients:
        client.close()


def add_one(x: int) -> int:
    return x + 1


def refuse(_: Any) -> Any:
    raise QueueFull("The gate is full.", 2.5)


def test_it_needs_no_server_s_packages() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_A_SERVER],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert finished.stdout == "2\n", finished.stderr


@pytest.mark.parametrize(
    ("url", "expected"),
    [("http://x/a", "http://x/a/"), ("http://x/a/", "http://x/a/"), ("http://x", "http://x/")],
)
def test_its_address_ends_in_a_slash(url: str, expected: str) -> None:
    assert RemoteRunnable[Any, Any](url).url == expected


def test_its_clients_are_httpx_s_and_made_as_it_is_told() -> None:
    remote: RemoteRunnable[Any, Any] = RemoteRunnable(
        "http://x/a",
        timeout=3,
        auth=("a", "b"),
        headers={"x-mine": "1"},
        cookies={"c": "d"},
        client_kwargs={"follow_redirects": True},
    )
    assert isinstance(remote.sync_client, httpx.Client)
    assert isinstance(remote.async_client, httpx.AsyncClient)
    for client in (remote.sync_client, remote.async_client):
        assert client.timeout == httpx.Timeout(3)
        assert client.headers["x-mine"] == "1"
        assert client.cookies["c"] == "d"
        assert client.auth is not None
        assert client.follow_redirects


def test_without_a_time_limit_it_waits() -> None:
    assert RemoteRunnable[Any, Any]("http://x").sync_client.timeout == httpx.Timeout(None)


def test_its_clients_are_closed_when_it_is_let_go() -> None:
    remote: RemoteRunnable[Any, Any] = RemoteRunnable("http://x")
    clients = remote.sync_client, remote.async_client
    del remote
    gc.collect()
    assert [client.is_closed for client in clients] == [True, True]


async def test_its_connections_are_closed_at_the_end_of_the_process(serve: Serve) -> None:
    app = FastAPI()
    add_routes(app, RunnableLambda(add_one), path="/it")
    strict = [sys.executable, "-W", "always::ResourceWarning"]
    with anyio.fail_after(60):
        address = await serve(app)
        finished = await anyio.run_process([*strict, "-c", UNTIL_THE_END, address], check=False)
    assert (finished.stdout, finished.stderr) == (b"2 2\n", b"")


async def test_its_clients_are_closed_within_a_loop_too() -> None:
    unused: RemoteRunnable[Any, Any] = RemoteRunnable("http://x")
    used = remote_at(always(200, json={"output": 2}))
    await used.ainvoke(1)
    clients = [
        client for each in (unused, used) for client in (each.sync_client, each.async_client)
    ]
    del unused, used
    gc.collect()
    with anyio.fail_after(20):
        while not all(client.is_closed for client in clients):
            await anyio.lowlevel.checkpoint()


def test_it_works_in_one_loop_after_the_other() -> None:
    remote = remote_at(always(200, json={"output": 2}))
    assert [asyncio.run(remote.ainvoke(1)) for _ in range(3)] == [2, 2, 2]


def test_a_test_client_takes_the_place_of_its_own(served: Callable[..., Any]) -> None:
    remote = served(RunnableLambda(add_one))
    assert remote.invoke(1) == 2
    assert remote.batch([1, 2]) == [2, 3]
    assert list(remote.stream(1)) == [2]


def test_an_error_is_httpx_s_whatever_the_client_is(served: Callable[..., Any]) -> None:
    remote = served(RunnableLambda(add_one))
    for call in (remote.invoke, lambda x: remote.batch([x]), lambda x: list(remote.stream(x))):
        with pytest.raises(
            httpx.HTTPStatusError, match=r"(?s)422 Unprocessable Entity.* for \{"
        ) as at:
            call("no number")
        assert isinstance(at.value.response, httpx.Response)
        assert at.value.response.status_code == 422


def test_a_refusal_within_the_chain_arrives_as_what_it_was(served: Callable[..., Any]) -> None:
    remote = served(RunnableLambda(refuse))
    for call in (remote.invoke, lambda x: remote.batch([x]), lambda x: list(remote.stream(x))):
        with pytest.raises(QueueFull, match="The gate is full") as at:
            call(1)
        assert isinstance(at.value, httpx.HTTPStatusError)
        assert at.value.response.status_code == 503
        assert (at.value.message, at.value.retry_after_s) == ("The gate is full.", 3)


def test_a_refusal_in_mid_stream_arrives_as_what_it_was(served: Callable[..., Any]) -> None:
    async def late(inputs: AsyncIterator[int]) -> AsyncIterator[int]:
        async for each in inputs:
            yield each
            refuse(each)

    chunks = served(RunnableGenerator(late)).stream(1)
    assert next(chunks) == 1
    with pytest.raises(CapacityError, match=r"^The gate is full\.$"):
        next(chunks)


@pytest.mark.parametrize("n_inputs", [1, 3])
def test_each_input_of_a_failed_batch_gets_the_exception_where_that_is_wished(
    n_inputs: int,
) -> None:
    remote = remote_at(always(500, text="Internal Server Error"))
    inputs = list(range(n_inputs))
    answers = [
        remote.batch(inputs, return_exceptions=True),
        asyncio.run(remote.abatch(inputs, return_exceptions=True)),
    ]
    for answer in answers:
        assert [type(each) for each in answer] == [httpx.HTTPStatusError] * n_inputs
    with pytest.raises(httpx.HTTPStatusError):
        remote.batch(inputs)
    with pytest.raises(httpx.HTTPStatusError):
        asyncio.run(remote.abatch(inputs))


def test_a_batch_of_nothing_asks_nobody() -> None:
    def unexpected(_: httpx.Request) -> httpx.Response:
        raise AssertionError

    remote = remote_at(unexpected)
    assert remote.batch([]) == []
    assert asyncio.run(remote.abatch([])) == []


def test_keyword_arguments_are_refused_where_they_cannot_be_sent() -> None:
    remote = remote_at(always(200, json={"output": [2]}))
    with pytest.raises(NotImplementedError, match="stop"):
        remote.invoke(1, stop=2)
    with pytest.raises(NotImplementedError, match="stop"):
        remote.batch([], stop=2)
    with pytest.raises(NotImplementedError, match="stop"):
        asyncio.run(remote.ainvoke(1, stop=2))
    with pytest.raises(NotImplementedError, match="stop"):
        asyncio.run(remote.abatch([1], stop=2))


@pytest.mark.parametrize("body", [b"no JSON", b"{}", b"[]", b'{"output":1}', b'{"output":[1,2]}'])
def test_a_batch_s_answer_of_another_form_is_a_breach(body: bytes) -> None:
    with pytest.raises(ValueError, match="server's answer") as caught:
        remote_at(always(200, content=body)).batch([1])
    assert isinstance(caught.value, PeerError)


def test_a_chunk_that_is_no_json_is_a_breach() -> None:
    body = b"event: data\r\ndata: {\r\n\r\nevent: end\r\n\r\n"
    with pytest.raises(ValueError, match="not JSON") as caught:
        list(remote_at(always(200, content=body, headers=EVENTS)).stream(1))
    assert isinstance(caught.value, PeerError)


def test_a_value_that_is_nested_too_deeply_is_a_breach() -> None:
    # It can be parsed, but not followed: before 3.12, Python took a frame for each comprehension.
    depth = 1100 if sys.version_info >= (3, 12) else 900
    deep = b"[" * depth + b"]" * depth
    body = b"event: data\r\ndata: %b\r\n\r\nevent: end\r\n\r\n" % deep
    with pytest.raises(ValueError, match="too deeply") as caught:
        list(remote_at(always(200, content=body, headers=EVENTS)).stream(1))
    assert isinstance(caught.value, PeerError)
    answer = b'{"output":%b}' % deep
    for call in (RemoteRunnable.invoke, RemoteRunnable.batch):
        with pytest.raises(ValueError, match="too deeply"):
            call(remote_at(always(200, content=answer)), [1])
    with pytest.raises(ValueError, match="too deeply"):
        asyncio.run(remote_at(always(200, content=answer)).ainvoke(1))


def test_dicts_in_a_stream_can_be_added() -> None:
    body = b'event: data\r\ndata: {"a":"x"}\r\n\r\nevent: end\r\n\r\n'
    chunks = list(remote_at(always(200, content=body, headers=EVENTS)).stream(1))
    assert [type(chunk) for chunk in chunks] == [AddableDict]


async def test_a_log_is_made_of_langchain_s_patches_and_filters_are_sent() -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.path, request.headers["accept"], json.loads(request.content)))
        body = b'event: data\r\ndata: {"ops":[{"op":"x"}]}\r\n\r\nevent: end\r\n\r\n'
        return httpx.Response(200, content=body, headers=EVENTS)

    remote = remote_at(answer)
    patches = [patch async for patch in remote.astream_log(1, include_names=["a"])]
    assert patches == [RunLogPatch(cast("Any", {"op": "x"}))]
    [(path, accepted, body)] = asked
    assert (path, accepted) == ("/x/stream_log", "text/event-stream")
    assert (body["include_names"], body["exclude_tags"], body["diff"]) == (["a"], None, True)


async def test_what_langchain_s_log_takes_is_no_argument_of_the_runnable() -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(json.loads(request.content))
        return httpx.Response(200, content=b"event: end\r\n\r\n", headers=EVENTS)

    log = remote_at(answer).astream_log(1, diff=False, with_streamed_output_list=False, stop=["x"])
    assert [patch async for patch in log] == []
    assert [(body["kwargs"], body["diff"]) for body in asked] == [({"stop": ["x"]}, True)]


async def test_the_version_of_events_is_the_server_s(caplog: pytest.LogCaptureFixture) -> None:
    body = b'event: data\r\ndata: {"event":"e"}\r\n\r\nevent: end\r\n\r\n'
    remote = remote_at(always(200, content=body, headers=EVENTS))
    with caplog.at_level(logging.INFO, logger="locktender.app.client"):
        for version in (None, "v1", "v2"):
            found = [event async for event in remote.astream_events(1, version=version)]
            assert found == [{"event": "e"}]
    assert len(caplog.records) <= 1  # It is said once in a process.


def test_a_serializer_of_the_user_s_decides_both_ways() -> None:
    class Wrapping(Serializer):
        def dumps(self, obj: Any) -> bytes:
            return json.dumps({"wrapped": obj}).encode()

        def loadd(self, obj: Any) -> Any:
            return ["read", obj]

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"output": json.loads(request.content)["input"]})

    assert remote_at(answer, serializer=Wrapping()).invoke(1) == ["read", {"wrapped": 1}]


def test_the_server_s_run_is_told_and_written_into_traces() -> None:
    told: list[ServerRun] = []
    runs = [{"run_id": "r1", "feedback_tokens": []}, {"run_id": "r2", "feedback_tokens": []}]
    stream = (
        b'event: metadata\r\ndata: {"run_id": "r3"}\r\n\r\n'
        b"event: data\r\ndata: 2\r\n\r\nevent: end\r\n\r\n"
    )

    def answer(request: httpx.Request) -> httpx.Response:
        endpoint = request.url.path.rpartition("/")[2]
        if endpoint == "stream":
            return httpx.Response(200, content=stream, headers=EVENTS)
        many = {"output": [2, 3], "metadata": {"responses": runs}}
        one = {"output": 2, "metadata": {"run_id": "r0"}}
        return httpx.Response(200, json=one if endpoint == "invoke" else many)

    collector = RunCollectorCallbackHandler()
    config: RunnableConfig = {"callbacks": [collector]}
    remote = remote_at(answer, on_server_run=told.append)
    assert (remote.invoke(1, config), remote.batch([1, 2], config)) == (2, [2, 3])
    assert list(remote.stream(1, config)) == [2]
    asyncio.run(remote.ainvoke(1))
    assert [run.run_id for run in told] == ["r0", "r1", "r2", "r3", "r0"]
    traced = {trace.id: trace.metadata["server_run_id"] for trace in collector.traced_runs}
    assert traced == {run.local_run_id: run.run_id for run in told[:4]}


@pytest.mark.parametrize("is_used", [True, False])
def test_the_server_s_callbacks_reach_the_caller_s_if_wished(*, is_used: bool) -> None:
    heard: list[tuple[str, bool]] = []

    class Heard(BaseCallbackHandler):
        def on_chain_start(self, *_: Any, **more: Any) -> None:
            heard.append((more.get("name") or "", more.get("parent_run_id") is None))

    ids: dict[str, Any] = {"run_id": "1b7d0000-0000-4000-8000-000000000001", "parent_run_id": None}
    start: dict[str, Any] = {
        **ids,
        "type": "on_chain_start",
        "tags": [],
        "metadata": {},
        "serialized": None,
    }
    start |= {"inputs": 1, "kwargs": {"run_type": None, "name": "/there"}}
    end: dict[str, Any] = {**ids, "type": "on_chain_end", "tags": [], "metadata": None}
    end |= {"outputs": 2, "kwargs": {}}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("batch"):
            body = {"output": [2, 3], "callback_events": [[start, end], [start, end]]}
            return httpx.Response(200, json=body)
        return httpx.Response(200, json={"output": 2, "callback_events": [start, end]})

    remote = remote_at(answer, use_server_callback_events=is_used)
    config: RunnableConfig = {"callbacks": [Heard()], "run_name": "here"}
    assert remote.invoke(1, config) == 2
    assert remote.batch([1, 2], config) == [2, 3]
    assert asyncio.run(remote.ainvoke(1, config)) == 2
    assert asyncio.run(remote.abatch([1, 2], config)) == [2, 3]
    assert heard.count(("here", True)) == 6
    assert heard.count(("/there", False)) == (6 if is_used else 0)
