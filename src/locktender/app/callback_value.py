"""Write any value as JSON, whatever it is.

What a run's callbacks are told was not made to be sent: there are generators, clients of databases,
dicts with keys of any kind.  An event that is missing would tell a false story, and a failing one
would take the run's answer with it; so what JSON cannot hold is told by the name of its class.
Nothing is used up by being written: a generator belongs to the step that comes next.
"""

import json
from collections.abc import Mapping
from typing import Any

import orjson

from locktender.app.serialization import Serializer, default

__all__ = ["told_json", "value_json"]

_MAX_DEPTH = 100


def value_json(value: Any, serializer: Serializer) -> bytes:
    """Return `value` as JSON: as `serializer` writes it, or else as well as it can be told."""
    try:
        return serializer.dumps(value)
    except Exception:  # noqa: BLE001 - a serializer of the user's raises what it likes
        return told_json(value)


def told_json(value: Any) -> bytes:
    """Return `value` as JSON, as well as it can be told."""
    try:
        return orjson.dumps(value, default=_stand_in, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        # Integers of more than 64 bits, halves of surrogate pairs, keys that are tuples, circles.
        return json.dumps(_spelt_out(value), separators=(",", ":")).encode()


def _stand_in(value: object) -> Any:
    """Return what can be told of a value that JSON does not know."""
    try:
        return default(value)
    except Exception:  # noqa: BLE001 - so do the writers of a user's models
        return f"<{type(value).__name__}>"


def _spelt_out(value: Any, within: tuple[int, ...] = ()) -> Any:
    """Return `value` in what Python's own writer knows; `within` are the ids of what holds it."""
    if value is None or isinstance(value, str | int):
        return value
    if id(value) in within or len(within) == _MAX_DEPTH:
        return f"<{type(value).__name__}>"
    within = (*within, id(value))
    if isinstance(value, Mapping):
        return {_key(key): _spelt_out(item, within) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelt_out(item, within) for item in value]
    try:
        return json.loads(orjson.dumps(value))  # figures, dates, ids, members of an enum
    except TypeError:
        return _spelt_out(_stand_in(value), within)


def _key(key: object) -> str:
    return ",".join(map(str, key)) if isinstance(key, tuple) else str(key)
