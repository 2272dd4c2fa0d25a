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
from locktender.adopt.swap import is_swapped
from locktender.adopt.text_batch import why_no_batch
from locktender.app.routes import HASH_PARAMETER, endpoint_of, is_description, routes_of
from locktender.deploy.target import load_target

__all__ = ["examine_app", "examine_target"]

# An endpoint of FastAPI's own, as that of `/docs` is, holds the whole app.
_OF_THE_FRAMEWORK = {"fastapi", "starlette"}


def examine_target(target: str) -> Diagnosis:
    """Examine the app or the chain that `target` names.  Raises: ConfigError."""
    return examine_app(load_target(target).app)


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
    return examine(roots, why_no_batch=_why_no_batch, is_guarded=is_swapped)


def _why_no_batch(model: object) -> str | None:
    pipeline = pipeline_of(model)
    return None if pipeline is None else why_no_batch(pipeline)


def _roots(routes: Iterable[Any], prefix: str) -> Iterator[tuple[str, object]]:
    for path, route in routes_of(routes, prefix):
        yield from _roots(getattr(route, "routes", None) or (), path)
        if is_description(route):
            continue
        ours = endpoint_of(route)
        is_ours = ours is not None or _package_of(getattr(route, "endpoint", None)) == "locktender"
        place = _mount_of(path) if is_ours else path
        if ours is not None:
            yield place, ours
        for endpoint in _endpoints(route, but=route.endpoint if is_ours else None):
            if _package_of(endpoint) not in _OF_THE_FRAMEWORK:
                yield place, endpoint


def _mount_of(path: str) -> str:
    """Return where the runnable is served of which `path` is an endpoint, a twin or the page."""
    mount = path.removesuffix("/{file_path:path}").rpartition("/")[0]
    return mount.removesuffix(f"/c/{{{HASH_PARAMETER}}}") or "/"


def _endpoints(route: Any, *, but: object) -> Iterator[object]:
    """Yield the function of a route unless it is `but`, and those that it depends on."""
    dependant = getattr(route, "dependant", None)
    if dependant is None:
        yield getattr(route, "endpoint", None)
        return
    waiting = deque([dependant])
    while waiting:
        each = waiting.popleft()
        if each.call is not but:
            yield each.call
        waiting.extend(each.dependencies)


def _package_of(endpoint: object) -> str:
    module = getattr(endpoint, "__module__", None) or ""
    return module.partition(".")[0]
