"""Turn LangChain's messages and settings into the body of a chat completion.

What the model service may know is sent, and it is the service that refuses what its engine does not
obey; a name that no service knows, such as a misspelt one, is refused here.  Nothing is left out in
silence.  Ranges are the service's to check.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    HumanMessage,
    SystemMessage,
)

from locktender.core.errors import InvalidRequest
from locktender.wire.openai_field import REASONING
from locktender.wire.openai_setting import is_known, unknown

__all__ = ["chat_messages", "chat_settings", "not_supported"]

_ROLES = {"system", "developer", "user", "assistant"}


def not_supported(name: str) -> InvalidRequest:
    """Return the refusal of a setting that no model service takes yet."""
    return InvalidRequest(f"`{name}` is not supported by the model service yet.", name)


def chat_settings(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that are sent.  Raises: InvalidRequest for what no service knows."""
    sent = {name: value for name, value in given.items() if value is not None}
    for name in sent:
        if not is_known(name):
            raise unknown(name)
    return sent


def chat_messages(messages: Sequence[BaseMessage]) -> list[dict[str, Any]]:
    """Return `messages` as OpenAI writes them.  Raises: InvalidRequest."""
    return [_chat_message(message) for message in messages]


def _chat_message(message: BaseMessage) -> dict[str, Any]:
    role = _role(message)
    said = {"role": role, "content": _content(message.content, is_own=role == "assistant")}
    return said if message.name is None else {**said, "name": message.name}


def _role(message: BaseMessage) -> str:
    match message:
        case HumanMessage():
            return "user"
        case SystemMessage():
            return "system"
        case AIMessage():
            if message.tool_calls or message.invalid_tool_calls:
                raise not_supported("tool_calls")
            if message.additional_kwargs.get("function_call"):
                raise not_supported("function_call")
            return "assistant"
        case ChatMessage() if message.role in _ROLES:
            return message.role
    kind = message.role if isinstance(message, ChatMessage) else message.type
    text = f"Messages of the kind `{kind}` are not supported by the model service yet."
    raise InvalidRequest(text, "messages")


def _content(
    content: str | Sequence[str | Mapping[str, Any]], *, is_own: bool
) -> str | list[dict[str, str]]:
    """Return the content; how the parts of a list are joined is the service's to say.

    What a model has thought in a turn of its own is left out, as the makers of such models have it.
    """
    if isinstance(content, str):
        return content
    told = [block for block in content if not (is_own and _is_reasoning(block))]
    return [{"type": "text", "text": _text(block)} for block in told] or ""


def _is_reasoning(block: str | Mapping[str, Any]) -> bool:
    return not isinstance(block, str) and block.get("type") in REASONING


def _text(block: str | Mapping[str, Any]) -> str:
    if isinstance(block, str):
        return block
    text = block.get("text")
    if block.get("type") != "text" or not isinstance(text, str):
        kind = block.get("type")
        message = f"Content of the kind `{kind}` is not supported by the model service: only text."
        raise InvalidRequest(message, "messages")
    return text
