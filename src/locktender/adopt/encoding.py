"""Let one at a time encode with a tokenizer.

A fast tokenizer keeps its truncation and padding inside, where every caller sets what it wants and
then encodes.  The turn hangs on the tokenizer, whose class is changed so that all who encode with
it take the turn: pipelines, and code of the user's that counts tokens.
"""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache, wraps
from typing import Any

from locktender.adopt.swap import OWNER, plain_class, swap

__all__ = ["encoding", "take_turns"]

# All that set truncation and padding; the last is what the others call, and pipelines at times.
_ENCODING = ("__call__", "encode", "tokenize", "_encode_plus", "_batch_encode_plus")


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
    turn: _Turn | None = place.get(OWNER) or place.setdefault(OWNER, _Turn())
    return turn if turn is not None else nullcontext()


def take_turns(tokenizer: Any) -> None:
    """Have all who encode with `tokenizer` from now on do it one at a time."""
    if hasattr(tokenizer, "__dict__"):
        encoding(tokenizer)  # the attribute, before anybody looks for it
        with suppress(TypeError):  # A class that lets nobody change it is as it was before.
            swap(tokenizer, _methods(plain_class(tokenizer)))


@lru_cache(maxsize=64)
def _methods(plain: type) -> type:
    found = {name: getattr(plain, name, None) for name in _ENCODING}
    return type(
        "TurnByTurn", (), {name: _in_turn(each) for name, each in found.items() if each is not None}
    )


def _in_turn(plain: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(plain)
    def in_turn(self: object, *arguments: Any, **options: Any) -> Any:
        with encoding(self):
            return plain(self, *arguments, **options)

    return in_turn
