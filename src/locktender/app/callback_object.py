"""Make of a server's callback event what a callback takes.

A callback of the caller's counts on what LangChain promises it: messages in lists of lists, an
`LLMResult`, documents.  An event that holds something else is refused here, and so are names among
its further arguments that would get in the way of those that the caller's side gives.
Above it, `callback_replay` decides which events make sense.
"""

import logging
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.documents import Document
from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from locktender.app.serialization import Serializer
from locktender.wire.callback_event import CallbackEvent

__all__ = ["ServerSideException", "load_event"]

_log = logging.getLogger(__name__)

_FAILED = 500
_Check = Callable[[Any], bool]


class ServerSideException(Exception):
    """What failed at the server, as far as it tells."""


def _is(*kinds: type) -> _Check:
    return lambda value: isinstance(value, kinds)


def _all(check: _Check) -> _Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


# What callbacks are given by other means, and what the functions that call them are given.
_NOT_FOR_KWARGS = frozenset(
    {"run_id", "parent_run_id", "tags", "metadata", "self"}
    | {"handlers", "event_name", "ignore_condition_name"}
)
# As they come, and as they are once objects are made of them; what is in neither may be anything.
_PLAIN: Mapping[str, _Check] = {
    "serialized": _is(dict, NoneType),
    "input_str": _is(str),
    "query": _is(str),
    "prompts": _all(_is(str)),
}
_OBJECTS: Mapping[str, _Check] = {
    "messages": _all(_all(_is(BaseMessage))),
    "documents": _all(_is(Document)),
    "action": _is(AgentAction),
    "finish": _is(AgentFinish),
}
_NAMES = ("name", "run_type")  # further arguments, of which tracers build their runs


def load_event(
    event: CallbackEvent, serializer: Serializer
) -> tuple[list[Any], dict[str, Any]] | None:
    """Return what a callback takes, by position and by name; None if that cannot be had."""
    reserved = {*_NOT_FOR_KWARGS, *event.payload}
    try:
        kwargs = {key: serializer.loadd(value) for key, value in event.kwargs.items()}
        payload = [_object(name, value, serializer) for name, value in event.payload.items()]
        for name in _NAMES:
            _checked(kwargs.get(name), _is(str, NoneType))
    except Exception:  # noqa: BLE001 - the peer's word, read by a serializer of the user's
        _log.debug("an event of the server's cannot be read", exc_info=True)
        return None
    if event.kind == "on_tool_end":
        payload = [kwargs.get("output", payload[0])]  # there it is whole, here it is a text
    return payload, {key: value for key, value in kwargs.items() if key not in reserved}


def _object(name: str, value: Any, serializer: Serializer) -> Any:
    """Return what stands in the payload.  Raises: ValueError, and what the serializer does."""
    if name in _PLAIN:
        return _checked(value, _PLAIN[name])
    if name == "error":
        return _error(value)
    loaded = serializer.loadd(value)
    if name == "response" and not isinstance(loaded, LLMResult):
        return LLMResult.model_validate(loaded)
    return _checked(loaded, _OBJECTS[name]) if name in _OBJECTS else loaded


def _error(value: Any) -> ServerSideException:
    fields = value if isinstance(value, dict) else {}
    status = fields.get("status", fields.get("status_code", _FAILED))
    message = fields.get("message", "Internal Server Error")
    return ServerSideException(f"{status}: {message}")


def _checked(value: Any, check: _Check) -> Any:
    if not check(value):
        raise ValueError
    return value
