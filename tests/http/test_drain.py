"""Who is inside is waited for, and who comes later is told to come again."""

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from locktender.http.drain import SAYS_ERROR, Drain
from locktender.wire.problem import Problem, langserve_problem


class _App:
    """Answers when it is let."""

    def __init__(self) -> None:
        self.is_let = anyio.Event()
        self.n_inside = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI's signature
        self.n_inside += 1
        await self.is_let.wait()
        if scope["path"] == "/fails":
            raise RuntimeError("as users' apps do")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"done"})


@pytest.mark.parametrize("path", ["/ends", "/fails"])
async def test_those_inside_are_waited_for_and_others_refused(path: str) -> None:
    app = _App()
    drain = Drain(app, langserve_problem)
    transport = httpx.ASGITransport(drain, raise_app_exceptions=False)
    idle, answers = anyio.Event(), []

    async def ask() -> None:
        answers.append(await client.get(path))

    async def wait_idle() -> None:
        await drain.wait_idle()
        idle.set()

    with anyio.fail_after(5):
        async with (
            httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
            anyio.create_task_group() as group,
        ):
            group.start_soon(ask)
            group.start_soon(wait_idle)
            await anyio.wait_all_tasks_blocked()
            drain.begin()
            late = await client.get("/late")
            assert (late.status_code, late.json()["code"]) == (503, "draining")
            assert late.headers["retry-after"] == "5"
            assert late.headers["connection"] == "close"
            await anyio.wait_all_tasks_blocked()
            assert not idle.is_set()
            app.is_let.set()
    assert idle.is_set()
    assert answers[0].status_code == (200 if path == "/ends" else 500)
    assert app.n_inside == 1


async def test_a_drain_of_nobody_is_over_at_once() -> None:
    drain = Drain(_App(), langserve_problem)
    drain.begin()
    with anyio.fail_after(5):
        await drain.wait_idle()


async def test_a_websocket_is_refused_but_not_waited_for() -> None:
    app, sent = _App(), []
    drain = Drain(app, langserve_problem)
    scope = {"type": "websocket", "path": "/ends", "headers": []}

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(drain, scope, receive, send)
            await anyio.wait_all_tasks_blocked()
            drain.begin()
            await drain.wait_idle()
            await drain(scope, receive, send)
            assert sent == [{"type": "websocket.close", "code": 1008}]
            app.is_let.set()
    assert app.n_inside == 1


@pytest.mark.parametrize(
    ("path", "begin", "end"),
    [
        ("/waits", [], [503, b"draining"]),
        ("/streams", [200, b"first"], [b"ended 503"]),
        ("/sends", [200, b"first"], []),  # in a form of which nothing is known: it is cut off
    ],
)
async def test_who_is_inside_for_too_long_is_told_so_where_that_can_be(
    path: str, begin: list[object], end: list[object]
) -> None:
    goes_on, sent = anyio.Event(), []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001 - ASGI's signature
        if scope["path"] == "/streams":
            scope[SAYS_ERROR] = says
        if scope["path"] != "/waits":
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"first", "more_body": True})
        await goes_on.wait()
        await send({"type": "http.response.body", "body": b"late"})

    def says(problem: Problem) -> bytes:
        return f"ended {problem.status}".encode()

    async def send(message: Message) -> None:
        sent.append(message.get("status") or message["body"])

    async def receive() -> Message:
        return {"type": "http.request"}

    drain = Drain(app, langserve_problem)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            group.start_soon(drain, {"type": "http", "path": path}, receive, send)
            await anyio.wait_all_tasks_blocked()
            assert sent == begin
            drain.begin()
            await drain.end(1)
            await drain.end(1)  # and once only
            told = sent[len(begin) :]
            assert [each if isinstance(each, int) else each[-9:] for each in told[:1]] == end[:1]
            assert all(b"draining" in each for each in told[1:])
            assert len(told) == len(end)
            goes_on.set()
    assert sent[len(begin) :] == (told or [b"late"])
