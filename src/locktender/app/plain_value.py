"""Say what stands in JSON for a value that JSON lacks: NumPy's numbers, decimals, sets, bytes.

Rerankers give scores as NumPy's numbers, retrievers put paths and times into metadata, and a set of
sources is as good as a list of them.  What is chosen is what pydantic writes, where it writes any:
a decimal is a text, because a float would change it, and a duration is one of ISO 8601.  NumPy and
torch are never imported here: only a value of theirs makes them needed, and it has imported them.
Above it, `serialization.default` writes LangChain's objects and asks here for the rest.
"""

import base64
import datetime as dt
import sys
from collections import deque
from collections.abc import Callable, Iterable
from decimal import Decimal
from pathlib import PurePath
from typing import Any

from pydantic_core import to_jsonable_python

__all__ = ["MAX_ARRAY_NUMBERS", "plain_value"]

# Of one array or tensor: as many as a body may have values.  Ten milliseconds of the event loop.
MAX_ARRAY_NUMBERS = 100_000


def plain_value(value: Any) -> Any:
    """Return what stands for `value`, which may hold values that need a stand-in of their own.

    Raises: TypeError for what JSON cannot hold, and for an array that is too large.
    """
    for kind, write in _WRITTEN:
        if isinstance(value, kind):
            return write(value)
    for library, read in _LIBRARIES:
        module = sys.modules.get(library)
        if module is not None and (read_value := read(module, value)) is not _NOT_ITS_OWN:
            return read_value
    raise TypeError(f"A value of type {type(value).__name__} cannot be sent as JSON.")


def _in_order(members: Iterable[Any]) -> list[Any]:
    try:
        return sorted(members)
    except TypeError:
        return list(members)  # of kinds that cannot be compared


def _text(value: bytes | bytearray | memoryview) -> str:
    whole = bytes(value)
    try:
        return whole.decode()
    except UnicodeDecodeError:
        return base64.b64encode(whole).decode("ascii")


_WRITTEN: tuple[tuple[type | tuple[type, ...], Callable[[Any], Any]], ...] = (
    # Before the libraries: NumPy's own float and its bytes derive from Python's.
    (float, float),
    ((set, frozenset), _in_order),
    ((bytes, bytearray, memoryview), _text),
    ((Decimal, PurePath), str),
    (dt.timedelta, to_jsonable_python),
    # What derives from a class that the writer of JSON knows, and it does not: a named tuple, the
    # time of a data frame.
    ((tuple, deque), list),
    ((dt.date, dt.time), lambda value: value.isoformat()),
)
_NOT_ITS_OWN = object()


def _numpy_value(numpy: Any, value: Any) -> Any:
    if isinstance(value, numpy.datetime64):
        return None if numpy.isnat(value) else str(value)
    if isinstance(value, numpy.timedelta64):
        return value.astype("timedelta64[us]").item()
    if isinstance(value, numpy.generic):
        return _numpy_number(numpy, value)
    if not isinstance(value, numpy.ndarray):
        return _NOT_ITS_OWN
    _check_size("An array", value.size)
    if value.dtype.kind in "mM":  # whose own list has bare counts of nanoseconds
        return list(value) if value.ndim else value[()]
    return value.tolist()


def _numpy_number(numpy: Any, value: Any) -> Any:
    if isinstance(value, numpy.floating):
        return float(value)
    if isinstance(value, numpy.complexfloating):
        raise TypeError("A complex number cannot be sent as JSON.")
    return value.item()


def _torch_value(torch: Any, value: Any) -> Any:
    if not isinstance(value, torch.Tensor):
        return _NOT_ITS_OWN
    _check_size("A tensor", value.numel())
    return value.tolist()


def _check_size(what: str, n_numbers: int) -> None:
    if n_numbers > MAX_ARRAY_NUMBERS:
        message = (
            f"{what} of {n_numbers:,} numbers is too large for JSON, where at most "
            f"{MAX_ARRAY_NUMBERS:,} are sent: send a part of it, or its bytes as base64."
        )
        raise TypeError(message)


_LIBRARIES: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = (
    ("numpy", _numpy_value),
    ("torch", _torch_value),
)
