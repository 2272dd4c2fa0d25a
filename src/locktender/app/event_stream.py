"""Tell of a run and of every run within it, as the events of `/stream_events`.

The events are those of LangChain's `astream_events`.  It keeps them in a queue without bounds, and
lets a run go on while nobody reads; so the run is given to it with a hold: after each event and
each chunk it waits until the reader is near (`feed`).  A runnable with an `astream_events` of its
own, such as the client of another server, is asked itself.
"""

import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Collection, Iterator, Mapping
from contextlib import aclosing
from functools import partial
from typing import Any, Literal, TypeAlias, TypeVar, cast
from uuid import UUID

from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, BaseCallbackManager
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.base import RunnableBindingBase

from locktender.app.callback_value import value_json
from locktender.app.feed import Feed, fed_by
from locktender.app.graph import told_error
from locktender.app.serialization import Serializer
from locktender.app.tap import Tap
from locktender.wire.event_filter import EventFilter

__all__ = ["Event", "EventsVersion", "event_stream", "event_writer", "is_told_of", "nothing"]

Event: TypeAlias = Mapping[str, Any]
EventsVersion: TypeAlias = Literal["v1", "v2"]
_Chunk = TypeVar("_Chunk")

# Where `astream_events` is LangChain's own, whatever class inherits it.
_HELD = frozenset(
    {
        "langchain_core.runnables.base",
        "langchain_core.language_models.chat_models",
        "langgraph.pregel.main",
    }
)
_CALLED_BACK = (
    *("on_chain_start", "on_chain_end", "on_chain_error", "on_agent_action", "on_agent_finish"),
    *("on_chat_model_start", "on_llm_start", "on_llm_new_token", "on_llm_end", "on_llm_error"),
    *("on_tool_start", "on_tool_end", "on_tool_error", "on_text", "on_retry"),
    *("on_retriever_start", "on_retriever_end", "on_retriever_error", "on_custom_event"),
)


def event_stream(
    runnable: Runnable[Any, Any],
    value: Any,
    config: RunnableConfig,
    chosen: EventFilter,
    version: EventsVersion,
) -> AsyncGenerator[Event, None]:
    """Run `runnable` and yield the events; leaving cancels the run.  Raises what it raises."""
    return fed_by(partial(_follow, runnable, value, config, chosen, version))


def event_writer(write: Callable[[Any], bytes], serializer: Serializer) -> Callable[[Event], bytes]:
    """Return what writes an event as `write` does, whatever input the event quotes.

    The caller sent that as JSON, and the runnable's schema made of it what JSON cannot hold: a dict
    with numbers as keys.
    """

    def written(event: Event) -> bytes:
        try:
            return write(event)
        except TypeError:
            data = event.get("data")
            if not isinstance(data, Mapping) or "input" not in data:
                raise
            quoted = json.loads(value_json(data["input"], serializer))
            return write({**event, "data": {**data, "input": quoted}})

    return written


def is_told_of(runnable: Runnable[Any, Any], names: Collection[str] | None) -> bool:
    """Whether the runs of `runnable` are told of, if only those of `names` are to be."""
    if names is None:
        return True
    # The name that its author gave it: the path names the run, whatever it is that runs.
    config = getattr(runnable, "config", None)
    name = config.get("run_name") if isinstance(config, Mapping) else runnable.get_name()
    return name in names


async def nothing() -> AsyncGenerator[Any, None]:
    """Yield nothing: what is told of a run that nobody may be told of, which does not run."""
    return
    yield


async def _follow(
    runnable: Runnable[Any, Any],
    value: Any,
    config: RunnableConfig,
    chosen: EventFilter,
    version: EventsVersion,
    feed: Feed[Event],
) -> None:
    is_held = type(_innermost(runnable)).astream_events.__module__ in _HELD
    source = _held(runnable, feed) if is_held else runnable
    told = source.astream_events(value, config, version=version, **chosen.model_dump())
    async with aclosing(cast("AsyncGenerator[Event, None]", told)) as events:
        async for event in events:
            feed.put(_shown(event))
            if not is_held:  # else the events must not pile up where they are not counted
                await feed.room()


