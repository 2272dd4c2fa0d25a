import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.wire.json_count import JsonCount, most_values

ESCAPE = re.compile(rb"\\.")
texts = st.text('ab"\\,[]{}:\u00e9\u2200\u4e2d \n')
trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


def n_values(tree: Any) -> int:
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return 1 + sum(map(n_values, parts))


def n_empty(tree: Any) -> int:
    if isinstance(tree, dict | list) and not tree:
        return 1
    parts = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    return sum(map(n_empty, parts))


def counted(*pieces: bytes) -> JsonCount:
    count = JsonCount()
    for piece in pieces:
        count.add(piece)
    return count


def cut(text: bytes, places: list[int]) -> list[bytes]:
    ends = sorted(place % (len(text) + 1) for place in places)
    return [text[at:end] for at, end in zip([0, *ends], [*ends, len(text)], strict=True)]


@given(trees, st.booleans(), st.lists(st.integers(0, 500), max_size=5))
def test_values_are_counted_wherever_a_text_is_cut(
    tree: Any, is_ascii: bool, places: list[int]
) -> None:
    text = json.dumps(tree, ensure_ascii=is_ascii, indent=1).encode()
    count = counted(*cut(text, places))
    # An empty container counts twice: it is not told from one that is not.
    assert count.n_values == n_values(tree) + n_empty(tree)
    assert count.n_bare_bytes == counted(text).n_bare_bytes <= len(text)
    assert count.n_escapes == len(ESCAPE.findall(text))


@given(trees, st.sampled_from(["utf-8-sig", "utf-16", "utf-32-le"]))
def test_in_whatever_encoding_the_count_is_never_too_low(tree: Any, encoding: str) -> None:
    text = json.dumps(tree, ensure_ascii=False).encode(encoding)
    assert counted(text).n_values >= n_values(tree)
    assert most_values(text) >= n_values(tree)


@given(st.binary(), st.lists(st.integers(0, 500), max_size=5))
def test_whatever_the_bytes_are_pieces_count_as_the_whole_does(
    text: bytes, places: list[int]
) -> None:
    # The encoding is told by the first bytes, which must be in the first piece.
    text = b'[1,"' + text
    whole, pieces = counted(text), counted(text[:4], *cut(text[4:], places))
    assert (pieces.n_values, pieces.n_bare_bytes) == (whole.n_values, whole.n_bare_bytes)


@pytest.mark.parametrize(
    ("text", "n"),
    [
        (b'"[,{,"', 1),
        (b'"\\\\",1', 2),
        (b'"\\",1"', 1),
        (b'"\\\\\\",1"', 1),
        (b"[[],[]]", 5),
        (b"", 1),
    ],
)
def test_what_stands_in_a_text_is_no_value(text: bytes, n: int) -> None:
    assert counted(text).n_values == n


def test_white_space_weighs_nothing_and_figures_do() -> None:
    assert counted(b'[ 12,\n\t"abc" ]').n_bare_bytes == len(b"[12,]")
