from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.core import errors
from locktender.core.errors import (
    AnswerUnread,
    CapacityError,
    ConfigError,
    ContextTooLong,
    DeadlineExceeded,
    EngineStartError,
    InvalidRequest,
    LocktenderError,
    PeerError,
    QueueFull,
    ReplicaLost,
    RequestError,
)
from locktender.core.request import FinishReason
from locktender.wire.openai_answer import Answer, ChunkReader, parse_completion, parse_error
from locktender.wire.openai_reply import DONE, ChunkEncoder, Usage, completion, error_frame
from locktender.wire.problem import openai_problem
from locktender.wire.sse import encode_comment

TEXTS = ["Là ", "\u2028", "\r\n", "data: {}", "🛶"]
USAGE = Usage(3, 5)


def _frames() -> bytes:
    encoder = ChunkEncoder(id="chatcmpl-1", model="m", created=1, include_usage=True)
    return b"".join(
        [
            encode_comment("waiting"),
            encoder.first(),
            *map(encoder.text, TEXTS),
            encoder.last(FinishReason.LENGTH),
            encoder.usage(USAGE),
            DONE,
        ]
    )


@given(st.lists(st.integers(0, len(_frames())), max_size=30))
def test_a_stream_reads_the_same_however_its_bytes_are_cut(cuts: list[int]) -> None:
    frames = _frames()
    ends = [0, *sorted(cuts), len(frames)]
    reader = ChunkReader()
    texts = [reader.feed(frames[a:b]) for a, b in pairwise(ends)]

    assert "".join(texts) == "".join(TEXTS)
    assert reader.is_done
    assert reader.end() == Answer("", "length", USAGE, "chatcmpl-1", "m")


def test_what_arrives_at_once_is_one_piece() -> None:
    assert ChunkReader().feed(_frames()) == "".join(TEXTS)


def test_lines_may_end_in_carriage_returns_too() -> None:
    reader = ChunkReader()
    assert reader.feed(_frames().replace(b"\n", b"\r\n")) == "".join(TEXTS)
    assert reader.is_done


def test_an_error_within_a_stream_waits_behind_the_text_before_it() -> None:
    encoder = ChunkEncoder(id="chatcmpl-1", model="m", created=1, include_usage=True)
    frame = error_frame(openai_problem(ReplicaLost("The engine has died.")))
    reader = ChunkReader()

    assert reader.feed(encoder.text("so far") + frame + encoder.text("never")) == "so far"
    assert isinstance(reader.error, ReplicaLost)
    assert reader.error.message == "The engine has died."
    with pytest.raises(PeerError, match="before its answer was complete"):
        reader.end()


@pytest.mark.parametrize(
    "line",
    [
        b"data: nothing\n",
        b"data: [1]\n",
        b"data: {}\n",
        b'data: {"choices": {"0": 1}}\n',
        b'data: {"choices": [{"delta": null}]}\n',
        b'data: {"choices": [{"delta": {"content": 1}}]}\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": "x", "completion_tokens": 1}}\n',
        b"data: " + b"x" * (5 * 1024 * 1024),
    ],
)
def test_an_event_of_another_shape_is_the_peers_fault(line: bytes) -> None:
    reader = ChunkReader()
    assert reader.feed(line) == ""
    assert isinstance(reader.error, PeerError)


def test_a_whole_answer_is_read() -> None:
    body = completion(
        id="chatcmpl-1",
        model="m",
        created=1,
        text="Yes.",
        finish_reason=FinishReason.STOP,
        usage=USAGE,
    )
    assert parse_completion(body) == Answer("Yes.", "stop", USAGE, "chatcmpl-1", "m")


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"choices": []}', b'{"choices": [{}]}'])
def test_a_whole_answer_of_another_shape_is_the_peers_fault(body: bytes) -> None:
    with pytest.raises(PeerError):
        parse_completion(body)


# What a caller may get; the others end a start, or a connection.
SENT = [
    kind
    for name in errors.__all__
    if (kind := getattr(errors, name)) not in {AnswerUnread, ConfigError, EngineStartError}
]


@pytest.mark.parametrize("kind", SENT)
def test_an_error_comes_back_as_what_it_was(kind: type[LocktenderError]) -> None:
    problem = openai_problem(kind("A sentence."))
    error = parse_error(problem.status, problem.body, problem.headers.get("retry-after"))
    assert error.code == kind.code
    assert error.message == "A sentence."
    # One class may stand for its family, if the two share a code.
    assert issubclass(kind, type(error)) or issubclass(type(error), kind)


def test_an_error_keeps_its_field_and_the_time_to_come_again() -> None:
    problem = openai_problem(QueueFull("Full.", 6.4))
    refused = parse_error(problem.status, problem.body, problem.headers["retry-after"])
    assert isinstance(refused, QueueFull)
    assert refused.retry_after_s == 7
    too_long = parse_error(400, openai_problem(ContextTooLong("Too long.", "messages")).body)
    assert isinstance(too_long, RequestError)
    assert too_long.param == "messages"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidRequest),
        (422, InvalidRequest),
        (429, CapacityError),
        (503, CapacityError),
        (504, DeadlineExceeded),
        (401, PeerError),
        (500, PeerError),
    ],
)
def test_of_other_services_the_status_decides(status: int, kind: type[LocktenderError]) -> None:
    body = orjson.dumps({"error": {"message": "No.", "code": "their_own"}})
    assert type(parse_error(status, body, "Wed, 21 Oct 2015 07:28:00 GMT")) is kind


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"error": "no"}', b'{"detail": 1}'])
def test_an_error_that_does_not_say_why_is_told_by_its_status(body: bytes) -> None:
    error = parse_error(502, body)
    assert isinstance(error, PeerError)
    assert "502" in error.message


@pytest.mark.parametrize("body", [b"", b'{"detail":"Not Found"}'])
def test_what_has_no_such_path_is_probably_no_model_service(body: bytes) -> None:
    for status in (404, 405):
        message = parse_error(status, body).message
        assert message.startswith(f"What answered {status} is probably no model service:")
