"""Say which keys of `configurable` a runnable asks for, and which its author has bound.

A history of messages is found by the keys that its factory takes; LangChain fails without one, and
of a session without a name all callers would share the history.  Asked for before a run is only
what each run needs: of a branch nobody knows the way that will be taken.  What an author has bound
by `with_config` is not a caller's to say, unless the runnable's own schema of a config has the key.
"""

import inspect
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from langchain_core.runnables import (
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableLambda,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import (
    DynamicRunnable,
    RunnableConfigurableAlternatives,
    RunnableConfigurableFields,
)
from langchain_core.runnables.history import RunnableWithMessageHistory
from langchain_core.runnables.passthrough import RunnableAssign
from pydantic import BaseModel

__all__ = ["bound_keys", "required_session_keys", "session_keys"]

_Any: TypeAlias = Runnable[Any, Any]


def session_keys(runnable: _Any) -> frozenset[str]:
    """Return the keys by which any history within `runnable` is found."""
    return frozenset(key for part in _all_parts(runnable) for key in _asked(part))


def required_session_keys(runnable: _Any) -> frozenset[str]:
    """Return those of them that no run of `runnable` can do without."""
    if isinstance(runnable, RunnableWithMessageHistory):
        return frozenset(_asked(runnable))
    keys = [required_session_keys(part) for part in _steps(runnable)]
    ways = [required_session_keys(way) for way in _ways(runnable)]
    if ways:
        keys.append(frozenset.intersection(*ways))
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


def _steps(runnable: _Any) -> Iterable[_Any]:
    """Return the parts of which each has its turn in every run."""
    if isinstance(runnable, RunnableBindingBase | RunnableEachBase):
        return [runnable.bound]
    if isinstance(runnable, RunnableSequence):
        return runnable.steps
    if isinstance(runnable, RunnableParallel):
        return runnable.steps__.values()
    if isinstance(runnable, RunnableAssign):
        return [runnable.mapper]
    if isinstance(runnable, RunnableBranch):
        return [runnable.branches[0][0]]
    return []


def _ways(runnable: _Any) -> Iterable[Any]:
    """Return the parts of which one is enough; an alternative may be a function that makes it."""
    if isinstance(runnable, RunnableWithFallbacks):
        return runnable.runnables
    if isinstance(runnable, RunnableBranch):
        return [runnable.default, *(way for _, way in runnable.branches)]
    if isinstance(runnable, RouterRunnable):
        return runnable.runnables.values()
    if isinstance(runnable, RunnableConfigurableAlternatives):
        return [runnable.default, *runnable.alternatives.values()]
    if isinstance(runnable, RunnableConfigurableFields):
        return [runnable.default]
    return []


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
