"""Say what single fields of an OpenAI body may hold, where a type alone does not say it.

The functions are validators of the models in `wire.openai`: they raise a ValueError whose text goes
on after the name of the field, so that no field needs to know where it stands.
"""

from typing import Annotated

import orjson
from pydantic import AfterValidator, ValidationInfo

__all__ = ["REASONING", "Absent", "read_part", "shown", "stop_strings", "text_said"]

# The kinds of parts that hold what a model has thought: they are no part of what it has said, and
# former turns are read without them.
REASONING = frozenset({"reasoning", "reasoning_content", "redacted_thinking", "thinking"})

# Fields of a message that hold them as well, in a model's own turns.
_THOUGHTS = REASONING | {"reasoning_details", "reasoning_signature", "thinking_blocks"}

# What services and clients write beside a message, and no text depends on: where it stands, when it
# came, what it was made of and refers to.
_NOTES = frozenset(
    {"id", "index", "object", "type", "status", "created", "created_at", "createdAt", "timestamp"}
    | {"annotations", "citations", "parsed", "logprobs", "finish_reason", "stop_reason", "usage"}
    | {"metadata", "response_metadata", "provider_specific_fields", "cache_control", "weight"}
    | {"model", "token_ids"}
)

_ASSISTANT = "assistant"
_NEEDED = frozenset({"role", "content"})
_MAX_STOP_STRINGS = 16  # OpenAI takes 4; local models are often driven with more
_MAX_STOP_CHARACTERS = 256
_MAX_SHOWN_CHARACTERS = 40
_NOT_SUPPORTED = "is not supported by this model service"


def read_part(message: object) -> object:
    """Return what is to be read of a message: all but notes, thoughts and what is null.

    Clients send back whole turns.  That of an assistant may say nothing, whether its content is
    null, empty, not there or all thoughts.
    """
    if not isinstance(message, dict):
        return message
    is_own = message.get("role") == _ASSISTANT
    passed = _NOTES | _THOUGHTS if is_own else _NOTES
    read = {
        name: value
        for name, value in message.items()
        if name in _NEEDED or not (value is None or name in passed)
    }
    return {"content": None, **read} if is_own else read


def text_said(content: object, info: ValidationInfo) -> str:
    """Return a message's content as one text; parts are joined by line breaks, as vLLM does.

    Its role is known.  What an assistant has only thought is left out, and it may say nothing.
    """
    is_own = info.data.get("role") == _ASSISTANT
    if is_own and content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not (content or is_own):
        message = "must be a string or a list of text parts"
        raise ValueError(message)
    return "\n".join(_text_of_part(part) for part in content if not (is_own and _is_thought(part)))


def _is_thought(part: object) -> bool:
    kind = part.get("type") if isinstance(part, dict) else None
    return isinstance(kind, str) and kind in REASONING


def _text_of_part(part: object) -> str:
    kind = part.get("type") if isinstance(part, dict) else None
    if isinstance(kind, str) and kind != "text":
        message = f"has a part of type {shown(kind)}, but this model takes text only"
        raise ValueError(message)
    text = part.get("text") if isinstance(part, dict) else None
    if kind != "text" or not isinstance(text, str):
        message = 'must have parts of the form {"type": "text", "text": "..."}'
        raise ValueError(message)
    return text


def stop_strings(value: object) -> tuple[str, ...]:
    """Return the stop strings, of which one may stand alone."""
    strings = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(strings, list) or len(strings) > _MAX_STOP_STRINGS:
        message = f"must be a string or a list of up to {_MAX_STOP_STRINGS} strings"
        raise ValueError(message)
    for string in strings:
        if not isinstance(string, str) or not 1 <= len(string) <= _MAX_STOP_CHARACTERS:
            message = f"must have strings of 1 to {_MAX_STOP_CHARACTERS} characters"
            raise ValueError(message)
    return tuple(strings)


def _absent(value: object) -> None:
    if value not in (None, [], {}, "", False):
        raise ValueError(_NOT_SUPPORTED)


Absent = Annotated[object, AfterValidator(_absent)]


def shown(value: object) -> str:
    """Return a wrong value of a body as a refusal quotes it: short, whatever it is."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = orjson.dumps(value).decode()
    return text if len(text) <= _MAX_SHOWN_CHARACTERS else f"{text[:_MAX_SHOWN_CHARACTERS]}..."
