"""Add the chunks of a stream up, as LangChain's callbacks are told of them.

The rule is LangServe's: the sum from left to right, or nothing where two chunks cannot be added.
Adding each chunk to a sum that grows would cost the square of a stream's length; texts, messages
and dicts of them, of which long streams are made, are added at once.  Pure.
"""

import functools
import operator
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from langchain_core.messages import AIMessageChunk
from langchain_core.runnables.utils import AddableDict

__all__ = ["sum_chunks"]

# LangChain's messages and dicts raise all of these for values that are none of their own.
_NO_SUM = (TypeError, ValueError, LookupError, ArithmeticError, NotImplementedError)


def sum_chunks(chunks: Sequence[Any]) -> Any:
    """Return the sum of `chunks`; None for none, and for such as cannot be added."""
    if not chunks:
        return None
    try:
        return _sum(chunks)
    except _NO_SUM:
        return None


def _sum(chunks: Sequence[Any]) -> Any:
    kinds = set(map(type, chunks))
    kind = kinds.pop() if len(kinds) == 1 else None
    if len(chunks) == 1:
        return chunks[0]
    if kind is str:
        return "".join(chunks)
    if kind is list:
        return [item for chunk in chunks for item in chunk]
    if kind is AIMessageChunk:
        return chunks[0] + list(chunks[1:])
    if kind is AddableDict:
        # What cannot be added is for the class to judge: before langchain-core 1.5 it took the
        # later value.
        with suppress(TypeError):
            return _sum_of_dicts(chunks)
    return functools.reduce(operator.add, chunks)


def _sum_of_dicts(chunks: Sequence[AddableDict]) -> AddableDict:
    """Add dicts up as `AddableDict` does: key by key, and what is None counts for nothing."""
    values: dict[Any, list[Any]] = {}
    for chunk in chunks:
        for key, value in chunk.items():
            found = values.setdefault(key, [])
            if value is not None:
                found.append(value)
    return AddableDict({key: _sum(found) if found else None for key, found in values.items()})
