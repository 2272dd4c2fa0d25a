"""Say whether a value takes long to write as JSON, without looking at all of it.

What a heavy body was read into may come back in an answer, whole and many times, as chunks and in
events; most of what such a run says is small all the same, and is written where it stands.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

__all__ = ["is_large"]

_MAX_VALUES = 512
_MAX_CHARACTERS = 1_000_000


def is_large(value: Any) -> bool:
    """Whether `value` holds more than 512 others, or a million characters."""
    waiting, n_values, n_characters = [value], 0, 0
    while waiting and n_values <= _MAX_VALUES and n_characters <= _MAX_CHARACTERS:
        here = waiting.pop()
        n_values += 1
        if isinstance(here, str | bytes):
            n_characters += len(here)
            continue
        parts = _parts(here)
        n_values += max(0, len(parts) - _MAX_VALUES)
        waiting.extend(parts[:_MAX_VALUES])
    return n_values > _MAX_VALUES or n_characters > _MAX_CHARACTERS


def _parts(value: Any) -> list[Any]:
    if isinstance(value, Mapping):
        return list(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return list(value)
    return list(vars(value).values()) if isinstance(value, BaseModel) else []
