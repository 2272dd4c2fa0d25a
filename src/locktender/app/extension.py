"""Let LangChain's and LangGraph's objects cross whole, between sides that have agreed on it.

`ExtensionSerializer` is the extended form of a route's serializer: a client and a server of ours
use it once both have said so (`wire.extension` has the form, `app.dialect` the server's half of the
agreement, `app.client_extension` the client's).  A class that is listed here arrives as itself with
all its fields; anything else goes as the plain serializer writes it.

LangGraph is not imported before one of its objects comes.  Where it is not installed, `Interrupt`,
`Command` and `Send` of this module stand for its own, in both directions.
"""

import importlib
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from langchain_core.agents import AgentAction, AgentActionMessageLog, AgentFinish, AgentStep
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    RemoveMessage,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    GenerationChunk,
    LLMResult,
    RunInfo,
)
from langchain_core.prompt_values import (
    ChatPromptValue,
    ChatPromptValueConcrete,
    ImagePromptValue,
    StringPromptValue,
)
from pydantic import BaseModel

from locktender.app.serialization import Serializer
from locktender.wire.extension import Codec, Kind

__all__ = [
    "GRAPH_KINDS",
    "LANGCHAIN_KINDS",
    "Command",
    "ExtensionSerializer",
    "Interrupt",
    "Send",
    "kind_of",
]

_CLASSES: tuple[type[BaseModel], ...] = (
    *(AIMessage, AIMessageChunk, ChatMessage, ChatMessageChunk, FunctionMessage),
    *(FunctionMessageChunk, HumanMessage, HumanMessageChunk, RemoveMessage, SystemMessage),
    *(SystemMessageChunk, ToolMessage, ToolMessageChunk),
    *(AgentAction, AgentActionMessageLog, AgentFinish, AgentStep, Document),
    *(ChatGeneration, ChatGenerationChunk, ChatResult, Generation, GenerationChunk, LLMResult),
    *(RunInfo, ChatPromptValue, ChatPromptValueConcrete, ImagePromptValue, StringPromptValue),
)
_GRAPH_MODULE = "langgraph.types"


@dataclass(frozen=True, slots=True)
class Interrupt:
    """LangGraph's `Interrupt`, where LangGraph is not installed."""

    value: Any
    id: str
    response_schema: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Send:
    """LangGraph's `Send`, likewise."""

    node: str
    arg: Any


@dataclass(frozen=True, slots=True)
class Command:
    """LangGraph's `Command`, likewise; a client may send it."""

    graph: str | None = None
    update: Any = None
    resume: Any = None
    goto: Any = ()


class ExtensionSerializer(Serializer):
    """The extended form of `plain`, as a client writes and reads it."""

    def __init__(self, plain: Serializer) -> None:
        self.plain = plain
        self._codec = Codec(
            writing=kind_of,
            reading={**LANGCHAIN_KINDS, **GRAPH_KINDS},
            plain=plain.dumpd,
            revive=plain.loadd,
        )

    def dumps(self, obj: Any) -> bytes:
        """Return `obj` as JSON.  Raises: TypeError, and what the plain serializer does."""
        return self._codec.dumps(obj)

    def loadd(self, obj: Any) -> Any:
        """Return the objects that parsed JSON stands for.  Raises: ValueError."""
        return self._codec.load(obj)


def kind_of(value: object) -> Kind | None:
    """Return the kind of an object of LangChain's or LangGraph's; None for any other."""
    kind = _BY_CLASS.get(type(value))
    if kind is not None:
        return kind
    if type(value).__module__ == _GRAPH_MODULE:
        return GRAPH_KINDS.get(type(value).__name__)
    if isinstance(value, BaseMessage):  # of a class of somebody's own; its parent is known
        return next((_BY_CLASS[each] for each in type(value).__mro__ if each in _BY_CLASS), None)
    return None


def _fields(value: Any) -> dict[str, Any]:
    # The objects as they are and not a dump of them, which would make dicts of what they hold.
    known = {name: getattr(value, name) for name in type(value).model_fields}
    return {**known, **(value.model_extra or {})}


def _model_kind(model: type[BaseModel]) -> Kind:
    return Kind(model.__name__, _fields, model.model_validate)


def _interrupt_fields(value: Any) -> dict[str, Any]:
    told = {"value": value.value, "id": value.id}
    schema = getattr(value, "response_schema", None)  # a class of Python's does not cross
    return {**told, "response_schema": schema} if isinstance(schema, Mapping) else told


def _command_fields(value: Any) -> dict[str, Any]:
    written = {field.name: getattr(value, field.name) for field in fields(Command)}
    unset = {"graph": None, "update": None, "resume": None, "goto": ()}
    return {name: part for name, part in written.items() if part != unset[name]}


def _send_fields(value: Any) -> dict[str, Any]:
    if getattr(value, "timeout", None) is not None:
        raise TypeError("A Send with a time limit of its own cannot be sent.")
    return {"node": value.node, "arg": value.arg}


def _graph_kind(stand_in: type, write: Callable[[Any], Any]) -> Kind:
    name = stand_in.__name__
    names = {field.name for field in fields(stand_in)}

    def read(values: Mapping[str, Any]) -> Any:
        if not values.keys() <= names:
            raise ValueError(f"A {name} has no such fields.")
        try:
            made = getattr(importlib.import_module(_GRAPH_MODULE), name)
        except ImportError:
            made = stand_in
        return made(**values)

    return Kind(name, write, read)


# A server does not read these, but for the Command that an input is (`app.dialect`): one that came
# in somewhere else could be returned by a node, and be obeyed.
GRAPH_KINDS: Mapping[str, Kind] = {
    "Interrupt": _graph_kind(Interrupt, _interrupt_fields),
    "Command": _graph_kind(Command, _command_fields),
    "Send": _graph_kind(Send, _send_fields),
}
# Here, since what `wire` imports knows no dice.
_UUID_KIND = Kind("uuid", str, uuid.UUID)
_BY_CLASS: Mapping[type, Kind] = {
    **{model: _model_kind(model) for model in _CLASSES},
    **{each: GRAPH_KINDS[each.__name__] for each in (Interrupt, Command, Send)},
    uuid.UUID: _UUID_KIND,
}
LANGCHAIN_KINDS: Mapping[str, Kind] = {
    **{model.__name__: _BY_CLASS[model] for model in _CLASSES},
    _UUID_KIND.name: _UUID_KIND,
}
