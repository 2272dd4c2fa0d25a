"""Change what an object does by changing its class, to a subclass that looks the same.

Methods set on an instance would be missed: LangChain asks the class what it can do, and copies
leave them behind.  The subclass has the name, module and fields of the plain class, and no slots of
its own, since an object changes its class only where its layout stays.  It is made once for each
plain class, or for one object alone, when that object's copies are to be told from others.
Pickled, an object is of its plain class again.
"""

import copyreg
import threading
from copy import deepcopy
from functools import lru_cache
from typing import Any

__all__ = ["OWNER", "PLAIN", "plain_class", "swap"]

PLAIN = "__locktender_plain__"
OWNER = "_locktender_owner"  # the one attribute that a guarded object has more than before
_lock = threading.Lock()


def plain_class(model: object) -> Any:
    """Return the class that `model` had before it was swapped."""
    return getattr(type(model), PLAIN, type(model))


def swap(model: object, methods: type, *, is_for_one: bool = False) -> None:
    """Have `methods` stand before those of the plain class of `model`; twice changes nothing.

    They call the plain ones by way of `plain_class`.
    """
    with _lock:
        if plain_class(model) is type(model):
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
    copied = object.__new__(plain_class(model))
    vars(copied).update(vars(model))
    object.__setattr__(copied, "__class__", type(model))
    return copied


def _deep_copied(model: Any, memo: dict[int, Any]) -> Any:
    copied = memo[id(model)] = object.__new__(plain_class(model))
    vars(copied).update(deepcopy(vars(model), memo))
    object.__setattr__(copied, "__class__", type(model))
    return copied
