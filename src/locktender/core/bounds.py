"""Refuse a setting that cannot be meant: by its name, with what it may be and an example to type.

For the dataclasses of settings, whoever makes them.  True is no number, though Python counts it as
one; NaN and infinity are no time, because a wait has an end.  A field whose default is None may be
None.
"""

import math
from dataclasses import MISSING, Field, fields
from typing import Any

from locktender.core.errors import ConfigError

__all__ = ["MOST_S", "check_counts", "check_flags", "check_parts", "check_seconds"]

_MOST = 2**53  # beyond it JSON's readers lose digits
MOST_S = 366 * 86_400.0  # that a wait may have


def check_counts(settings: Any, least: int, *names: str, most: int | None = None) -> None:
    """Raise ConfigError unless each of `names` is a whole number from `least` on, to `most`."""
    for field, value in _given(settings, names):
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        if not is_whole or not least <= value <= (_MOST if most is None else most):
            end = "" if most is None else f" and at most {most}"
            raise _refusal(field, value, f"a whole number, at least {least}{end}")


def check_seconds(settings: Any, least: float, *names: str) -> None:
    """Raise ConfigError unless each of `names` is so many seconds at least, and a year at most."""
    for field, value in _given(settings, names):
        if not _is_number(value) or not least <= value <= MOST_S:
            raise _refusal(
                field, value, f"a number of seconds, at least {least:g} and at most a year"
            )


def check_parts(settings: Any, *names: str) -> None:
    """Raise ConfigError unless each of `names` is a part of a whole."""
    for field, value in _given(settings, names):
        if not _is_number(value) or not 0 < value <= 1:
            raise _refusal(field, value, "a number above 0 and at most 1")


def check_flags(settings: Any, *names: str) -> None:
    """Raise ConfigError unless each of `names` is true or false."""
    for field, value in _given(settings, names):
        if not isinstance(value, bool):
            raise _refusal(field, value, "true or false")


def _given(settings: Any, names: tuple[str, ...]) -> list[tuple[Field[Any], Any]]:
    known = {field.name: field for field in fields(settings)}
    given = [(known[name], getattr(settings, name)) for name in names]
    return [
        (field, value) for field, value in given if value is not None or field.default is not None
    ]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _refusal(field: Field[Any], value: object, what: str) -> ConfigError:
    default = None if field.default is MISSING else field.default
    shown = str(default).lower() if isinstance(default, bool) else default
    example = "" if default is None else f" Write for example `{field.name} = {shown}`."
    return ConfigError(f"`{field.name}` must be {what}, not {value!r}.{example}")
