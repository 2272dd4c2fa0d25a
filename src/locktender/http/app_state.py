"""Keep what all requests to one application share on its `state`, where ASGI apps have one."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

__all__ = ["kept_on"]

_Kept = TypeVar("_Kept")


def kept_on(application: Any, name: str, make: Callable[[], _Kept]) -> _Kept:
    """Return what is kept as `name`, made when it is first asked for.

    An application without a `state`, behind which nothing else is served, has a new one each time.
    """
    state = getattr(application, "state", None)
    if state is None:
        return make()
    if not hasattr(state, name):
        setattr(state, name, make())
    return cast("_Kept", getattr(state, name))
