"""Say where the work on a request is done: on the event loop, or beside it for a heavy body.

Parsing, validating and writing hold the loop, and with it every other caller.  A body that
`http.body` calls heavy is therefore worked on in the application's one thread for that.  A refusal
of it says what is wrong and where, and does not quote it: it could be sent back a hundred times
over.  Above it, `endpoint` has each step done here.
"""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from locktender.http.offload import Offload
from locktender.wire.langserve import Unprocessable

__all__ = ["Work", "at_once", "beside"]

# Does what it is given, a function and its arguments, and returns what that returns.
Work: TypeAlias = Callable[..., Awaitable[Any]]

_MAX_TOLD = 100  # mistakes
_QUOTING = frozenset({"input", "ctx"})


async def at_once(work: Callable[..., Any], *arguments: Any) -> Any:
    """Do `work` here.  Raises what it raises."""
    return work(*arguments)


def beside(offload: Offload, timeout_s: float) -> Work:
    """Return what does its work in the thread of `offload`, each within `timeout_s`.

    It raises: DeadlineExceeded, and what the work does.
    """

    async def run(work: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return await offload.run(work, *arguments, timeout_s=timeout_s)
        except Unprocessable as error:
            raise Unprocessable(_unquoted(error.detail)) from error

    return run


def _unquoted(detail: object) -> object:
    if not isinstance(detail, list):
        return detail
    return [
        {key: told for key, told in each.items() if key not in _QUOTING}
        if isinstance(each, dict)
        else each
        for each in detail[:_MAX_TOLD]
    ]
