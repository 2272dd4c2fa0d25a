"""Answer what no route of an app of ours answers, in the form that its callers read.

An unknown path, a method that a path does not have, a fault that nobody has caught.  What a route
itself raises as an HTTPException is its own word, and stays as the framework says it.
"""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from locktender.core.errors import LocktenderError, UnknownMethod, UnknownPath
from locktender.http.door import ProblemOf

__all__ = ["answer_unrouted"]

_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405
_FAULT = 500
_MAX_SHOWN_CHARACTERS = 200


def answer_unrouted(
    app: Starlette, problem_of: ProblemOf, hint_of: Callable[[Request], str] = lambda _: ""
) -> None:
    """Have `app` answer so, with a hint for an unknown path; called before it is served."""
    otherwise = app.exception_handlers[HTTPException]

    async def refused(request: Request, error: Exception) -> Response:
        ours = _meant(request, error, hint_of) if isinstance(error, HTTPException) else None
        if ours is not None:
            return _response(problem_of, ours)
        answer: Response = await otherwise(request, error)
        return answer

    async def failed(_: Request, error: Exception) -> Response:
        return _response(problem_of, error)

    app.add_exception_handler(HTTPException, refused)
    # By its number: a class would be a handler of the runnable's own exceptions, too.
    app.add_exception_handler(_FAULT, failed)


def _meant(
    request: Request, error: HTTPException, hint_of: Callable[[Request], str]
) -> LocktenderError | None:
    """Return what the router has found, if it was the router that raised `error`."""
    path, method = request.url.path[:_MAX_SHOWN_CHARACTERS], request.method
    if error.status_code == _NOT_FOUND and "endpoint" not in request.scope:
        return UnknownPath(f"There is no {method} {path} here.{hint_of(request)}")
    named = (error.headers or {}).get("Allow")
    if error.status_code == _METHOD_NOT_ALLOWED and named is not None:
        allowed = ", ".join(sorted(_methods(request))) or named
        return UnknownMethod(f"There is no {method} {path} here; there is {allowed}.", allowed)
    return None


def _methods(request: Request) -> set[str]:
    """Return those that there are; the router names the ones of the first route on the path."""
    routes = (
        each for each in request.app.routes if each.matches(request.scope)[0] is Match.PARTIAL
    )
    return {method for route in routes for method in getattr(route, "methods", None) or ()}


def _response(problem_of: ProblemOf, error: Exception) -> Response:
    problem = problem_of(error)
    return Response(problem.body, problem.status, dict(problem.headers))
