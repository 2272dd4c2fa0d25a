import io
import json
import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime
from typing import Any, TextIO

import pytest

from locktender.core.events import DrainStarted, Outcome, RequestEnded, RequestReceived
from locktender.ops.log import Log, take_records

MAX_LINES = 10_000  # that the log keeps while nobody reads


@pytest.fixture
def pipe() -> Iterator[tuple[TextIO, TextIO]]:
    """Give both ends of a pipe: its reader and its writer."""
    reader, writer = os.pipe()
    with ExitStack() as ends:
        # What is left in the writer's buffer has nowhere to go when the reader has been closed.
        ends.enter_context(suppress(BrokenPipeError))
        yield (
            ends.enter_context(os.fdopen(reader, encoding="utf-8")),
            ends.enter_context(os.fdopen(writer, "w", encoding="utf-8")),
        )


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def read_until_all_are_told(reader: TextIO, n_events: int) -> tuple[list[int], int]:
    """Return which events were written, by their number, and how many are told to be dropped."""
    kept: list[int] = []
    n_dropped = 0
    while len(kept) + n_dropped < n_events:
        line = json.loads(reader.readline())
        if line["event"] == "LinesDropped":
            n_dropped += line["n"]
        else:
            kept.append(line["in_flight"])
    return kept, n_dropped


def test_each_event_is_one_line_of_json_in_order() -> None:
    stream = io.StringIO()
    log = Log(stream)
    before = datetime.now(UTC).replace(microsecond=0)
    log(RequestReceived("r1", "m", "theirs"))
    log(RequestEnded("r1", "m", Outcome.COMPLETED, total_s=1.23456789, n_tokens=3))
    log.close()
    received, ended = lines(stream)
    assert before <= datetime.fromisoformat(received.pop("at")) <= datetime.now(UTC)
    ended.pop("at")
    assert received == {
        "event": "RequestReceived",
        "request_id": "r1",
        "model": "m",
        "caller_id": "theirs",
    }
    # What is not known is left out, and a duration is no longer than it is exact.
    assert ended == {
        "event": "RequestEnded",
        "request_id": "r1",
        "model": "m",
        "outcome": "completed",
        "total_s": 1.234568,
        "n_tokens": 3,
    }


def test_a_caller_cannot_break_a_line() -> None:
    stream = io.StringIO()
    log = Log(stream)
    log(RequestReceived("r1", "m", 'a"\n{"event": "DrainStarted"}\u2028'))
    log.close()
    (line,) = lines(stream)
    assert line["caller_id"] == 'a"\n{"event": "DrainStarted"}\u2028'


def test_closing_writes_all_that_is_in_line() -> None:
    stream = io.StringIO()
    log = Log(stream)
    for n in range(1000):
        log(DrainStarted(n))
    log.close()
    assert [line["in_flight"] for line in lines(stream)] == list(range(1000))


def test_while_nobody_reads_no_caller_waits_and_what_is_dropped_is_counted_and_told(
    pipe: tuple[TextIO, TextIO],
) -> None:
    reader, writer = pipe
    log = Log(writer)
    n_events = MAX_LINES + 5_000  # more than the line and the pipe together hold
    for n in range(n_events):
        log(DrainStarted(n))
    kept, n_dropped = read_until_all_are_told(reader, n_events)
    log.close()
    assert n_dropped > 0
    # The oldest are kept, and all in order; later ones where the writer has made room meanwhile.
    assert kept[:MAX_LINES] == list(range(MAX_LINES))
    assert kept == sorted(set(kept))


def test_closing_does_not_wait_for_a_reader_that_has_stalled(
    pipe: tuple[TextIO, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("locktender.ops.log._CLOSE_S", 0.01)
    reader, writer = pipe
    log = Log(writer)
    n_events = MAX_LINES + 5_000
    for n in range(n_events):
        log(DrainStarted(n))
    log.close()
    # Only so that the writer's thread is not left with a pipe that nobody reads.
    read_until_all_are_told(reader, n_events)


def test_when_the_reader_is_gone_the_log_is_silent_and_nobody_fails(
    pipe: tuple[TextIO, TextIO],
) -> None:
    reader, writer = pipe
    log = Log(writer)
    reader.close()
    for n in range(3):
        log(DrainStarted(n))
    log.close()


def test_when_the_stream_is_closed_the_log_is_silent_and_nobody_fails() -> None:
    stream = io.StringIO()
    log = Log(stream)
    stream.close()
    log(DrainStarted(1))
    log.close()


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    """Give a logger that nobody else has, as it was before when the test ends."""
    found = logging.getLogger("locktender.of_this_test")
    yield found
    found.handlers, found.propagate = [], True


def test_records_and_events_are_lines_of_one_log_in_order(logger: logging.Logger) -> None:
    stream = io.StringIO()
    log = Log(stream)
    leave = take_records(log, [logger.name])
    logger.warning("first: %d", 1)
    log(DrainStarted(2))
    logger.warning("third")
    leave()
    logger.debug("nobody's")
    log.close()
    assert (logger.handlers, logger.propagate) == ([], True)
    first, second, third = lines(stream)
    assert (first["message"], first["level"]) == ("first: 1", "warning")
    assert second["event"] == "DrainStarted"
    assert third["message"] == "third"


def test_in_a_text_an_event_is_a_line_of_words() -> None:
    stream = io.StringIO()
    log = Log(stream, "text")
    log(RequestReceived("r1", "m", "a\nb"))
    log.close()
    (line,) = stream.getvalue().splitlines()
    assert line.endswith(" RequestReceived request_id=r1 model=m caller_id=a\\nb")


def test_who_records_waits_for_no_reader_and_what_is_dropped_is_told(
    pipe: tuple[TextIO, TextIO], logger: logging.Logger
) -> None:
    reader, writer = pipe
    log = Log(writer)
    take_records(log, [logger.name])
    n_records = MAX_LINES + 5_000
    for n in range(n_records):
        logger.warning("%d", n)
    n_told = 0
    while n_told < n_records:
        line = json.loads(reader.readline())
        n_told += line.get("n", 1)
    log.close()
    assert n_told == n_records


def test_a_record_whose_arguments_do_not_fit_harms_nobody(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    stream = io.StringIO()
    log = Log(stream)
    take_records(log, [logger.name])
    logger.warning("%d", "no number")
    logger.warning("next")
    log.close()
    assert [line["message"] for line in lines(stream)] == ["next"]
