"""Copy a chain with stand-ins for some of its steps.

The user's own objects are left as they are: what is served is a copy, of no more than the way to
the steps that were replaced.  Such a step is found wherever LangChain's own classes put chains
together: sequences, parallels, bindings, branches, fallbacks and the others.  What a function makes
while it runs comes later: `threaded_generator` looks into that.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

from langchain_core.runnables import Runnable
from pydantic import BaseModel

__all__ = ["with_stand_ins"]

_Step: TypeAlias = Runnable[Any, Any]

_HOME = "langchain_core.runnables."


def with_stand_ins(runnable: _Step, stand_in: Callable[[_Step], _Step]) -> _Step:
    """Return `runnable`, or a copy in which each step is what `stand_in` returns for it.

    `stand_in` returns the step itself where it is to stay.
    """
    replaced = stand_in(runnable)
    if replaced is not runnable:
        return replaced
    # A class of the user's may count on its parts, and keeps them.
    if not (isinstance(runnable, BaseModel) and type(runnable).__module__.startswith(_HOME)):
        return runnable
    values = {name: getattr(runnable, name) for name in type(runnable).model_fields}
    copies = {name: _replaced(value, stand_in) for name, value in values.items()}
    changes = {name: copy for name, copy in copies.items() if copy is not values[name]}
    return runnable.model_copy(update=changes) if changes else runnable


def _replaced(value: Any, stand_in: Callable[[_Step], _Step]) -> Any:
    """Return what a field holds, or a copy of it if there are stand-ins in it."""
    if isinstance(value, Runnable):
        return with_stand_ins(value, stand_in)
    if isinstance(value, list | tuple):
        items = [_replaced(item, stand_in) for item in value]
        is_same = all(new is old for new, old in zip(items, value, strict=True))
        return value if is_same else type(value)(items)
    if isinstance(value, dict):
        parts = {key: _replaced(item, stand_in) for key, item in value.items()}
        return value if all(parts[key] is item for key, item in value.items()) else parts
    return value
