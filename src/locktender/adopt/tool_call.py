"""Find tool calls in the text that a model has written.

Models write them in the forms that they were trained on: Hermes and Qwen in ``<tool_call>`` blocks,
Mistral as a list behind ``[TOOL_CALLS]``, Llama 3 as an answer that is nothing but JSON.  `parse`
knows these forms; what looks like a call and cannot be read is an invalid call, never an error, and
a text without calls is returned as it is.  `CallFilter` does the same to a text that comes in
pieces: it gives out what is certain to be no part of a call, and keeps the rest until the end.

Pure, but for the ids of calls.  Above it, `pipeline_chat` makes messages of what is found;
`chat_prompt` writes the same forms into prompts.
"""

import json
import re
import uuid
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

from langchain_core.messages import InvalidToolCall, ToolCall

__all__ = ["CallFilter", "Parsed", "parse"]

_CLOSE = "</tool_call>"
_MARKERS = ("<tool_call>", "[TOOL_CALLS]")
_MARKER = re.compile("|".join(map(re.escape, _MARKERS)))
_PARTS = frozenset(marker[:n] for marker in _MARKERS for n in range(1, len(marker)))
_MAX_PART = max(map(len, _PARTS))
# A call of which everything up to its arguments is there.
_HEAD = re.compile(
    r'\s*(?:\[\s*)?\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:'
)
_GAP = re.compile(r"[\s;,]*")
_DECODER = json.JSONDecoder()

_Call: TypeAlias = ToolCall | InvalidToolCall


class Parsed(NamedTuple):
    """What a text consists of."""

    content: str
    tool_calls: Sequence[ToolCall] = ()
    invalid_tool_calls: Sequence[InvalidToolCall] = ()


def parse(text: str) -> Parsed:
    """Return the calls in `text`, and what is left of it without them."""
    calls = _bare_calls(text)
    if calls is not None:
        return _parsed("", calls)
    if _MARKER.search(text):
        return _parse_marked(text)
    if _is_bare(text) and (head := _HEAD.match(text)):
        return _parsed("", [_unclosed(text) or _invalid(text, head[1])])
    return Parsed(text)


class CallFilter:
    """A filter for one answer: `feed` each piece, then `end`."""

    def __init__(self) -> None:
        self._text = ""
        self._n_given = 0  # characters of the text that were given out
        self._is_call = False  # what comes from now on is kept

    def feed(self, piece: str) -> str:
        """Return what may be given out now that `piece` has come."""
        self._text += piece
        end = self._undecided_from()
        given = self._text[self._n_given : end].rstrip()  # space before a call is no content
        self._n_given += len(given)
        return given

    def end(self) -> Parsed:
        """Return the calls, and the content that was not given out yet."""
        parsed = parse(self._text)
        return parsed._replace(content=parsed.content[self._n_given :])

    def _undecided_from(self) -> int:
        """Return where in the text a call may begin."""
        if not self._is_call and self._n_given == 0:
            self._is_call = _is_bare(self._text)
        if self._is_call or (self._n_given == 0 and self._text.strip() == "["):
            return self._n_given
        marker = _MARKER.search(self._text, self._n_given)
        if marker:
            self._is_call = True
            return marker.start()
        return len(self._text) - _n_part(self._text)


def _n_part(text: str) -> int:
    """Return the length of the longest end of `text` that a marker may begin with."""
    ends = (n for n in range(min(_MAX_PART, len(text)), 0, -1) if text[-n:] in _PARTS)
    return next(ends, 0)


def _is_bare(text: str) -> bool:
    """Whether `text` begins like JSON objects, or a list of them."""
    start = text.lstrip()
    return start.startswith("{") or (start.startswith("[") and start[1:].lstrip().startswith("{"))


def _bare_calls(text: str) -> list[_Call] | None:
    """Return the calls of a text that holds nothing but calls; None if it is another."""
    if not _is_bare(text):
        return None
    calls: list[_Call] = []
    at = 0
    while at < len(text):
        decoded = _decode(text, at)
        if decoded is None or not _look_like_calls(decoded[0]):
            return None
        calls += _calls(decoded[0], text[at : decoded[1]])
        at = _after_gap(text, decoded[1])
    return calls


