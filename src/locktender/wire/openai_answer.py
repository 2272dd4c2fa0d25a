"""Read what an OpenAI service answers: a completion, a stream of chunks, an error.

The client's side of `wire.openai_reply`, and of other services that speak the same.  What such a
service sends is not trusted: an answer of another shape is a PeerError.  A stream is read into as
few pieces as it arrives in, since whatever follows costs far more for each piece than reading does.
Pure: bytes in, values out; the socket is held by `app.completion`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from locktender.core.errors import (
    CapacityError,
    DeadlineExceeded,
    InvalidRequest,
    LocktenderError,
    PeerError,
    RequestError,
    RequestTooLarge,
)
from locktender.wire.error_code import find_kind
from locktender.wire.openai_reply import Usage

__all__ = [
    "NO_SUCH_PATH",
    "Answer",
    "ChunkReader",
    "parse_completion",
    "parse_error",
    "parse_tokens",
]

_MAX_LINE_BYTES = 4 * 1024 * 1024
_MAX_SHOWN_CHARACTERS = 500
NO_SUCH_PATH = (404, 405)  # of a service that is none of OpenAI's protocol, or lies elsewhere
_SECONDS = re.compile(r"\d{1,9}")
# For services that are not ours, whose codes we do not know.
_KINDS_BY_STATUS: Mapping[int, type[LocktenderError]] = {
    400: InvalidRequest,
    404: InvalidRequest,
    413: RequestTooLarge,
    422: InvalidRequest,
    429: CapacityError,
    503: CapacityError,
    504: DeadlineExceeded,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; of a stream, its end, with the text that its reader has not had before."""

    text: str
    finish_reason: str
    usage: Usage | None
    id: str
    model: str


class ChunkReader:
    """Reads one stream, however its bytes are cut.

    What it has found out beside the text stands in its fields, and `is_done` says that nothing
    follows.  An error does not overtake the text before it: it waits in `error`.
    """

    def __init__(self) -> None:
        self.is_done = False
        self.error: LocktenderError | None = None
        self._rest = b""
        self._finish_reason: str | None = None
        self._usage: Usage | None = None
        self._id = ""
        self._model = ""

    def feed(self, piece: bytes) -> str:
        """Take the next bytes and return the text that they bring.

        Each event of such a stream is one line of data, so that lines are all that is looked for.
        """
        # A CR before the LF is white space to the JSON parser.
        *lines, self._rest = (self._rest + piece).split(b"\n")
        texts = []
        for line in lines:
            if self.is_done or self.error is not None:
                break
            if line.startswith(b"data:"):
                texts.append(self._take(line[5:].strip()))
        if len(self._rest) > _MAX_LINE_BYTES and self.error is None:
            self.error = PeerError("An event of the model service's stream is too large.")
        return "".join(texts)

    def end(self) -> Answer:
        """Return what the stream has said beside its text, at its end.  Raises: PeerError."""
        if self._finish_reason is None:
            raise PeerError("The model service's stream ended before its answer was complete.")
        return Answer("", self._finish_reason, self._usage, self._id, self._model)

    def _take(self, line: bytes) -> str:
        if line == b"[DONE]":
            self.is_done = True
            return ""
        try:
            chunk = orjson.loads(line)
            if "error" in chunk:
                self.error = parse_error(500, line)
                return ""
            if chunk.get("usage"):
                self._usage = _usage(chunk["usage"])
            choices = chunk["choices"]
            return self._take_choice(chunk, choices[0]) if choices else ""
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.error = PeerError("The model service sent an event that is not of OpenAI's form.")
            self.error.__cause__ = error
            return ""

    def _take_choice(self, chunk: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
        reason = choice.get("finish_reason")
        if reason is not None:
            self._finish_reason = str(reason)
            self._id, self._model = str(chunk.get("id", "")), str(chunk.get("model", ""))
        text = choice["delta"].get("content") or ""
        if not isinstance(text, str):
            raise TypeError(text)
        return text


def parse_completion(body: bytes) -> Answer:
    """Read a whole answer.  Raises: PeerError."""
    try:
        fields = orjson.loads(body)
        choice = fields["choices"][0]
        text = choice["message"].get("content") or ""
        if not isinstance(text, str):
            raise TypeError(text)
        return Answer(
            text=text,
            finish_reason=str(choice["finish_reason"]),
            usage=_usage(fields["usage"]) if fields.get("usage") else None,
            id=str(fields.get("id", "")),
            model=str(fields.get("model", "")),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise PeerError("The model service's answer is not of OpenAI's form.") from error


def parse_tokens(body: bytes) -> list[int]:
    """Read what ``/tokenize`` answers.  Raises: PeerError."""
    try:
        ids = orjson.loads(body)["tokens"]
        if not all(type(each) is int for each in ids):
            raise TypeError(ids)
        return list(ids)
    except (ValueError, LookupError, TypeError) as error:
        raise PeerError("The model service told no tokens in vLLM's form.") from error


def parse_error(status: int, body: bytes, retry_after: str | None = None) -> LocktenderError:
    """Return what a service's error says, as the error that it was there.

    Of a service that is not ours, whose codes we do not know, the status decides.
    """
    fields = _error_fields(body)
    message = fields.get("message")
    if not isinstance(message, str):
        return PeerError(_unexplained(status))
    message = message[:_MAX_SHOWN_CHARACTERS]
    kind = find_kind(fields.get("code")) or _KINDS_BY_STATUS.get(status)
    if kind is None:
        return PeerError(f"The model service answered {status}: {message}")
    if issubclass(kind, RequestError):
        param = fields.get("param")
        return kind(message, param if isinstance(param, str) else None)
    if issubclass(kind, CapacityError):
        return kind(message, _seconds(retry_after))
    return kind(message)


def _unexplained(status: int) -> str:
    if status in NO_SUCH_PATH:
        return (
            f"What answered {status} is probably no model service: `base_url` is the address of "
            "one, as `locktender model` says it, and not that of an app."
        )
    return f"The model service answered {status} and did not say why."


def _error_fields(body: bytes) -> Mapping[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    error = fields.get("error") if isinstance(fields, dict) else None
    return error if isinstance(error, dict) else {}


def _usage(fields: Mapping[str, Any]) -> Usage:
    return Usage(int(fields["prompt_tokens"]), int(fields["completion_tokens"]))


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None or not _SECONDS.fullmatch(retry_after):
        return None  # Or a date, which none of the services that we know sends.
    return float(retry_after)
