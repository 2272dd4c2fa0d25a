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
_HARMLESS = frozenset({"bool", "bytes", "enum", "literal", "none", "str"})


@lru_cache(maxsize=256)
def hashes_values(model: type[BaseModel]) -> bool:
    """Whether an input of `model` has a set, or such a dict, anywhere in it."""
    return any(map(_is_hashed, _schemas(model.__pydantic_core_schema__)))


def _is_hashed(schema: Mapping[str, Any]) -> bool:
    kind = schema.get("type")
    if kind in {"set", "frozenset"}:
        return (schema.get("items_schema") or {}).get("type") not in _HARMLESS
    if kind == "dict":
        return (schema.get("keys_schema") or {}).get("type", "any") not in {*_HARMLESS, "any"}
    return False


def _schemas(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every mapping within `schema`, itself included."""
    waiting = [schema]
    while waiting:
        here = waiting.pop()
        if isinstance(here, Mapping):
            yield here
            waiting.extend(here.values())
        elif isinstance(here, list | tuple):
            waiting.extend(here)
