import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from locktender.wire.json_tree import has_more_values, has_slow_arguments, is_deeper

trees = st.recursive(
    st.none() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=15,
)


def parts(tree: Any) -> list[Any]:
    if isinstance(tree, dict):
        return list(tree.values())
    return list(tree) if isinstance(tree, list | tuple) else []


def depth(tree: Any) -> int:
    if not isinstance(tree, dict | list | tuple):
        return 0
    return 1 + max(map(depth, parts(tree)), default=0)


def n_values(tree: Any) -> int:
    return 1 + sum(map(n_values, parts(tree)))


@given(trees, st.integers(0, 8))
def test_depth_is_that_of_the_containers(tree: Any, most: int) -> None:
    assert is_deeper(tree, most) is (depth(tree) > most)


@given(trees, st.integers(0, 20))
def test_all_values_are_counted(tree: Any, most: int) -> None:
    assert has_more_values(tree, most) is (n_values(tree) > most)


def test_what_is_as_deep_as_python_can_make_it_is_looked_through() -> None:
    tree: Any = []
    for _ in range(10_000):
        tree = [tree]
    assert is_deeper(tree, 9_000)
    assert has_more_values(tree, 9_000)


BROKEN = '{"a"' + " " * 3_000  # LangChain tries to complete it once for each blank


@pytest.mark.parametrize(
    "chunk",
    [
        {"tool_call_chunks": [{"args": BROKEN}]},
        [["tool_call_chunks", [[["args", BROKEN], ["id", "1"]]]]],
        {"type": "AIMessageChunk", "tool_call_chunks": [{"args": BROKEN[:1_500]}] * 2},
        {"type": "AIMessageChunk", "tool_calls": [{"function": {"arguments": BROKEN}}]},
    ],
)
def test_long_arguments_that_break_off_are_slow(chunk: Any) -> None:
    assert has_slow_arguments({"input": [chunk]})


@pytest.mark.parametrize(
    "value",
    [
        {"tool_call_chunks": [{"args": json.dumps({"text": "x" * 100_000})}]},
        {"tool_call_chunks": [{"args": BROKEN[:1_000]}, {"args": None}, {}]},
        {"type": "ai", "invalid_tool_calls": [{"args": BROKEN}]},
        {"tool_call_chunks": [], "content": BROKEN},
        ["args", 5, ["args"]],
    ],
)
def test_whole_ones_short_ones_and_other_texts_are_not(value: Any) -> None:
    assert not has_slow_arguments(value)
