"""Write and read as JSON what JSON lacks: tuples, sets, bytes, times, and objects of listed kinds.

Every value that is not plain JSON becomes ``{"__locktender__": KIND, "value": ...}``; a dict of
somebody's own that has this key is written as its pairs, so that nothing can be taken for another
thing.  Reading makes objects of the listed kinds and of no others: a kind is looked up in a table,
and no name that came over the wire is ever imported.  Both directions are bounded in depth; what is
read is bounded in size by whoever read the bytes, and takes a time that grows with that size alone.

Which objects there are is the caller's to say (`app.extension` lists LangChain's and LangGraph's).
"""

import base64
import dataclasses
import datetime as dt
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Any

import orjson

from locktender.wire.json_place import unwritable

__all__ = ["EXTENSIONS", "EXTENSIONS_VERSION", "TAG", "Codec", "Kind", "with_tag"]

EXTENSIONS = "X-Locktender-Extensions"  # the header, of a request and of its answer
EXTENSIONS_VERSION = "1"
TAG = "__locktender__"

_VALUE = "value"
_MEMBERS = frozenset((TAG, _VALUE))
_MAX_DEPTH = 128  # of the JSON, in which a tuple, say, is two deep; its readers end at 200
_BASE64_STEP = 1024 * 1024  # letters, a whole number of fours, in between which others have a turn
_MAX_EXPONENT = 4000  # an integer of it has digits that Python writes; one of 1E+999999999, 400 MB
_MAX_TEXT = 4096  # of what becomes a number or a time; Python itself bounds a whole number so
_PLAIN = "plain"
_NUMBERS = ("int", "float")
_MAX_ALIKE = 32  # members with one hash, each of which is compared with all that came before
_SMALLEST, _LARGEST = -(2**63), 2**64 - 1  # which JSON's writers and readers have in common
_UNREADABLE = (
    *(TypeError, ValueError, ArithmeticError, LookupError),
    *(AttributeError, NotImplementedError),
)


class _TooMuchAlike(ValueError):
    """Keys of one hash, which nobody has by chance."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A class of objects that may cross: what stands for one, and how it is made of that."""

    name: str
    write: Callable[[Any], Any]  # to JSON, or to values that are written in their turn
    read: Callable[[Any], Any]


class Codec:
    """The values that one side writes, and those that it reads.

    `writing` names the kind of an object, None for one of no kind; `plain` is how the latter is
    written as JSON, and may raise.  `reading` are the kinds that may come; `revive` makes of JSON
    that `plain` wrote what the other side wishes it to be.
    """

    def __init__(
        self,
        *,
        writing: Callable[[object], Kind | None],
        reading: Mapping[str, Kind],
        plain: Callable[[Any], Any],
        revive: Callable[[Any], Any],
    ) -> None:
        self._kind_of = writing
        self._kinds = {**_BY_NAME, **reading, _PLAIN: Kind(_PLAIN, plain, revive)}
        self._plain = plain

    def dumps(self, value: Any) -> bytes:
        """Return `value` as JSON.

        Raises: TypeError, which names the place of the fault; and what else `plain` does.
        """
        try:
            return self._dumps(value)
        except TypeError as error:
            raise unwritable(value, self._dumps, self._inside) from error

    def load(self, tree: Any) -> Any:
        """Return the value that parsed JSON stands for.  Raises: ValueError."""
        return self._read(tree, _MAX_DEPTH + 1)

    def _dumps(self, value: Any) -> bytes:
        return orjson.dumps(self._written(value, _MAX_DEPTH))

    def _inside(self, value: Any) -> Any:
        """Return the parts of an object that is written by them.  Raises: TypeError for others."""
        listed = self._kind_of(value) or _BY_CLASS.get(type(value))
        if listed is None:
            raise TypeError
        return listed.write(value)

    def _written(self, value: Any, depth: int) -> Any:
        kind = type(value)
        if value is None or kind is str or kind is bool:
            return value
        if kind is int or kind is float:
            return _written_number(value)
        if depth <= 0:
            message = f"A value that is nested more than {_MAX_DEPTH} deep cannot be sent."
            raise TypeError(message)
        if kind is list:
            return [self._written(item, depth - 1) for item in value]
        if kind is dict:
            return self._written_dict(value, depth)
        listed = self._kind_of(value) or _BY_CLASS.get(kind)
        if listed is not None:
            return with_tag(listed.name, self._written(listed.write(value), depth - 1))
        return self._written_other(value, depth - 1)

    def _written_dict(self, value: Mapping[Any, Any], depth: int) -> Any:
        if TAG not in value and all(type(key) is str for key in value):
            return {key: self._written(item, depth - 1) for key, item in value.items()}
        return with_tag("dict", self._written([[*pair] for pair in value.items()], depth - 1))

    def _written_other(self, value: Any, depth: int) -> Any:
        """Write what derives from a class that is known, or is of none."""
        if isinstance(value, Enum):
            return self._written(value.value, depth)
        for ancestor, known in _ANCESTORS:
            if isinstance(value, ancestor):
                return self._written(known(value), depth)
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            # As the plain wire has it, to whose reader it is a dict.
            names = [field.name for field in dataclasses.fields(value) if field.name[0] != "_"]
            return self._written({name: getattr(value, name) for name in names}, depth)
        return with_tag(_PLAIN, self._plain(value))

    def _read(self, tree: Any, depth: int) -> Any:
        if not isinstance(tree, list | dict):
            return tree
        # In the last place there may be a number, which is written as an object, and no more.
        is_number = isinstance(tree, dict) and tree.get(TAG) in _NUMBERS
        if depth <= 0 or (depth == 1 and not is_number):
            message = f"A value must not be nested more than {_MAX_DEPTH} deep."
            raise ValueError(message)
        if isinstance(tree, list):
            return [self._read(item, depth - 1) for item in tree]
        if TAG not in tree:
            return {key: self._read(item, depth - 1) for key, item in tree.items()}
        kind = self._kinds.get(tree[TAG]) if isinstance(tree[TAG], str) else None
        if kind is None or tree.keys() != _MEMBERS:
            message = f"`{TAG}` must name a kind of value that may stand here, beside `{_VALUE}`."
            raise ValueError(message)
        # What `plain` wrote has no kinds in it, whatever it may look like.
        inner = tree[_VALUE] if kind.name == _PLAIN else self._read(tree[_VALUE], depth - 1)
        try:
            return kind.read(inner)
        except _TooMuchAlike:
            raise
        except _UNREADABLE as error:
            raise ValueError(f"There is no {kind.name} of this value.") from error


