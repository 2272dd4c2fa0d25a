"""A stream is read to its end event, however its bytes are cut, and never ends in silence."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from locktender.app.client_stream import ChunkReader, read_chunks, read_chunks_async
from locktender.core.errors import PeerError, QueueFull

EVENTS = b"text/event-stream; charset=utf-8"
END = b"event: end\r\n\r\n"


def data(text: str) -> bytes:
    return f"event: data\r\ndata: {text}\r\n\r\n".encode()


class Body(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body in pieces, that may break off, and knows whether it was closed."""

    def __init__(self, pieces: list[bytes], error: Exception | None = None) -> None:
        self.is_closed = False
        self._pieces = pieces
        self._error = error

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        if self._error is not None:
            raise self._error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        self.is_closed = True

    async def aclose(self) -> None:
        self.is_closed = True


def served(body: Body, status: int = 200, kind: bytes = EVENTS) -> httpx.MockTransport:
    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers=[(b"content-type", kind)], stream=body)

    return httpx.MockTransport(answer)


def reader(seen: list[str] | None = None) -> ChunkReader:
    return ChunkReader(json.loads, (seen if seen is not None else []).append)


def read(body: Body, **more: Any) -> list[Any]:
    with httpx.Client(transport=served(body, **more)) as client:
        return list(read_chunks(client.stream("POST", "http://x/"), reader()))


async def read_async(body: Body, **more: Any) -> list[Any]:
    async with httpx.AsyncClient(transport=served(body, **more)) as client:
        chunks = read_chunks_async(client.stream("POST", "http://x/"), reader())
        return [chunk async for chunk in chunks]


def both(body: Body, **more: Any) -> list[Any]:
    chunks = read(body, **more)
    assert asyncio.run(read_async(body, **more)) == chunks
    return chunks


@pytest.mark.parametrize("n_bytes", [1, 7, 1000])
def test_chunks_are_the_same_however_their_bytes_are_cut(n_bytes: int) -> None:
    whole = data("1") + b": ping\r\n\r\n" + data('{"a":"\xc3\xa9"}') + END
    pieces = [whole[at : at + n_bytes] for at in range(0, len(whole), n_bytes)]
    assert both(Body(pieces)) == [1, {"a": "\xc3\xa9"}]


def test_what_follows_the_end_is_not_read() -> None:
    assert both(Body([data("1") + END + data("2")])) == [1]


def test_a_stream_without_chunks_is_empty() -> None:
    assert both(Body([END])) == []


@pytest.mark.parametrize("pieces", [[], [data("1")], [data("1"), b"event: end\r\n"]])
def test_a_stream_that_is_cut_off_is_an_error(pieces: list[bytes]) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="cut off") as caught:
        read(Body(pieces))
    assert isinstance(caught.value, PeerError)
    with pytest.raises(httpx.RemoteProtocolError, match="cut off"):
        asyncio.run(read_async(Body(pieces)))


def test_a_connection_that_breaks_is_httpx_s_error() -> None:
    broken = httpx.ReadError("gone")
    with pytest.raises(httpx.ReadError):
        read(Body([data("1")], broken))
    with pytest.raises(httpx.ReadError):
        asyncio.run(read_async(Body([data("1")], broken)))


def test_an_error_event_is_raised_behind_the_chunks_before_it() -> None:
    error = b'event: error\r\ndata: {"status_code":503,"message":"m","code":"queue_full"}\r\n\r\n'
    with httpx.Client(transport=served(Body([data("1") + error]))) as client:
        chunks = read_chunks(client.stream("POST", "http://x/"), reader())
        assert next(chunks) == 1
        with pytest.raises(QueueFull, match="m"):
            next(chunks)


def test_a_refused_stream_is_raised_with_its_body() -> None:
    with pytest.raises(httpx.HTTPStatusError, match=r'for \{"detail":"no"\}') as caught:
        read(Body([b'{"detail":', b'"no"}']), status=422, kind=b"application/json")
    assert caught.value.response.json() == {"detail": "no"}
    with pytest.raises(httpx.HTTPStatusError, match=r'for \{"detail":"no"\}'):
        asyncio.run(read_async(Body([b'{"detail":"no"}']), status=422, kind=b"application/json"))


@pytest.mark.parametrize("kind", [b"application/json", b"", b"text/event-streams"])
def test_an_answer_that_is_no_stream_is_a_breach(kind: bytes) -> None:
    with pytest.raises(AssertionError, match="content type") as caught:
        read(Body([data("1")]), kind=kind)
    assert isinstance(caught.value, PeerError)


def test_a_content_type_may_be_written_in_capitals() -> None:
    assert both(Body([data("1") + END]), kind=b"Text/Event-Stream") == [1]


def test_an_event_that_is_too_large_is_a_breach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("locktender.app.client_stream._MAX_EVENT_BYTES", 40)
    with pytest.raises(ValueError, match="larger than 40 bytes") as caught:
        read(Body([data("1"), data("2" * 40)]))
    assert isinstance(caught.value, PeerError)


def test_an_event_of_no_known_type_is_skipped_and_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    odd = b"event: surprise\r\ndata: 1\r\n\r\n"
    with caplog.at_level(logging.ERROR):
        assert both(Body([odd, odd, data("2"), odd, END])) == [2]
    assert [record.message for record in caplog.records if "surprise" in record.message] == [
        "Events of the type 'surprise' are not known here and are skipped."
    ]


def test_metadata_go_where_they_are_wanted() -> None:
    seen: list[str] = []
    metadata = b'event: metadata\r\ndata: {"run_id": "r"}\r\n\r\n'
    with httpx.Client(transport=served(Body([metadata + data("1") + END]))) as client:
        assert list(read_chunks(client.stream("POST", "http://x/"), reader(seen))) == [1]
    assert seen == ['{"run_id": "r"}']


def test_to_stop_reading_closes_the_answer_at_once() -> None:
    body = Body([data("1"), data("2"), END])
    with httpx.Client(transport=served(body)) as client:
        for chunk in read_chunks(client.stream("POST", "http://x/"), reader()):
            assert chunk == 1
            break
        assert body.is_closed


async def test_to_close_an_asynchronous_stream_closes_the_answer_at_once() -> None:
    body = Body([data("1"), data("2"), END])
    async with httpx.AsyncClient(transport=served(body)) as client:
        chunks = read_chunks_async(client.stream("POST", "http://x/"), reader())
        assert await anext(chunks) == 1
        await chunks.aclose()
        assert body.is_closed
