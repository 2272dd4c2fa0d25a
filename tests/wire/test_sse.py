import pytest

from locktender.core.errors import PeerError
from locktender.wire.sse import (
    ServerSentEvent,
    SseDecoder,
    encode_comment,
    encode_event,
)


def test_a_frame_has_its_name_its_id_and_one_data_line_for_each_line() -> None:
    frame = encode_event("one\ntwo\r\nthree\rfour", event="data", id="7")
    assert frame == (b"event: data\nid: 7\ndata: one\ndata: two\ndata: three\ndata: four\n\n")


def test_a_frame_without_a_name_is_data_alone() -> None:
    assert encode_event("[DONE]") == b"data: [DONE]\n\n"
    assert encode_event("") == b"data: \n\n"


def test_line_ends_are_those_that_are_asked_for() -> None:
    frame = encode_event("one\ntwo", event="data", line_end="\r\n")
    assert frame == b"event: data\r\ndata: one\r\ndata: two\r\n\r\n"
    assert encode_comment("ping", line_end="\r\n") == b": ping\r\n\r\n"


@pytest.mark.parametrize("field", ["event", "id"])
@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b"])
def test_a_name_cannot_break_out_of_its_line(field: str, text: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        encode_event("x", **{field: text})


def test_a_comment_is_skipped_by_readers_even_one_of_two_lines() -> None:
    assert encode_comment("keep-alive") == b": keep-alive\n\n"
    assert SseDecoder().feed(encode_comment("one\ndata: two") + encode_event("x")) == [
        ServerSentEvent("x")
    ]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        # The examples of the standard's section on interpreting a stream.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [ServerSentEvent("YHOO\n+2\n10")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third",
            [ServerSentEvent("first event", id="1"), ServerSentEvent("second event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [ServerSentEvent(""), ServerSentEvent("\n")]),
        (b"data:test\n\ndata: test\n\n", [ServerSentEvent("test")] * 2),
        # Beyond them.
        (b"\xef\xbb\xbfdata: marked\n\n", [ServerSentEvent("marked")]),
        (
            b"id: 5\ndata: a\n\ndata: b\n\n",
            [ServerSentEvent("a", id="5"), ServerSentEvent("b", id="5")],
        ),
        (b"id: 5\nid: 6\0\ndata: a\n\n", [ServerSentEvent("a", id="5")]),
        (b"retry: 10\nfoo: bar\ndata: a\n\n", [ServerSentEvent("a")]),
        (b"event: end\r\n\r\n", [ServerSentEvent("", event="end")]),
        (b"event: a\rdata: x\r\rdata: y\r\r", [ServerSentEvent("x", "a"), ServerSentEvent("y")]),
        (b"data: \xff\n\n", [ServerSentEvent("\ufffd")]),
        ("data: a\u2028b\x0bc\n\n".encode(), [ServerSentEvent("a\u2028b\x0bc")]),
    ],
)
def test_streams_are_read_as_the_standard_says(
    stream: bytes, events: list[ServerSentEvent]
) -> None:
    assert SseDecoder().feed(stream) == events


@pytest.mark.parametrize(
    "stream",
    [
        b"data: " + b"x" * 100,  # a line without an end
        b"data: xxxxxxxxx\n" * 10,  # an event without an end
        b"data\n" * 100,  # one that is made of empty lines
        b":" + b"x" * 100,
    ],
)
def test_an_event_larger_than_the_limit_is_refused_in_one_piece_and_byte_by_byte(
    stream: bytes,
) -> None:
    with pytest.raises(PeerError, match="larger than 64 bytes"):
        SseDecoder(max_event_bytes=64).feed(stream)
    decoder = SseDecoder(max_event_bytes=64)
    for byte in stream[:64]:
        assert decoder.feed(bytes([byte])) == []
    with pytest.raises(PeerError):
        [decoder.feed(bytes([byte])) for byte in stream[64:]]


def test_many_events_within_the_limit_are_read_whatever_they_are_together() -> None:
    decoder = SseDecoder(max_event_bytes=64)
    assert len(decoder.feed(encode_event("x" * 50) * 1000)) == 1000