def with_tag(kind: str, value: Any) -> dict[str, Any]:
    """Return what stands for an object of `kind`, whose own parts are written already."""
    return {TAG: kind, _VALUE: value}


def _written_number(value: float) -> Any:
    if isinstance(value, int):
        return value if _SMALLEST <= value <= _LARGEST else with_tag("int", str(value))
    return value if math.isfinite(value) else with_tag("float", str(value))


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        raise TypeError("A text, and a short one, stands for this kind of value.")
    return value


def _items(value: object) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("A list stands for this kind of value.")
    return value


def _members(value: object) -> list[Any]:
    members = _items(value)
    _check_hashes(members)
    return members


def _pairs(value: object) -> list[Any]:
    pairs = _items(value)
    _check_hashes([key for key, _ in pairs])
    return pairs


def _check_hashes(keys: Iterable[Any]) -> None:
    """Refuse keys that were chosen to have one hash: their set takes the square of their number.

    The hash of a number is its remainder by 2**61 - 1, and no secret; that of a tuple is made of
    such.  Of 1,000 honest keys no two have the same; of the powers of two, 17.
    """
    n_alike = Counter(map(hash, keys)).most_common(1)
    if n_alike and n_alike[0][1] > _MAX_ALIKE:
        message = (
            f"A set or a dict must not have more than {_MAX_ALIKE} members of one hash, "
            f"and this has {n_alike[0][1]}."
        )
        raise _TooMuchAlike(message)


def _bytes(value: object) -> bytes:
    if not isinstance(value, str):
        raise TypeError("A text stands for bytes.")
    pieces = [value[at : at + _BASE64_STEP] for at in range(0, len(value), _BASE64_STEP)]
    if any(piece.endswith("=") for piece in pieces[:-1]):
        raise ValueError("The padding of bytes stands at their end.")
    return b"".join([base64.b64decode(piece, validate=True) for piece in pieces])


def _decimal(text: str) -> Decimal:
    number = Decimal(text)
    if number.is_finite() and abs(number.adjusted()) > _MAX_EXPONENT:
        raise ValueError(f"The exponent of a decimal number is {_MAX_EXPONENT} at most.")
    return number


def _of_text(kind: Callable[[str], Any]) -> Callable[[object], Any]:
    return lambda value: kind(_text(value))


def _of_items(kind: Callable[[Iterable[Any]], Any]) -> Callable[[object], Any]:
    return lambda value: kind(_items(value))


_BY_CLASS: Mapping[type, Kind] = {
    tuple: Kind("tuple", list, _of_items(tuple)),
    set: Kind("set", list, lambda value: set(_members(value))),
    frozenset: Kind("frozenset", list, lambda value: frozenset(_members(value))),
    bytes: Kind("bytes", lambda value: base64.b64encode(value).decode("ascii"), _bytes),
    dt.datetime: Kind("datetime", dt.datetime.isoformat, _of_text(dt.datetime.fromisoformat)),
    dt.date: Kind("date", dt.date.isoformat, _of_text(dt.date.fromisoformat)),
    dt.time: Kind("time", dt.time.isoformat, _of_text(dt.time.fromisoformat)),
    dt.timedelta: Kind(
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda value: dt.timedelta(*_items(value)),
    ),
    Decimal: Kind("decimal", str, lambda value: _decimal(_text(value))),
}
_BY_NAME: Mapping[str, Kind] = {
    **{kind.name: kind for kind in _BY_CLASS.values()},
    "dict": Kind("dict", list, lambda value: dict(_pairs(value))),
    "int": Kind("int", str, _of_text(int)),
    "float": Kind("float", str, _of_text(float)),
}
# A class of one's own that derives from these arrives as what it derives from.
_ANCESTORS: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    (str, str.__str__),
    (int, int),
    (float, float),
    (dict, dict),
    (list, list),
    (tuple, tuple),
    ((bytes, bytearray, memoryview), bytes),
    (dt.datetime, lambda value: dt.datetime.fromisoformat(value.isoformat())),
)
