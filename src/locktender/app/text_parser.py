"""Keep a chain's text parser on the event loop.

LangChain's parsers go through a thread for each chunk, because a parser may take its time.  For
`StrOutputParser`, which returns the text that it is given, the way there and back is a third of
what a streamed chunk costs, and under load a long wait for a thread's turn.  Its stand-in does the
same where it is, in a copy of the chain (`served_copy`).
Above it, `endpoint` runs what this returns.
"""

from collections.abc import AsyncIterator
from copy import copy
from typing import Any

from langchain_core.messages import BaseMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import Runnable

from locktender.app.served_copy import with_stand_ins

__all__ = ["with_direct_text_parsers"]

_Step = Runnable[Any, Any]


def with_direct_text_parsers(runnable: _Step) -> _Step:
    """Return `runnable`, or a copy in which each `StrOutputParser` stays on the event loop."""
    return with_stand_ins(runnable, _stand_in)


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


def _stand_in(runnable: _Step) -> _Step:
    if type(runnable) is not StrOutputParser:
        return runnable  # A subclass may do anything, and keeps its thread.
    stand_in = copy(runnable)
    stand_in.__class__ = _DirectTextParser
    return stand_in
