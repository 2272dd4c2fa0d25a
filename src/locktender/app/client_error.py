"""Make the errors that a `RemoteRunnable` raises.

Whoever comes from LangServe catches httpx's errors, an AssertionError or a ValueError; whoever
knows us catches ours.  So each error is both at once: a refusal that carries one of our codes is
an `httpx.HTTPStatusError` and, say, a `QueueFull`.  Its text is LangServe's, its `message` the
server's own sentence.  The request that hangs on an error tells no header that could be a secret.
"""

import functools
from typing import Any, Protocol, TypeVar, cast

import httpx

from locktender.core.errors import LocktenderError, PeerError
from locktender.wire.langserve_answer import parse_error, parse_error_event

__all__ = ["Response", "broken", "event_error", "status_error"]

# What is safe to be told; every other header may hold a key.
_TOLD_HEADERS = {
    *(b"accept", b"accept-encoding", b"cache-control", b"connection", b"content-length"),
    *(b"content-type", b"host", b"user-agent"),
}
_TOLD = ("http_version", "reason_phrase")
# They tell of the bytes on the wire, and the body is decoded.
_WIRE_HEADERS = {b"content-encoding", b"content-length", b"transfer-encoding"}

_Theirs = TypeVar("_Theirs", bound=Exception)


class Response(Protocol):
    """What is asked of an answer: httpx's has it, and so have those of clients that are like it."""

    @property
    def status_code(self) -> int: ...
    @property
    def headers(self) -> Any: ...
    @property
    def extensions(self) -> Any: ...
    @property
    def request(self) -> Any: ...
    @property
    def content(self) -> bytes: ...
    @property
    def is_success(self) -> bool: ...


def status_error(response: Response) -> httpx.HTTPStatusError:
    """Return the error of an answer that is no success and has been read."""
    said = response.extensions
    # As bytes, because a header may hold letters that are not ASCII.
    headers = [pair for pair in response.headers.raw if pair[0].lower() not in _WIRE_HEADERS]
    told = httpx.Response(
        response.status_code,
        headers=headers,
        content=response.content,
        request=_told_request(response.request),
        extensions={name: said[name] for name in _TOLD if name in said},
    )
    ours = parse_error(response.content, response.headers.get("retry-after"))
    return _http_error(f"{_text(told)} for {told.text}", told, ours)


def event_error(request: Any, text: str) -> httpx.HTTPStatusError:
    """Return the error of a stream's `error` event, whose data is `text`."""
    event = parse_error_event(text)
    told = httpx.Response(event.status, text=event.message, request=_told_request(request))
    sentence = event.error.message if isinstance(event.error, PeerError) else event.message
    return _http_error(sentence, told, event.error)


def broken(sentence: str, theirs: type[_Theirs]) -> _Theirs:
    """Return the error of a server that broke the protocol: a PeerError and of `theirs`."""
    kind: Any = theirs  # mypy takes no class for a key of a cache
    return cast("_Theirs", _joined(PeerError, kind)(sentence))


def _text(told: httpx.Response) -> str:
    try:
        told.raise_for_status()
    except httpx.HTTPStatusError as error:
        return str(error)
    return f"The server answered {told.status_code}."  # pragma: no cover - httpx raised before


def _http_error(
    text: str, told: httpx.Response, ours: LocktenderError | None
) -> httpx.HTTPStatusError:
    if ours is None:
        return httpx.HTTPStatusError(text, request=told.request, response=told)
    kind: Any = type(ours)  # as above
    joined = cast("type[httpx.HTTPStatusError]", _joined(kind, httpx.HTTPStatusError))
    error = joined(text, request=told.request, response=told)
    vars(error).update(vars(ours), _sentence=ours.message)
    return error


@functools.cache  # of as many classes as there are errors
def _joined(ours: Any, theirs: Any) -> Any:
    """Return a class that is both; it is made as `theirs` is, and shows the same text."""
    fields = {
        "__doc__": ours.__doc__,
        "__module__": ours.__module__,  # where a user who sees it in a traceback can import it
        "__init__": theirs.__init__,
        "__str__": Exception.__str__,
        "message": property(lambda error: vars(error).get("_sentence") or str(error)),
    }
    return type(ours.__name__, (ours, theirs), fields)


def _told_request(request: Any) -> httpx.Request:
    headers = [
        (name, value if name.lower() in _TOLD_HEADERS else b"<redacted>")
        for name, value in request.headers.raw
    ]
    return httpx.Request(request.method, str(request.url), headers=headers, content=request.content)
