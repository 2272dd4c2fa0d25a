"""Write JSON of values whose strings may be marked, so that it is still known who wrote what."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from locktender.prompting.marked_text import MarkedText, Slips, slips_of, true_text

__all__ = ["marked_json"]


def marked_json(value: Any, *, sort_keys: bool = False, **options: Any) -> str:
    """Write JSON as `json.dumps` does with these options, keeping the marks."""
    slips = _slips_of(value)
    if slips is None:
        return json.dumps(value, sort_keys=sort_keys, **options)
    is_ascii = options.get("ensure_ascii", True)

    def escaped(text: MarkedText) -> str:
        inner = json.dumps(true_text(text), ensure_ascii=is_ascii)[1:-1]
        return str.__str__(slips.mark(inner, b"\1" * len(inner)))

    # Sorted while its keys are still those that are meant.
    plain = _each_text(_sorted(value) if sort_keys else value, escaped)
    return slips.mark(*slips.restored(json.dumps(plain, **options)))


def _each_text(value: Any, change: Callable[[MarkedText], str]) -> Any:
    if isinstance(value, MarkedText):
        return change(value)
    if isinstance(value, Mapping):
        return {_each_text(key, change): _each_text(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_each_text(each, change) for each in value]
    return value


def _sorted(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(each) for each in value] if isinstance(value, list | tuple) else value


def _slips_of(value: Any) -> Slips | None:
    """Return the slips of a marked text in `value`, if there is one."""
    if isinstance(value, MarkedText):
        return slips_of(value)
    inner: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inner = (*value.keys(), *value.values())
    elif isinstance(value, list | tuple):
        inner = value
    return next(filter(None, map(_slips_of, inner)), None)
