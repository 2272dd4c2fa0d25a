"""Put an endpoint's methods on a FastAPI app or router.

Holds the table of paths.  The routes are FastAPI's own, so that dependencies, middleware, handlers
of exceptions and routers of the user's app do for them what they do for any other route.
The public `add_routes`, with all its parameters, is `deploy.routes`.
"""

from collections.abc import Collection, Sequence
from functools import partial

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from starlette.requests import Request
from starlette.responses import Response

from locktender.app.endpoint import Endpoint

__all__ = ["ENDPOINT_NAMES", "add_endpoint", "endpoint_of", "is_taken"]

_METHODS = {
    "invoke": "POST",
    "batch": "POST",
    "stream": "POST",
    "input_schema": "GET",
    "output_schema": "GET",
    "config_schema": "GET",
}
ENDPOINT_NAMES = frozenset(_METHODS)


def add_endpoint(
    app: FastAPI | APIRouter,
    endpoint: Endpoint,
    *,
    path: str,
    names: Collection[str] = ENDPOINT_NAMES,
    dependencies: Sequence[Depends] = (),
) -> None:
    """Add a route below `path` for each of `names`."""
    title = path.strip("/")  # FastAPI makes the operation's id of it
    for name in sorted(names, key=list(_METHODS).index):
        app.add_api_route(
            f"{path}/{name}",
            partial(_answer, endpoint, name),
            methods=[_METHODS[name]],
            name=f"{title} {name}".strip(),
            tags=[title] if title else None,
            dependencies=list(dependencies),
            response_model=None,
        )


def is_taken(app: FastAPI | APIRouter, path: str) -> bool:
    """Whether an endpoint was added to `app` at `path` before."""
    prefix = app.prefix if isinstance(app, APIRouter) else ""
    ours = {f"{prefix}{path}/{name}" for name in ENDPOINT_NAMES}
    return any(
        getattr(route, "path", None) in ours and endpoint_of(route) is not None
        for route in app.routes
    )


def endpoint_of(route: object) -> Endpoint | None:
    """Return the endpoint that `route` leads to, if it is a route of ours."""
    given = getattr(getattr(route, "endpoint", None), "args", ())
    return next((each for each in given if isinstance(each, Endpoint)), None)


async def _answer(endpoint: Endpoint, name: str, request: Request) -> Response:
    answer: Response = await getattr(endpoint, name)(request)
    return answer
