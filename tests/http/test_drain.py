"""Who is inside is waited for, and who comes later is told to come again."""

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from locktender.http.drain import Drain
from locktender.wire.problem import langserve_problem


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
