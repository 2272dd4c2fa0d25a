import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from locktender.wire.sse import ServerSentEvent, SseDecoder, encode_comment, encode_event

# Text rich in what the framing is made of.
_TEXT = st.text(
    st.one_of(st.sampled_from("\r\n: \0\u2028\x85\ufeff"), st.characters(codec="utf-8"))
)
_NAME = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"))
_LINE_END = st.sampled_from(["\n", "\r\n", "\r"])
_STREAM = st.lists(st.sampled_from([b"data", b"event", b"id", b":", b" ", b"\r", b"\n", b"x\xff"]))


def _cut(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(stream) + 1) for place in places), len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]


def _read(pieces: list[bytes]) -> list[ServerSentEvent]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


@given(
    st.lists(st.tuples(_TEXT, _NAME, _NAME, _TEXT), max_size=5),
    _LINE_END,
    st.lists(st.integers(min_value=0)),
)
def test_what_is_written_is_read_back_however_the_stream_is_cut(
    frames: list[tuple[str, str, str, str]], line_end: str, places: list[int]
) -> None:
    stream = b""
    expected = []
    last_id = ""
    for data, name, event_id, comment in frames:
        stream += encode_comment(comment, line_end=line_end)
        stream += encode_event(data, event=name, id=event_id, line_end=line_end)
        last_id = event_id or last_id
        lines = re.sub(r"\r\n|\r", "\n", data)
        expected.append(ServerSentEvent(lines, name or "message", last_id))
    assert _read(_cut(stream, places)) == expected


@given(st.one_of(st.binary(), _STREAM.map(b"".join)), st.lists(st.integers(min_value=0)))
def test_any_bytes_give_the_same_events_however_they_are_cut(
    stream: bytes, places: list[int]
) -> None:
    assert _read(_cut(stream, places)) == _read([stream])
