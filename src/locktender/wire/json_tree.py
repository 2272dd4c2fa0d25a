"""Look through what a body holds, without recursion and no further than need be.

A body is checked here for what would be slow to read later on, before anybody tries.
"""

import json
from collections.abc import Iterable
from itertools import chain
from typing import Any

__all__ = ["has_more_values", "has_slow_arguments", "is_deeper"]

_CHUNKS = frozenset({"AIMessageChunk", "tool_call_chunks"})  # by which LangChain knows them
_ARGUMENTS = ("args", "arguments")
_MAX_SQUARES = 4_000_000  # of the numbers of characters; 0.05 s


def is_deeper(tree: Any, max_depth: int) -> bool:
    """Whether containers are nested more than `max_depth` deep in `tree`."""
    level, depth = [tree], 0
    while level and depth < max_depth:
        level, depth = _inside(level), depth + 1
    return any(map(_is_container, level))


def has_more_values(tree: Any, most: int) -> bool:
    """Whether there are more than `most` values in `tree`, itself and all that is within."""
    level, n_values = [tree], 0
    while level and n_values <= most:
        n_values += len(level)
        level = _inside(level)
    return n_values > most


def has_slow_arguments(tree: Any) -> bool:
    """Whether `tree` may hold chunks of tool calls whose arguments LangChain completes for long.

    It makes JSON of a text that breaks off by leaving out one character after the other, which
    takes the square of their number in time: a minute for 100,000 blanks.
    """
    level, squares, has_chunks = [tree], 0, False
    while level:
        for here in level:
            if isinstance(here, dict):
                has_chunks |= not _CHUNKS.isdisjoint(here)
                squares += sum(_square(here.get(name)) for name in _ARGUMENTS)
            elif isinstance(here, list) and len(here) > 1 and here[0] in _ARGUMENTS:
                squares += _square(here[1])  # a dict may come as its pairs
            elif isinstance(here, str):
                has_chunks |= here in _CHUNKS
        level = _inside(level)
    return has_chunks and squares > _MAX_SQUARES


def _square(arguments: object) -> int:
    if not isinstance(arguments, str):
        return 0
    try:
        json.loads(arguments, strict=False)
    except (ValueError, RecursionError):
        return len(arguments) ** 2
    return 0


def _inside(values: Iterable[Any]) -> list[Any]:
    return list(chain.from_iterable(map(_parts, values)))


def _is_container(value: Any) -> bool:
    return isinstance(value, dict | list | tuple | set | frozenset)


def _parts(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if _is_container(value) else ()
