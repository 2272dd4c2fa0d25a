"""Have a chain's functions know their signatures.

LangChain asks `inspect.signature` four times at each run of a `RunnableLambda`, whether its
function and its own method want a config and callbacks: a seventh of what a short request costs.
What has a `__signature__` tells at once.  The user's own is left as it is: what is served is a copy
of the function, in a copy of the chain (`served_copy`).
Above it, `endpoint` runs what this returns.
"""

import inspect
from copy import copy
from functools import partial, update_wrapper
from types import FunctionType
from typing import Any

from langchain_core.runnables import Runnable, RunnableLambda

from locktender.app.served_copy import with_stand_ins

__all__ = ["with_known_signatures"]

_Step = Runnable[Any, Any]
_NAMES = ("func", "afunc")


def with_known_signatures(runnable: _Step) -> _Step:
    """Return `runnable`, or a copy in which each `RunnableLambda` is asked once."""
    return with_stand_ins(runnable, _stand_in)


def _stand_in(runnable: _Step) -> _Step:
    if type(runnable) is not RunnableLambda:
        return runnable  # A subclass may count on its own function.
    plain = {
        name: function
        for name in _NAMES
        if type(function := getattr(runnable, name, None)) is FunctionType
    }
    if not plain:
        return runnable
    stand_in = copy(runnable)
    for name, function in plain.items():
        setattr(stand_in, name, _with_signature(function))
    run = partial(RunnableLambda._ainvoke, stand_in)  # noqa: SLF001 - what each run asks about
    vars(run)["__signature__"] = inspect.signature(run)
    vars(stand_in)["_ainvoke"] = run
    return stand_in


def _with_signature(function: FunctionType) -> FunctionType:
    """Return a function of the same code, variables and attributes."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError, NameError):  # of an annotation, say
        return function
    twin = FunctionType(
        function.__code__,
        function.__globals__,
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    twin.__kwdefaults__ = function.__kwdefaults__
    update_wrapper(twin, function)
    vars(twin)["__signature__"] = signature
    return twin
