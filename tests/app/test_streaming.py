"""One stream, against a connection that the test holds in its hands."""

import asyncio
import time
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import anyio
import orjson

from locktender.app.streaming import ChunkStream, StreamAnswer
from locktender.core.errors import QueueFull
from locktender.core.scope import OuterRequest
from locktender.wire.langserve import metachunk_frame

NOTHING: tuple[int, ...] = ()
SCOPE: dict[str, Any] = {"type": "http", "path": "/run/stream"}
HEAD = b'event: metadata\r\ndata: {"run_id": "r"}\r\n\r\n'
FAILED = b'event: error\r\ndata: {"status_code": 500, "message": "Internal Server Error"}\r\n\r\n'


class Connection:
    """A caller that stays, and what it was sent."""

    def __init__(self, *, may_read: asyncio.Event | None = None) -> None:
        self.messages: list[MutableMapping[str, Any]] = []
        self.is_waiting = asyncio.Event()
        self._may_read = may_read

    async def receive(self) -> MutableMapping[str, Any]:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: MutableMapping[str, Any]) -> None:
        self.messages.append(message)
        if self._may_read is not None and message.get("body"):
            self.is_waiting.set()
            await self._may_read.wait()

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def bodies(self) -> list[bytes]:
        return [message["body"] for message in self.messages[1:]]


def answer(chunks: AsyncIterator[Any], ping_s: float = 15.0) -> StreamAnswer:
    head = metachunk_frame("r")
    return StreamAnswer(ChunkStream(chunks, head, orjson.dumps, ping_s), OuterRequest("o"))


async def test_a_frame_that_is_cut_off_is_no_part_of_the_error_after_it() -> None:
    async def chunks() -> AsyncIterator[Any]:
        yield "x" * 1_000_000

    connection = Connection(may_read=asyncio.Event())
    outer = OuterRequest("o", deadline_at=time.monotonic() + 0.2)
    stream = ChunkStream(chunks(), b"", orjson.dumps, 15.0)
    with anyio.fail_after(10):
        sending = asyncio.create_task(
            StreamAnswer(stream, outer)(SCOPE, connection.receive, connection.send)
        )
        while len(connection.messages) < 3:
            await anyio.lowlevel.checkpoint()
        sending.cancel()
    first, last = connection.bodies
    assert len(first) <= 256 * 1024
    assert last.startswith(b"\r\n\r\nevent: error")


async def played(chunks: AsyncIterator[Any]) -> Connection:
    connection = Connection()
    with anyio.fail_after(10):
        await answer(chunks)(SCOPE, connection.receive, connection.send)
    assert connection.messages[-1].get("more_body") is None
    return connection


async def test_the_run_is_named_together_with_its_first_chunk() -> None:
    async def two() -> AsyncIterator[int]:
        yield 1
        yield 2

    connection = await played(two())
    assert connection.status == 200
    assert connection.bodies == [
        HEAD + b"event: data\r\ndata: 1\r\n\r\n",
        b"event: data\r\ndata: 2\r\n\r\n",
        b"event: end\r\n\r\n",
    ]


async def test_a_run_without_chunks_is_an_end_alone() -> None:
    async def none() -> AsyncIterator[int]:
        for chunk in NOTHING:
            yield chunk

    assert (await played(none())).bodies == [b"event: end\r\n\r\n"]


async def test_a_chunk_that_cannot_be_written_ends_the_stream_and_closes_the_run() -> None:
    is_closed = asyncio.Event()

    async def odd() -> AsyncIterator[Any]:
        try:
            yield {1, 2}
        finally:
            is_closed.set()

    assert (await played(odd())).bodies == [HEAD, FAILED]
    assert is_closed.is_set()


async def test_an_exception_before_the_first_chunk_is_an_event_as_in_langserve() -> None:
    async def fail() -> AsyncIterator[int]:
        for chunk in NOTHING:
            yield chunk
        message = "secret detail"
        raise ValueError(message)

    connection = await played(fail())
    assert (connection.status, connection.bodies) == (200, [FAILED])


async def test_a_refusal_before_the_first_chunk_is_a_status() -> None:
    async def refuse() -> AsyncIterator[int]:
        for chunk in NOTHING:
            yield chunk
        raise QueueFull("No room.", 2.0)

    connection = await played(refuse())
    assert connection.status == 503
    assert (b"retry-after", b"2") in connection.messages[0]["headers"]


async def test_a_caller_that_does_not_read_is_sent_no_pings() -> None:
    may_read = asyncio.Event()
    connection = Connection(may_read=may_read)

    async def one() -> AsyncIterator[int]:
        yield 1

    with anyio.fail_after(10):
        stream = answer(one(), ping_s=0.001)(SCOPE, connection.receive, connection.send)
        task = asyncio.create_task(stream)
        await connection.is_waiting.wait()
        for _ in range(1000):
            await anyio.lowlevel.checkpoint()
        may_read.set()
        await task
    assert not any(body.startswith(b": ping") for body in connection.bodies[:-1])


async def test_a_chunk_waits_for_the_ping_before_it() -> None:
    may_read = asyncio.Event()
    may_go = asyncio.Event()
    connection = Connection(may_read=may_read)

    async def one() -> AsyncIterator[int]:
        await may_go.wait()
        yield 1

    with anyio.fail_after(10):
        stream = answer(one(), ping_s=0.001)(SCOPE, connection.receive, connection.send)
        task = asyncio.create_task(stream)
        await connection.is_waiting.wait()
        may_go.set()
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert [body[:6] for body in connection.bodies] == [b": ping"]
        may_read.set()
        await task
    # The ping and the chunk; further pings may come between, when the machine is slow.
    sent = [body for body in connection.bodies if not body.startswith(b": ping")]
    assert sent == [HEAD + b"event: data\r\ndata: 1\r\n\r\n", b"event: end\r\n\r\n"]


async def test_a_deadline_that_passes_behind_a_ping_is_told_after_it() -> None:
    may_read = asyncio.Event()
    connection = Connection(may_read=may_read)

    async def one() -> AsyncIterator[int]:
        await connection.is_waiting.wait()
        yield 1

    late = OuterRequest("o", deadline_at=time.monotonic() + 0.1)
    stream = StreamAnswer(ChunkStream(one(), b"", orjson.dumps, 0.001), late)
    with anyio.fail_after(10):
        has_expired = asyncio.Event()
        late.cancel.on_set(has_expired.set)
        task = asyncio.create_task(stream(SCOPE, connection.receive, connection.send))
        await has_expired.wait()
        may_read.set()
        await task
    assert b"deadline_exceeded" in connection.bodies[-1]
    assert connection.messages[-1].get("more_body") is None
