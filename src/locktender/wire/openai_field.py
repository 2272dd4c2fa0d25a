"""Say what single fields of an OpenAI body may hold, where a type alone does not say it.

The functions are validators of the models in `wire.openai`: they raise a ValueError whose text goes
on after the name of the field, so that no field needs to know where it stands.
"""

from typing import Annotated

import orjson
from pydantic import AfterValidator, ValidationInfo

__all__ = ["REASONING", "Absent", "shown", "stop_strings", "text_of", "text_said"]

# The kinds of parts that hold what a model has thought: they are no part of what it has said, and
# former turns are read without them.
REASONING = frozenset({"reasoning", "reasoning_content", "redacted_thinking", "thinking"})

_MAX_STOP_STRINGS = 16  # OpenAI takes 4; local models are often driven with more
_MAX_STOP_CHARACTERS = 256
_MAX_SHOWN_CHARACTERS = 40
_NOT_SUPPORTED = "is not supported by this model service"


def text_said(content: object, info: ValidationInfo) -> str:
    """Return a message's content as `text_of`; an assistant, whose role is known, may say nothing.

    Clients send back whole turns, and that of a model that has only thought has null in it.
    """
    is_silent = content is None and info.data.get("role") == "assistant"
    return "" if is_silent else text_of(content)


def text_of(content: object) -> str:
    """Return a message's content as one text; parts are joined by line breaks, as vLLM does.

    A model's thoughts are left out.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        message = "must be a string or a list of text parts"
        raise ValueError(message)
    return "\n".join(_text_of_part(part) for part in content if not _is_reasoning(part))


def _is_reasoning(part: object) -> bool:
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
    if value not in (None, [], False):
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
