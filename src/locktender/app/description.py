"""Describe routes in an app's OpenAPI document.

The routes that answer read their bodies themselves, as LangServe's do, so that FastAPI knows
nothing of these.  What is described is therefore a route of its own, with the same path, typed and
never reached: it matches no request.  Which routes there are is `routes`' to say, and what their
models are called is `openapi`'s.
"""

import inspect
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Body, FastAPI
from fastapi.params import Depends
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import Scope

from locktender.app.openapi import Models

__all__ = ["Description", "Operation", "declare_tags", "describe", "models_of", "path_parameters"]

_TEXTS = {
    "invoke": "Run once, and answer with the output.",
    "batch": "Run once for each input, and answer with all outputs.",
    "stream": "Run once, and send the chunks of the output while they come.",
    "stream_log": "Run once, and send what happens within the run as patches of a log.",
    "stream_events": "Run once, and send what happens within the run as events.",
    "input_schema": "The JSON Schema of an input.",
    "output_schema": "The JSON Schema of the output.",
    "config_schema": "The JSON Schema of a config, as far as a caller may set it.",
}
_PARAMETER = re.compile(r"{([A-Za-z_]\w*):?(\w*)}")  # as Starlette's paths have them
_HASHED = "The path carries a config, as share links have it: JSON, compressed by lz-string."


class _Events(Response):
    media_type = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    path: str
    method: str
    endpoint: str  # its name
    title: str  # the path that the runnable has, without slashes
    is_hashed: bool  # whether the path carries a config

    @property
    def name(self) -> str:
        """What FastAPI makes the operation's id of."""
        name = f"{self.title} {self.endpoint}".strip()
        return f"{name} with config" if self.is_hashed else name

    @property
    def tag(self) -> str:
        """What the operation is listed under; nothing for a runnable at the root."""
        return f"{self.title}/config".lstrip("/") if self.is_hashed else self.title

    @property
    def text(self) -> str:
        """What a reader of the document is told."""
        text = _TEXTS[self.endpoint]
        return f"{text}\n\n{_HASHED}" if self.is_hashed else text


class Description(APIRoute):
    """A route that is seen in the document and answers nobody."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:  # noqa: ARG002 - starlette's signature
        """Match nothing: the route that answers is another."""
        return Match.NONE, {}


class _Stub:
    """Has the signature that FastAPI describes, and is never called."""

    def __init__(self, signature: inspect.Signature, models: Models) -> None:
        self.__signature__ = signature
        self.models = models

    def __call__(self) -> None:
        raise AssertionError("A description answers nobody.")


def describe(
    app: FastAPI | APIRouter,
    operation: Operation,
    models: Models,
    dependencies: Sequence[Depends],
) -> None:
    """Add `operation` to the document of `app`."""
    router = app.router if isinstance(app, FastAPI) else app
    request = getattr(models, f"{operation.endpoint}_request", None)
    is_stream = operation.endpoint.startswith("stream")
    router.add_api_route(
        operation.path,
        _Stub(_signature(router.prefix + operation.path, request), models),
        methods=[operation.method],
        name=operation.name,
        tags=[operation.tag] if operation.tag else None,
        description=operation.text,
        dependencies=list(dependencies),
        response_model=getattr(models, f"{operation.endpoint}_response", None),
        response_class=_Events if is_stream else JSONResponse,
        route_class_override=Description,
    )


def path_parameters(app: FastAPI | APIRouter, path: str) -> list[Depends]:
    """Return what has a route of FastAPI's own describe the parameters in the path before it."""
    signature = _signature((app.prefix if isinstance(app, APIRouter) else "") + path, None)

    def declare(**_: Any) -> None:
        """Take them, and do nothing with them."""

    declare.__signature__ = signature  # type: ignore[attr-defined]  # which inspect looks for
    return [Depends(declare)] if signature.parameters else []


def declare_tags(app: FastAPI, title: str) -> None:
    """Add the tags of a runnable to the document of `app`, as LangServe orders and calls them."""
    tags = [
        {"name": title or "default"},
        {"name": f"{title}/config".lstrip("/"), "description": _HASHED},
    ]
    app.openapi_tags = [*(app.openapi_tags or []), *tags]


def models_of(route: BaseRoute) -> Models | None:
    """Return the models that `route` is described by, if it is a description."""
    stub = getattr(route, "endpoint", None)
    return stub.models if isinstance(stub, _Stub) else None


def _signature(path: str, request: Any) -> inspect.Signature:
    annotations: dict[str, Any] = {
        name: str if kind in {"", "path", "str"} else Any for name, kind in _PARAMETER.findall(path)
    }
    if request is not None:
        body = next(name for name in ("body", "request_body_") if name not in annotations)
        annotations[body] = Annotated[request, Body()]
    return inspect.Signature(
        [
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, annotation=annotation)
            for name, annotation in annotations.items()
        ]
    )
