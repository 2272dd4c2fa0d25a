"""The model layer's HTTP face: OpenAI's chat completions and models, tokens, and the probes.

It reads and checks what comes in and finds the gate that it is for; the answer itself is
`answer`'s.  Every chat ends in one outcome: here, if it never becomes a request, or in the gate.
Holds no model and starts nothing: `deploy.local` builds the gates and hands them in.
"""

import asyncio
import re
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import orjson
from fastapi import FastAPI, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from locktender.core.bounds import check_counts, check_seconds
from locktender.core.errors import LocktenderError, TemplateRefusal, UnknownModel
from locktender.core.events import Observer, Outcome, RequestEnded, RequestReceived, TokensTold
from locktender.core.version import __version__
from locktender.http.body import BodyBounds, read_body
from locktender.http.key import IS_STRANGER, NOT_FOR_STRANGERS
from locktender.http.offload import offload_of
from locktender.http.request_name import name_of
from locktender.http.unrouted import answer_unrouted
from locktender.model.answer import Answer, Asked
from locktender.model.dispatcher import Dispatcher
from locktender.model.engine import features_of
from locktender.model.rendering import rendered
from locktender.model.settings import GateSettings
from locktender.model.tokenization import Tokenization, Tokens
from locktender.model.trust import Trust
from locktender.model.visit import outcome_of
from locktender.prompting.chat_format import ChatFormat
from locktender.wire.header import REQUEST_ID, TIMEOUT, parse_id, parse_timeout
from locktender.wire.openai import (
    ChatCompletionBody,
    ModelBounds,
    StrictModel,
    generation_request,
    parse_chat_completion,
)
from locktender.wire.openai_reply import model_card, model_list
from locktender.wire.problem import openai_problem
from locktender.wire.token_count import TokenizeBody, parse_tokenize, tokenize_reply

__all__ = ["ModelService", "Served", "ServiceSettings"]

_CHAT, _MODELS, _TOKENIZE = "/v1/chat/completions", "/v1/models", "/tokenize"
# How a path ends that is meant for one of these, whatever its base URL has before it.
_MEANT = re.compile(r"(?:(/chat/completions|/models(?:/[^/]{1,200})?)|(/tokenize))/?$")
_Parsed = TypeVar("_Parsed")


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """The bounds of the HTTP side."""

    max_body_bytes: int = 1_000_000
    max_body_values: int = 100_000  # JSON's, counted before it is parsed
    body_timeout_s: float = 30.0  # for the whole body to arrive
    keep_alive_s: float = 5.0  # between comments while a stream waits; proxies give up after 15 s
    # What an answer may leave unread when its engine has done with it: so many bytes of a stream's
    # text, and for so long.  Its place is free then; beyond either its connection is cut off.
    max_unread_bytes: int = 1_000_000
    unread_s: float = 30.0

    def __post_init__(self) -> None:
        """Refuse bounds that cannot work."""
        check_counts(self, 1, "max_body_bytes", "max_body_values")
        check_counts(self, 0, "max_unread_bytes")
        check_seconds(self, 0.001, "body_timeout_s", "keep_alive_s", "unread_s")


