"""Answer the requests to one runnable.

Reads the body, builds the config, validates the input, runs, and writes the answer; each of these
steps is a module of its own, and here they are put in order.  Every run ends when its caller
leaves or its deadline passes.  What fails is answered by `answer`.
Above it, `routes` puts the methods on an app.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from locktender.app.answer import answered, json_response
from locktender.app.body import read_body
from locktender.app.caller import outer_request_of
from locktender.app.cancellation import Stay
from locktender.app.dialect import Dialects, Rights
from locktender.app.event_stream import EventsVersion, event_stream, is_told_of, nothing
from locktender.app.input import InputReader
from locktender.app.output import OutputWriter
from locktender.app.run_config import Asked, PerRequestConfigModifier, RunConfigs
from locktender.app.run_log import run_log
from locktender.app.run_note import Notes, NoteSettings, late_head
from locktender.app.serialization import Serializer, WellKnownSerializer
from locktender.app.streaming import ChunkStream, StreamAnswer
from locktender.app.text_parser import with_direct_text_parsers
from locktender.app.turn import Turns
from locktender.core.scope import OuterRequest
from locktender.wire.event_filter import parse_event_filter
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
    rights: Rights = field(default_factory=Rights)
    # The runnables, by name, of whose inner runs callers may know; None: all of them.
    stream_log_names: Sequence[str] | None = None
    astream_events_version: EventsVersion = "v2"
    notes: NoteSettings | None = None  # None: an answer tells nothing of its runs but their ids
    before_run: Callable[[], None] | None = None  # called in the context of each run


class Endpoint:
    """One runnable, and the answers to requests for it."""

    def __init__(
        self, runnable: Runnable[Any, Any], run_name: str, settings: EndpointSettings
    ) -> None:
        self._runnable = with_direct_text_parsers(runnable)
        self._configs = RunConfigs(
            runnable, run_name, settings.config_keys, settings.modifier, settings.before_run
        )
        self._inputs = InputReader(runnable)
        self._outputs = OutputWriter(runnable, settings.serializer)
        self._dialects = Dialects(
            self._runnable, self._inputs, self._outputs, settings.serializer, settings.rights
        )
        self._settings = settings
        self._turns = Turns()
        self._is_told_of = is_told_of(runnable, settings.stream_log_names)
        self.has_callback_events = bool(settings.notes and settings.notes.has_callback_events)
        self._answers: Mapping[str, Callable[[Asked], Awaitable[Response]]] = {
            "invoke": self._invoke,
            "batch": self._batch,
            "stream": self._stream,
            "stream_log": self._told,
            "stream_events": self._told,
            "input_schema": self._described,
            "output_schema": self._described,
            "config_schema": self._described,
            "extensions": self._extended,
        }

    async def answer(self, asked: Asked) -> Response:
        """Return the answer to a request to the endpoint that `asked` names."""
        return await answered(asked.request, partial(self._answers[asked.endpoint], asked))

    def schema(self, part: str, asked: Asked | None = None) -> type[BaseModel]:
        """Return what the `part` of a run may be: its "config", its "input" or its "output".

        Raises: Unprocessable, starlette's HTTPException; both for the config in `asked`'s path.
        """
        config: RunnableConfig = self._configs.described(asked) if asked else {}
        parts: Mapping[str, InputReader | OutputWriter | RunConfigs]
        parts = {"config": self._configs, "input": self._inputs, "output": self._outputs}
        return parts[part].schema_for(config)

    async def _invoke(self, asked: Asked) -> Response:
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        body = parse_invoke(await self._body(request, outer))
        config = await self._configs.one(asked, body.config)
        value = dialect.read(body.input, config)
        runnable = dialect.bound(body.kwargs)
        notes = Notes.of(self._settings.notes, [config], self._settings.serializer)
        async with Stay(request.receive, outer) as stay:
            output = await runnable.ainvoke(value, notes.configs[0] if notes else config)
        if stay.has_left:
            return Response()
        told = await notes.told() if notes else None
        answer = invoke_answer(dialect.write(output), str(config["run_id"]), told)
        return json_response(answer, headers=dialect.headers)

    async def _batch(self, asked: Asked) -> Response:
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        body = parse_batch(await self._body(request, outer))
        if len(body.inputs) > self._settings.max_inputs:
            message = (
                f"A batch may have {self._settings.max_inputs} inputs, not {len(body.inputs)}."
            )
            raise Unprocessable(message)
        configs = await self._configs.many(asked, body.config, len(body.inputs))
        values = [
            dialect.read(value, config, "inputs", n)
            for n, (value, config) in enumerate(zip(body.inputs, configs, strict=True))
        ]
        runnable = dialect.bound(body.kwargs)
        run_ids = [str(config["run_id"]) for config in configs]
        notes = Notes.of(self._settings.notes, configs, self._settings.serializer)
        if notes:
            configs = notes.configs
        async with Stay(request.receive, outer) as stay:
            # With exceptions among the outputs: LangChain leaves the others running when one is
            # raised, and nothing is to run on after the answer.
            outputs = await runnable.abatch(values, configs, return_exceptions=True)
        if stay.has_left:
            return Response()
        for output in outputs:
            if isinstance(output, Exception):
                raise output
        told = await notes.told() if notes else None
        answer = batch_answer([dialect.write(output) for output in outputs], run_ids, told)
        return json_response(answer, headers=dialect.headers)

    async def _stream(self, asked: Asked) -> Response:
        await self._turns.take()
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        body = parse_invoke(await self._body(request, outer))
        config = await self._configs.one(asked, body.config)
        value = dialect.read(body.input, config)
        head = metachunk_frame(str(config["run_id"]))
        late = late_head(self._settings.notes, config, head)
        stream = ChunkStream(
            chunks=dialect.bound(body.kwargs).astream(value, config),
            head=b"" if late else head,
            write=dialect.chunk,
            ping_s=self._settings.ping_s,
            headers=dialect.headers,
            late=late,
        )
        return StreamAnswer(stream, outer)

    async def _told(self, asked: Asked) -> Response:
        await self._turns.take()
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        raw = await self._body(request, outer)
        body = parse_invoke(raw)
        config = await self._configs.one(asked, body.config)
        value = dialect.read(body.input, config)
        run = (dialect.bound(body.kwargs), value, config, parse_event_filter(raw))
        if not self._is_told_of:
            told = nothing()
        elif asked.endpoint == "stream_log":
            told = run_log(*run)
        else:
            told = event_stream(*run, self._settings.astream_events_version)
        late = late_head(self._settings.notes, config)
        ping_s = self._settings.ping_s
        stream = ChunkStream(told, b"", dialect.chunk, ping_s, dialect.headers, late)
        return StreamAnswer(stream, outer)

    async def _body(self, request: Request, outer: OuterRequest) -> bytes:
        remaining_s = outer.remaining_s(time.monotonic())
        timeout_s = self._settings.body_timeout_s
        return await read_body(
            request,
            max_bytes=self._settings.max_body_bytes,
            timeout_s=timeout_s if remaining_s is None else min(timeout_s, remaining_s),
        )

    async def _described(self, asked: Asked) -> Response:
        return json_response(
            _schema_json(self.schema(asked.endpoint.removesuffix("_schema"), asked))
        )

    async def _extended(self, _asked: Asked) -> Response:
        """Say what a client with extensions may ask for."""
        return json_response(self._dialects.described())


def _schema_json(schema: type[BaseModel]) -> bytes:
    # With the standard library's figures and order, as FastAPI writes them.
    shown = schema.model_json_schema()
    return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode()
