import json

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError, field_validator

from locktender.core.errors import QueueFull
from locktender.wire.langserve import (
    END_FRAME,
    Unprocessable,
    batch_answer,
    chunk_frame,
    error_details,
    error_frame,
    invoke_answer,
    metachunk_frame,
    parse_batch,
    parse_invoke,
)
from locktender.wire.problem import langserve_problem
from locktender.wire.sse import SseDecoder


def test_an_invoke_body_is_its_input_and_its_config() -> None:
    body = parse_invoke(b'{"input":[1],"config":{"tags":["a"]},"kwargs":[5],"more":1}')
    assert (body.input, body.config) == ([1], {"tags": ["a"]})


@pytest.mark.parametrize("body", [b'{"input":null}', b'{"input":null,"config":null}'])
def test_null_is_an_input_and_no_config(body: bytes) -> None:
    read = parse_invoke(body)
    assert (read.input, read.config) == (None, {})


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_body_is_read_in_whatever_encoding_json_may_have(encoding: str) -> None:
    assert parse_invoke('{"input":"é"}'.encode(encoding)).input == "é"


def test_an_integer_of_any_size_stays_one() -> None:
    assert parse_invoke(b'{"input":%d}' % 2**70).input == 2**70


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"input":1}x', b"[" * 100_000, b"[" * 400 + b"]" * 400]
)
def test_what_is_no_json_is_told_in_langserve_s_words(body: bytes) -> None:
    for parse in (parse_invoke, parse_batch):
        with pytest.raises(Unprocessable) as raised:
            parse(body)
        assert raised.value.detail == ["Invalid JSON body"]


def test_what_is_deeper_than_most_parsers_go_is_still_read() -> None:
    assert parse_invoke(b'{"input":' + b"[" * 300 + b"]" * 300 + b"}").input


def test_letters_that_are_spelt_out_are_read_however_many() -> None:
    assert parse_invoke(b'{"input":"%b"}' % (b"\\u4e2d" * 1_000_001)).input == "\u4e2d" * 1_000_001


@pytest.mark.parametrize("spelling", ["AIMessageChunk", "AIMessage\\u0043hunk"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_arguments_that_would_take_for_ever_to_complete_are_refused(
    spelling: str, encoding: str
) -> None:
    calls = [{"function": {"name": "f", "arguments": '{"a"' + " " * 5_000}, "id": "1"}]
    message = {"content": "", "additional_kwargs": {"tool_calls": calls}, "type": "KIND"}
    text = json.dumps({"input": [message]}).replace("KIND", spelling)
    with pytest.raises(Unprocessable, match="tool_call_chunks"):
        parse_invoke(text.encode(encoding))
    assert parse_invoke(text.replace(spelling, "ai").encode(encoding)).input


@pytest.mark.parametrize(
    ("body", "kind", "place"),
    [
        (b"[1]", "model_type", []),
        (b"{}", "missing", ["input"]),
        (b'{"input":1,"config":"x"}', "dict_type", ["config"]),
    ],
)
def test_a_body_of_another_shape_is_told_as_pydantic_tells_it(
    body: bytes, kind: str, place: list[str]
) -> None:
    with pytest.raises(Unprocessable) as raised:
        parse_invoke(body)
    assert isinstance(raised.value.detail, list)
    (detail,) = raised.value.detail
    assert (detail["type"], detail["loc"]) == (kind, place)


def test_a_batch_has_inputs_and_one_config_or_one_for_each() -> None:
    assert parse_batch(b'{"inputs":[1,2]}').config == {}
    assert parse_batch(b'{"inputs":[1,2],"config":{"tags":[]}}').config == {"tags": []}
    assert parse_batch(b'{"inputs":[1,2],"config":[{},{}]}').config == [{}, {}]


@pytest.mark.parametrize("inputs", [b"5", b"null", b'{"a":1}', b'"ab"'])
def test_the_inputs_of_a_batch_are_a_list(inputs: bytes) -> None:
    with pytest.raises(Unprocessable) as raised:
        parse_batch(b'{"inputs":%b}' % inputs)
    assert isinstance(raised.value.detail, list)
    assert raised.value.detail[0]["loc"] == ["inputs"]


def test_a_null_config_of_a_batch_is_refused_in_langserve_s_words() -> None:
    with pytest.raises(Unprocessable) as raised:
        parse_batch(b'{"inputs":[1],"config":null}')
    assert raised.value.detail == "Value for 'config' key must be a dict or list if provided"


def test_the_error_of_a_validator_is_told_without_the_exception() -> None:
    class Positive(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, value: int) -> int:
            message = "must be positive"
            raise ValueError(message, value)

    with pytest.raises(ValidationError) as raised:
        Positive(n=-1)
    (detail,) = error_details(raised.value, "inputs", 3)
    assert detail["loc"] == ["inputs", 3, "n"]
    assert detail["ctx"] == {"error": {}}


def test_of_very_many_errors_only_their_number_is_told() -> None:
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(list[int]).validate_python(["x"] * 1_001)
    (detail,) = error_details(raised.value, "inputs", 3)
    assert detail["loc"] == ["inputs", 3]
    assert "1,001 errors" in detail["msg"]
    with pytest.raises(ValidationError) as raised:
        TypeAdapter(list[int]).validate_python(["x"] * 1_000)
    assert len(error_details(raised.value)) == 1_000


def test_an_answer_names_its_run() -> None:
    assert invoke_answer(b"2", "r") == (
        b'{"output":2,"metadata":{"run_id":"r","feedback_tokens":[]}}'
    )
    assert batch_answer([b"2", b"[]"], ["r", "s"]) == (
        b'{"output":[2,[]],"metadata":{"responses":[{"run_id":"r","feedback_tokens":[]},'
        b'{"run_id":"s","feedback_tokens":[]}],"run_ids":["r","s"]}}'
    )
    assert batch_answer([], []) == b'{"output":[],"metadata":{"responses":[],"run_ids":[]}}'


def test_frames_are_langserve_s_to_the_byte() -> None:
    assert metachunk_frame("r") == b'event: metadata\r\ndata: {"run_id": "r"}\r\n\r\n'
    assert chunk_frame(b'{"a":1}') == b'event: data\r\ndata: {"a":1}\r\n\r\n'
    assert END_FRAME == b"event: end\r\n\r\n"
    assert error_frame(langserve_problem(ValueError())) == (
        b'event: error\r\ndata: {"status_code": 500, "message": "Internal Server Error"}\r\n\r\n'
    )


def test_an_error_of_ours_has_its_code_in_its_frame() -> None:
    (event,) = SseDecoder().feed(error_frame(langserve_problem(QueueFull("No room."))))
    assert json.loads(event.data) == {
        "status_code": 503,
        "message": "No room.",
        "code": "queue_full",
    }


def test_a_chunk_with_line_breaks_arrives_whole() -> None:
    (event,) = SseDecoder().feed(chunk_frame(b'{\n "a": 1\n}'))
    assert (event.event, json.loads(event.data)) == ("data", {"a": 1})
