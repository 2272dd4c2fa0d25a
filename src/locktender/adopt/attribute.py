"""Follow the attributes that code asks of an object, through what is stored in it.

The last place to which a row of attributes (`state.models.llm`) leads may be empty when a chain is
served, and be filled when the app starts.  Nothing is asked of the object's own code: a row ends at
a property or another descriptor, at a method, and at a class that makes up its attributes.
"""

import argparse
import types
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from types import MemberDescriptorType
from typing import Any, NamedTuple

from locktender.adopt.author import is_others
from locktender.adopt.contents import fields_of
from locktender.adopt.holders import UNSET
from locktender.adopt.lineage import home_of, lineage

__all__ = ["Place", "places_of"]

_NAMESPACES = (types.SimpleNamespace, argparse.Namespace)  # of the standard library
_PYDANTIC = ("__pydantic_private__", "__pydantic_extra__")


class Place(NamedTuple):
    """An attribute of an object."""

    path: str
    read: Callable[[], object]  # what is there now, `UNSET` if nothing is
    is_used: bool  # asked for an attribute of its own, or called


def places_of(
    path: str, value: Any, names: Sequence[str], *, is_called: bool, side: str | None
) -> Iterator[Place]:
    """Yield the places that a row of attributes leads through, beginning at `value`.

    `is_called` says whether the last one is called; `side` is the user's package (`author`).
    """
    for n, name in enumerate(names):
        kinds = lineage(type(value))
        if type(value) not in _NAMESPACES and is_others(home_of(type(value)), side):
            return
        part = _stored(value, kinds, name)
        if _has(lineage(type(part)), "__get__") or name.startswith("__"):
            return
        if part is UNSET and _has(kinds, "__getattr__"):
            return
        path = f"{path}.{name}"
        yield Place(path, partial(_stored, value, kinds, name), n + 1 < len(names) or is_called)
        value = part


def _has(kinds: tuple[type, ...], name: str) -> bool:
    return any(name in kind.__dict__ for kind in kinds)


def _stored(value: Any, kinds: tuple[type, ...], name: str) -> object:
    fields = fields_of(value)
    if name in fields:
        return fields[name]
    for kind in kinds:
        entry = kind.__dict__.get(name, UNSET)
        if type(entry) is MemberDescriptorType:
            return _in_slot(value, entry)
        if entry is not UNSET:
            return entry
    for slot in _PYDANTIC:
        for kind in kinds:
            held = _in_slot(value, kind.__dict__.get(slot))
            if isinstance(held, dict) and name in held:
                return held[name]
    return UNSET


def _in_slot(value: Any, entry: object) -> object:
    if type(entry) is not MemberDescriptorType:
        return UNSET
    try:
        return entry.__get__(value)
    except AttributeError:  # not set
        return UNSET
