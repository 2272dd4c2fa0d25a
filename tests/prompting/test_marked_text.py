"""A marked text is in every way the text that it is, and who wrote it is never lost."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from locktender.core.errors import InvalidRequest
from locktender.prompting.marked_json import marked_json
from locktender.prompting.marked_text import MarkedText, Slips, joined

texts = st.text(alphabet="ab <|>\n\tÄß", max_size=12)
WAYS: dict[str, Callable[[Any, Any], Any]] = {
    "strip": lambda text, _: text.strip(),
    "strip of": lambda text, other: text.strip(other or None),
    "lstrip": lambda text, _: text.lstrip(),
    "rstrip": lambda text, other: text.rstrip(other or None),
    "split": lambda text, _: text.split(),
    "split once": lambda text, _: text.split(None, 1),
    "split by": lambda text, other: text.split(other or "a"),
    "rsplit by": lambda text, other: text.rsplit(other or "a", 1),
    "rsplit once": lambda text, _: text.rsplit(None, 1),
    "splitlines": lambda text, _: text.splitlines(),
    "lines whole": lambda text, _: text.splitlines(True),
    "partition": lambda text, other: text.partition(other or "b"),
    "rpartition": lambda text, other: text.rpartition(other or "b"),
    "removeprefix": lambda text, other: text.removeprefix(other),
    "removesuffix": lambda text, other: text.removesuffix(other),
    "replace": lambda text, other: text.replace(other or "a", "b|"),
    "replace once": lambda text, other: text.replace("a", other, 1),
    "cut": lambda text, other: text[len(other) : -1],
    "reversed": lambda text, _: text[::-1],
    "characters": lambda text, _: list(text),
    "last": lambda text, _: text[-1] if text else "",
    "upper": lambda text, _: text.upper(),
    "title": lambda text, _: text.title(),
    "joined": lambda text, other: text.join([other, "x", other]),
    "before": lambda text, other: other + text,
    "behind": lambda text, other: text + other,
    "length": lambda text, _: len(text),
    "in": lambda text, other: other in text,
    "begins": lambda text, other: text.startswith((other, "b")),
    "place": lambda text, other: text.find(other),
    "equal": lambda text, other: (text == other, other == text, text == str(text), text < other),
    "key": lambda text, other: {"a": 1, "ab": 2}.get(text, {text: 3}.get(other)),
    "kinds": lambda text, _: (text.isspace(), text.isalpha(), bool(text)),
}


@pytest.mark.parametrize("way", WAYS)
@settings(max_examples=25)
@given(text=texts, other=texts)
def test_it_does_what_the_text_does(way: str, text: str, other: str) -> None:
    slips = Slips()
    found = WAYS[way](slips.marked(text), other)
    assert true_of(slips, found) == WAYS[way](text, other)
    if isinstance(found, bool | int):
        assert WAYS[way](slips.marked(text), slips.marked(other)) == found


@given(own=texts, text=texts)
def test_the_marks_go_with_their_characters(own: str, text: str) -> None:
    slips = Slips()
    mixed = joined([own, slips.marked(text), own])
    true, marks = slips.restored(mixed)
    assert (true, marks) == (
        own + text + own,
        bytes(len(own)) + b"\1" * len(text) + bytes(len(own)),
    )
    reversed_text, reversed_marks = slips.restored(mixed[::-1])
    assert (reversed_text, reversed_marks) == (true[::-1], marks[::-1])


@pytest.mark.parametrize(
    "forget",
    [
        lambda text: "%s" % text,  # noqa: UP031 - it is one of the ways
        lambda text: f"{text}",
        lambda text: "".join(list(map(str, [text, ""]))),
        lambda text: str.__str__(text).upper(),
        lambda text: ("%s" % text)[:],  # noqa: UP031 - as above
        lambda text: text * 1,
    ],
)
def test_what_is_done_behind_its_back_brings_it_again(forget: Callable[[str], str]) -> None:
    slips = Slips()
    text = slips.marked("<|im_end|>")
    assert "im_end" not in str.__str__(text)
    true, marks = slips.restored("a" + forget(text) + "b")
    assert true == "a<|im_end|>b"
    assert marks == b"\0" + b"\1" * 10 + b"\0"


def test_a_stand_in_of_another_rendering_is_a_text() -> None:
    theirs = str.__str__(Slips().marked("secret"))
    slips = Slips()
    text = slips.marked(theirs)
    assert slips.restored(f"{text}")[0] == theirs


def test_json_keeps_marks_and_escapes() -> None:
    value = {"name": 'a"\n<|é', "n": [1, None, True], "odd key|": {"role": "user"}, "empty": ""}
    slips = Slips()
    for options in ({"ensure_ascii": False}, {"indent": 2}, {"sort_keys": True}):
        written = marked_json(slips.marked(value), **options)
        true, marks = slips.restored(written)
        assert true == json.dumps(value, **options)
        assert true[marks.index(1)] == "a"
        assert marks[true.index("user")] == 0  # a word of the protocol
        assert marks[true.index("odd")] == 1
    assert marked_json(value) == json.dumps(value)


def test_what_is_no_json_is_marked_as_it_would_be_written() -> None:
    class Odd:
        def __str__(self) -> str:
            return "<|im_end|>"

    found = Slips().marked({"x": Odd(), "n": 1, "t": (True, 1.5, None)})
    assert isinstance(found["x"], MarkedText)
    assert found == {"x": "<|im_end|>", "n": 1, "t": [True, 1.5, None]}


def test_it_is_bounded() -> None:
    with pytest.raises(InvalidRequest, match="too often"):
        Slips().marked(["a"] * 300_000)


def true_of(slips: Slips, value: Any) -> Any:
    if isinstance(value, list | tuple):
        return type(value)(true_of(slips, each) for each in value)
    return slips.restored(value)[0] if isinstance(value, str) else value
