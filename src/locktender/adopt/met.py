"""Meet the language models that a run calls, at the moment when it does.

LangChain tells its callbacks that a model begins, but not which object it is; so it is read from
the frames of the call, where the model's own method waits for the callbacks.  What that method does
next, `_generate` or `_stream`, it looks up afterwards: who changes the class of the model here has
changed that very call.  The asynchronous text models start their callbacks in tasks of their own,
from which the way leads back through what waits for them.  What is done with a model is `watch`'s.
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable, Iterator
from gc import get_referents
from types import AsyncGeneratorType, CellType, CoroutineType, FrameType, FunctionType
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel, BaseLanguageModel, BaseLLM

__all__ = ["Meeting"]

_FILES = frozenset(kind.generate.__code__.co_filename for kind in (BaseChatModel, BaseLLM))
_MAX_STEPS = 200
_AWAITED = {AsyncGeneratorType: ("ag_frame", "ag_await"), CoroutineType: ("cr_frame", "cr_await")}
_WAKES = "TaskWakeupMethWrapper"  # what a task leaves with a future that it waits for


class Meeting(BaseCallbackHandler):
    """A callback that hands on each language model that begins to answer."""

    run_inline = True  # in the caller's thread, before the call goes on
    ignore_agent = ignore_chain = ignore_custom_event = ignore_retriever = ignore_retry = True

    def __init__(self, meet: Callable[[BaseLanguageModel[Any]], None]) -> None:
        self._meet = meet

    def on_llm_start(self, *_arguments: Any, **_options: Any) -> None:
        """Meet a text model."""
        model = _calling(sys._getframe(1))  # noqa: SLF001 - the only name of the caller's frame
        if model is not None:
            self._meet(model)

    def on_chat_model_start(self, *_arguments: Any, **_options: Any) -> None:
        """Meet a chat model."""
        model = _calling(sys._getframe(1))  # noqa: SLF001 - as above
        if model is not None:
            self._meet(model)


def _calling(frame: FrameType | None) -> BaseLanguageModel[Any] | None:
    while frame is not None:
        model = _model_in(frame)
        if model is not None:
            return model
        frame = frame.f_back
    return _waiting()


def _model_in(frame: FrameType | None) -> BaseLanguageModel[Any] | None:
    if frame is None or frame.f_code.co_filename not in _FILES:
        return None
    model = frame.f_locals.get("self")
    return model if isinstance(model, BaseLanguageModel) else None


def _waiting() -> BaseLanguageModel[Any] | None:
    """Return the model whose method waits for the task that runs now."""
    try:
        task = asyncio.current_task()
    except RuntimeError:
        return None
    for parent in _waiting_for(task):
        model = None
        for frame in _frames(parent.get_coro()):
            model = _model_in(frame) or model  # the innermost
        if model is not None:
            return model
    return None


def _waiting_for(task: Any) -> Iterator[asyncio.Task[Any]]:
    """Yield the tasks that wait for `task`, by way of a future that gathers several."""
    waiting, seen = deque([task]), set[int]()
    while waiting and len(seen) < _MAX_STEPS:
        value = waiting.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, asyncio.Task) and value is not task:
            yield value
            continue
        for part in get_referents(value):
            is_way = type(part) in (CellType, FunctionType, list, tuple)
            if is_way or isinstance(part, asyncio.Future) or type(part).__name__ == _WAKES:
                waiting.append(part)


def _frames(awaited: Any) -> Iterator[FrameType | None]:
    for _ in range(_MAX_STEPS):
        names = _AWAITED.get(type(awaited))
        if names is None:
            # The step of an asynchronous generator, which alone knows the generator.
            parts = get_referents(awaited)
            awaited = next((part for part in parts if type(part) in _AWAITED), None)
            if awaited is None:
                return
            continue
        yield getattr(awaited, names[0])
        awaited = getattr(awaited, names[1])
