"""What strangers do at the gate costs themselves: made-up headers, crowds, unread answers."""

import asyncio
import json
import select
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio

from harness.service import Service, Starter
from locktender.app.shared_key import read_shared_key
from locktender.wire.inner_call import InnerCall, sign

FORGED = {
    "X-Locktender-Outer-Request": "attacker",
    "X-Locktender-Signature": f"v1 1900000000 {64 * '0'}",
    "X-Locktender-Tenant": "root",
    "X-Request-Timeout-Seconds": "86400",
}
ONE_PLACE = {"max_running": 1, "max_waiting": 0}
N_WORDS = 4000
LONG = f"repeat {N_WORDS}: {2000 * 'x'}"  # more than the buffers of any socket hold
AMPLE_BYTES = 100_000_000
LIMIT_S = 40.0


async def test_made_up_headers_get_their_caller_one_share_and_no_longer_wait(
    start_service: Starter,
) -> None:
    table = {"max_running": 2, "max_waiting": 4, "max_wait_s": 1.5, "options": {"step_s": 0.05}}
    service = start_service(table)
    await service.until(lambda status: status["ready"])
    codes: list[str] = []

    async def attack() -> None:
        reply = await service.ask("repeat 500: a b c", headers=FORGED)
        codes.append(str(reply.error.get("code")))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(80):
                group.start_soon(attack)
            await service.until(lambda status: status["outside"] == 79)
            for _ in range(3):
                assert (await service.ask("hello you")).text == "hello you"
                status = await service.status()
                assert (status["waiting"], status["running"]) == (0, 1)
            await service.until(lambda status: status["outside"] == 0)
            group.cancel_scope.cancel()
    assert codes == ["wait_too_long"] * 79
    assert await service.outcomes(83) == {"completed": 3, "refused": 79, "cancelled": 1}


async def test_what_the_deployments_key_has_signed_is_not_refused_in_a_full_gate(
    start_service: Starter,
) -> None:
    service = start_service({"max_running": 1, "max_waiting": 1, "options": {"tokens_per_s": 400}})
    await service.until(lambda status: status["ready"])
    key = read_shared_key()
    assert key
    signature = sign(key, InnerCall("agent", "", ""), expires_at=time.time() + 60)
    signed = {"X-Locktender-Outer-Request": "agent", "X-Locktender-Signature": signature}
    assert (await service.ask("hello", headers=signed)).status == 200
    statuses: dict[str, list[int]] = {"signed": [], "stranger": []}

    async def ask(who: str, headers: dict[str, str]) -> None:
        statuses[who].append((await service.ask("repeat 10: on", headers=headers)).status)

    with anyio.fail_after(60):
        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(ask, "stranger", {})
                group.start_soon(ask, "signed", signed)
    assert statuses["signed"] == [200] * 20
    assert set(statuses["stranger"]) == {200, 503}


async def test_every_answer_names_the_share_of_an_outer_request(start_service: Starter) -> None:
    service = start_service({"max_running": 8, "max_waiting": 32})
    await service.until(lambda status: status["ready"])
    asked: dict[str, Any] = {"model": "echo", "messages": [{"role": "user", "content": "hi"}]}
    for stream in (False, True):
        url = f"{service.url}/chat/completions"
        async with service.client.post(url, json={**asked, "stream": stream}) as response:
            assert response.headers.get("X-Locktender-Share") == "10"


async def test_a_stream_that_nobody_reads_holds_no_place_and_is_cut_off_in_time(
    start_service: Starter,
) -> None:
    service = start_service(ONE_PLACE, unread_s=3.0, max_unread_bytes=AMPLE_BYTES)
    await service.until(lambda status: status["ready"])
    with _unread(service, LONG, stream=True) as caller, anyio.fail_after(LIMIT_S):
        await service.until(lambda status: status["sending"] == 1)
        assert (await service.ask("the next")).text == "the next"
        assert await _is_cut_off(caller)
        await service.until(lambda status: status["sending"] == 0)
    assert await service.outcomes(2) == {"completed": 1, "cancelled": 1}
    codes = {event.get("code") for event in service.events("RequestEnded")}
    assert codes == {None, "answer_unread"}


async def test_a_stream_that_leaves_more_unread_than_it_may_is_cut_off_at_once(
    start_service: Starter,
) -> None:
    service = start_service(ONE_PLACE, unread_s=600.0, max_unread_bytes=1_000_000)
    await service.until(lambda status: status["ready"])
    with _unread(service, LONG, stream=True) as caller, anyio.fail_after(LIMIT_S):
        await service.until(lambda status: status["running"] == 1)
        await service.until(lambda status: status["running"] == 0)
        assert await service.outcomes(1) == {"cancelled": 1}
        assert await _is_cut_off(caller)
    assert (await service.ask("of one who reads", stream=True)).text == "of one who reads"


@contextmanager
def _unread(service: Service, content: str, **fields: Any) -> Iterator[socket.socket]:
    """Ask as `Service.ask` does, and leave the answer unread."""
    address = urlsplit(service.url)
    message = {"role": "user", "content": content}
    asked = {"model": service.model, "messages": [message], "max_tokens": N_WORDS, **fields}
    body = json.dumps(asked).encode()
    head = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.settimeout(LIMIT_S)
        caller.connect((address.hostname, address.port))
        caller.sendall(head.encode() + body)
        yield caller


async def _is_cut_off(caller: socket.socket) -> bool:
    """Wait until the connection is reset, without reading from it."""
    poll = select.poll()
    poll.register(caller, 0)  # errors and the end are always told
    return bool(await asyncio.to_thread(poll.poll, LIMIT_S * 1000))
