"""Answer the requests to one runnable.

Reads the body, builds the config, validates the input, runs, and writes the answer; each of these
steps is a module of its own, and here they are put in order.  Every run ends when its caller
leaves or its deadline passes.  What fails is answered in LangServe's form, by `wire.problem`;
an exception for which the user's own FastAPI app has a handler is left to it.
Above it, `routes` puts the methods on an app.
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import orjson
from langchain_core.runnables import Runnable
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from locktender.app.body import read_body
from locktender.app.caller import outer_request_of
from locktender.app.cancellation import Stay
from locktender.app.input import InputReader
from locktender.app.output import OutputWriter
from locktender.app.run_config import PerRequestConfigModifier, RunConfigs
from locktender.app.serialization import Serializer, WellKnownSerializer
from locktender.app.streaming import ChunkStream, StreamAnswer
from locktender.app.text_parser import with_direct_text_parsers
from locktender.app.turn import Turns
from locktender.core.errors import EngineError, NoReplicaReady, PeerError, UnknownModel
from locktender.core.scope import OuterRequest
from locktender.wire.langserve import (
    Unprocessable,
    batch_answer,
    invoke_answer,
    parse_batch,
    parse_invoke,
)
from locktender.wire.problem import find_ours, langserve_problem

__all__ = ["Endpoint", "EndpointSettings"]

_log = logging.getLogger(__name__)
# Errors whose cause the operator, or the chain's author, must look for.
_NOT_THE_CALLERS = (EngineError, NoReplicaReady, PeerError, UnknownModel)


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What the author of a route decides."""

    config_keys: Sequence[str] = ("configurable",)  # which keys of a config a caller may set
    modifier: PerRequestConfigModifier | None = None
    serializer: Serializer = field(default_factory=WellKnownSerializer)
    ping_s: float = 15.0  # LangServe's; proxies give up after a minute or so of silence
    max_body_bytes: int = 32_000_000  # files come as base64
    max_inputs: int = 1000  # of one batch; each is validated before anything else is served
    body_timeout_s: float = 60.0  # for the whole body to arrive


