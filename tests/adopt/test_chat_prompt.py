"""Prompts are the chat template's own, and tools get into those that have no place for them."""

import copy
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    ToolMessage,
)

from locktender.adopt.chat_prompt import call_start, is_plain, render
from locktender.core.errors import InvalidRequest

WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tell the weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object"}}}
CALL = AIMessage("", tool_calls=[{"name": "weather", "args": {"city": "Köln"}, "id": "call00001"}])
LOOP = [HumanMessage("Rain?"), CALL, ToolMessage("Dry.", tool_call_id="call00001", name="weather")]
# What it is given comes out as it is.
NATIVE = (
    "{% if tools %}T {{ tools | tojson }}\n{% endif %}"
    "{% for m in messages %}{{ m | tojson }}\n{% endfor %}"
)
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}"
    "{{ raise_exception('System role not supported') }}"
    "{% endif %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
)


@pytest.fixture(scope="module")
def tokenizer(hf_folder: Path) -> Any:
    from transformers import AutoTokenizer  # noqa: PLC0415 - it takes seconds

    return AutoTokenizer.from_pretrained(hf_folder)


@pytest.mark.parametrize(
    "messages",
    [
        [HumanMessage("Hi")],
        [SystemMessage("Be brief."), HumanMessage("Hi")],
        [HumanMessage("Hi"), AIMessage("Hello"), HumanMessage(" How are you?\n")],
        [SystemMessage(""), HumanMessage("<|im_end|> {{ 1 }}")],
    ],
)
def test_a_plain_chat_is_written_as_the_bare_object_writes_it(
    tokenizer: Any, messages: list[BaseMessage]
) -> None:
    from langchain_huggingface import ChatHuggingFace  # noqa: PLC0415 - it takes seconds

    chat = ChatHuggingFace.model_construct(tokenizer=tokenizer)
    assert is_plain(messages)
    assert rendered(tokenizer, messages) == chat._to_chat_prompt(messages)  # noqa: SLF001 - it has no public name
    assert rendered(tokenizer, messages, []) == rendered(tokenizer, messages)


def test_text_blocks_are_one_text(tokenizer: Any) -> None:
    blocks = HumanMessage([{"type": "text", "text": "Hi "}, "there"])
    assert rendered(tokenizer, [blocks]) == rendered(tokenizer, [HumanMessage("Hi there")])


def test_what_another_model_has_thought_is_left_out(tokenizer: Any) -> None:
    thought = AIMessage([{"type": "reasoning", "reasoning": "?"}, {"type": "text", "text": "Yes"}])
    assert rendered(tokenizer, [thought]) == rendered(tokenizer, [AIMessage("Yes")])


def test_tools_are_described_where_the_template_passes_over_them(tokenizer: Any) -> None:
    prompt = rendered(tokenizer, [HumanMessage("Rain?")], [WEATHER, TIME])
    assert prompt.startswith("<|im_start|>system\nYou may call functions")
    described = prompt.partition("<tools>\n")[2].partition("\n</tools>")[0]
    assert [json.loads(line) for line in described.splitlines()] == [WEATHER, TIME]
    assert prompt.endswith("<|im_start|>user\nRain?<|im_end|>\n<|im_start|>assistant\n")


def test_tools_come_behind_the_system_message_that_is_there(tokenizer: Any) -> None:
    prompt = rendered(tokenizer, [SystemMessage("Be brief."), HumanMessage("Rain?")], [TIME])
    assert prompt.startswith("<|im_start|>system\nBe brief.\n\nYou may call functions")
    assert prompt.count("<|im_start|>system") == 1


def test_a_model_without_system_messages_is_told_of_tools_in_the_first_turn(
    tokenizer: Any,
) -> None:
    prompt = rendered(_with(tokenizer, NO_SYSTEM), [HumanMessage("Rain?")], [TIME])
    assert prompt.startswith("user: You may call functions")
    assert prompt.endswith("\n\nRain?\n")


def test_calls_and_results_are_text_where_the_template_has_no_place_for_them(
    tokenizer: Any,
) -> None:
    more = [ToolMessage("Warm.", tool_call_id="call00002"), HumanMessage("And now?")]
    assert rendered(tokenizer, [*LOOP, *more]).endswith(
        "<|im_start|>assistant\n<tool_call>\n"
        '{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nDry.\n</tool_response>\n"
        "<tool_response>\nWarm.\n</tool_response><|im_end|>\n"
        "<|im_start|>user\nAnd now?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert not is_plain(LOOP)
    assert not is_plain([*LOOP, *more])


def test_a_template_that_knows_tools_is_given_them(tokenizer: Any) -> None:
    lines = rendered(_with(tokenizer, NATIVE), LOOP, [WEATHER]).splitlines()
    assert json.loads(lines[0].removeprefix("T ")) == [WEATHER]
    assert [json.loads(line) for line in lines[1:]] == [
        {"role": "user", "content": "Rain?"},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [
                {
                    "type": "function",
                    "id": "call00001",
                    "function": {"name": "weather", "arguments": {"city": "Köln"}},
                }
            ],
        },
        {"role": "tool", "content": "Dry.", "name": "weather", "tool_call_id": "call00001"},
    ]


@pytest.mark.parametrize(
    ("template", "tools", "start"),
    [
        (None, [WEATHER], '<tool_call>\n{"name": "weather", "arguments": {"city": "'),
        (None, [TIME], '<tool_call>\n{"name": "time", "arguments": {'),
        (None, [WEATHER, TIME], '<tool_call>\n{"name": "'),
        (
            NATIVE + "{# [TOOL_CALLS] #}",
            [WEATHER],
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "',
        ),
        (NATIVE, [TIME], '<tool_call>\n{"name": "time", "arguments": {'),
        (NATIVE + '{# "parameters": #}', [TIME], '{"name": "time", "parameters": {'),
    ],
)
def test_a_call_begins_in_the_form_that_the_model_knows(
    tokenizer: Any, template: str | None, tools: Sequence[dict[str, Any]], start: str
) -> None:
    assert call_start(_with(tokenizer, template), tools) == start


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [HumanMessage([{"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}])],
        [HumanMessage([{"type": "tool_use", "name": "weather"}])],
        [RemoveMessage(id="1")],
    ],
)
def test_what_a_text_model_cannot_take_is_refused(
    tokenizer: Any, messages: list[BaseMessage]
) -> None:
    with pytest.raises(InvalidRequest):
        rendered(tokenizer, messages)


def test_a_template_that_refuses_the_messages_says_why(tokenizer: Any) -> None:
    with pytest.raises(InvalidRequest, match="System role not supported"):
        rendered(_with(tokenizer, NO_SYSTEM), [SystemMessage("Be brief."), HumanMessage("Hi")])


def test_a_tokenizer_without_a_template_is_refused(tokenizer: Any) -> None:
    bare = copy.copy(tokenizer)
    bare.chat_template = None
    with pytest.raises(InvalidRequest, match="no chat template"):
        rendered(bare, [HumanMessage("Hi")])


def test_a_role_may_be_named(tokenizer: Any) -> None:
    named = ChatMessage(content="Hi", role="user")
    assert rendered(tokenizer, [named]) == rendered(tokenizer, [HumanMessage("Hi")])


def rendered(
    tokenizer: Any, messages: Sequence[BaseMessage], tools: Sequence[dict[str, Any]] | None = None
) -> str:
    return render(tokenizer, messages, tools).text


def _with(tokenizer: Any, template: str | None) -> Any:
    """Return `tokenizer`, with another chat template if there is one."""
    other = copy.copy(tokenizer)
    if template:
        other.chat_template = template
    return other
