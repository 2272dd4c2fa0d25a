"""Keep copies of the user's objects, so that what we do to ours is done to nobody's.

A fast tokenizer keeps truncation and padding inside, where each of its callers sets what it wants:
ours is a copy, and so is the pipeline that uses it.  The engine runs a view of the model.  A copy
is made anew when its original has changed since.  Copies hang on the owner; its threads use them.
"""

import copy
import logging
import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from types import FunctionType, MethodType
from typing import Any

from locktender.adopt.encoding import encoding
from locktender.adopt.generation_settings import KnownSettings
from locktender.adopt.swap import OWNER, plain_class
from locktender.adopt.weight_view import WeightView

__all__ = ["HeldEngine", "OwnCopies"]

_log = logging.getLogger(__name__)
_MAX_TOKENIZERS = 4  # of pipelines over one model; the one that was used last stays
_METHODS = (FunctionType, MethodType, partial)
_RUST_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")


class OwnCopies:
    """The copies that belong to one owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # an owner may have several threads
        self.settings = KnownSettings()  # of calls; not what is copied, but as easily out of date
        self._tokenizers: OrderedDict[int, _OwnTokenizer] = OrderedDict()
        self.held: HeldEngine | None = None  # on the model as it was when it was last looked at

    def pipeline(self, pipeline: Any) -> Any:
        """Return a pipeline that does what `pipeline` does, with a tokenizer of ours."""
        own = object.__new__(plain_class(pipeline))
        vars(own).update(vars(pipeline))
        vars(own).pop(OWNER, None)
        tokenizer = getattr(pipeline, "tokenizer", None)
        if tokenizer is not None:
            own.tokenizer = self.tokenizer(tokenizer)
        return own

    def tokenizer(self, tokenizer: Any) -> Any:
        """Return a copy; `tokenizer` itself where there can be none."""
        with self._lock:
            held = self._tokenizers.get(id(tokenizer))
            if held is None or not held.is_current():
                held = self._tokenizers[id(tokenizer)] = _OwnTokenizer(tokenizer)
            self._tokenizers.move_to_end(id(tokenizer))
            if len(self._tokenizers) > _MAX_TOKENIZERS:
                self._tokenizers.popitem(last=False)
            return held.copy

    def engine(self, model: Any, make: Callable[[Any], Any]) -> Any:
        """Return what `make` makes of a view of `model`; None where there can be no view.

        It is made anew when the model has changed.  Raises: what `make` raises.
        """
        with self._lock:
            if self.held is None or not self.held.view.is_current():
                self.held = None  # before there is another one: it may hold much memory
                self.held = HeldEngine(model, make)
            return self.held.made


class HeldEngine:
    """What was made of a view, in `made`."""

    def __init__(self, model: Any, make: Callable[[Any], Any]) -> None:
        self.view = WeightView(model)
        if self.view.why_not is not None:
            name = plain_class(model).__name__
            _log.warning("%s answers one text at a time: %s", name, self.view.why_not)
        self.made = None if self.view.model is None else make(self.view.model)


class _OwnTokenizer:
    """A copy of a tokenizer, and what the original was like then."""

    def __init__(self, tokenizer: Any) -> None:
        self._original = tokenizer
        self._seen = _state_of(tokenizer)
        self.copy = _copied(tokenizer)

    def is_current(self) -> bool:
        return self._seen == _state_of(self._original)


def _copied(tokenizer: Any) -> Any:
    # A method that the user has put on it would go on setting what is in the original.
    if any(isinstance(part, _METHODS) for part in vars(tokenizer).values()):
        return tokenizer  # which is then used in turns, as `encoding` has it
    try:
        with encoding(tokenizer):
            own = object.__new__(plain_class(tokenizer))
            place = {name: part for name, part in vars(tokenizer).items() if name != OWNER}
            vars(own).update(copy.deepcopy(place))
    except Exception:  # noqa: BLE001 - a boundary: a tokenizer of the user's may be anything
        return tokenizer  # as above
    return own


def _state_of(tokenizer: Any) -> tuple[object, ...]:
    """Return what a user may set on a tokenizer, as values that can be compared."""
    plain = {
        name: copy.copy(value)
        for name, value in vars(tokenizer).items()
        if name != OWNER and isinstance(value, str | int | float | list | dict | type(None))
    }
    rust = getattr(tokenizer, "backend_tokenizer", None)
    parts = [_state_of_part(getattr(rust, name, None)) for name in _RUST_PARTS]
    return plain, sorted(vars(tokenizer).keys() - {OWNER}), _length_of(tokenizer), parts


def _state_of_part(part: Any) -> object:
    get = getattr(part, "__getstate__", None)
    try:
        return None if get is None else get()
    except Exception:  # noqa: BLE001 - a boundary: parts that are written in Python cannot say
        return id(part)


def _length_of(tokenizer: Any) -> int:
    try:
        return len(tokenizer)
    except (TypeError, NotImplementedError):
        return -1
