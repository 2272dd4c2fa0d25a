"""Put an endpoint's methods on a FastAPI app or router.

Holds the table of paths.  The routes are FastAPI's own, so that dependencies, middleware, handlers
of exceptions and routers of the user's app do for them what they do for any other route.  Each has
a twin whose path carries a config, and a description of its own in the OpenAPI document.
The public `add_routes`, with all its parameters, is `deploy.routes`.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, product
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.params import Depends
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from locktender.app.description import (
    Description,
    Operation,
    declare_tags,
    describe,
    models_of,
)
from locktender.app.endpoint import Endpoint
from locktender.app.named_route import NamedRoute
from locktender.app.openapi import Models, namespace_of
from locktender.app.playground import Playground
from locktender.app.run_config import Asked

__all__ = [
    "ENDPOINT_NAMES",
    "HASH_PARAMETER",
    "add_endpoint",
    "endpoint_of",
    "is_description",
    "is_page",
    "is_taken",
    "keep_ids_apart",
    "routes_of",
]

_METHODS = {
    "invoke": "POST",
    "batch": "POST",
    "stream": "POST",
    "stream_log": "POST",
    "stream_events": "POST",
    "input_schema": "GET",
    "output_schema": "GET",
    "config_schema": "GET",
}
HASH_PARAMETER = "config_hash"
_PLAYGROUND = "playground"
_HASHES = "config_hashes"
_EXTENSIONS = "extensions"
ENDPOINT_NAMES = frozenset({*_METHODS, _PLAYGROUND, _HASHES, _EXTENSIONS})


def add_endpoint(
    app: FastAPI | APIRouter,
    endpoint: Endpoint,
    playground: Playground,
    *,
    path: str,
    names: Collection[str] = ENDPOINT_NAMES,
    dependencies: Sequence[Depends] = (),
) -> None:
    """Add a route below `path` for each of `names`, and its twin when `config_hashes` is one."""
    title = path.strip("/")
    hashed = (False, True) if _HASHES in names else (False,)
    operations = [
        Operation(f"{_below(path, is_hashed=is_hashed)}/{name}", method, name, title, is_hashed)
        for is_hashed, (name, method) in product(hashed, _METHODS.items())
        if name in names
    ]
    for operation in operations:
        _add(app, operation, partial(_answer, endpoint, operation.endpoint), dependencies)
    if _PLAYGROUND in names:
        for is_hashed in hashed:
            place = f"{_below(path, is_hashed=is_hashed)}/{_PLAYGROUND}/{{file_path:path}}"
            operation = Operation(place, "GET", _PLAYGROUND, title, is_hashed)
            _add(app, operation, partial(_show, playground), dependencies)
    # It is for clients of ours, and nothing for the readers of a description.
    has_runs = any(each.method == "POST" for each in operations)
    for is_hashed in hashed if has_runs and _EXTENSIONS in names else ():
        place = f"{_below(path, is_hashed=is_hashed)}/{_EXTENSIONS}"
        operation = Operation(place, "GET", _EXTENSIONS, title, is_hashed)
        _add(app, operation, partial(_answer, endpoint, _EXTENSIONS), dependencies)
    _describe(app, endpoint, path, operations, dependencies)
    if isinstance(app, FastAPI) and len(hashed) > 1:
        declare_tags(app, title)


def is_taken(app: FastAPI | APIRouter, path: str) -> bool:
    """Whether an endpoint was added to `app`, or to a router in it, at `path` before."""
    prefix = app.prefix if isinstance(app, APIRouter) else ""
    ours = {f"{prefix}{path}/{name}" for name in ENDPOINT_NAMES}
    ours.add(f"{prefix}{path}/{_PLAYGROUND}/{{file_path:path}}")
    return any(place in ours and endpoint_of(route) for place, route in routes_of(app.routes))


def keep_ids_apart(app: FastAPI | APIRouter, n_before: int) -> None:
    """Have no route after the first `n_before` share an operation's id: /a-b and /a_b would."""
    taken = {_id_of(route) for route in _shown(app.routes[:n_before])} - {None}
    for route in _shown(app.routes[n_before:]):
        if _id_of(route) in taken:
            names = (f"{route.unique_id}_{n}" for n in count(2))
            route.unique_id = next(name for name in names if name not in taken)
            route.operation_id = route.unique_id
        taken.add(_id_of(route))


def endpoint_of(route: object) -> Endpoint | None:
    """Return the endpoint that `route` leads to, if it is a route of ours."""
    for given in getattr(getattr(route, "endpoint", None), "args", ()):
        if isinstance(given, Endpoint):
            return given
        if isinstance(given, Playground):
            return given.endpoint
    return None


def is_page(route: object) -> bool:
    """Whether `route` leads to the page of an endpoint, and the files of it, and nothing else."""
    given = getattr(getattr(route, "endpoint", None), "args", ())
    return any(isinstance(each, Playground) for each in given)


def is_description(route: object) -> bool:
    """Whether `route` is only there to be seen in the OpenAPI document."""
    return isinstance(route, Description)


def routes_of(routes: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each route and its path, also those of routers that were included."""
    for route in routes:
        path = prefix + (getattr(route, "path", None) or "")
        router = getattr(route, "original_router", None)  # FastAPI keeps what was included apart
        if router is not None:
            included = getattr(route, "include_context", None)
            yield from routes_of(router.routes, path + getattr(included, "prefix", ""))
        else:
            yield path, route


def _id_of(route: APIRoute) -> str | None:
    return getattr(route, "unique_id", None)


def _shown(routes: Iterable[object]) -> Iterator[APIRoute]:
    return (each for each in routes if isinstance(each, APIRoute) and each.include_in_schema)


def _below(path: str, *, is_hashed: bool) -> str:
    return f"{path}/c/{{{HASH_PARAMETER}}}" if is_hashed else path


def _add(
    app: FastAPI | APIRouter,
    operation: Operation,
    answer: Callable[[Request], Awaitable[Response]],
    dependencies: Sequence[Depends],
) -> None:
    router = app.router if isinstance(app, FastAPI) else app
    router.add_api_route(
        operation.path,
        answer,
        methods=[operation.method],
        name=operation.name,
        dependencies=list(dependencies),
        include_in_schema=False,
        response_model=None,
        route_class_override=NamedRoute,
    )


def _describe(
    app: FastAPI | APIRouter,
    endpoint: Endpoint,
    path: str,
    operations: Iterable[Operation],
    dependencies: Sequence[Depends],
) -> None:
    if isinstance(app, FastAPI) and app.openapi_url is None:
        return
    there = [route for _, route in routes_of(app.routes) if is_description(route)]
    names = next((models.names for models in map(models_of, there) if models), None)
    has_callback_events = endpoint.has_callback_events
    space = namespace_of(path)
    models = Models(endpoint.schema, space, names, has_callback_events=has_callback_events)
    for operation in operations:
        describe(app, operation, models, dependencies)


async def _answer(endpoint: Endpoint, name: str, request: Request) -> Response:
    return await endpoint.answer(Asked(request, name, request.path_params.get(HASH_PARAMETER, "")))


async def _show(playground: Playground, request: Request) -> Response:
    config_hash = request.path_params.get(HASH_PARAMETER, "")
    asked = Asked(request, "playground", config_hash)
    return await playground.answer(asked, request.path_params["file_path"])
