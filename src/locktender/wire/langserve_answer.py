"""Read what a LangServe service answers: an output, an error, the events of a stream.

The client's side of `wire.langserve`.  What a service sends is not trusted: an answer of another
shape is a PeerError.  Outputs and chunks leave here as parsed JSON or as text; which objects they
stand for is the serializer's business.  Pure: the socket is held by `app.client_stream`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from locktender.core.errors import CapacityError, LocktenderError, PeerError
from locktender.wire.error_code import find_kind

__all__ = ["Answer", "ErrorEvent", "parse_answer", "parse_error", "parse_error_event"]

_SECONDS = re.compile(r"\d{1,9}")
_FAILED = 500
_STATUSES = range(100, 600)
_NO_FIELDS: Mapping[str, Any] = {}


@dataclass(frozen=True, slots=True)
class Answer:
    """What an invoke or a batch gave; `runs` has an entry for each of its runs."""

    output: Any  # parsed JSON
    runs: Sequence[Mapping[str, Any]]  # each with `run_id` and `feedback_tokens`
    callback_events: Any = None  # None where the route does not send them


@dataclass(frozen=True, slots=True)
class ErrorEvent:
    """The event that ends a stream which failed; `error` is ours where it has a code of ours."""

    status: int
    message: str
    error: LocktenderError | None


def parse_answer(body: bytes) -> Answer:
    """Read the body of an invoke or a batch.  Raises: PeerError."""
    fields = _fields(body)
    if "output" not in fields:
        raise PeerError("The server's answer is not of LangServe's form: it has no `output`.")
    told = fields.get("metadata")
    metadata = told if isinstance(told, dict) else _NO_FIELDS
    runs = metadata.get("responses", [metadata])
    return Answer(
        fields["output"],
        [run for run in runs if isinstance(run, dict)] if isinstance(runs, list) else [],
        fields.get("callback_events"),
    )


def parse_error(body: bytes, retry_after: str | None = None) -> LocktenderError | None:
    """Return the error of ours that a refusal names by its code; None where it names none."""
    fields = _fields(body)
    return _ours(fields, retry_after)


def parse_error_event(text: str) -> ErrorEvent:
    """Read the data of an `error` event.  Of one that cannot be read, PeerError is the error."""
    fields = _fields(text)
    message = _message(fields)
    if message is None:
        sentence = "The server's stream failed, and its error event does not say why."
        return ErrorEvent(_FAILED, text, PeerError(sentence))
    status = fields.get("status_code")
    if not isinstance(status, int) or status not in _STATUSES:
        status = _FAILED
    return ErrorEvent(status, message, _ours(fields, None))


def _ours(fields: Mapping[str, Any], retry_after: str | None) -> LocktenderError | None:
    kind, message = find_kind(fields.get("code")), _message(fields)
    if kind is None or message is None:
        return None
    if issubclass(kind, CapacityError):
        return kind(message, _seconds(retry_after))
    return kind(message)


def _message(fields: Mapping[str, Any]) -> str | None:
    message = fields.get("message")
    # JSON can say half of a letter, which could be neither printed nor sent on.
    return message.encode(errors="replace").decode() if isinstance(message, str) else None


def _fields(body: bytes | str) -> Mapping[str, Any]:
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        return _NO_FIELDS
    return fields if isinstance(fields, dict) else _NO_FIELDS


def _seconds(retry_after: str | None) -> float | None:
    # Or a date, which no service of ours sends.
    is_number = retry_after is not None and _SECONDS.fullmatch(retry_after)
    return float(retry_after) if retry_after is not None and is_number else None
