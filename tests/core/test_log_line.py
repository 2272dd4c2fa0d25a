"""A line of a log: what is in it, and that it is one, whatever it is about."""

import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from locktender.core.log_line import (
    MAX_LINE_BYTES,
    LineFormatter,
    LogFormat,
    format_in_use,
    write_line,
)
from locktender.core.scope import RequestName, current_request


@pytest.fixture
def request_name() -> Iterator[RequestName]:
    name = RequestName("r-1", "/chain/invoke")
    token = current_request.set(name)
    yield name
    current_request.reset(token)


def record_of(message: str, *arguments: object, error: Exception | None = None) -> Any:
    exc_info = None
    if error is not None:
        try:
            raise error
        except Exception:  # noqa: BLE001 - a record has what was raised
            exc_info = sys.exc_info()
    return logging.LogRecord("a.b", logging.ERROR, "f.py", 1, message, arguments, exc_info)


def line_of(kind: LogFormat, record: logging.LogRecord) -> str:
    return LineFormatter(kind).format(record)


def test_a_failure_is_one_line_of_json_with_its_request_and_its_traceback(
    request_name: RequestName,
) -> None:
    line = line_of("json", record_of("%s failed", "it", error=ValueError("two\nlines, \u00e9")))
    assert "\n" not in line
    assert line.isascii()
    fields = json.loads(line)
    fields.pop("at")
    told = fields.pop("traceback")
    assert told.startswith("Traceback (most recent call last):\n")
    assert told.endswith("ValueError: two\nlines, \u00e9")
    assert fields == {
        "level": "error",
        "logger": "a.b",
        "message": "it failed",
        "request_id": request_name.id,
        "route": request_name.route,
        "exception": "ValueError: two\nlines, \u00e9",
    }


def test_a_cause_is_told_with_what_it_caused() -> None:
    error = RuntimeError("outer")
    error.__cause__ = KeyError("inner")
    told = json.loads(line_of("json", record_of("no", error=error)))["traceback"]
    assert told.index("inner") < told.index("direct cause") < told.index("outer")


def test_a_record_of_nobodys_request_names_none() -> None:
    assert set(json.loads(line_of("json", record_of("up")))) == {
        *("at", "level", "logger", "message"),
    }


def test_what_a_record_says_of_its_request_goes_before_where_it_was_written(
    request_name: RequestName,
) -> None:
    record = record_of("no")
    record.fields = {"request_id": "another", "route": None}
    fields = json.loads(line_of("json", record))
    assert fields["request_id"] == "another" != request_name.id
    assert "route" not in fields


@pytest.mark.usefixtures("request_name")
def test_a_text_has_the_traceback_below_its_line() -> None:
    first, *below = line_of("text", record_of("no", error=ValueError("why"))).split("\n")
    assert first.endswith("error a.b no request_id=r-1 route=/chain/invoke")
    assert below[0] == "Traceback (most recent call last):"
    assert below[-1] == "ValueError: why"


@pytest.mark.parametrize("sent", ["a\nINFO all is well", "a\x1b[2J", "a\r", "a\u2028b", "a\x00"])
def test_a_caller_can_neither_break_a_line_nor_command_a_terminal(sent: str) -> None:
    text = line_of("text", record_of("%s failed", sent))
    assert text.isprintable()
    assert len(text.splitlines()) == 1
    assert json.loads(line_of("json", record_of("%s", sent)))["message"] == sent


@pytest.mark.parametrize("kind", ["json", "text"])
@pytest.mark.parametrize("letter", ["x", "\u00e9", "\x00", "\U0001f600", "\udc80", "\n"])
def test_no_line_is_longer_than_the_bound(kind: LogFormat, letter: str) -> None:
    line = line_of(kind, record_of("%s", letter * 50_000, error=ValueError(letter * 90_000)))
    assert len(line.encode("utf-8", "backslashreplace")) <= MAX_LINE_BYTES
    assert "characters left out" in line


def test_what_is_cut_keeps_its_begin_and_its_end() -> None:
    fields = json.loads(
        write_line({"at": "now", "traceback": "begin " + "x" * 10**6 + " end"}, "json")
    )
    assert fields["at"] == "now"
    assert fields["traceback"].startswith("begin xx")
    assert fields["traceback"].endswith("xx end")


def test_what_has_no_text_to_cut_is_written_as_it_is() -> None:
    assert json.loads(write_line({"n": 1, "is_so": True}, "json")) == {"n": 1, "is_so": True}


def test_the_form_in_use_is_that_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    own = logging.StreamHandler()
    monkeypatch.setattr(logging.getLogger("locktender"), "handlers", [own])
    assert format_in_use() == "text"  # an app has a log of its own
    own.setFormatter(LineFormatter("json"))
    assert format_in_use() == "json"