class Endpoint:
    """One runnable, as a set of request handlers that a FastAPI app can be given."""

    def __init__(
        self, runnable: Runnable[Any, Any], run_name: str, settings: EndpointSettings
    ) -> None:
        self._runnable = with_direct_text_parsers(runnable)
        self._configs = RunConfigs(runnable, run_name, settings.config_keys, settings.modifier)
        self._inputs = InputReader(runnable)
        self._outputs = OutputWriter(runnable, settings.serializer)
        self._settings = settings
        self._turns = Turns()

    async def invoke(self, request: Request) -> Response:
        """Run once and answer with the output."""
        return await _answered(request, self._invoke)

    async def batch(self, request: Request) -> Response:
        """Run once for each input and answer with all outputs, in their order."""
        return await _answered(request, self._batch)

    async def stream(self, request: Request) -> Response:
        """Run once and answer with the chunks while they come."""
        return await _answered(request, self._stream)

    async def input_schema(self, request: Request) -> Response:
        """Describe the input."""
        return await _answered(request, self._input_schema)

    async def output_schema(self, request: Request) -> Response:
        """Describe the output."""
        return await _answered(request, self._output_schema)

    async def config_schema(self, request: Request) -> Response:
        """Describe the config, as far as a caller may set it."""
        return await _answered(request, self._config_schema)

    async def _invoke(self, request: Request) -> Response:
        outer = outer_request_of(request.scope["headers"])
        body = parse_invoke(await self._body(request, outer))
        config = await self._configs.one(request, body.config, "invoke")
        value = self._inputs.read(body.input, config)
        async with Stay(request.receive, outer) as stay:
            output = await self._runnable.ainvoke(value, config)
        if stay.has_left:
            return Response()
        return _json(invoke_answer(self._outputs.write(output), str(config["run_id"])))

    async def _batch(self, request: Request) -> Response:
        outer = outer_request_of(request.scope["headers"])
        body = parse_batch(await self._body(request, outer))
        if len(body.inputs) > self._settings.max_inputs:
            message = (
                f"A batch may have {self._settings.max_inputs} inputs, not {len(body.inputs)}."
            )
            raise Unprocessable(message)
        configs = await self._configs.many(request, body.config, len(body.inputs))
        values = [
            self._inputs.read(value, config, "inputs", n)
            for n, (value, config) in enumerate(zip(body.inputs, configs, strict=True))
        ]
        async with Stay(request.receive, outer) as stay:
            # With exceptions among the outputs: LangChain leaves the others running when one is
            # raised, and nothing is to run on after the answer.
            outputs = await self._runnable.abatch(values, configs, return_exceptions=True)
        if stay.has_left:
            return Response()
        for output in outputs:
            if isinstance(output, Exception):
                raise output
        run_ids = [str(config["run_id"]) for config in configs]
        return _json(batch_answer([self._outputs.write(output) for output in outputs], run_ids))

    async def _stream(self, request: Request) -> Response:
        await self._turns.take()
        outer = outer_request_of(request.scope["headers"])
        body = parse_invoke(await self._body(request, outer))
        config = await self._configs.one(request, body.config, "stream")
        value = self._inputs.read(body.input, config)
        stream = ChunkStream(
            chunks=self._runnable.astream(value, config),
            run_id=str(config["run_id"]),
            write=self._outputs.chunk,
            ping_s=self._settings.ping_s,
        )
        return StreamAnswer(stream, outer)

    async def _body(self, request: Request, outer: OuterRequest) -> bytes:
        remaining_s = outer.remaining_s(time.monotonic())
        timeout_s = self._settings.body_timeout_s
        return await read_body(
            request,
            max_bytes=self._settings.max_body_bytes,
            timeout_s=timeout_s if remaining_s is None else min(timeout_s, remaining_s),
        )

    async def _input_schema(self, _request: Request) -> Response:
        return _json(self._input_json)

    async def _output_schema(self, _request: Request) -> Response:
        return _json(self._output_json)

    async def _config_schema(self, _request: Request) -> Response:
        return _json(self._config_json)

    @cached_property
    def _input_json(self) -> bytes:
        return _schema_json(self._inputs.schema)

    @cached_property
    def _output_json(self) -> bytes:
        return _schema_json(self._outputs.schema)

    @cached_property
    def _config_json(self) -> bytes:
        return _schema_json(self._configs.schema)


async def _answered(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    try:
        return await answer(request)
    except HTTPException:
        raise  # a modifier's or a runnable's own word to the caller
    except Unprocessable as error:
        return _json(_told({"detail": error.detail}), 422)
    except ClientDisconnect:
        return Response()  # that nobody will read
    except Exception as error:
        if _is_handled_elsewhere(request, error):
            raise
        ours = find_ours(error)
        if ours is None:
            _log.exception("%s failed", request.url.path)
        elif isinstance(ours, _NOT_THE_CALLERS):
            _log.warning("%s failed: %s", request.url.path, ours.message, exc_info=ours.__cause__)
        problem = langserve_problem(error)
        return Response(problem.body, problem.status, headers=dict(problem.headers))


def _is_handled_elsewhere(request: Request, error: Exception) -> bool:
    handlers = getattr(request.scope.get("app"), "exception_handlers", {})
    return any(kind in handlers for kind in type(error).__mro__)


def _schema_json(schema: type[BaseModel]) -> bytes:
    # With the standard library's figures and order, as FastAPI writes them.
    shown = schema.model_json_schema()
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()


def _told(body: object) -> bytes:
    try:
        return orjson.dumps(body, default=repr)
    except TypeError:
        # A caller's own input is quoted, which may be what orjson does not write: half of a
        # surrogate pair, an integer of more than 64 bits, a thousand brackets.
        return json.dumps(body, separators=(",", ":"), default=repr).encode()


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type="application/json")
