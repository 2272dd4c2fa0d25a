"""Answer one request to a route, whatever becomes of it.

The boundary at which every fault of a route becomes an answer in LangServe's form: a refused body,
an error of ours with its status, an exception of the runnable, of which nothing is told.  An
exception for which the user's own FastAPI app has a handler is left to it.
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping

import orjson
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from locktender.app.callback_value import told_json
from locktender.core.errors import (
    EngineError,
    Forbidden,
    NoReplicaReady,
    PeerError,
    Unauthenticated,
    UnknownModel,
)
from locktender.core.scope import RequestName
from locktender.http.request_name import ID_HEADER, is_named, name_of
from locktender.wire.langserve import Unprocessable
from locktender.wire.problem import find_ours, run_problem

__all__ = ["answered", "json_response", "tell_operator"]

_log = logging.getLogger(__name__)
# Errors whose cause the operator, or the chain's author, must look for.
_NOT_THE_CALLERS = (
    *(EngineError, Forbidden, NoReplicaReady),
    *(PeerError, Unauthenticated, UnknownModel),
)


async def answered(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    """Return what `answer` gives, or the answer that its failure is, with the request's id."""
    # Who named it further out puts the id into the answer as well.
    is_ours_to_tell = not is_named(request.scope)
    name = name_of(request.scope)
    response = await _answered(request, answer)
    if is_ours_to_tell:
        response.headers.setdefault(ID_HEADER, name.id)
    return response


def tell_operator(error: Exception, name: RequestName) -> None:
    """Write a failure into the log, unless it is the caller's own, or one that passes."""
    ours = find_ours(error)
    if ours is None:
        _log.error("%s failed (request %s)", name.route, name.id, exc_info=error)
    elif isinstance(ours, _NOT_THE_CALLERS):
        what = "%s failed (request %s): %s"
        _log.warning(what, name.route, name.id, ours.message, exc_info=ours.__cause__)


async def _answered(request: Request, answer: Callable[[], Awaitable[Response]]) -> Response:
    try:
        return await answer()
    except HTTPException:
        raise  # a modifier's or a runnable's own word to the caller
    except Unprocessable as error:
        return json_response(_told({"detail": error.detail}), 422)
    except ClientDisconnect:
        return Response()  # that nobody will read
    except Exception as error:
        if _is_handled_elsewhere(request, error):
            raise
        tell_operator(error, name_of(request.scope))
        problem = run_problem(error)
        return Response(problem.body, problem.status, headers=dict(problem.headers))


def json_response(
    body: bytes, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return an answer whose body is JSON already."""
    return Response(body, status, headers, media_type="application/json")


def _is_handled_elsewhere(request: Request, error: Exception) -> bool:
    handlers = getattr(request.scope.get("app"), "exception_handlers", {})
    return any(kind in handlers for kind in type(error).__mro__)


def _told(body: object) -> bytes:
    try:
        return orjson.dumps(body, default=repr)
    except TypeError:
        # A caller's own input is quoted, which may be what orjson does not write: half of a
        # surrogate pair, an integer of more than 64 bits, a thousand brackets.
        try:
            return json.dumps(body, separators=(",", ":"), default=repr).encode()
        except (TypeError, ValueError, RecursionError):
            return told_json(body)  # keys that are tuples
