"""Say which HTTP answer an error becomes: the only table of status codes.

An error is looked up along its class's ancestors, so a new one is answered like its family until
it gets a row of its own.  Holds one dialect today, OpenAI's; a second one adds a column to the
table and a function beside `openai_problem`.  Above it, the services send what it returns, as an
HTTP answer or (`wire.openai_reply.error_frame`) within a stream.  Logging is theirs too: a problem
has nothing in it but what the caller may read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from locktender.core.errors import (
    CapacityError,
    DeadlineExceeded,
    EngineError,
    LocktenderError,
    PeerError,
    ReplicaLost,
    RequestError,
    RequestTooLarge,
    UnknownModel,
)

__all__ = ["Problem", "openai_problem"]

_NOT_OURS = LocktenderError("The service failed at this request for a reason of its own.")


@dataclass(frozen=True, slots=True)
class Problem:
    """An error, ready to be sent."""

    status: int
    headers: Mapping[str, str]
    body: bytes  # JSON


@dataclass(frozen=True, slots=True)
class _Row:
    status: int
    openai_type: str  # OpenAI's names; "service_unavailable_error" is what it says when overloaded
    has_retry_after: bool = False


_TABLE: Mapping[type[LocktenderError], _Row] = {
    RequestError: _Row(400, "invalid_request_error"),
    RequestTooLarge: _Row(413, "invalid_request_error"),
    UnknownModel: _Row(404, "invalid_request_error"),
    CapacityError: _Row(503, "service_unavailable_error", has_retry_after=True),
    DeadlineExceeded: _Row(504, "server_error"),
    EngineError: _Row(500, "server_error"),
    ReplicaLost: _Row(503, "service_unavailable_error", has_retry_after=True),
    PeerError: _Row(502, "server_error"),
    LocktenderError: _Row(500, "server_error"),
}


def openai_problem(error: BaseException) -> Problem:
    """Return the answer to `error` in OpenAI's form.

    Of an exception that is not ours nothing is told, since its text was written for a log.
    """
    told = error if isinstance(error, LocktenderError) else _NOT_OURS
    row = _row(told)
    param = told.param if isinstance(told, RequestError) else None
    # A message may quote a file name that is not Unicode; an error must not fail to be told.
    message = told.message.encode("utf-8", "replace").decode()
    fields = {"message": message, "type": row.openai_type, "code": told.code, "param": param}
    return Problem(row.status, _headers(told, row), orjson.dumps({"error": fields}))


def _row(error: LocktenderError) -> _Row:
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)


def _headers(error: LocktenderError, row: _Row) -> Mapping[str, str]:
    headers = {"content-type": "application/json"}
    if not error.retryable:
        # OpenAI's clients retry every 5xx by themselves, unless this header forbids it.
        headers["x-should-retry"] = "false"
    if row.has_retry_after:
        seconds = error.retry_after_s if isinstance(error, CapacityError) else None
        headers["retry-after"] = str(_whole_seconds(seconds))
    return headers


def _whole_seconds(seconds: float | None) -> int:
    """Round up to the next second; at least 1, because 0 asks for a storm."""
    if seconds is None or not math.isfinite(seconds):
        return 1
    return max(1, math.ceil(seconds))
