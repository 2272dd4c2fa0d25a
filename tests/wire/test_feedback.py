"""Tokens in both their forms, and where they stand in answers."""

from datetime import UTC, datetime

from locktender.wire.feedback import FeedbackToken, tokens_json
from locktender.wire.langserve import (
    RunNotes,
    batch_answer,
    invoke_answer,
    metachunk_frame,
)

TOKEN = FeedbackToken("foo", "http://x/1", datetime(2030, 1, 1, tzinfo=UTC))
TOKENS = b'[{"key":"foo","token_url":"http://x/1","expires_at":"2030-01-01T00:00:00Z"}]'


def test_tokens_end_in_a_z_in_an_answer_and_not_in_an_event() -> None:
    assert tokens_json([TOKEN]) == TOKENS
    assert metachunk_frame("r", [TOKEN]) == (
        b'event: metadata\r\ndata: {"run_id": "r", "feedback_tokens": [{"key": "foo", '
        b'"token_url": "http://x/1", "expires_at": "2030-01-01T00:00:00+00:00"}]}\r\n\r\n'
    )


def test_a_token_may_last_for_ever() -> None:
    token = FeedbackToken("foo", "u", None)
    assert tokens_json([token]).endswith(b'"expires_at":null}]')
    assert b'"expires_at": null' in metachunk_frame("r", [token])


def test_an_answer_holds_the_notes_on_its_run() -> None:
    assert invoke_answer(b"2", "r", RunNotes([TOKENS], [b"[1]"])) == (
        b'{"output":2,"metadata":{"run_id":"r","feedback_tokens":%b},"callback_events":[1]}'
        % TOKENS
    )
    assert invoke_answer(b"2", "r", RunNotes([b"[]"], None)) == invoke_answer(b"2", "r")


def test_a_batch_s_answer_holds_the_notes_on_each_run() -> None:
    answer = batch_answer([b"2", b"3"], ["r", "s"], RunNotes([b"[]", TOKENS], [b"[1]", b"[2]"]))
    assert answer == (
        b'{"output":[2,3],"metadata":{"responses":[{"run_id":"r","feedback_tokens":[]},'
        b'{"run_id":"s","feedback_tokens":%b}],"run_ids":["r","s"]},"callback_events":[[1],[2]]}'
        % TOKENS
    )
    assert batch_answer([], [], RunNotes([], [])).endswith(b',"callback_events":[]}')
