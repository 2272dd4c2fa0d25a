"""Answer the requests to one runnable.

Reads the body, builds the config, validates the input, runs, and writes the answer; each of these
steps is a module of its own, and here they are put in order.  Every run ends when its caller
leaves or its deadline passes.  What fails is answered in LangServe's form, by `wire.problem`;
an exception for which the user's own FastAPI app has a handler is left to it.
Above it, `routes` puts the methods on an app.
"""

import json
import logging
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

from locktender.app.caller import outer_request_of
from locktender.app.cancellation import Stay
from locktender.app.input import InputReader
from locktender.app.output import OutputWriter
from locktender.app.run_config import PerRequestConfigModifier, RunConfigs
from locktender.app.serialization import Serializer, WellKnownSerializer
from locktender.app.streaming import ChunkStream, StreamAnswer
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


@dataclass(frozen=True, slots=True)
class EndpointSettings:
    """What the author of a route decides."""

    config_keys: Sequence[str] = ("configurable",)  # which keys of a config a caller may set
    modifier: PerRequestConfigModifier | None = None
    serializer: Serializer = field(default_factory=WellKnownSerializer)
    ping_s: float = 15.0  # LangServe's; proxies give up after a minute or so of silence


class Endpoint:
    """One runnable, as a set of request handlers that a FastAPI app can be given."""

    def __init__(
        self, runnable: Runnable[Any, Any], run_name: str, settings: EndpointSettings
    ) -> None:
        self._runnable = runnable
        self._configs = RunConfigs(runnable, run_name, settings.config_keys, settings.modifier)
        self._inputs = InputReader(runnable)
        self._outputs = OutputWriter(runnable, settings.serializer)
        self._ping_s = settings.ping_s

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
        body = parse_invoke(await request.body())
        config = await self._configs.one(request, body.config, "invoke")
        value = self._inputs.read(body.input, config)
        async with Stay(request.receive, outer) as stay:
            output = await self._runnable.ainvoke(value, config)
        if stay.has_left:
            return Response()
        return _json(invoke_answer(self._outputs.write(output), str(config["run_id"])))

    async def _batch(self, request: Request) -> Response:
        outer = outer_request_of(request.scope["headers"])
        body = parse_batch(await request.body())
        configs = await self._configs.many(request, body.config, len(body.inputs))
        values = [
            self._inputs.read(value, config, "inputs", n)
            for n, (value, config) in enumerate(zip(body.inputs, configs, strict=True))
        ]
        async with Stay(request.receive, outer) as stay:
            outputs = await self._runnable.abatch(values, configs)
        if stay.has_left:
            return Response()
        run_ids = [str(config["run_id"]) for config in configs]
        return _json(batch_answer([self._outputs.write(output) for output in outputs], run_ids))

    async def _stream(self, request: Request) -> Response:
        outer = outer_request_of(request.scope["headers"])
        body = parse_invoke(await request.body())
        config = await self._configs.one(request, body.config, "stream")
        value = self._inputs.read(body.input, config)
        stream = ChunkStream(
            chunks=self._runnable.astream(value, config),
            run_id=str(config["run_id"]),
            write=self._outputs.chunk,
            ping_s=self._ping_s,
        )
        return StreamAnswer(stream, outer)

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
        if find_ours(error) is None:
            _log.exception("%s failed", request.url.path)
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
