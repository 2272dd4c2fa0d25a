"""Change what an object does by changing its class, to a subclass that looks the same.

Methods set on an instance would be missed: LangChain asks the class what it can do, and copies
leave them behind.  The subclass has the name, module and fields of the plain class, and no slots of
its own, since an object changes its class only where its layout stays.  It is made once for each
plain class, or for one object alone, when that object's copies are to be told from others.
Pickled, an object is of its plain class again.
"""

import copyreg
import threading
from collections.abc import Callable
from copy import deepcopy
from functools import lru_cache
from typing import Any

__all__ = ["OWNER", "PLAIN", "is_swapped", "plain_class", "swap"]

_PROTOCOL = 4  # of pickle, as `copy` uses it
PLAIN = "__locktender_plain__"
OWNER = "_locktender_owner"  # the one attribute that a guarded object has more than before
_lock = threading.Lock()


def plain_class(model: object) -> Any:
    """Return the class that `model` had before it was swapped."""
    return getattr(type(model), PLAIN, type(model))


def is_swapped(model: object) -> bool:
    """Whether the class of `model` has been changed."""
    return plain_class(model) is not type(model)


def swap(model: object, methods: type, *, is_for_one: bool = False) -> None:
    """Have `methods` stand before those of the plain class of `model`; twice changes nothing.

    They call the plain ones by way of `plain_class`.
    """
    with _lock:
        if not is_swapped(model):
            plain: Any = type(model)
            make = _subclass.__wrapped__ if is_for_one else _subclass
            object.__setattr__(model, "__class__", make(plain, methods))


@lru_cache(maxsize=256)
def _subclass(plain: Any, methods: Any) -> Any:
    # Not a second base: it would change the layout.
    own = {
        name: value
        for kind in reversed(methods.__mro__[:-1])
        for name, value in vars(kind).items()
        if callable(value)
    }
    made = type(plain)(
        plain.__name__,
        (plain,),
        {
            **own,
            "__slots__": (),
            "__module__": plain.__module__,
            "__doc__": plain.__doc__,
            "__reduce_ex__": _reduce,
            **({} if hasattr(plain, "__copy__") else {"__copy__": _copied}),
            **({} if hasattr(plain, "__deepcopy__") else {"__deepcopy__": _deep_copied}),
        },
    )
    made.__qualname__ = plain.__qualname__
    setattr(made, PLAIN, plain)
    return made


def _reduce(model: Any, protocol: Any) -> Any:
    plain = plain_class(model)
    made, arguments, *rest = plain.__reduce_ex__(model, protocol)
    kind = type(model)
    if made is copyreg.__newobj__ and arguments == (kind,):  # type: ignore[attr-defined] # pickle's own
        # Which pickle refuses for any class but the object's own.
        return copyreg._reconstructor, (plain, object, None), *rest  # type: ignore[attr-defined] # noqa: SLF001 - what pickle's first protocols call
    arguments = tuple(plain if value is kind else value for value in arguments)
    return plain if made is kind else made, arguments, *rest


def _copied(model: Any) -> Any:
    return _rebuilt(model, lambda part: part, {})


def _deep_copied(model: Any, memo: dict[int, Any]) -> Any:
    return _rebuilt(model, lambda part: deepcopy(part, memo), memo)


def _rebuilt(model: Any, copied: Callable[[Any], Any], memo: dict[int, Any]) -> Any:
    """Return a copy, of the same class, as the plain class says how one is made."""
    made, arguments, *rest = plain_class(model).__reduce_ex__(model, _PROTOCOL)
    state, items, pairs = (*rest, None, None, None)[:3]
    own = memo[id(model)] = made(*map(copied, arguments))
    object.__setattr__(own, "__class__", type(model))
    if state is not None:
        _set_state(own, copied(state))
    for item in items or ():
        own.append(copied(item))
    for key, value in pairs or ():
        own[copied(key)] = copied(value)
    return own


def _set_state(own: Any, state: Any) -> None:
    """Do as the `copy` module does, and `pickle`."""
    if hasattr(own, "__setstate__"):
        own.__setstate__(state)
        return
    place, slots = state if isinstance(state, tuple) else (state, None)
    vars(own).update(place or {})
    for name, value in (slots or {}).items():
        object.__setattr__(own, name, value)
