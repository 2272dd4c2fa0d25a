"""Calls are found in every form that models write, whole or in pieces, and nothing else is."""

import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.adopt.tool_call import CallFilter, Parsed, parse

HERMES = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
PARTS = st.sampled_from(
    [
        "<tool_call>",
        "</tool_call>",
        "[TOOL_CALLS]",
        "<tool",
        "[",
        "]",
        "{",
        "}",
        "\n",
        " ",
        '"name": "add"',
        ', "arguments": ',
        '{"name": "add", "arguments": {"a": 1}}',
        '{"name": "add", "parameters": {}}',
        "Let me see.",
        "é",
    ]
)
TEXTS = st.lists(PARTS | st.text(max_size=5), max_size=12)


@pytest.mark.parametrize(
    "text",
    [
        HERMES,
        '<tool_call>{"name": "add", "arguments": {"a": 1}}',  # its end was a stop string
        '<tool_call>{"name": "add", "arguments": {"a": 1}',  # so was its last brace
        '<tool_call>{"name": "add", "arguments": {"a": 1}}}</tool_call>',  # a brace too many
        '<tool_call>{"name": "add", "arguments": "{\\"a\\": 1}"}</tool_call>',
        '<tool_call>{"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}',
        '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}}]',
        '[TOOL_CALLS] [{"name": "add", "arguments": {"a": 1}',
        ' [{"name": "add", "arguments": {"a": 1}}]',  # Mistral's marker is a token of no text
        '{"name": "add", "parameters": {"a": 1}}',
        '{"name": "add", "parameters": {"a": 1}',
    ],
)
def test_a_call_is_found_in_each_form(text: str) -> None:
    parsed = parse(text)
    assert parsed.content == ""
    assert _calls(parsed) == [("add", {"a": 1})]
    assert parsed.invalid_tool_calls == []


@pytest.mark.parametrize(
    "text",
    [
        f"{HERMES}\n{HERMES}",
        '{"name": "add", "parameters": {"a": 1}}; {"name": "add", "parameters": {"a": 1}}',
        f"[TOOL_CALLS] {json.dumps([{'name': 'add', 'arguments': {'a': 1}}] * 2)}",
    ],
)
def test_each_of_several_calls_has_an_id_of_its_own(text: str) -> None:
    calls = parse(text).tool_calls
    assert len({call["id"] for call in calls}) == 2
    assert all(len(call["id"] or "") == 9 for call in calls)


def test_the_text_around_calls_is_the_content() -> None:
    assert parse(f"Let me see.\n\n{HERMES}").content == "Let me see."
    assert parse(f"Let me see. {HERMES} Done.").content == "Let me see.\nDone."


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('<tool_call>{"name": "add", "arguments": {"a": ', "add"),
        ('<tool_call>{"name": "add", "arguments": [1]}</tool_call>', "add"),
        ('<tool_call>{"arguments": {"a": 1}}</tool_call>', None),
        ("<tool_call>add(1)</tool_call>", None),
        ("<tool_call>" + "[" * 100_000, None),
        ('{"name": "add", "parameters": {"a": ', "add"),
        ("[TOOL_CALLS] []", None),
    ],
)
def test_a_call_that_cannot_be_read_is_an_invalid_one(text: str, name: str | None) -> None:
    parsed = parse(text)
    (invalid,) = parsed.invalid_tool_calls
    assert (parsed.content, parsed.tool_calls) == ("", [])
    assert invalid["name"] == name
    assert invalid["args"] is not None
    assert invalid["args"] in text


@pytest.mark.parametrize(
    "text",
    ['{"name": "Ann"}', '{"answer": 42}', "[1, 2]", "{", "A <tool> and a [list].", "  spaced  "],
)
def test_a_text_without_a_call_is_returned_as_it_is(text: str) -> None:
    assert parse(text) == Parsed(text)


@given(TEXTS)
def test_no_text_raises_and_none_without_a_marker_or_json_is_changed(parts: list[str]) -> None:
    text = "".join(parts)
    parsed = parse(text)
    if not any(mark in text for mark in ("<tool_call>", "[TOOL_CALLS]", "{")):
        assert parsed == Parsed(text)


@given(TEXTS)
def test_in_pieces_a_text_has_the_content_and_the_calls_that_it_has_whole(
    pieces: list[str],
) -> None:
    text = "".join(pieces)
    held = CallFilter()
    given_out = "".join(held.feed(piece) for piece in pieces)
    end, whole = held.end(), parse(text)
    assert given_out + end.content == whole.content
    assert _calls(end) == _calls(whole)
    assert len(end.invalid_tool_calls) == len(whole.invalid_tool_calls)


@given(st.lists(st.integers(min_value=1, max_value=12), max_size=30))
def test_no_half_of_a_marker_is_given_out(lengths: list[int]) -> None:
    text = f"Let me see. <b>1</b> [2] {HERMES}"
    assert "".join(_fed(CallFilter(), text, lengths)) == "Let me see. <b>1</b> [2]"


def test_text_that_can_be_no_call_is_given_out_at_once() -> None:
    held = CallFilter()
    assert [held.feed(piece) for piece in ("a", " ", "b <too", "l> c [", "1]")] == [
        "a",
        "",
        " b",
        " <tool> c",
        " [1]",
    ]


def _calls(parsed: Parsed) -> list[tuple[str, object]]:
    return [(call["name"], call["args"]) for call in parsed.tool_calls]


def _fed(held: CallFilter, text: str, lengths: Sequence[int]) -> list[str]:
    """Feed `text` in pieces of these lengths, and then the rest."""
    given_out = []
    for length in [*lengths, len(text)]:
        given_out.append(held.feed(text[:length]))
        text = text[length:]
    return given_out
