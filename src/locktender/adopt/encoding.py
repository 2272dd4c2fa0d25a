"""Let one at a time encode with a tokenizer.

A fast tokenizer keeps its truncation and padding inside, where every caller sets what it wants and
then encodes.  Pipelines with owners of their own may share one, so the turn hangs on the tokenizer.
"""

import threading
from contextlib import AbstractContextManager, nullcontext
from typing import Any

__all__ = ["encoding"]

_TURN = "_locktender_turn"


class _Turn:
    """A lock that copies of its tokenizer do without."""

    def __init__(self) -> None:
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Turn":
        return _Turn()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(None), ()  # Where it is unpickled there may be no locktender.


def encoding(tokenizer: Any) -> AbstractContextManager[None]:
    """Return a block of code in which nobody else encodes with `tokenizer`."""
    if not hasattr(tokenizer, "__dict__"):
        return nullcontext()
    place = vars(tokenizer)
    # One step each, so that of two threads that come at once both get the same.
    turn: _Turn | None = place.setdefault(_TURN, _Turn())
    return turn if turn is not None else nullcontext()