def _look_like_calls(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(
        isinstance(one, dict)
        and isinstance(one.get("name"), str)
        and isinstance(one.get("arguments", one.get("parameters")), dict | str)
        for one in values
    )


def _parse_marked(text: str) -> Parsed:
    """Parse a text with at least one marker in it."""
    outside: list[str] = []
    calls: list[_Call] = []
    at = 0
    while marker := _MARKER.search(text, at):
        outside.append(text[at : marker.start()])
        found, at = _read_block(text, marker.end())
        calls += found
    outside.append(text[at:])
    before, after = outside[0].rstrip(), "".join(outside[1:]).strip()
    return _parsed(f"{before}\n{after}" if before and after else before + after, calls)


def _read_block(text: str, start: int) -> tuple[list[_Call], int]:
    """Return the calls of the block whose marker ends at `start`, and where the block ends."""
    decoded = _decode(text, start)
    searched_from = start if decoded is None else decoded[1]
    following = _MARKER.search(text, searched_from)
    limit = following.start() if following else len(text)
    close = text.find(_CLOSE, searched_from, limit)
    if decoded is not None:
        value, end = decoded
        # Some models write a brace too many before they close the block.
        return _calls(value, text[start:end]), end if close < 0 else close + len(_CLOSE)
    raw = text[start : limit if close < 0 else close]
    end = limit if close < 0 else close + len(_CLOSE)
    return [_unclosed(raw) or _invalid(raw)], end


def _unclosed(raw: str) -> ToolCall | None:
    """Return a call whose arguments are complete, though its last braces are missing."""
    head = _HEAD.match(raw)
    decoded = _decode(raw, head.end()) if head else None
    if head is None or decoded is None or not isinstance(decoded[0], dict):
        return None
    return ToolCall(name=head[1], args=decoded[0], id=_new_id(), type="tool_call")


def _calls(value: Any, raw: str) -> list[_Call]:
    values = value if isinstance(value, list) else [value]
    return [_call(one, raw) for one in values] or [_invalid(raw)]


def _call(value: Any, raw: str) -> _Call:
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return _invalid(raw)
    name = value.get("name")
    arguments = value.get("arguments", value.get("parameters", {}))
    if isinstance(arguments, str):  # JSON within JSON, as OpenAI writes it
        decoded = _decode(arguments, 0)
        arguments = decoded[0] if decoded else None
    if not isinstance(name, str) or not name or not isinstance(arguments, dict):
        return _invalid(raw, name if isinstance(name, str) else None)
    return ToolCall(name=name, args=arguments, id=_new_id(), type="tool_call")


def _invalid(raw: str, name: str | None = None) -> InvalidToolCall:
    if name is None and (head := _HEAD.match(raw)):
        name = head[1]
    error = "It is no JSON object with a name and arguments."
    return InvalidToolCall(
        name=name, args=raw.strip(), id=_new_id(), error=error, type="invalid_tool_call"
    )


def _decode(text: str, start: int) -> tuple[Any, int] | None:
    """Return the JSON value at `start`, and where it ends; None if there is none."""
    try:
        return _DECODER.raw_decode(text, _after_space(text, start))
    except (ValueError, RecursionError):  # The second: a model may write a thousand brackets.
        return None


def _after_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _after_gap(text: str, at: int) -> int:
    gap = _GAP.match(text, at)
    return gap.end() if gap else at


def _parsed(content: str, calls: Sequence[_Call]) -> Parsed:
    valid = [call for call in calls if call["type"] == "tool_call"]
    invalid = [call for call in calls if call["type"] == "invalid_tool_call"]
    return Parsed(content, valid, invalid)


def _new_id() -> str:
    # Nine letters and digits: Mistral's chat templates refuse any other form.
    return uuid.uuid4().hex[:9]
