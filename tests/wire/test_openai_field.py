from typing import Any

import orjson
import pytest
from langchain_core.messages import AIMessage, convert_to_openai_messages
from openai.types.chat import ChatCompletionMessage

from locktender.core.errors import InvalidRequest
from locktender.core.request import ChatInput, Message
from locktender.wire.openai import ModelBounds, generation_request, parse_chat_completion
from locktender.wire.openai_field import stop_strings


def _said(role: str, content: object, **fields: object) -> str:
    turn = {"role": role, "content": content, **fields}
    body = parse_chat_completion(orjson.dumps({"model": "m", "messages": [turn]}))
    return body.messages[0].content


def _refusal(turn: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as raised:
        parse_chat_completion(orjson.dumps({"model": "m", "messages": [turn]}))
    return raised.value


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("", ""),
        ("hi", "hi"),
        ([{"type": "text", "text": "hi"}], "hi"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b", "more": 1}], "a\nb"),
    ],
)
def test_content_is_a_string_or_its_text_parts_line_by_line(
    role: str, content: object, text: str
) -> None:
    assert _said(role, content) == text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, ""),
        ([], ""),
        ([{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "a"}], "a"),
        ([{"type": "reasoning", "reasoning": "hm"}], ""),
    ],
)
def test_what_a_model_has_thought_is_no_part_of_what_it_has_said(
    content: object, text: str
) -> None:
    for name in ("reasoning", "reasoning_content", "reasoning_details", "thinking"):
        assert _said("assistant", content, **{name: "hm"}) == text


def test_an_assistants_turn_needs_no_content() -> None:
    for name in ("name", "reasoning_content"):
        turn = {"role": "assistant", name: "hm"}
        body = orjson.dumps({"model": "m", "messages": [turn]})
        assert parse_chat_completion(body).messages[0].content == ""
    assert _refusal({"role": "user"}).message == "`messages[0].content` is missing."


@pytest.mark.parametrize("role", ["system", "developer", "user"])
def test_nobody_else_says_nothing_or_thinks(role: str) -> None:
    silent: list[object] = [None, []]
    for content in silent:
        sentence = "`messages[0].content` must be a string or a list of text parts."
        assert _refusal({"role": role, "content": content}).message == sentence
    thought = {"type": "thinking", "thinking": "hm"}
    text = {"type": "text", "text": "a"}
    assert (
        'a part of type "thinking"' in _refusal({"role": role, "content": [thought, text]}).message
    )
    turn = {"role": role, "content": "a", "reasoning_content": "hm"}
    assert _refusal(turn).param == "messages[0].reasoning_content"


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
    assert sentence in _refusal({"role": "user", "content": content}).message


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
    [
        *("tool_calls", "tool_call_id", "tool_plan", "function_call", "tools", "refusal"),
        *("images", "image_url", "audio", "input_audio", "video"),
        *("documents", "files", "attachments"),
        *("prefix", "partial", "continue_final_message"),
    ],
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
    turn |= {"prefix": False, "documents": [], "function_call": {}, "tool_plan": ""}
    body = parse_chat_completion(orjson.dumps({"model": "m", "messages": [turn]}))
    request = generation_request(body, ModelBounds(1, 1, "plain", frozenset()), id="1")
    assert request.input == ChatInput((Message("assistant", "x"),))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("contnet", "did you mean `content`?"),
        ("tool_cals", "did you mean `tool_calls`?"),
        ("add_generation_prompt", "leave it out."),
        ("parts", "leave it out."),
        ("", "leave it out."),
        ("x" * 100_000, "leave it out."),
    ],
)
def test_a_field_of_a_message_that_nobody_knows_is_refused_with_the_one_that_was_meant(
    name: str, hint: str
) -> None:
    for role in ("user", "assistant"):
        error = _refusal({"role": role, "content": "x", name: False})
        assert error.param == f"messages[0].{name[:60]}"
        assert error.message == f"`{error.param}` is not known here: {hint}"
        assert _said(role, "x", **{name: None}) == "x"


def test_what_clients_send_back_of_a_turn_is_taken() -> None:
    told = ChatCompletionMessage(role="assistant", content="x", annotations=[])
    assert _said(**told.model_dump()) == "x"
    notes = ("id", "index", "created", "annotations", "provider_specific_fields", "metadata")
    for role in ("user", "assistant"):
        assert _said(role, "x", **{name: [{"a": 1}] for name in notes}) == "x"
    langchains = convert_to_openai_messages(
        AIMessage([{"type": "thinking", "thinking": "hm"}], additional_kwargs={"refusal": None})
    )
    assert isinstance(langchains, dict)
    assert _said(**langchains) == ""
