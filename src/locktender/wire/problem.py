"""Say which HTTP answer an error becomes: the only table of status codes.

An error is looked up along its class's ancestors, so a new one is answered like its family until
it gets a row of its own.  Two dialects share the table: OpenAI's, and LangServe's, which knows but
a sentence (and calls 422 what OpenAI calls 400).  Above it, the services send what it returns, as
an HTTP answer or within a stream (`wire.openai_reply.error_frame`, `wire.langserve.error_frame`).
Logging is theirs too: a problem has nothing in it but what the caller may read.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from locktender.core.errors import (
    CapacityError,
    DeadlineExceeded,
    EngineError,
    Forbidden,
    HeadTooLarge,
    HeadTooSlow,
    LocktenderError,
    PeerError,
    ReplicaLost,
    RequestError,
    RequestTooLarge,
    Unauthenticated,
    UnknownMethod,
    UnknownModel,
    UnknownPath,
)

__all__ = ["Problem", "find_ours", "langserve_problem", "openai_problem", "run_problem"]

_NOT_OURS = LocktenderError("The service failed at this request for a reason of its own.")
_LANGSERVE_NOT_OURS = "Internal Server Error"  # LangServe's own words, which its clients know


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
    langserve_status: int | None = None  # where it is not OpenAI's
    asks_for_key: bool = False


_TABLE: Mapping[type[LocktenderError], _Row] = {
    RequestError: _Row(400, "invalid_request_error", langserve_status=422),
    RequestTooLarge: _Row(413, "invalid_request_error"),
    UnknownModel: _Row(404, "invalid_request_error"),
    UnknownPath: _Row(404, "invalid_request_error"),
    UnknownMethod: _Row(405, "invalid_request_error"),
    Unauthenticated: _Row(401, "invalid_request_error", asks_for_key=True),
    Forbidden: _Row(403, "invalid_request_error"),
    HeadTooLarge: _Row(431, "invalid_request_error"),
    HeadTooSlow: _Row(408, "invalid_request_error"),
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
    fields = {"message": _told(told), "type": row.openai_type, "code": told.code, "param": param}
    return Problem(row.status, _headers(told, row), orjson.dumps({"error": fields}))


def langserve_problem(error: BaseException) -> Problem:
    """Return the answer to `error` in LangServe's form.

    An error of ours is found behind those that a chain has wrapped around it.  Both names of the
    sentence are there, because LangServe's Python client reads `detail` and its JavaScript client
    reads `message`.
    """
    ours = find_ours(error)
    headers = {"content-type": "application/json"}
    if ours is None:
        fields = {"detail": _LANGSERVE_NOT_OURS, "message": _LANGSERVE_NOT_OURS}
        return Problem(500, headers, orjson.dumps(fields))
    row = _row(ours)
    headers |= _row_headers(ours, row)
    sentence = _told(ours)
    fields = {"detail": sentence, "message": sentence, "code": ours.code}
    return Problem(row.langserve_status or row.status, headers, orjson.dumps(fields))


def run_problem(error: BaseException) -> Problem:
    """Return the answer to an error of a run in LangServe's form.

    A key that is refused within a run is the chain's own, which it sent to another service: 401
    would have the caller look at his.
    """
    if isinstance(find_ours(error), Unauthenticated | Forbidden):
        error = PeerError("A service that the chain calls does not let it in.")
    return langserve_problem(error)


def find_ours(error: BaseException) -> LocktenderError | None:
    """Return the first error of ours in `error`, its causes and the groups among them."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        here = waiting.pop(0)
        if here is None or id(here) in seen:
            continue
        seen.add(id(here))
        if isinstance(here, LocktenderError):
            return here
        waiting.append(here.__cause__)
        if isinstance(here, BaseExceptionGroup):
            waiting.extend(here.exceptions)
    return None


def _row(error: LocktenderError) -> _Row:
    return next(_TABLE[kind] for kind in type(error).__mro__ if kind in _TABLE)


def _told(error: LocktenderError) -> str:
    # A message may quote a file name that is not Unicode; an error must not fail to be told.
    return error.message.encode("utf-8", "replace").decode()


def _headers(error: LocktenderError, row: _Row) -> Mapping[str, str]:
    headers = {"content-type": "application/json"}
    if not error.retryable:
        # OpenAI's clients retry every 5xx by themselves, unless this header forbids it.
        headers["x-should-retry"] = "false"
    return headers | _row_headers(error, row)


def _row_headers(error: LocktenderError, row: _Row) -> dict[str, str]:
    """Return the headers that the answer has in both dialects."""
    headers = {"retry-after": _retry_after(error)} if row.has_retry_after else {}
    if row.asks_for_key:
        headers["www-authenticate"] = "Bearer"  # RFC 9110, section 15.5.2: a 401 must have one
    if isinstance(error, UnknownMethod):
        headers["allow"] = error.allowed  # section 15.5.6: and a 405 this
    return headers


def _retry_after(error: LocktenderError) -> str:
    """Round up to the next second; at least 1, because 0 asks for a storm."""
    seconds = error.retry_after_s if isinstance(error, CapacityError) else None
    if seconds is None or not math.isfinite(seconds):
        return "1"
    return str(max(1, math.ceil(seconds)))
