"""A `RemoteRunnable` with extensions: it asks once, and sends nothing that is not understood."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from locktender import RemoteRunnable
from locktender.core.errors import PeerError, QueueFull

KNOWN = {"version": 1, "kwarg_keys": [], "command_keys": []}
AGREED = {"x-locktender-extensions": "1"}
STREAM = {"content-type": "text/event-stream"}
WITHOUT_LANGGRAPH = """
import sys
for name in ("langgraph", "langgraph.types", "fastapi", "starlette", "uvicorn"):
    sys.modules[name] = None
import httpx
from locktender import RemoteRunnable
from locktender.app.extension import Command

def answer(request):
    if request.method == "GET":
        return httpx.Response(200, json={"version": 1})
    assert b'"__locktender__":"Command","value":{"resume":true}' in request.content
    told = {"__locktender__": "Interrupt", "value": {"value": 1, "id": "7"}}
    return httpx.Response(200, json={"output": told}, headers={"x-locktender-extensions": "1"})

transport = httpx.MockTransport(answer)
kwargs = {"transport": transport}
remote = RemoteRunnable("http://localhost/x", client_kwargs=kwargs, extensions=True)
print(remote.invoke(Command(resume=True)))
"""


class Server:
    """Answers as told, and keeps what it was sent."""

    def __init__(self, page: httpx.Response, answer: Callable[[], httpx.Response]) -> None:
        self.sent: list[httpx.Request] = []
        self._page = page
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.sent.append(request)
        if request.method != "GET":
            return self._answer()
        page = self._page  # one object cannot be read by both kinds of client
        return httpx.Response(page.status_code, content=page.content, headers=page.headers)

    def bodies(self) -> list[Any]:
        return [json.loads(each.content) for each in self.sent if each.method == "POST"]


def remote_at(server: Server, *, extensions: bool = True) -> Any:
    client_kwargs = {"transport": httpx.MockTransport(server)}
    return RemoteRunnable("http://localhost/x", client_kwargs=client_kwargs, extensions=extensions)


def output(value: Any, **headers: str) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(200, json={"output": value}, headers=headers)


def chunks(*values: Any, **headers: str) -> Callable[[], httpx.Response]:
    events = [f"event: data\r\ndata: {json.dumps(value)}\r\n\r\n" for value in values]
    text = "".join([*events, "event: end\r\n\r\n"])
    return lambda: httpx.Response(200, text=text, headers={**STREAM, **headers})


@pytest.mark.parametrize("page", [httpx.Response(404), httpx.Response(405), httpx.Response(200)])
async def test_a_server_that_does_not_know_them_is_sent_nothing_new(page: httpx.Response) -> None:
    server = Server(page, output([1, 2]))
    remote = remote_at(server)
    assert remote.invoke((1, 2)) == [1, 2]
    assert await remote.ainvoke((1, 2)) == [1, 2]
    assert [(body["input"], body["kwargs"]) for body in server.bodies()] == [([1, 2], {})] * 2
    assert [request.method for request in server.sent] == ["GET", "POST", "POST"]
    assert all("x-locktender-extensions" not in request.headers for request in server.sent)


async def test_keyword_arguments_are_refused_before_such_a_server_sees_them() -> None:
    server = Server(httpx.Response(404), output(1))
    remote = remote_at(server)
    with pytest.raises(NotImplementedError, match="stop"):
        list(remote.stream([1], stop=["x"]))
    for call in (remote.invoke, remote.batch):
        with pytest.raises(NotImplementedError, match="stop"):
            call([1], stop=["x"])
    for ask in (remote.ainvoke, remote.abatch):
        with pytest.raises(NotImplementedError, match="stop"):
            await ask([1], stop=["x"])
    for stream in (remote.astream, remote.astream_events, remote.astream_log):
        with pytest.raises(NotImplementedError, match="stop"):
            async for _ in stream([1], stop=["x"]):
                pass
    assert not server.bodies()


async def test_a_server_that_knows_them_gets_the_extended_form() -> None:
    pair = {"__locktender__": "tuple", "value": [1, 2]}
    server = Server(httpx.Response(200, json=KNOWN), output(pair, **AGREED))
    remote = remote_at(server)
    assert remote.invoke((1, 2), stop=("x",)) == (1, 2)
    assert await remote.ainvoke((1, 2)) == (1, 2)
    stop = {"stop": {"__locktender__": "tuple", "value": ["x"]}}
    assert [(body["input"], body["kwargs"]) for body in server.bodies()] == [
        (pair, stop),
        (pair, {}),
    ]
    assert server.sent[1].headers["x-locktender-extensions"] == "1"
    assert [request.method for request in server.sent] == ["GET", "POST", "POST"]


async def test_batches_and_streams_do_too() -> None:
    pair = {"__locktender__": "tuple", "value": [1, 2]}
    server = Server(httpx.Response(200, json=KNOWN), output([pair, 3], **AGREED))
    assert remote_at(server).batch([(1, 2), 3], stop=["x"]) == [(1, 2), 3]
    assert await remote_at(server).abatch([(1, 2), 3], stop=["x"]) == [(1, 2), 3]
    assert server.bodies()[0]["kwargs"] == {"stop": ["x"]}
    server = Server(httpx.Response(200, json=KNOWN), chunks(pair, {"a": 1}, **AGREED))
    assert list(remote_at(server).stream(1)) == [(1, 2), {"a": 1}]
    assert [chunk async for chunk in remote_at(server).astream(1)] == [(1, 2), {"a": 1}]


def test_a_batch_of_nothing_asks_nobody() -> None:
    server = Server(httpx.Response(200, json=KNOWN), output([]))
    assert remote_at(server).batch([], stop=["x"]) == []
    assert asyncio.run(remote_at(server).abatch([])) == []
    assert not server.sent


def test_without_extensions_nothing_is_asked_and_nothing_told() -> None:
    server = Server(httpx.Response(200, json=KNOWN), output(1))
    assert remote_at(server, extensions=False).invoke(1) == 1
    assert [request.method for request in server.sent] == ["POST"]


async def test_a_server_that_has_forgotten_them_is_a_peer_error() -> None:
    server = Server(httpx.Response(200, json=KNOWN), output([1, 2]))
    with pytest.raises(PeerError, match="forgotten"):
        remote_at(server).invoke(1)
    server = Server(httpx.Response(200, json=KNOWN), chunks(1))
    with pytest.raises(PeerError, match="forgotten"):
        list(remote_at(server).stream(1))
    with pytest.raises(PeerError, match="forgotten"):
        async for _ in remote_at(server).astream(1):
            pass


def test_a_server_that_is_full_is_asked_again_later() -> None:
    told = {"detail": "The line is full.", "message": "The line is full.", "code": "queue_full"}
    full = httpx.Response(503, json=told, headers={"retry-after": "7"})
    server = Server(full, output(1, **AGREED))
    remote = remote_at(server)
    with pytest.raises(QueueFull) as caught:
        remote.invoke(1)
    assert caught.value.retry_after_s == 7
    server._page = httpx.Response(200, json=KNOWN)  # noqa: SLF001 - the server has room again
    assert remote.invoke(1) == 1


def test_what_is_no_value_is_a_peer_error() -> None:
    evil = {"__locktender__": "os.system", "value": "true"}
    server = Server(httpx.Response(200, json=KNOWN), output(evil, **AGREED))
    with pytest.raises(PeerError, match="no value"):
        remote_at(server).invoke(1)
    server = Server(httpx.Response(200, json=KNOWN), chunks(evil, **AGREED))
    with pytest.raises(ValueError, match="no value"):
        list(remote_at(server).stream(1))


def test_an_install_without_langgraph_resumes_and_hears_of_interrupts() -> None:
    finished = subprocess.run(
        [sys.executable, "-c", WITHOUT_LANGGRAPH],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert finished.stdout.strip() == "Interrupt(value=1, id='7', response_schema=None)", (
        finished.stderr
    )
