"""The bounds of a connection, on real sockets."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, TypeAlias

import anyio
import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.server import ServerState

from locktender.http.door import Wire
from locktender.http.settings import ConnectionSettings, Doors, DoorSettings
from locktender.http.stack import server_config
from locktender.wire.problem import langserve_problem

GET = b"GET /path HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /path HTTP/1.1\r\nHost: a\r\n"
LARGE = 40_000_000
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
PAIR: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect: TypeAlias = Callable[..., Awaitable[PAIR]]


class Echo:
    """An app that answers with what it was sent; at /wait, when it is told to or left.

    At /large it answers with more than any system takes in between.
    """

    def __init__(self) -> None:
        self.is_waiting = asyncio.Event()
        self.is_left = asyncio.Event()
        self.goes_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/early":
            await _answer(send, b"", 401)
            return
        if scope["path"] == "/large":
            headers = [(b"content-length", str(LARGE).encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            part = {"type": "http.response.body", "body": bytes(LARGE - 1), "more_body": True}
            await send(part)
            self.is_waiting.set()
            await send({"type": "http.response.body", "body": b"."})
            self.is_left.set()
            return
        body, has_more = b"", True
        while has_more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.is_left.set()
                return
            body, has_more = body + message["body"], message["more_body"]
        if scope["path"] == "/wait":
            self.is_waiting.set()
            await self._stay(receive)
        names = [name.decode() for name, _ in scope["headers"]]
        await _answer(send, json.dumps([scope["method"], body.decode(), names]).encode())

    async def _stay(self, receive: Receive) -> None:
        async def hear() -> None:
            if (await receive())["type"] == "http.disconnect":
                self.is_left.set()

        hearing = asyncio.create_task(hear())
        waiting = asyncio.create_task(self.goes_on.wait())
        await asyncio.wait([hearing, waiting], return_when=asyncio.FIRST_COMPLETED)
        hearing.cancel()
        waiting.cancel()


async def _answer(send: Send, body: bytes, status: int = 200) -> None:
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
async def connect(echo: Echo) -> AsyncIterator[Connect]:
    """Give a function that connects to a server of `echo`, which the first call starts."""
    servers: list[asyncio.Server] = []
    writers: list[asyncio.StreamWriter] = []
    state = ServerState()

    async def start(settings: ConnectionSettings) -> None:
        wire = Wire(langserve_problem, takes_x_api_key=True)
        doors = Doors(DoorSettings(hosts=None), settings)
        config = server_config(echo, doors, wire, lifespan="off", ws="none")
        config.load()
        protocol: Any = config.http_protocol_class
        made = partial(protocol, config=config, server_state=state, app_state={})
        servers.append(await asyncio.get_running_loop().create_server(made, "127.0.0.1", 0))

    async def open_one(**settings: Any) -> PAIR:
        if not servers:
            await start(ConnectionSettings(**settings))
        port = servers[0].sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        return reader, writer

    with anyio.fail_after(30):
        yield open_one
        echo.goes_on.set()
        for writer in writers:
            writer.close()
        servers[0].close()
        while state.connections or state.tasks:
            await anyio.lowlevel.checkpoint()


async def read_one(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], Any]:
    """Read one answer: its status, headers and JSON."""
    lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
    body = await reader.readexactly(int(headers["content-length"]))
    return int(lines[0].split()[1]), headers, json.loads(body) if body else None


@pytest.mark.parametrize("upgrade", [b"", H2C, b"Connection: upgrade\r\nUpgrade: x\r\n"])
@pytest.mark.parametrize("is_chunked", [True, False])
async def test_a_body_is_read_whatever_protocol_is_offered_with_it(
    connect: Connect, upgrade: bytes, *, is_chunked: bool
) -> None:
    reader, writer = await connect()
    length = b"Transfer-Encoding: chunked\r\n" if is_chunked else b"Content-Length: 6\r\n"
    body = b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n" if is_chunked else b"abcdef"
    for _ in range(2):  # The connection is kept.
        writer.write(POST + upgrade + length + b"\r\n" + body)
        status, _, (method, sent, names) = await read_one(reader)
        assert (status, method, sent) == (200, "POST", "abcdef")
        assert "upgrade" not in names


async def test_it_is_read_too_when_it_comes_in_pieces(connect: Connect) -> None:
    reader, writer = await connect()
    whole = POST + H2C + b"Content-Length: 6\r\n\r\nabcdef"
    for at in range(len(whole)):
        writer.write(whole[at : at + 1])
        await writer.drain()
        await anyio.lowlevel.checkpoint()
    assert (await read_one(reader))[2][1] == "abcdef"


async def test_an_offer_without_a_body_is_answered_and_so_is_what_follows(
    connect: Connect,
) -> None:
    reader, writer = await connect()
    writer.write(GET + H2C + b"\r\n" + POST + b"Content-Length: 1\r\n\r\nb")
    assert [(await read_one(reader))[2][:2] for _ in range(2)] == [["GET", ""], ["POST", "b"]]


async def test_thousands_of_offers_in_one_piece_are_each_answered(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write((GET + H2C + b"\r\n") * 2_000)
    for _ in range(2_000):
        assert (await read_one(reader))[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 3_000 + b" HTTP/1.1\r\n\r\n",
        GET + b"Long: " + b"a" * 3_000,
        GET + b"a" * 3_000,
        GET + b"A: " + b"a" * 1_500 + b"\r\nB: " + b"b" * 1_500 + b"\r\n\r\n",
        GET + b"A: a\r\n" * 30 + b"\r\n",
    ],
    ids=["url", "value", "name", "sum", "count"],
)
async def test_a_head_beyond_its_bounds_is_refused_in_the_servers_form(
    connect: Connect, head: bytes
) -> None:
    reader, writer = await connect(max_header_bytes=2_000, max_headers=20)
    writer.write(head)
    status, headers, body = await read_one(reader)
    assert (status, headers["connection"]) == (431, "close")
    assert body["code"] == "headers_too_large"
    assert await reader.read() == b""


async def test_a_head_within_its_bounds_may_have_a_body_beyond_them(connect: Connect) -> None:
    reader, writer = await connect(max_header_bytes=500, max_headers=20)
    writer.write(POST + b"Content-Length: 9000\r\n\r\n" + b"a" * 9_000)
    assert (await read_one(reader))[2][1] == "a" * 9_000


async def test_a_refusal_is_heard_by_who_is_still_sending(connect: Connect) -> None:
    reader, writer = await connect(max_header_bytes=2_000)
    writer.write(GET + b"Long: " + b"a" * 5_000_000)
    assert (await read_one(reader))[0] == 431


async def test_who_never_stops_sending_is_cut_off(connect: Connect) -> None:
    _, writer = await connect(max_header_bytes=2_000)
    writer.write(GET + b"Long: ")

    async def send() -> None:
        for _ in range(1_000):
            writer.write(b"a" * 100_000)
            await writer.drain()

    with pytest.raises(ConnectionError):
        await send()


@pytest.mark.parametrize("part", [b"", b"GET", GET, b"\r\n", POST + b"Content-Length: 1\r\n"])
async def test_a_head_that_does_not_come_is_not_waited_for(connect: Connect, part: bytes) -> None:
    reader, writer = await connect(header_timeout_s=0.05, idle_timeout_s=0.05)
    if not part:  # It may have been kept for later.
        assert await reader.read() == b""
        return
    writer.write(part)
    status, _, body = await read_one(reader)
    assert (status, body["code"]) == (408, "headers_too_slow")
    assert await reader.read() == b""


async def test_a_slow_head_behind_a_running_request_does_not_disturb_it(
    connect: Connect, echo: Echo
) -> None:
    reader, writer = await connect(header_timeout_s=0.01)
    writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await echo.is_waiting.wait()
    writer.write(b"GET /next HTTP/1.1\r\n")
    for part in (b"Host: a\r\n", b"B: b\r\n", b"\r\n"):
        await asyncio.to_thread(lambda: None)
        writer.write(part)
    echo.goes_on.set()
    assert [(await read_one(reader))[0] for _ in range(2)] == [200, 200]


async def test_trailers_are_no_headers(connect: Connect) -> None:
    reader, writer = await connect()
    chunked = POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n"
    writer.write(chunked + b"X-API-Key: late\r\n\r\n")
    assert (await read_one(reader))[2] == ["POST", "a", ["host", "transfer-encoding"]]


@pytest.mark.parametrize("rest", [b"1;x=", b"0\r\nX: "], ids=["extension", "trailer"])
async def test_what_stands_between_the_pieces_of_a_body_is_bounded(
    connect: Connect, echo: Echo, rest: bytes
) -> None:
    _, writer = await connect(max_header_bytes=2_000)
    writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n" + rest)
    for _ in range(5):
        await writer.drain()
        writer.write(b"a" * 1_000)
        await asyncio.to_thread(lambda: None)
    await echo.is_left.wait()


@pytest.mark.parametrize("what", [b"no http\r\n\r\n", b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"])
async def test_what_is_no_request_is_refused_in_the_servers_form(
    connect: Connect, what: bytes
) -> None:
    reader, writer = await connect()
    writer.write(what)
    status, _, body = await read_one(reader)
    assert (status, body["code"]) == (400, "invalid_request")


@pytest.mark.parametrize("n_sent", [0, 3], ids=["in the body", "in the answer"])
async def test_who_shuts_the_sending_side_counts_as_gone(
    connect: Connect, echo: Echo, n_sent: int
) -> None:
    reader, writer = await connect()
    writer.write(b"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n" + b"abc"[:n_sent])
    if n_sent:
        await echo.is_waiting.wait()
    writer.write_eof()
    await echo.is_left.wait()
    assert await reader.read() == b""


async def test_who_has_the_answer_may_shut_it(connect: Connect) -> None:
    reader, writer = await connect()
    writer.write(GET + b"\r\n")
    assert (await read_one(reader))[0] == 200
    writer.write_eof()
    assert await reader.read() == b""


async def test_a_newcomer_takes_the_place_of_the_one_that_is_idle_for_longest(
    connect: Connect, echo: Echo
) -> None:
    busy, first, second = [await connect(max_connections=3) for _ in range(3)]
    busy[1].write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await echo.is_waiting.wait()
    second[1].write(GET)  # and nothing more: it is as idle as one that says nothing
    first[1].write(GET + b"\r\n")
    assert (await read_one(first[0]))[0] == 200
    newcomer = await connect()
    newcomer[1].write(GET + b"\r\n")
    assert (await read_one(newcomer[0]))[0] == 200
    assert await second[0].read() == b""
    echo.goes_on.set()
    assert (await read_one(busy[0]))[0] == 200
    first[1].write(GET + b"\r\n")
    assert (await read_one(first[0]))[0] == 200


async def test_where_all_are_being_answered_a_newcomer_is_told_when_to_come_again(
    connect: Connect, echo: Echo
) -> None:
    reader, writer = await connect(max_connections=1)
    writer.write(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
    await echo.is_waiting.wait()
    late_reader, late_writer = await connect()
    late_writer.write(GET + b"\r\n")
    status, headers, body = await read_one(late_reader)
    assert (status, body["code"]) == (503, "too_many_connections")
    assert int(headers["retry-after"]) >= 1
    assert await late_reader.read() == b""
    echo.goes_on.set()
    assert (await read_one(reader))[0] == 200


@pytest.mark.parametrize("waits", ["for a body", "to be read"])
async def test_who_keeps_the_server_waiting_goes_for_a_newcomer(
    connect: Connect, echo: Echo, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    monkeypatch.setattr("locktender.http.crowd._PATIENCE_S", 0.0)
    reader, writer = await connect(max_connections=1)
    if waits == "for a body":
        writer.write(POST + b"Content-Length: 100\r\n\r\na")
        newcomer = await connect()
    else:
        writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
        await echo.is_waiting.wait()
        newcomer = await connect()
    newcomer[1].write(GET + b"\r\n")
    assert (await read_one(newcomer[0]))[0] == 200
    with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
        await reader.readexactly(2 * LARGE)


async def test_a_reader_that_does_not_read_is_cut_off_in_time(connect: Connect, echo: Echo) -> None:
    _, writer = await connect(send_timeout_s=0.05)
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    await echo.is_left.wait()


async def test_a_slow_reader_gets_all(connect: Connect) -> None:
    reader, writer = await connect(send_timeout_s=0.5)
    writer.write(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert len(await reader.readexactly(LARGE)) == LARGE


async def test_a_body_in_the_smallest_chunks_is_read(connect: Connect) -> None:
    reader, writer = await connect()
    body = b"1\r\nx\r\n" * 100_000 + b"0\r\n\r\n"
    writer.write(POST + b"Transfer-Encoding: chunked\r\n\r\n" + body)
    assert (await read_one(reader))[2][1] == "x" * 100_000


async def test_a_body_that_comes_after_its_answer_is_not_waited_for_for_ever(
    connect: Connect,
) -> None:
    reader, writer = await connect(idle_timeout_s=0.05)
    writer.write(b"POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 9000\r\n\r\n")
    assert (await read_one(reader))[0] == 401
    writer.write(b"a")
    assert await reader.read() == b""


async def test_an_idle_connection_is_closed_in_its_time(connect: Connect) -> None:
    reader, writer = await connect(idle_timeout_s=0.05)
    writer.write(GET + b"\r\n")
    assert (await read_one(reader))[0] == 200
    assert await reader.read() == b""
