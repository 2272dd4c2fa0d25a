"""Say which parts of a runnable have their turn in every run, and which are one way of several.

What a run needs is what each part of it needs, and what every way needs where only one is gone.
LangChain's classes hold their parts in public fields; a function keeps its own to itself.
"""

from collections.abc import Iterable
from typing import Any, TypeAlias

from langchain_core.runnables import (
    RouterRunnable,
    Runnable,
    RunnableBranch,
    RunnableParallel,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import (
    RunnableConfigurableAlternatives,
    RunnableConfigurableFields,
)
from langchain_core.runnables.passthrough import RunnableAssign

__all__ = ["steps", "ways"]

_Any: TypeAlias = Runnable[Any, Any]


def steps(runnable: _Any) -> Iterable[_Any]:
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


def ways(runnable: _Any) -> Iterable[Any]:
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
