"""Say which keys of `configurable` a runnable asks for, and which its author has bound.

A history of messages is found by the keys that its factory takes; LangChain fails without one, and
of a session without a name all callers would share the history.  Asked for before a run is only
what each run needs: of a branch nobody knows the way that will be taken.  What an author has bound
by `with_config` is not a caller's to say, unless the runnable's own schema of a config has the key.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from langchain_core.runnables import Runnable, RunnableLambda
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.runnables.history import RunnableWithMessageHistory
from pydantic import BaseModel

from locktender.app.run_part import steps, ways

__all__ = ["bound_keys", "required_session_keys", "session_keys"]

_Any: TypeAlias = Runnable[Any, Any]


def session_keys(runnable: _Any) -> frozenset[str]:
    """Return the keys by which any history within `runnable` is found."""
    return frozenset(key for part in _all_parts(runnable) for key in _asked(part))


def required_session_keys(runnable: _Any) -> frozenset[str]:
    """Return those of them that no run of `runnable` can do without."""
    if isinstance(runnable, RunnableWithMessageHistory):
        return frozenset(_asked(runnable))
    keys = [required_session_keys(part) for part in steps(runnable)]
    by_way = [required_session_keys(way) for way in ways(runnable)]
    if by_way:
        keys.append(frozenset.intersection(*by_way))
    return frozenset().union(*keys).difference(_bound(runnable))


def bound_keys(runnable: _Any) -> frozenset[str]:
    """Return the keys of `configurable` that the author of `runnable` has set."""
    return frozenset(key for part in _all_parts(runnable) for key in _bound(part))


def _asked(part: _Any) -> list[str]:
    if not isinstance(part, RunnableWithMessageHistory):
        return []
    if not inspect.signature(part.get_session_history).parameters:
        return []
    return [spec.id for spec in part.history_factory_config]


def _bound(part: _Any) -> Iterable[str]:
    if not isinstance(part, RunnableBindingBase | DynamicRunnable):
        return ()
    return ((part.config or {}).get("configurable") or {}).keys()


def _all_parts(runnable: _Any) -> Iterator[_Any]:
    """Yield `runnable` and whatever it holds, as far as it can be seen; a function may hold it."""
    waiting: list[Any] = [runnable]
    seen: set[int] = set()
    while waiting:
        here = waiting.pop()
        if id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, Runnable):
            yield here
        if isinstance(here, RunnableLambda):
            waiting.extend(here.deps)
        elif isinstance(here, list | tuple):
            waiting.extend(here)
        elif isinstance(here, dict):
            waiting.extend(here.values())
        elif isinstance(here, Runnable) and isinstance(here, BaseModel):
            waiting.extend(vars(here).values())
