"""Find the place in a value that cannot be written as JSON, for the log.

A writer of JSON says which type it does not know, and not where: of an answer with a hundred
documents that is little to go by.  Looked for only once writing has failed; what was written well
on the way is written again, so that the search ends some levels deep.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any

__all__ = ["unwritable"]

_MAX_DEPTH = 16
_MAX_KEY = 80  # letters


def unwritable(
    value: Any, write: Callable[[Any], object], stand_in: Callable[[Any], Any]
) -> TypeError:
    """Return an error that names the place in `value` at which `write` fails, and why.

    `stand_in` gives what `write` writes in place of an object, and raises for one that has nothing.
    """
    place, here = "", value
    for _ in range(_MAX_DEPTH):
        found = next(_failing(here, write, stand_in), None)
        if found is None:
            break
        step, here = found
        place += step
    if isinstance(here, Mapping):  # and all that it holds can be written
        place += next((f"[{_shown(key)}]" for key in here if type(key) is not str), "")
    reason = _failure(here, write)
    return TypeError(f"{place or 'The value'} cannot be written as JSON: {reason}")


def _failing(
    value: Any, write: Callable[[Any], object], stand_in: Callable[[Any], Any]
) -> Iterator[tuple[str, Any]]:
    """Yield the parts of `value` that `write` fails at, each with the way to it."""
    for step, part in _parts(value, stand_in):
        if _failure(part, write) is not None:
            yield step, part


def _parts(value: Any, stand_in: Callable[[Any], Any]) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        yield from ((f"[{_shown(key)}]", part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((f"[{n}]", part) for n, part in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [each.name for each in dataclasses.fields(value)]
        yield from ((f"[{_shown(name)}]", getattr(value, name)) for name in names)
    else:
        try:
            yield "", stand_in(value)
        except Exception:  # noqa: BLE001 - as the writer's, it may be a user's, and raise anything
            return


def _failure(value: Any, write: Callable[[Any], object]) -> Exception | None:
    try:
        write(value)
    except Exception as error:  # noqa: BLE001 - as above, a user's
        # The writer's own words are of the type alone; those behind them may say more.
        return error.__cause__ if isinstance(error.__cause__, Exception) else error
    return None


def _shown(key: object) -> str:
    shown = repr(key)
    return shown if len(shown) <= _MAX_KEY else f"{shown[:_MAX_KEY]}..."
