"""Look for unsafe models in what `locktender serve` would serve for the same target.

Joins the app with the doctor: each route's endpoint is a root, and so is what the app keeps in its
state.  Nothing is started or called; a model that is only made when the app starts is not there
yet.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

from locktender.adopt.doctor import Diagnosis, examine
from locktender.adopt.heavy import pipeline_of
from locktender.adopt.swap import plain_class
from locktender.adopt.text_batch import why_no_batch
from locktender.app.routes import endpoint_of
from locktender.deploy.target import load_app

__all__ = ["examine_app", "examine_target"]


def examine_target(target: str) -> Diagnosis:
    """Examine the app or the chain that `target` names.  Raises: ConfigError."""
    return examine_app(load_app(target))


def examine_app(app: Any) -> Diagnosis:
    """Examine what an ASGI app holds; what is no FastAPI or Starlette app is one root."""
    routes = getattr(app, "routes", None)
    if routes is None:
        return _examine([("app", app)])
    roots = list(_roots(routes, ""))
    state = getattr(app, "state", None)
    if state is not None:
        roots.append(("app.state", vars(state).get("_state")))
    return _examine(roots)


def _examine(roots: Iterable[tuple[str, object]]) -> Diagnosis:
    # `add_routes` has guarded what it will, by the time that an app is there to be examined.
    return examine(roots, why_no_batch=_why_no_batch, is_guarded=_is_guarded)


def _is_guarded(model: object) -> bool:
    return plain_class(model) is not type(model)


def _why_no_batch(model: object) -> str | None:
    pipeline = pipeline_of(model)
    return None if pipeline is None else why_no_batch(pipeline)


def _roots(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, object]]:
    for route in routes:
        path = prefix + (getattr(route, "path", None) or "")
        router = getattr(route, "original_router", None)  # FastAPI keeps what was included apart
        if router is not None:
            yield from _roots(router.routes, path + route.include_context.prefix)
        yield from _roots(getattr(route, "routes", None) or (), path)
        ours = endpoint_of(route)
        if ours is not None:
            yield path.rpartition("/")[0] or "/", ours
            continue
        for endpoint in _endpoints(route):
            if not _is_of_the_framework(endpoint):
                yield path, endpoint


def _endpoints(route: Any) -> Iterator[object]:
    """Yield the function of a route, and those that it depends on."""
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        yield getattr(route, "endpoint", None)
        return
    waiting = deque([dependant])
    while waiting:
        each = waiting.popleft()
        yield each.call
        waiting.extend(each.dependencies)


def _is_of_the_framework(endpoint: object) -> bool:
    """Whether the endpoint is FastAPI's own, as that of `/docs` is: it holds the whole app."""
    module = getattr(endpoint, "__module__", None) or ""
    return module.partition(".")[0] in ("fastapi", "starlette")
