"""Give a message that is asked for as `BaseMessage` the class that its type names.

An author's type may name the base class, as LangChain's own often do, and pydantic makes just that
of JSON: an object that no model takes.  Of a type that we make schemas of, the class is exchanged
before; where the schema is LangChain's, so that it is shown and refuses as LangServe's does, the
messages are exchanged after.
"""

from functools import lru_cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    Union,  # noqa: TID251 - asked for, not used
    get_args,
    get_origin,
)

from langchain_core.messages import AnyMessage, BaseMessage
from pydantic import BaseModel, TypeAdapter, ValidationError

__all__ = ["makes_bare_messages", "with_any_message", "with_message_classes"]

_MESSAGE: TypeAdapter[BaseMessage] = TypeAdapter(AnyMessage)


def with_any_message(hint: Any) -> Any:
    """Return `hint` with the union of all messages for their base class, which JSON cannot fill."""
    if hint is BaseMessage:
        return AnyMessage
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return Annotated[(with_any_message(arguments[0]), *arguments[1:])]
    changed = tuple(map(with_any_message, arguments))
    if changed == arguments:
        return hint
    return Union[changed] if origin in {Union, UnionType} else origin[changed]  # noqa: UP007 - of a tuple that is made here


@lru_cache(maxsize=256)
def makes_bare_messages(schema: type[BaseModel]) -> bool:
    """Whether what `schema` makes may have a bare `BaseMessage` in it."""
    if schema is BaseMessage:
        return True
    try:
        return BaseMessage.__name__ in schema.model_json_schema().get("$defs", {})
    except Exception:  # noqa: BLE001 - types of users raise what they like
        return False


def with_message_classes(value: Any) -> Any:
    """Return `value` with a message of its own class for each bare one whose type is known."""
    if isinstance(value, list | tuple) and type(value) in {list, tuple}:
        return type(value)(map(with_message_classes, value))
    if type(value) is dict:
        return {key: with_message_classes(item) for key, item in value.items()}
    if type(value) is not BaseMessage:
        return value
    try:
        return _MESSAGE.validate_python(value.model_dump())
    except ValidationError:
        return value  # of a type that LangChain does not know