class Health(Protocol):
    """What the probes ask of a model."""

    @property
    def is_ready(self) -> bool: ...

    @property
    def has_given_up(self) -> bool: ...

    @property
    def trouble(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Served:
    """One model that is served."""

    dispatcher: Dispatcher
    gate: GateSettings
    health: Health
    engine: str
    tokenization: Tokenization
    chat_format: ChatFormat | None = None  # None: its engine takes chats as they come

    @property
    def bounds(self) -> ModelBounds:
        """What its requests may ask for."""
        return ModelBounds(
            self.gate.default_max_tokens,
            self.gate.max_tokens,
            self.engine,
            features_of(self.engine),
        )


@dataclass(slots=True)
class _Arrival:
    """A request of which little is known yet."""

    request_id: str
    caller_id: str | None
    model: str = ""
    came_at: float = field(default_factory=time.monotonic)


class ModelService:
    """The models of one process behind one port."""

    def __init__(
        self,
        models: Mapping[str, Served],
        settings: ServiceSettings,
        observer: Observer,
        *,
        shared_key: bytes | None = None,  # of the deployment's processes, whose calls are signed
    ) -> None:
        self._models = models
        self._settings = settings
        self._bounds = BodyBounds(
            settings.max_body_bytes, settings.max_body_values, settings.body_timeout_s
        )
        self._observer = observer
        self._trust = Trust(shared_key)
        self._created = int(time.time())
        self._is_leaving = False

    def app(self) -> FastAPI:
        """Return the ASGI application."""
        app = FastAPI(
            title="locktender model service", version=__version__, docs_url=None, redoc_url=None
        )
        app.add_api_route(
            _CHAT,
            self.chat_completions,
            methods=["POST"],
            response_model=None,
            openapi_extra=_described(ChatCompletionBody),
        )
        app.add_api_route(
            _TOKENIZE,
            self.tokenize,
            methods=["POST"],
            response_model=None,
            openapi_extra=_described(TokenizeBody),
        )
        app.add_api_route(_MODELS, self.list_models, response_model=None)
        app.add_api_route(f"{_MODELS}/{{name:path}}", self.show_model, response_model=None)
        for path, probe in (
            ("/livez", self.livez),
            ("/readyz", self.readyz),
            ("/health", self.readyz),  # by which vLLM's clients know that they can begin
        ):
            app.add_api_route(path, probe, response_model=None)
            app.add_api_route(
                path, probe, methods=["HEAD"], response_model=None, include_in_schema=False
            )
        answer_unrouted(app, openai_problem, _hint)
        return app

    def leave(self) -> None:
        """Say by `/readyz` that no request should come any more; those that do are answered."""
        self._is_leaving = True

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self.leave()
        for served in self._models.values():
            served.dispatcher.drain()

    async def wait_idle(self) -> None:
        """Return when no request is inside any gate."""
        await asyncio.gather(*(served.dispatcher.wait_idle() for served in self._models.values()))

    async def chat_completions(self, request: Request) -> Response:
        """Answer a chat, whole or as a stream."""
        arrival = _arrival(request)
        try:
            return await self._admitted(request, arrival)
        except LocktenderError as error:
            self._note(arrival, outcome_of(error), error)
            return _refusal(error, arrival.caller_id or arrival.request_id)
        except ClientDisconnect:
            self._note(arrival, Outcome.CANCELLED)
            return Response()  # that nobody will read

    async def _admitted(self, request: Request, arrival: _Arrival) -> Answer:
        """Make an answer of a request that is good as far as can be seen here."""
        body = await self._parsed(request, parse_chat_completion)
        served = self._served(body.model)
        arrival.model = body.model  # only now: nobody counts by a name that a caller made up
        generation = generation_request(body, served.bounds, id=arrival.request_id)
        generation = await rendered(generation, served.chat_format)
        asked = Asked(
            request=generation,
            scope=self._trust.scope(request.headers, arrival.caller_id, now=time.time()),
            include_usage=body.include_usage,
            keep_alive_s=self._settings.keep_alive_s,
            max_unread_bytes=self._settings.max_unread_bytes,
            unread_s=self._settings.unread_s,
        )
        return Answer(served.dispatcher, asked)

    async def _parsed(self, request: Request, parse: Callable[[bytes], _Parsed]) -> _Parsed:
        body = await read_body(request, self._bounds)
        if not body.is_heavy:
            return parse(body.content)
        offload = offload_of(request.app)
        offload.check_room()
        return await offload.run(parse, body.content, timeout_s=self._bounds.timeout_s)

    def _note(
        self, arrival: _Arrival, outcome: Outcome, error: LocktenderError | None = None
    ) -> None:
        """Tell of a request that never came as far as a gate."""
        self._observer(RequestReceived(arrival.request_id, arrival.model, arrival.caller_id))
        ended = RequestEnded(
            request_id=arrival.request_id,
            model=arrival.model,
            outcome=outcome,
            total_s=time.monotonic() - arrival.came_at,
            code=error.code if error else None,
            reason=_reason(error),
            caller_id=arrival.caller_id,
        )
        self._observer(ended)

    async def tokenize(self, request: Request) -> Response:
        """Tell the tokens of a prompt or a chat, beside the gate: no model runs for it."""
        arrival = _arrival(request)
        try:
            tokens = await self._tokens(request, arrival)
        except LocktenderError as error:
            self._observer(_told(arrival, outcome_of(error), error=error))
            return _refusal(error, arrival.caller_id or arrival.request_id)
        except ClientDisconnect:
            self._observer(_told(arrival, Outcome.CANCELLED))
            return Response()  # that nobody will read
        self._observer(_told(arrival, Outcome.COMPLETED, len(tokens.ids)))
        return _json(tokenize_reply(tokens.ids, tokens.context_tokens))

    async def _tokens(self, request: Request, arrival: _Arrival) -> Tokens:
        asked = await self._parsed(request, parse_tokenize)
        served = self._served(asked.model)
        arrival.model = asked.model
        timeout_s = parse_timeout(request.headers.get(TIMEOUT))
        return await served.tokenization.of(asked, timeout_s=timeout_s)

    async def list_models(self) -> Response:
        """List the models."""
        return _json(model_list(self._models, created=self._created))

    async def show_model(self, name: str) -> Response:
        """Describe one model."""
        try:
            self._served(name)
        except UnknownModel as error:
            return _refusal(error)
        return _json(model_card(name, created=self._created))

    async def livez(self) -> Response:
        """Say whether the process can still do its work; if not, restart it."""
        is_alive = not any(served.health.has_given_up for served in self._models.values())
        return _state({"alive": is_alive}, is_good=is_alive)

    async def readyz(self, request: Request) -> Response:
        """Say whether requests should come, and what is going on.

        They should while any model can serve: one that starts, or cannot, does not take from a
        proxy those that can.  Without models there is nothing to wait for.
        """
        hidden = NOT_FOR_STRANGERS if request.scope.get(IS_STRANGER) else None
        models = {
            name: {
                "ready": served.health.is_ready,
                "waiting": served.dispatcher.n_waiting,
                "running": served.dispatcher.n_running,
                "trouble": served.health.trouble and (hidden or served.health.trouble),
                "outside": served.dispatcher.n_outside,  # beyond their outer request's share
                "sending": served.dispatcher.n_sending,  # answers that are still being read
            }
            for name, served in self._models.items()
        }
        can_serve = not models or any(model["ready"] for model in models.values())
        is_ready = can_serve and not self._is_leaving
        body = {"ready": is_ready, "draining": self._is_leaving, "models": models}
        return _state(body, is_good=is_ready)

    def _served(self, name: str) -> Served:
        try:
            return self._models[name]
        except KeyError as error:
            known = ", ".join(f"`{known}`" for known in self._models)
            message = f"There is no model `{name[:100]}` here; there is {known}."
            raise UnknownModel(message, "model") from error


def _described(body: type[StrictModel]) -> dict[str, Any]:
    """Return what the document says of a route's body, which it reads by itself."""
    content = {"application/json": {"schema": body.model_json_schema()}}
    return {"requestBody": {"required": True, "content": content}}


def _arrival(request: Request) -> _Arrival:
    caller_id = parse_id(request.headers.get(REQUEST_ID))
    return _Arrival(uuid.uuid4().hex if caller_id else name_of(request.scope).id, caller_id)


def _told(
    arrival: _Arrival,
    outcome: Outcome,
    n_tokens: int = 0,
    error: LocktenderError | None = None,
) -> TokensTold:
    return TokensTold(
        request_id=arrival.request_id,
        model=arrival.model,
        outcome=outcome,
        total_s=time.monotonic() - arrival.came_at,
        n_tokens=n_tokens,
        code=error.code if error else None,
        caller_id=arrival.caller_id,
        reason=_reason(error),
    )


def _reason(error: LocktenderError | None) -> str | None:
    """Return what the operator is to know of a refusal, beside its code."""
    return error.message if isinstance(error, TemplateRefusal) else None


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")


def _state(told: Mapping[str, object], *, is_good: bool) -> Response:
    """Return the answer to a probe, which nobody is to keep."""
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    return Response(orjson.dumps(told), 200 if is_good else 503, headers)


def _refusal(error: Exception, request_id: str | None = None) -> Response:
    problem = openai_problem(error)
    headers = {**problem.headers, **({REQUEST_ID.lower(): request_id} if request_id else {})}
    return Response(problem.body, problem.status, headers=headers)


def _hint(request: Request) -> str:
    """Name the path that was meant by one whose base URL ends too early, or too late."""
    meant = _MEANT.search(request.url.path)
    if meant is None:
        return ""
    versioned, bare = meant.groups()
    prefix = request.scope.get("root_path", "")
    if bare:
        return f" There is `{prefix}{bare}`."
    return f" There is `{prefix}/v1{versioned}`: a base URL ends in `/v1`."
