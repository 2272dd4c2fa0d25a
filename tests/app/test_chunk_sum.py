"""Chunks are added up as adding one after the other would, and long streams in no more time."""

import functools
import operator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessageChunk
from langchain_core.runnables.utils import AddableDict

from locktender.app.chunk_sum import sum_chunks

VALUES = st.one_of(
    st.none(), st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2)
)
DICTS = st.dictionaries(st.sampled_from("abc"), VALUES).map(AddableDict)


def test_of_no_chunks_there_is_no_sum() -> None:
    assert sum_chunks([]) is None


def test_chunks_that_cannot_be_added_have_no_sum() -> None:
    assert sum_chunks([1, "x", 3]) is None
    assert sum_chunks([{"a": 1}, {"b": 2}]) is None
    assert sum_chunks([AddableDict(a=1), [5]]) is None
    assert sum_chunks([AIMessage("a"), 3]) is None
    assert sum_chunks([AddableDict(a=AIMessage("a")), AddableDict(a=3)]) is None
    assert sum_chunks([10**400, 1.5]) is None


@given(st.lists(DICTS, min_size=1))
def test_dicts_add_up_as_langchain_adds_them(chunks: list[AddableDict]) -> None:
    try:
        expected = functools.reduce(operator.add, chunks)
    except TypeError:
        expected = None
    assert sum_chunks(chunks) == expected


@pytest.mark.parametrize(
    "chunks",
    [
        ["a", "b", "c"],
        [1, 2, 3],
        [[1], [2, 3]],
        [HumanMessageChunk(content="a"), HumanMessageChunk(content="b")],
        [AIMessageChunk(content=word, id="1") for word in ("a", "b", "c")],
        [AddableDict(m=AIMessageChunk(content=word)) for word in ("a", "b")],
    ],
)
def test_the_sum_is_what_adding_from_left_to_right_gives(chunks: list[Any]) -> None:
    assert sum_chunks(chunks) == functools.reduce(operator.add, chunks)


def test_a_dict_s_sum_is_no_chunk_of_its_stream() -> None:
    first = AddableDict(a="x")
    sum_chunks([first, AddableDict(a="y")])
    assert first == {"a": "x"}
