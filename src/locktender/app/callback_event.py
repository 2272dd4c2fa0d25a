"""Remember what a run's callbacks are told, for the answer to its caller.

`AsyncEventAggregatorCallback` keeps the events as they are; the name is LangServe's, whose users
import it.  `CallbackEventWriter` writes each one at once: the values of a run go on changing while
it runs.  Nothing of an exception is told but what its caller would be told of it anyway.
Above them, `run_note` gives one to each run; `wire.callback_event` knows the shape of an event.
"""

from collections.abc import Mapping
from typing import Any

import orjson
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.outputs import LLMResult

from locktender.app.callback_value import value_json
from locktender.app.heavy_body import Work, at_once
from locktender.app.heavy_value import is_large
from locktender.app.serialization import Serializer
from locktender.wire.callback_event import PAYLOADS, event_json
from locktender.wire.problem import langserve_problem

__all__ = ["AsyncEventAggregatorCallback", "CallbackEventWriter"]

_WHERE = ("run_id", "parent_run_id", "tags", "metadata")


class AsyncEventAggregatorCallback(AsyncCallbackHandler):
    """Keeps each event, with the values that it came with, in `callback_events`."""

    def __init__(self) -> None:
        super().__init__()
        self.callback_events: list[dict[str, Any]] = []

    async def _keep(self, kind: str, payload: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        where = {name: told[name] for name in _WHERE if name in told}
        kwargs = {name: value for name, value in told.items() if name not in _WHERE}
        self.callback_events.append({"type": kind, **payload, **where, "kwargs": kwargs})

    async def _take(self, kind: str, given: tuple[Any, ...], told: dict[str, Any]) -> None:
        names = PAYLOADS[kind]
        payload = dict(zip(names, given, strict=False))
        # Whoever replays events may name what LangChain gives by position.
        payload |= {name: told.pop(name) for name in names[len(given) :] if name in told}
        await self._keep(kind, payload, told)

    async def on_chain_start(self, *given: Any, **told: Any) -> None:
        await self._take("on_chain_start", given, told)

    async def on_chain_end(self, *given: Any, **told: Any) -> None:
        await self._take("on_chain_end", given, told)

    async def on_chain_error(self, *given: Any, **told: Any) -> None:
        await self._take("on_chain_error", given, told)

    async def on_chat_model_start(self, *given: Any, **told: Any) -> None:
        await self._take("on_chat_model_start", given, told)

    async def on_llm_start(self, *given: Any, **told: Any) -> None:
        await self._take("on_llm_start", given, told)

    async def on_llm_end(self, *given: Any, **told: Any) -> None:
        await self._take("on_llm_end", given, told)

    async def on_llm_error(self, *given: Any, **told: Any) -> None:
        await self._take("on_llm_error", given, told)

    async def on_tool_start(self, *given: Any, **told: Any) -> None:
        await self._take("on_tool_start", given, told)

    async def on_tool_end(self, *given: Any, **told: Any) -> None:
        await self._take("on_tool_end", given, told)

    async def on_tool_error(self, *given: Any, **told: Any) -> None:
        await self._take("on_tool_error", given, told)

    async def on_retriever_start(self, *given: Any, **told: Any) -> None:
        await self._take("on_retriever_start", given, told)

    async def on_retriever_end(self, *given: Any, **told: Any) -> None:
        await self._take("on_retriever_end", given, told)

    async def on_retriever_error(self, *given: Any, **told: Any) -> None:
        await self._take("on_retriever_error", given, told)

    async def on_agent_action(self, *given: Any, **told: Any) -> None:
        await self._take("on_agent_action", given, told)

    async def on_agent_finish(self, *given: Any, **told: Any) -> None:
        await self._take("on_agent_finish", given, told)


class CallbackEventWriter(AsyncEventAggregatorCallback):
    """Writes each event as it comes; `json` is what an answer holds."""

    def __init__(self, serializer: Serializer, work: Work = at_once) -> None:
        """`work` writes large events, which only a heavy body makes."""
        super().__init__()
        self._serializer = serializer
        self._work = work
        self._written: list[bytes] = []  # empty: not yet, or not in time

    def json(self) -> bytes:
        """Return the events so far."""
        return b"[%b]" % b",".join(filter(None, self._written))

    async def _keep(self, kind: str, payload: Mapping[str, Any], told: Mapping[str, Any]) -> None:
        at = len(self._written)
        self._written.append(b"")  # the place of the event, whichever is written first
        if self._work is not at_once and is_large([payload, told]):
            self._written[at] = await self._work(self._event, kind, payload, told)
        else:
            self._written[at] = self._event(kind, payload, told)

    def _event(self, kind: str, payload: Mapping[str, Any], told: Mapping[str, Any]) -> bytes:
        where = {name: self._json(told.get(name)) for name in _WHERE}
        kwargs = {name: value for name, value in told.items() if name not in _WHERE}
        if kind == "on_tool_end" and not isinstance(payload.get("output"), str):
            # LangServe's client takes a text here, and lets `kwargs` go before it.
            kwargs["output"] = payload.get("output")
            payload = {"output": self._json(kwargs["output"]).decode()}
        shown = {name: self._json(_sendable(value)) for name, value in payload.items()}
        return event_json(kind, shown, where, self._json(kwargs))

    def _json(self, value: Any) -> bytes:
        return value_json(value, self._serializer)


def _sendable(value: Any) -> Any:
    if isinstance(value, LLMResult):
        # Without its `type`: with it, LangServe's client makes an object of it too soon, and then
        # refuses the event.
        return {name: getattr(value, name) for name in ("generations", "llm_output", "run")}
    return _told_of(value) if isinstance(value, BaseException) else value


def _told_of(error: BaseException) -> dict[str, Any]:
    problem = langserve_problem(error if isinstance(error, Exception) else Exception())
    said = orjson.loads(problem.body)
    # LangServe calls it `status_code`, and then its own client fails at the event, and with it the
    # call.  Without that key the client leaves the event out.
    shown = {"status": problem.status, "message": said["message"]}
    return {**shown, "code": said["code"]} if "code" in said else shown
