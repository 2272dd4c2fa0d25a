"""Put what a route takes from its callers for LangSmith on an app.

Unlike the routes of a runnable these are FastAPI's own from the body on: it reads, checks and
describes them, as LangServe has it, with LangServe's names in the OpenAPI document.
What becomes of a body is `feedback`'s to say.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Coroutine, Sequence
from functools import partial
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from locktender.app.answer import answered, json_response
from locktender.app.feedback import FeedbackDesk
from locktender.app.feedback_body import (
    Feedback,
    FeedbackCreateRequest,
    FeedbackCreateRequestTokenBased,
    PublicTraceLink,
    PublicTraceLinkCreateRequest,
)
from locktender.app.named_route import NamedRoute
from locktender.http.body import BodyBounds, read_body
from locktender.wire.langserve import Unprocessable

__all__ = ["add_feedback"]

_YES = b"true"
# A score, a comment and some metadata, which FastAPI parses and checks on the event loop.
_BOUNDS = BodyBounds(max_body_bytes=1_000_000, max_body_values=5_000, timeout_s=60.0)


def add_feedback(
    app: FastAPI | APIRouter,
    desk: FeedbackDesk,
    *,
    path: str,
    names: Collection[str],
    dependencies: Sequence[Depends] = (),
) -> None:
    """Add the routes below `path` that `desk` is for, and `token_feedback` if it is in `names`."""
    routes, router = _Routes(desk), app.router if isinstance(app, FastAPI) else app
    table: list[tuple[bool, str, str, Callable[..., Awaitable[Response]], type[BaseModel] | None]]
    table = [
        ("token_feedback" in names, "POST", "token_feedback", routes.create_from_token, None),
        (desk.takes_feedback, "POST", "feedback", routes.create, Feedback),
        (desk.takes_feedback, "HEAD", "feedback", routes.check_feedback, None),
        (desk.gives_links, "PUT", "public_trace_link", routes.share, PublicTraceLink),
        (desk.gives_links, "HEAD", "public_trace_link", routes.check_links, None),
    ]
    for is_there, method, name, answer, model in table:
        if is_there:
            router.add_api_route(
                f"{path}/{name}",
                answer,
                methods=[method],
                name=_NAMES[method, name],
                dependencies=list(dependencies),
                response_model=model,
                route_class_override=_BoundedRoute,
            )


# What FastAPI makes the operations' ids of.
_NAMES = {
    ("POST", "token_feedback"): "create_feedback_from_token",
    ("POST", "feedback"): "create_feedback",
    ("HEAD", "feedback"): "_check_feedback_enabled",
    ("PUT", "public_trace_link"): "create_public_trace_link",
    ("HEAD", "public_trace_link"): "_check_public_trace_link_enabled",
}


class _BoundedRoute(NamedRoute):
    """A route that reads no more of a body than there can be in it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's own, behind a look at the body, which it finds read."""
        answer = super().get_route_handler()

        async def read_and_answer(request: Request) -> Response:
            await read_body(request, _BOUNDS)
            try:
                return await answer(request)
            except RequestValidationError as error:
                if _can_be_quoted(error):
                    raise
                # FastAPI would fail at its own answer.
                detail = [{**each, "input": repr(each.get("input"))} for each in error.errors()]
                raise Unprocessable(detail) from error

        async def bounded(request: Request) -> Response:
            return await answered(request, partial(read_and_answer, request))

        return bounded


def _can_be_quoted(error: RequestValidationError) -> bool:
    """Return whether JSON can hold what FastAPI answers."""
    try:
        text = json.dumps(error.errors(), ensure_ascii=False, allow_nan=False, default=_quoted)
        text.encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _quoted(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class _Routes:
    """The routes of one desk; what their docstrings say is read in the OpenAPI document."""

    def __init__(self, desk: FeedbackDesk) -> None:
        self._desk = desk

    async def create(self, request: Request, body: FeedbackCreateRequest) -> Response:
        """Send feedback on a run to LangSmith.  It may still be refused there."""
        return await _answered(request, partial(self._desk.create, body))

    async def create_from_token(
        self, request: Request, body: FeedbackCreateRequestTokenBased
    ) -> Response:
        """Send feedback to LangSmith, on the run that a token was given for."""
        return await _answered(request, partial(self._desk.create_from_token, body))

    async def share(self, request: Request, body: PublicTraceLinkCreateRequest) -> Response:
        """Let anybody who has the link that is returned read the trace of a run at LangSmith."""
        return await _answered(request, partial(self._desk.share, body))

    async def check_feedback(self) -> Response:
        """Whether feedback can be sent."""
        self._desk.check_feedback()
        return json_response(_YES)

    async def check_links(self) -> Response:
        """Whether the traces of runs can be shared."""
        self._desk.check_links()
        return json_response(_YES)


async def _answered(request: Request, ask: Callable[[], Awaitable[BaseModel | None]]) -> Response:
    async def answer() -> Response:
        told = await ask()
        return json_response(b"null" if told is None else told.model_dump_json().encode())

    return await answered(request, answer)
