"""Keep a chain's text parser on the event loop.

LangChain's parsers go through a thread for each chunk, because a parser may take its time.  For
`StrOutputParser`, which returns the text that it is given, the way there and back is a third of
what a streamed chunk costs, and under load a long wait for a thread's turn.  Its stand-in does the
same where it is.  The user's own objects are left as they are: the chain that is served is a copy.
Above it, `endpoint` runs what this returns.
"""

from collections.abc import AsyncIterator
from copy import copy
from typing import Any, cast

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable, RunnableBinding, RunnableParallel, RunnableSequence

__all__ = ["with_direct_text_parsers"]

_Step = Runnable[Any, Any]


def with_direct_text_parsers(runnable: _Step) -> _Step:
    """Return `runnable`, or a copy in which each `StrOutputParser` stays on the event loop.

    They are found in sequences, parallels and bindings, in whatever order these are nested.
    """
    # A subclass may do anything, and keeps its thread.
    if type(runnable) is StrOutputParser:
        return _stand_in(runnable)
    changes: dict[str, Any] = {}
    if isinstance(runnable, RunnableSequence):
        changes = {
            "first": with_direct_text_parsers(runnable.first),
            "middle": [with_direct_text_parsers(step) for step in runnable.middle],
            "last": with_direct_text_parsers(runnable.last),
        }
    elif isinstance(runnable, RunnableParallel):
        steps = runnable.steps__
        changes = {
            "steps__": {name: with_direct_text_parsers(step) for name, step in steps.items()}
        }
    elif isinstance(runnable, RunnableBinding):
        changes = {"bound": with_direct_text_parsers(runnable.bound)}
    if all(_is_same(getattr(runnable, name), value) for name, value in changes.items()):
        return runnable
    return cast("_Step", runnable.model_copy(update=changes))  # type: ignore[attr-defined] # each of the three is a pydantic model


def _is_same(old: Any, new: Any) -> bool:
    if isinstance(new, list):
        return all(map(_is_same, old, new))
    if isinstance(new, dict):
        return all(_is_same(old[name], value) for name, value in new.items())
    return old is new


class _DirectTextParser(StrOutputParser):
    """A `StrOutputParser` that needs no thread."""

    async def aparse_result(self, result: list[Generation], *, partial: bool = False) -> str:
        return self.parse_result(result, partial=partial)

    async def _atransform(self, input: AsyncIterator[str | BaseMessage]) -> AsyncIterator[str]:  # noqa: A002 - LangChain's name
        async for chunk in input:
            if isinstance(chunk, BaseMessage):
                yield self.parse_result([ChatGeneration(message=chunk)])
            else:
                yield self.parse_result([Generation(text=chunk)])


# Callbacks, schemas and graphs tell a step by its class's name.
_DirectTextParser.__name__ = StrOutputParser.__name__
_DirectTextParser.__qualname__ = StrOutputParser.__qualname__


def _stand_in(parser: StrOutputParser) -> StrOutputParser:
    stand_in = copy(parser)
    stand_in.__class__ = _DirectTextParser
    return stand_in
