"""What a LangServe service answers is read, and what is none of its forms is a PeerError."""

import orjson
import pytest

from locktender.core.errors import DeadlineExceeded, PeerError, QueueFull
from locktender.wire.langserve import batch_answer, error_frame, invoke_answer
from locktender.wire.langserve_answer import parse_answer, parse_error, parse_error_event
from locktender.wire.problem import langserve_problem
from locktender.wire.sse import SseDecoder


def test_an_invoke_s_answer_is_read_as_it_was_written() -> None:
    answer = parse_answer(invoke_answer(b"2", "r1"))
    assert answer.output == 2
    assert answer.runs == [{"run_id": "r1", "feedback_tokens": []}]
    assert answer.callback_events is None


def test_a_batch_s_answer_has_an_entry_for_each_run() -> None:
    answer = parse_answer(batch_answer([b"2", b"3"], ["r1", "r2"]))
    assert answer.output == [2, 3]
    assert [run["run_id"] for run in answer.runs] == ["r1", "r2"]


def test_callback_events_are_passed_on_unread() -> None:
    assert parse_answer(b'{"output":1,"callback_events":[{}]}').callback_events == [{}]


@pytest.mark.parametrize(
    "metadata", [b"null", b"1", b"[]", b"{}", b'{"responses":1}', b'{"responses":[1]}']
)
def test_metadata_of_another_form_are_no_error(metadata: bytes) -> None:
    answer = parse_answer(b'{"output":null,"metadata":%b}' % metadata)
    assert answer.output is None
    assert all(isinstance(run, dict) for run in answer.runs)


@pytest.mark.parametrize("body", [b"", b"{", b"[1]", b"{}", b'"x"', b"\xff", b"[" * 100_000])
def test_an_answer_of_another_form_is_a_breach(body: bytes) -> None:
    with pytest.raises(PeerError, match="no `output`"):
        parse_answer(body)


def test_a_refusal_is_read_as_it_was_written() -> None:
    problem = langserve_problem(QueueFull("Full.", 3.2))
    error = parse_error(problem.body, problem.headers["retry-after"])
    assert isinstance(error, QueueFull)
    assert (error.message, error.retry_after_s) == ("Full.", 4)


@pytest.mark.parametrize("retry_after", [None, "", "soon", "-1", "1.5", "9" * 30])
def test_a_time_to_wait_that_is_no_number_is_left_out(retry_after: str | None) -> None:
    error = parse_error(langserve_problem(QueueFull("Full.")).body, retry_after)
    assert isinstance(error, QueueFull)
    assert error.retry_after_s is None


@pytest.mark.parametrize("body", [b"", b"Internal Server Error", b"{}", b'{"code":"queue_full"}'])
def test_a_refusal_without_our_code_and_a_message_is_none_of_ours(body: bytes) -> None:
    assert parse_error(body) is None


def test_an_error_event_is_read_as_it_was_written() -> None:
    error = DeadlineExceeded("Too late.")
    [event] = SseDecoder().feed(error_frame(langserve_problem(error)))
    told = parse_error_event(event.data)
    assert (told.status, told.message) == (504, "Too late.")
    assert isinstance(told.error, DeadlineExceeded)


def test_an_error_event_of_langserve_is_none_of_ours() -> None:
    data = orjson.dumps({"status_code": 500, "message": "Internal Server Error"}).decode()
    told = parse_error_event(data)
    assert (told.status, told.message, told.error) == (500, "Internal Server Error", None)
