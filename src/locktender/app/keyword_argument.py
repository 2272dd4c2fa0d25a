"""Say whether a keyword argument of a run reaches something that takes it.

LangChain hands them to the first step of a sequence, and to the runnable within a binding.  Many
take whatever comes and look at none of it, a prompt for one: what a caller asked for would be
passed over in silence.  Where it cannot be known, in a class of somebody's own, it is taken.
"""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import (
    Runnable,
    RunnableBranch,
    RunnableGenerator,
    RunnableLambda,
    RunnablePassthrough,
    RunnableSequence,
    RunnableWithFallbacks,
)
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from langchain_core.runnables.configurable import DynamicRunnable

__all__ = ["is_taken_by"]

_Any = Runnable[Any, Any]
_OF_LANGCHAIN = ("langchain_core.", "langgraph.")
# Where runnables keep the functions that they are made of; only some have both.
_FUNCTIONS = ("func", "afunc", "_transform", "_atransform")


def is_taken_by(runnable: _Any, name: str) -> bool:
    """Whether all that may get the keyword arguments of `runnable` take `name`."""
    return all(_takes(end, name) for end in _ends(runnable))


def _ends(runnable: _Any) -> Iterator[_Any]:
    """Yield what gets the keyword arguments of `runnable`, of which one stands in for another."""
    if isinstance(runnable, RunnableBindingBase | RunnableEachBase):
        handed_to = [runnable.bound]
    elif isinstance(runnable, RunnableSequence):
        handed_to = [runnable.first]
    elif isinstance(runnable, RunnableWithFallbacks):
        handed_to = [runnable.runnable, *runnable.fallbacks]
    elif isinstance(runnable, RunnableBranch):
        handed_to = [*(each for _, each in runnable.branches), runnable.default]
    elif isinstance(runnable, DynamicRunnable):
        handed_to = [runnable.default]
    else:
        yield runnable
        return
    for each in handed_to:
        yield from _ends(each)


def _takes(end: _Any, name: str) -> bool:
    if isinstance(end, BaseLanguageModel):
        return True
    if isinstance(end, RunnableLambda | RunnableGenerator | RunnablePassthrough):
        functions = [found for each in _FUNCTIONS if (found := vars(end).get(each))]
        return bool(functions) and all(_has(each, name, or_any=True) for each in functions)
    is_own = not type(end).invoke.__module__.startswith(_OF_LANGCHAIN)
    return _has(type(end).invoke, name, or_any=is_own)


def _has(function: Callable[..., Any], name: str, *, or_any: bool) -> bool:
    """Whether `function` has a parameter `name`, `or_any` one that is given to it."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return True  # it does not tell
    kinds = {each.kind for each in parameters.values()}
    return name in parameters or (or_any and inspect.Parameter.VAR_KEYWORD in kinds)
