"""Turn what runnables give into JSON, and JSON back into LangChain's objects.

`WellKnownSerializer` writes what LangServe's `WellKnownLCSerializer` writes, and reads the same 22
values of `type`; where LangServe loses something on the way, this does not: a message within a
field that is annotated as `BaseMessage` keeps the fields of its own class, and a `ChatPromptValue`
comes back as a prompt value.  What JSON lacks and can stand in for (`plain_value`) is written, too;
what it cannot hold (a complex number, a key that is no string) is a TypeError here as there, which
says where it stands.  Knows no route and no socket: servers and clients use it alike.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import orjson
from langchain_core.agents import AgentAction, AgentActionMessageLog, AgentFinish
from langchain_core.documents import Document
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    ChatMessage,
    ChatMessageChunk,
    FunctionMessage,
    FunctionMessageChunk,
    HumanMessage,
    HumanMessageChunk,
    SystemMessage,
    SystemMessageChunk,
    ToolMessage,
    ToolMessageChunk,
)
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult
from langchain_core.prompt_values import (
    ChatPromptValue,
    ChatPromptValueConcrete,
    StringPromptValue,
)
from pydantic import BaseModel

from locktender.app.plain_value import plain_value
from locktender.wire.json_place import unwritable

__all__ = ["Serializer", "WellKnownSerializer", "default"]

_TOO_DEEP = "Recursion limit reached"  # orjson's words
_WELL_KNOWN: Mapping[str, type[BaseModel]] = {
    "human": HumanMessage,
    "system": SystemMessage,
    "ai": AIMessage,
    "chat": ChatMessage,
    "function": FunctionMessage,
    "tool": ToolMessage,
    "HumanMessageChunk": HumanMessageChunk,
    "SystemMessageChunk": SystemMessageChunk,
    "ChatMessageChunk": ChatMessageChunk,
    "FunctionMessageChunk": FunctionMessageChunk,
    "ToolMessageChunk": ToolMessageChunk,
    "AIMessageChunk": AIMessageChunk,
    "Document": Document,
    "StringPromptValue": StringPromptValue,
    "ChatPromptValueConcrete": ChatPromptValueConcrete,
    "AgentAction": AgentAction,
    "AgentActionMessageLog": AgentActionMessageLog,
    "AgentFinish": AgentFinish,
    "Generation": Generation,
    "ChatGeneration": ChatGeneration,
    "ChatGenerationChunk": ChatGenerationChunk,
    "LLMResult": LLMResult,
}


class Serializer(ABC):
    """How the values of a route cross the wire."""

    @abstractmethod
    def dumps(self, obj: Any) -> bytes:
        """Return `obj` as JSON.  Raises what it likes for one that it cannot write."""

    @abstractmethod
    def loadd(self, obj: Any) -> Any:
        """Return the objects that parsed JSON stands for."""

    def dumpd(self, obj: Any) -> Any:
        """Return `obj` as parsed JSON."""
        return json.loads(self.dumps(obj))

    def loads(self, part: bytes | str) -> Any:
        """Return the objects that JSON stands for."""
        return self.loadd(json.loads(part))


class WellKnownSerializer(Serializer):
    """LangChain's objects by their `type`; everything else as plain JSON."""

    def dumps(self, obj: Any) -> bytes:
        """Return `obj` as compact JSON.  Raises: TypeError, which names the place of the fault."""
        try:
            return orjson.dumps(obj, default=self.stand_in)
        except TypeError:
            pass  # at what only Python's own writer can nest, or at what nobody can write
        try:
            return self._written(obj)
        except (TypeError, ValueError, RecursionError) as error:
            raise unwritable(obj, self._written, self.stand_in) from error

    def _written(self, obj: Any) -> bytes:
        stand_in = self.stand_in
        try:
            return orjson.dumps(obj, default=stand_in)
        except TypeError as error:
            if str(error) != _TOO_DEEP:
                raise
        # It ends at 254, and a caller's own input may be deeper, which an output may be made of.
        text = json.dumps(
            obj, default=stand_in, ensure_ascii=False, allow_nan=False, separators=(",", ":")
        )
        return text.encode()

    @staticmethod
    def stand_in(value: object) -> object:
        """Return what stands for a value that JSON does not know; a subclass may know better."""
        return default(value)

    def loadd(self, obj: Any) -> Any:
        """Return `obj` with every value of a well known type made an object, inside first."""
        if isinstance(obj, list):
            return [self.loadd(item) for item in obj]
        if not isinstance(obj, dict):
            return obj
        fields = {key: self.loadd(value) for key, value in obj.items()}
        kind = fields.get("type")
        model = _WELL_KNOWN.get(kind) if isinstance(kind, str) else None
        if model is None:
            return fields
        try:
            return model.model_validate(dict(fields))  # which LangChain's validators may change
        except Exception:  # noqa: BLE001 - its constructors and validators raise what they like
            return fields  # somebody else's dict, that has a `type` of its own


def default(value: object) -> object:
    """Return what stands for a value that JSON does not know.  Raises: TypeError.

    It is looked up at each call: apps that came from LangServe replace it (`locktender.compat`).
    """
    if (type(value).__module__, type(value).__name__) == ("langgraph.types", "Send"):
        return {"node": value.node, "arg": value.arg}  # type: ignore[attr-defined] # it is one
    if not isinstance(value, BaseModel):
        return plain_value(value)
    # By the classes of the values and not of the annotations: a message that stands in a field of
    # its base class would lose its tool calls.
    fields = value.model_dump(serialize_as_any=True, warnings=False)
    if type(value) is ChatPromptValue:
        fields["type"] = "ChatPromptValueConcrete"
    return fields
