from typing import Any

import orjson
import pytest

from locktender.core.errors import InvalidRequest
from locktender.core.request import ChatInput, Message
from locktender.wire.openai import ModelBounds, generation_request, parse_chat_completion
from locktender.wire.openai_field import stop_strings, text_of


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", ""),
        ("hi", "hi"),
        ([{"type": "text", "text": "hi"}], "hi"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "more": 1}], "a\nb"),
        # What a model has thought is no part of what it has said.
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}], "a"),
        ([{"type": "reasoning", "reasoning": "hm"}], ""),
    ],
)
def test_content_is_a_string_or_its_text_parts_line_by_line(content: object, text: str) -> None:
    assert text_of(content) == text


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "must be a string or a list of text parts"),
        ([], "must be a string or a list of text parts"),
        (5, "must be a string or a list of text parts"),
        (
            [{"type": "image_url", "image_url": {"url": "x"}}],
            'has a part of type "image_url", but this model takes text only',
        ),
        ([{"type": "text"}], "must have parts of the form"),
        ([{"type": "text", "text": None}], "must have parts of the form"),
        ([{"type": 5, "text": "x"}], "must have parts of the form"),
        ([{"text": "x"}], "must have parts of the form"),
        (["x"], "must have parts of the form"),
    ],
)
def test_content_that_is_not_text_is_refused(content: object, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        text_of(content)


@pytest.mark.parametrize(
    ("value", "strings"),
    [
        (None, ()),
        ([], ()),
        ("a", ("a",)),
        (["a", "b"], ("a", "b")),
        (["a"] * 16, ("a",) * 16),
        ("x" * 256, ("x" * 256,)),
    ],
)
def test_stop_strings_are_read(value: object, strings: tuple[str, ...]) -> None:
    assert stop_strings(value) == strings


@pytest.mark.parametrize("value", ["", [""], ["a"] * 17, "x" * 257, 5, {}, [5], [None], [["a"]]])
def test_wrong_stop_strings_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="must"):
        stop_strings(value)


@pytest.mark.parametrize(
    "field",
    ["tool_calls", "function_call", "tools", "images", "audio", "refusal", "prefix", "partial"],
)
def test_a_turn_that_called_tools_is_refused_and_not_read_without_them(field: str) -> None:
    turn = {"role": "assistant", "content": "x", field: [{"id": "1"}]}
    with pytest.raises(InvalidRequest) as raised:
        parse_chat_completion(orjson.dumps({"model": "m", "messages": [turn]}))
    param = f"messages[0].{field}"
    assert raised.value.message == f"`{param}` is not supported by this model service."
    assert raised.value.param == param


def test_a_turn_with_no_tools_in_it_is_taken() -> None:
    turn: dict[str, Any] = {"role": "assistant", "content": "x", "tool_calls": [], "audio": None}
    turn["prefix"] = False
    body = parse_chat_completion(orjson.dumps({"model": "m", "messages": [turn]}))
    request = generation_request(body, ModelBounds(1, 1, "plain", frozenset()), id="1")
    assert request.input == ChatInput((Message("assistant", "x"),))
