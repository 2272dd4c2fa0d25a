"""Say which keys of `configurable` a runnable asks for, and which its author has bound.

A history of messages is found by the keys that its factory takes; LangChain fails without one, and
of a session without a name all callers would share the history.  What an author has bound by
`with_config` is not a caller's to say, unless the runnable's own schema of a config has the key.
"""

import inspect
from collections.abc import Iterator
from typing import Any

from langchain_core.runnables import Runnable
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.history import RunnableWithMessageHistory

from locktender.app.graph import parts_of

__all__ = ["bound_keys", "session_keys"]


def session_keys(runnable: Runnable[Any, Any]) -> frozenset[str]:
    """Return the keys without which a history in `runnable` is not found."""
    asked = {key for part in _all_parts(runnable) for key in _asked(part)}
    return frozenset(asked - set(bound_keys(runnable)))


def bound_keys(runnable: Runnable[Any, Any]) -> Iterator[str]:
    """Yield the keys of `configurable` that the author of `runnable` has set."""
    for part in _all_parts(runnable):
        if isinstance(part, RunnableBindingBase):
            yield from part.config.get("configurable") or {}


def _asked(part: Runnable[Any, Any]) -> list[str]:
    if not isinstance(part, RunnableWithMessageHistory):
        return []
    if not inspect.signature(part.get_session_history).parameters:
        return []
    return [spec.id for spec in part.history_factory_config]


def _all_parts(runnable: Runnable[Any, Any]) -> Iterator[Runnable[Any, Any]]:
    yield runnable
    for part in parts_of(runnable):
        yield from _all_parts(part)
