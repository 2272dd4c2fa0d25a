"""Answer the requests to one runnable.

Reads the body, builds the config, validates the input, runs, and writes the answer; each of these
steps is a module of its own, and here they are put in order.  Every run ends when its caller
leaves or its deadline passes.  What fails is answered by `answer`.
Above it, `routes` puts the methods on an app.
"""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.runnables import Runnable
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from locktender.app.answer import answered, json_response
from locktender.app.body import read_body
from locktender.app.caller import outer_request_of
from locktender.app.cancellation import Stay
from locktender.app.input import InputReader
from locktender.app.output import OutputWriter
from locktender.app.run_config import Asked, PerRequestConfigModifier, RunConfigs
from locktender.app.serialization import Serializer, WellKnownSerializer
from locktender.app.streaming import ChunkStream, StreamAnswer
from locktender.app.text_parser import with_direct_text_parsers
from locktender.app.turn import Turns
from locktender.core.scope import OuterRequest
from locktender.wire.langserve import (
    Unprocessable,
    batch_answer,
    invoke_answer,
    metachunk_frame,
    parse_batch,
    parse_invoke,
)

__all__ = ["Endpoint", "EndpointSettings"]


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
    """One runnable, as a set of request handlers.

    Each takes the request and answers it; `config_hash` is a config that the path carries
    (`app.config_hash`), `server_config` one of the route's author, which goes before the caller's.
    """

    def __init__(
        self, runnable: Runnable[Any, Any], run_name: str, settings: EndpointSettings
    ) -> None:
        self._runnable = with_direct_text_parsers(runnable)
        self._configs = RunConfigs(runnable, run_name, settings.config_keys, settings.modifier)
        self._inputs = InputReader(runnable)
        self._outputs = OutputWriter(runnable, settings.serializer)
        self._settings = settings
        self._turns = Turns()

    async def invoke(
        self,
        request: Request,
        *,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once and answer with the output."""
        asked = Asked(request, "invoke", config_hash, server_config)
        return await answered(request, partial(self._invoke, asked))

    async def batch(
        self,
        request: Request,
        *,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once for each input and answer with all outputs, in their order."""
        asked = Asked(request, "batch", config_hash, server_config)
        return await answered(request, partial(self._batch, asked))

    async def stream(
        self,
        request: Request,
        *,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Run once and answer with the chunks while they come."""
        asked = Asked(request, "stream", config_hash, server_config)
        return await answered(request, partial(self._stream, asked))

    async def input_schema(
        self,
        request: Request,
        *,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Describe the input."""
        asked = Asked(request, "input_schema", config_hash, server_config)
        return await answered(request, partial(self._described, asked, self._inputs))

    async def output_schema(
        self,
        request: Request,
        *,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Describe the output."""
        asked = Asked(request, "output_schema", config_hash, server_config)
        return await answered(request, partial(self._described, asked, self._outputs))

    async def config_schema(
        self,
        request: Request,
        *,
        config_hash: str = "",
        server_config: Mapping[str, Any] | None = None,
    ) -> Response:
        """Describe the config, as far as a caller may set it."""
        asked = Asked(request, "config_schema", config_hash, server_config)
        return await answered(request, partial(self._described, asked, self._configs))

    async def _invoke(self, asked: Asked) -> Response:
        request = asked.request
        outer = outer_request_of(request.scope["headers"])
        body = parse_invoke(await self._body(request, outer))
        config = await self._configs.one(asked, body.config)
        value = self._inputs.read(body.input, config)
        async with Stay(request.receive, outer) as stay:
            output = await self._runnable.ainvoke(value, config)
        if stay.has_left:
            return Response()
        return json_response(invoke_answer(self._outputs.write(output), str(config["run_id"])))

    async def _batch(self, asked: Asked) -> Response:
        request = asked.request
        outer = outer_request_of(request.scope["headers"])
        body = parse_batch(await self._body(request, outer))
        if len(body.inputs) > self._settings.max_inputs:
            message = (
                f"A batch may have {self._settings.max_inputs} inputs, not {len(body.inputs)}."
            )
            raise Unprocessable(message)
        configs = await self._configs.many(asked, body.config, len(body.inputs))
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
        return json_response(
            batch_answer([self._outputs.write(output) for output in outputs], run_ids)
        )

    async def _stream(self, asked: Asked) -> Response:
        await self._turns.take()
        request = asked.request
        outer = outer_request_of(request.scope["headers"])
        body = parse_invoke(await self._body(request, outer))
        config = await self._configs.one(asked, body.config)
        value = self._inputs.read(body.input, config)
        stream = ChunkStream(
            chunks=self._runnable.astream(value, config),
            head=metachunk_frame(str(config["run_id"])),
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

    async def _described(
        self, asked: Asked, part: InputReader | OutputWriter | RunConfigs
    ) -> Response:
        return json_response(_schema_json(part.schema_for(self._configs.described(asked))))


def _schema_json(schema: type[BaseModel]) -> bytes:
    # With the standard library's figures and order, as FastAPI writes them.
    shown = schema.model_json_schema()
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()
