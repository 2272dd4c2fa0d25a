"""Tell a caller's callbacks what the server's callbacks were told.

The server's runs get new ids and hang under the caller's own run, so that a tracer shows them as
its children.  What a server sends is not trusted: an event is replayed only if it makes sense after
those before it, and a run whose end was not told is ended here, or tracers would keep it for ever.
Below it, `callback_object` makes objects of an event; above it, the client knows the runs.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    BaseCallbackHandler,
    CallbackManagerForChainRun,
)
from langchain_core.callbacks.manager import ahandle_event, handle_event

from locktender.app.callback_object import ServerSideException, load_event
from locktender.app.serialization import Serializer
from locktender.wire.callback_event import CallbackEvent, parse_events

__all__ = ["replay", "replay_async"]

_log = logging.getLogger(__name__)

_IGNORED_BY = {
    "chain": "ignore_chain",
    "chat_model": "ignore_chat_model",
    "llm": "ignore_llm",
    "retriever": "ignore_retriever",
    "tool": "ignore_agent",
    "agent": "ignore_agent",
}
_BEGINNINGS = {"chat_model": "llm", "agent": "chain"}  # what an event of the family belongs to


@dataclass(frozen=True, slots=True)
class _Call:
    """One call of a callback."""

    name: str
    ignored_by: str
    payload: Sequence[Any]
    told: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Run:
    """A run at the server that has begun and not ended."""

    id: UUID  # that it has here
    parent_id: UUID
    family: str
    tags: list[str] | None


def replay(told: object, run: CallbackManagerForChainRun, serializer: Serializer) -> None:
    """Tell the callbacks of `run`'s children what the server `told` of one run of its own.

    Nothing that a server sends is an error here: what makes no sense is left out.
    """
    handlers = run.inheritable_handlers
    for call in _calls(told, handlers, run.run_id, serializer):
        handle_event(handlers, call.name, call.ignored_by, *call.payload, **call.told)


async def replay_async(
    told: object, run: AsyncCallbackManagerForChainRun, serializer: Serializer
) -> None:
    """Do as `replay`."""
    handlers = run.inheritable_handlers
    for call in _calls(told, handlers, run.run_id, serializer):
        await ahandle_event(handlers, call.name, call.ignored_by, *call.payload, **call.told)


def _calls(
    told: object, handlers: Sequence[BaseCallbackHandler], caller_id: UUID, serializer: Serializer
) -> Iterator[_Call]:
    if not handlers:
        return
    runs = _Runs(caller_id)
    n_calls = 0
    for event in parse_events(told):
        loaded = load_event(event, serializer)
        call = None if loaded is None else runs.call(event, *loaded)
        if call is not None:
            n_calls += 1
            yield call
    yield from runs.rest()
    n_told = len(told) if isinstance(told, list) else 1
    if n_calls < n_told:
        _log.warning("left out %d of the server's callback events", n_told - n_calls)


class _Runs:
    """The server's runs, by the ids that they have there."""

    def __init__(self, caller_id: UUID) -> None:
        self._caller_id = caller_id
        self._open: dict[str, _Run] = {}
        self._ids: dict[str, UUID] = {}  # of all that have begun: there, here

    def call(
        self, event: CallbackEvent, payload: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> _Call | None:
        """Return the call that `event` stands for; None if it makes no sense now."""
        run = self._begun(event) if event.step == "start" else self._open.get(event.run_id)
        if run is None or run.family != _BEGINNINGS.get(event.family, event.family):
            return None
        if event.step in {"end", "error"}:
            del self._open[event.run_id]
        where = _where(run, event.tags)
        if event.step == "start":
            where["metadata"] = event.metadata
        return _Call(event.kind, _IGNORED_BY[event.family], payload, {**kwargs, **where})

    def rest(self) -> Iterator[_Call]:
        """Yield an end for each run of which none was told, for the inner ones first."""
        error = ServerSideException("The server did not tell how this run ended.")
        for run in reversed(self._open.values()):
            ignored_by = _IGNORED_BY[run.family]
            yield _Call(f"on_{run.family}_error", ignored_by, [error], _where(run, run.tags))

    def _begun(self, event: CallbackEvent) -> _Run | None:
        if event.run_id in self._ids:
            return None
        parent_id = self._caller_id
        if event.parent_run_id is not None:
            parent_id = self._ids.get(event.parent_run_id, parent_id)
        self._ids[event.run_id] = uuid4()
        family = _BEGINNINGS.get(event.family, event.family)
        run = _Run(self._ids[event.run_id], parent_id, family, event.tags)
        self._open[event.run_id] = run
        return run


def _where(run: _Run, tags: list[str] | None) -> dict[str, Any]:
    return {"run_id": run.id, "parent_run_id": run.parent_id, "tags": tags}
