"""Say whether a model makes sets, or dicts with keys that are no texts, of what it validates.

Python's hash of a text has a secret in it.  That of a number has none, so that whoever chooses the
numbers can have a set of them take the square of their number in time, in one step of validation
in which nobody else is served.  JSON's own objects have texts for keys.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from pydantic import BaseModel

__all__ = ["hashes_values"]

# Kinds of pydantic's core schemas of which nobody can choose many with one hash.
_HARMLESS = ("bool", "bytes", "enum", "literal", "none", "str")
_TEXTS = (*_HARMLESS, "any")  # as the keys of JSON's objects are


@lru_cache(maxsize=256)
def hashes_values(model: type[BaseModel]) -> bool:
    """Whether an input of `model` has a set, or such a dict, anywhere in it."""
    model.model_rebuild(raise_errors=False)
    if not model.__pydantic_complete__:
        return True  # it may have
    return any(map(_is_hashed, _mappings(model.__pydantic_core_schema__)))


def _is_hashed(schema: Mapping[str, Any]) -> bool:
    if schema.get("type") in ("set", "frozenset"):
        return _kind(schema.get("items_schema")) not in _HARMLESS
    return schema.get("type") == "dict" and _kind(schema.get("keys_schema")) not in _TEXTS


def _kind(schema: Any) -> Any:
    return schema.get("type") if isinstance(schema, Mapping) else "any"


def _mappings(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping within `schema`, itself included; some are no schemas, but defaults."""
    waiting, seen = [schema], set()
    while waiting:
        here = waiting.pop()
        if id(here) in seen or not isinstance(here, Mapping | list | tuple):
            continue
        seen.add(id(here))
        if isinstance(here, Mapping):
            yield here
            here = list(here.values())
        waiting.extend(here)
