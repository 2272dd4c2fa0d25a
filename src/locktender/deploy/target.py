"""Find the app or the chain that a user means by ``app.py:chain`` or ``package.module:app``.

An ASGI app is served as it is; a LangChain runnable becomes an app with the routes of LangServe
under its own name.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from langchain_core.runnables import Runnable
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from locktender.app.routes import is_page
from locktender.core.errors import ConfigError
from locktender.deploy.routes import add_routes
from locktender.deploy.target_name import parse_target
from locktender.http.unrouted import answer_unrouted
from locktender.wire.problem import langserve_problem

__all__ = ["Target", "load_target"]

_INDEX = "/"


@dataclass(frozen=True, slots=True)
class Target:
    """An ASGI app, and whether it was made here, of a runnable."""

    app: Any
    is_made: bool

    @property
    def routes(self) -> Sequence[BaseRoute] | None:
        """The app's routes, also those that it gets later; None where that is not told."""
        return self.app.routes if isinstance(self.app, Starlette) else None

    def shows_page(self, scope: Scope) -> bool:
        """Whether a request only looks at a page: at what of the app answers to all.

        The app's own routes say so, in their own order, so that no path is taken for a page's that
        leads elsewhere.
        """
        if scope["type"] != "http" or scope["method"] != "GET":
            return False
        if self.is_made and scope["path"] == _INDEX:
            return True
        found = self._route_of(scope)
        if found is None:  # Starlette sends who left the slash at the end out to the path with it.
            found = self._route_of({**scope, "path": f"{scope['path']}/"})
        return is_page(found)

    def _route_of(self, scope: Scope) -> BaseRoute | None:
        matching = (route for route in self.routes or () if route.matches(scope)[0] is Match.FULL)
        return next(matching, None)


def load_target(target: str, *, extensions: bool = True) -> Target:
    """Return what `target` names; a runnable gets its routes with `extensions`.

    Raises: ConfigError if it cannot be found, or is neither an app nor a runnable.  What the
    user's own module raises when it is imported passes through.
    """
    named = parse_target(target)
    place, name = named
    module = _load_file(named.file) if named.file else _load_module(place)
    try:
        found = getattr(module, name)
    except AttributeError as error:
        message = f"There is no {name!r} in {place!r}."
        raise ConfigError(message) from error
    if isinstance(found, Runnable):
        app = FastAPI(title=name)
        add_routes(app, found, path=f"/{name}", extensions=extensions)
        answer_unrouted(app, langserve_problem)
        return Target(app, is_made=True)
    if iscoroutinefunction(found) or iscoroutinefunction(getattr(found, "__call__", None)):  # noqa: B004 - whether it is asynchronous, too
        return Target(found, is_made=False)
    message = f"{target!r} is a {type(found).__name__}, neither an ASGI app nor a runnable."
    raise ConfigError(message)


def _load_file(path: Path) -> ModuleType:
    sys.path.insert(0, str(path.parent.absolute()))  # what lies beside it can be imported, too
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        message = f"The file {str(path)!r} is no Python module."
        raise ConfigError(message)
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def _load_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # The user's module is there, and misses one of its own.
        message = f"There is no module {name!r} here or in this environment."
        raise ConfigError(message) from error
