"""A body is read within its bounds, whatever its pieces are."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from starlette.requests import ClientDisconnect, Request

from locktender.core.errors import InvalidRequest, QueueFull, RequestTooLarge
from locktender.http.arrivals import Arrivals
from locktender.http.body import Body, BodyBounds, read_body

BOUNDS = BodyBounds(max_body_bytes=1_000_000, max_body_values=10_000, timeout_s=20)


async def read(*pieces: bytes, bounds: BodyBounds = BOUNDS) -> Body:
    return await read_body(request_of(*pieces), bounds)


def request_of(*pieces: bytes) -> Request:
    messages: list[Mapping[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    coming = iter([*messages, {"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Any:
        return next(coming, {"type": "http.disconnect"})

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_the_request_keeps_what_was_read() -> None:
    request = request_of(b'{"input"', b":1}")
    body = await read_body(request, BOUNDS)
    assert body == Body(b'{"input":1}', is_heavy=False)
    assert await request.body() == body.content


@pytest.mark.parametrize(
    ("content", "is_heavy"),
    [
        (b"", False),
        (b"[" + b"1," * 500 + b"1]", False),
        (b"[" + b"1," * 512 + b"1]", True),
        (json.dumps(["a,[{" * 10_000]).encode(), False),  # it is all one text
        (json.dumps("x" * 200_000).encode(), False),
        (json.dumps("x" * 300_000).encode(), True),
        (b"[" + b"[]," * 4_000 + b"[]]", True),
    ],
)
async def test_a_body_is_heavy_by_its_values(content: bytes, *, is_heavy: bool) -> None:
    whole = await read(content)
    assert whole == Body(content, is_heavy)
    assert await read(*(content[at : at + 7_001] for at in range(0, len(content), 7_001))) == whole


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"x" * 1_000_001, "1,000,001 bytes or more; `max_body_bytes` allows 1,000,000"),
        (b"[" + b"1," * 10_000 + b"1]", "10,002 JSON values or more; `max_body_values` allows"),
        (b"9" * 640_001, "640,001 bytes outside of texts or more; `max_body_values` allows"),
    ],
)
async def test_a_refusal_names_the_setting_and_what_was_found(
    content: bytes, sentence: str
) -> None:
    for pieces in ([content], [content[:50_000], content[50_000:]]):
        with pytest.raises(RequestTooLarge, match=sentence):
            await read(*pieces)


async def test_as_many_escapes_are_read_as_bytes_outside_of_texts() -> None:
    bounds = replace(BOUNDS, max_body_values=500)
    assert not (await read(b'"%b"' % (b"\\n" * 32_000), bounds=bounds)).is_heavy
    with pytest.raises(RequestTooLarge, match="32,001 escapes in texts or more; `max_body_values`"):
        await read(b'"%b"' % (b"\\n" * 32_001), bounds=bounds)


async def test_of_bodies_beyond_their_common_bound_the_slowest_is_given_up() -> None:
    app = SimpleNamespace(state=SimpleNamespace())
    app.state.locktender_arrivals = Arrivals(300_000)

    def request_for(messages: list[Mapping[str, Any]]) -> Request:
        coming = iter(messages)

        async def receive() -> Any:
            message = next(coming, None)
            return await asyncio.Future() if message is None else message

        return Request({"type": "http", "method": "POST", "headers": [], "app": app}, receive)

    part = {"type": "http.request", "body": b"x" * 200_000, "more_body": True}
    with anyio.fail_after(20):
        slow = asyncio.create_task(read_body(request_for([part]), BOUNDS))
        await anyio.wait_all_tasks_blocked()
        await read_body(request_for([{**part, "more_body": False}]), BOUNDS)
        with pytest.raises(QueueFull, match="slowest"):
            await slow
        end = {**part, "body": b"", "more_body": False}
        assert len((await read_body(request_for([part, end]), BOUNDS)).content) == 200_000


async def test_a_small_body_is_held_to_a_small_bound() -> None:
    with pytest.raises(RequestTooLarge, match="max_body_values"):
        await read(b"[1,2,3,4]", bounds=replace(BOUNDS, max_body_values=3))


async def test_a_body_over_its_bound_is_read_on_so_that_its_caller_hears_why() -> None:
    n_read = 0

    async def pieces(n: int) -> AsyncGenerator[bytes, None]:
        nonlocal n_read
        for number in range(1, n + 1):
            n_read = number
            yield b"x" * 100_000

    async def refused(n: int) -> None:
        request = request_of()
        request.stream = lambda: pieces(n)  # type: ignore[method-assign] # not all made
        with pytest.raises(RequestTooLarge):
            await read_body(request, BOUNDS)

    await refused(20)
    assert n_read == 20  # to its end
    await refused(1_000)
    assert n_read < 200  # but no further than 16 MB


async def test_what_does_not_arrive_is_refused_and_who_leaves_is_gone() -> None:
    async def never() -> Any:
        await anyio.sleep_forever()

    request = Request({"type": "http", "method": "POST", "headers": []}, never)
    with pytest.raises(InvalidRequest, match="did not arrive within 0 s"):
        await read_body(request, replace(BOUNDS, timeout_s=0))
    messages = iter([{"type": "http.disconnect"}])

    async def leave() -> Any:
        return next(messages)

    with pytest.raises(ClientDisconnect):
        await read_body(Request({"type": "http", "method": "POST", "headers": []}, leave), BOUNDS)
