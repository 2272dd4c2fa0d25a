"""Meet the language models that a run calls, at the moment when it does.

Before LangChain has a model answer, the model's own method puts the run's callbacks together, and
asks what has been registered to take part in that.  What is registered here takes no part, so that
nothing a run tells of itself changes: it looks whose method asks, in the frames of the call.  What
that method does next, `_generate` or `_stream`, it looks up afterwards: who changes the class of
the model here has changed that very call.  Only runs in a context that is told to `listen` are
looked at.  What is done with a model is `watch`'s to say.
"""

import sys
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from types import FrameType
from typing import Any, TypeAlias, cast

from langchain_core.language_models import BaseChatModel, BaseLanguageModel, BaseLLM
from langchain_core.tracers.context import register_configure_hook

__all__ = ["Meet", "listen"]

Meet: TypeAlias = Callable[[BaseLanguageModel[Any]], None]

_CODES = (getattr(kind.generate, "__code__", None) for kind in (BaseChatModel, BaseLLM))
_FILES = frozenset(code.co_filename for code in _CODES if code is not None)
_MAX_STEPS = 8  # from LangChain's question to the model's method
_meet: ContextVar[Meet | None] = ContextVar("meet", default=None)


def listen(meet: Meet) -> None:
    """Have `meet` called with each language model that answers in this context from now on."""
    _registered()
    _meet.set(meet)


class _Question:
    """What LangChain takes for the variable in which a callback of the context may be."""

    def get(self) -> None:
        """Have the model met whose method asks; there is never a callback."""
        meet = _meet.get()
        frame_at = getattr(sys, "_getframe", None)  # not every Python has it
        if meet is not None and frame_at is not None:
            model = _asking(frame_at(1))
            if model is not None:
                meet(model)


@lru_cache(maxsize=1)
def _registered() -> None:
    """Take part in how LangChain puts callbacks together: once, since it forgets nobody."""
    register_configure_hook(cast("ContextVar[Any]", _Question()), inheritable=False)


def _asking(frame: FrameType | None) -> BaseLanguageModel[Any] | None:
    for _ in range(_MAX_STEPS):
        if frame is None:
            break
        if frame.f_code.co_filename in _FILES:
            model = frame.f_locals.get("self")
            if isinstance(model, BaseLanguageModel):
                return model
        frame = frame.f_back
    return None