def _shown(event: Event) -> Event:
    told = event.get("data")  # of a custom event it may be anything
    if isinstance(told, Mapping) and isinstance(told.get("error"), BaseException):
        event = {**event, "data": {**told, "error": told_error(told["error"])}}
    metadata = event.get("metadata")
    if not metadata:
        return event
    shown = {name: value for name, value in metadata.items() if not name.startswith("__")}
    return {**event, "metadata": shown}


def _innermost(runnable: Runnable[Any, Any]) -> Runnable[Any, Any]:
    while isinstance(runnable, RunnableBindingBase):
        runnable = runnable.bound
    return runnable


def _held(runnable: Runnable[Any, Any], feed: Feed[Event]) -> Runnable[Any, Any]:
    if isinstance(runnable, RunnableBindingBase):
        # It passes its own config on to what it binds, where the events are made.
        return runnable.model_copy(update={"bound": _held(runnable.bound, feed)})
    return _Held(runnable, feed)


class _Held(Runnable[Any, Any]):
    """A runnable that waits for whoever reads its events."""

    def __init__(self, runnable: Runnable[Any, Any], feed: Feed[Event]) -> None:
        self.name = runnable.get_name()
        self._runnable = runnable
        self._feed = feed

    def invoke(self, input: Any, config: RunnableConfig | None = None, **more: Any) -> Any:  # noqa: A002 - LangChain's name
        return self._runnable.invoke(input, config, **more)

    async def astream(
        self,
        input: Any,  # noqa: A002 - LangChain's name
        config: RunnableConfig | None = None,
        **more: Any,
    ) -> AsyncIterator[Any]:
        # LangChain runs this in a task of its own, which v1 does not cancel when it is left.
        self._feed.join()
        held = cast("RunnableConfig", {**(config or {}), "callbacks": self._callbacks(config)})
        generator = self._runnable.astream(input, held, **more)
        async with aclosing(cast("AsyncGenerator[Any, None]", generator)) as chunks:
            async for chunk in chunks:
                yield chunk
                await self._feed.room()

    def _callbacks(self, config: RunnableConfig | None) -> Any:
        """Return the callbacks with a hold on the last of them, which makes the events."""
        callbacks = (config or {}).get("callbacks")
        if isinstance(callbacks, BaseCallbackManager):
            maker = callbacks.handlers[-1]
            held = callbacks.copy()
            held.remove_handler(maker)
            held.add_handler(_HeldMaker(maker, self._feed), inherit=True)
            return held
        *others, maker = callbacks or []
        return [*others, _HeldMaker(maker, self._feed)]


def _held_call(name: str) -> Any:
    async def call(self: "_HeldMaker", *args: Any, **more: Any) -> None:
        told = getattr(self.maker, name)(*args, **more)
        if inspect.isawaitable(told):
            await told
        await self.feed.room()

    return call


class _HeldMaker(AsyncCallbackHandler, Tap):
    """LangChain's maker of events, and a hold after each."""

    def __init__(self, maker: BaseCallbackHandler, feed: Feed[Event]) -> None:
        self.maker: Any = maker
        self.feed = feed

    async def tap_output_aiter(
        self, run_id: UUID, output: AsyncIterator[_Chunk]
    ) -> AsyncIterator[_Chunk]:
        """Have the chunks of a run seen."""
        async with aclosing(self.maker.tap_output_aiter(run_id, output)) as chunks:
            async for chunk in chunks:
                yield chunk
                await self.feed.room()

    def tap_output_iter(self, run_id: UUID, output: Iterator[_Chunk]) -> Iterator[_Chunk]:
        """Do the same in another thread."""
        for chunk in self.maker.tap_output_iter(run_id, output):
            yield chunk
            self.feed.room_now()


for _name in _CALLED_BACK:
    setattr(_HeldMaker, _name, _held_call(_name))
