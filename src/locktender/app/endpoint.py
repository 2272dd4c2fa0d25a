"""Answer the requests to one runnable.

Reads the body, builds the config, validates the input, runs, and writes the answer; each of these
steps is a module of its own, and here they are put in order.  Every run ends when its caller
leaves or its deadline passes.  What fails is answered by `answer`.
Above it, `routes` puts the methods on an app.
"""

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from locktender.app.answer import answered, json_response
from locktender.app.caller import outer_request_of
from locktender.app.cancellation import Stay
from locktender.app.dialect import Dialects, Rights
from locktender.app.event_stream import EventsVersion, event_stream, is_told_of, nothing
from locktender.app.heavy_body import Work, at_once, beside
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
from locktender.http.body import BodyBounds, read_body
from locktender.http.offload import offload_of
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
    max_body_values: int = 100_000  # JSON's; some 16,000 documents, or 30,000 short messages
    max_inputs: int = 1000  # of one batch
    body_timeout_s: float = 60.0  # for the whole body to arrive
    rights: Rights = field(default_factory=Rights)
    has_extensions: bool = True  # False: every client gets LangServe's wire, whatever it asks for
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
            self._runnable,
            self._inputs,
            self._outputs,
            settings.serializer,
            settings.rights,
            has_extensions=settings.has_extensions,
        )
        self._settings = settings
        self._bounds = BodyBounds(
            settings.max_body_bytes, settings.max_body_values, settings.body_timeout_s
        )
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
        raw, work = await self._arrived(request, outer)
        body = await work(parse_invoke, raw)
        config = await self._configs.one(asked, body.config)
        value, runnable = await work(dialect.call, body.input, body.kwargs, config)
        notes = Notes.of(self._settings.notes, [config], self._settings.serializer)
        async with Stay(request.receive, outer) as stay:
            output = await runnable.ainvoke(value, notes.configs[0] if notes else config)
        if stay.has_left:
            return Response()
        told = await notes.told() if notes else None
        written = await work(dialect.write, output)
        answer = invoke_answer(written, str(config["run_id"]), told)
        return json_response(answer, headers=dialect.headers)

    async def _batch(self, asked: Asked) -> Response:
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        raw, work = await self._arrived(request, outer)
        body = await work(parse_batch, raw)
        if len(body.inputs) > self._settings.max_inputs:
            message = (
                f"A batch may have {self._settings.max_inputs} inputs, not {len(body.inputs)}."
            )
            raise Unprocessable(message)
        configs = await self._configs.many(asked, body.config, len(body.inputs))
        values, runnable = await work(dialect.calls, body.inputs, body.kwargs, configs)
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
        written = await work(list, map(dialect.write, outputs))
        return json_response(batch_answer(written, run_ids, told), headers=dialect.headers)

    async def _stream(self, asked: Asked) -> Response:
        await self._turns.take()
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        raw, work = await self._arrived(request, outer)
        body = await work(parse_invoke, raw)
        config = await self._configs.one(asked, body.config)
        value, runnable = await work(dialect.call, body.input, body.kwargs, config)
        head = metachunk_frame(str(config["run_id"]))
        late = late_head(self._settings.notes, config, head)
        stream = ChunkStream(
            chunks=runnable.astream(value, config),
            head=b"" if late else head,
            write=dialect.chunk,
            ping_s=self._settings.ping_s,
            headers=dialect.headers,
            late=late,
            work=work,
        )
        return StreamAnswer(stream, outer)

    async def _told(self, asked: Asked) -> Response:
        await self._turns.take()
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        raw, work = await self._arrived(request, outer)
        body = await work(parse_invoke, raw)
        config = await self._configs.one(asked, body.config)
        value, runnable = await work(dialect.call, body.input, body.kwargs, config)
        run = (runnable, value, config, await work(parse_event_filter, raw))
        if not self._is_told_of:
            told = nothing()
        elif asked.endpoint == "stream_log":
            told = run_log(*run, work)
        else:
            told = event_stream(*run, self._settings.astream_events_version)
        stream = ChunkStream(
            chunks=told,
            head=b"",
            write=dialect.chunk,
            ping_s=self._settings.ping_s,
            headers=dialect.headers,
            late=late_head(self._settings.notes, config),
            work=work,
        )
        return StreamAnswer(stream, outer)

    async def _arrived(self, request: Request, outer: OuterRequest) -> tuple[bytes, Work]:
        """Return the body, and what is to do the work on it.

        Raises: RequestTooLarge, InvalidRequest, starlette's ClientDisconnect.
        """
        bounds = self._bounds
        remaining_s = outer.remaining_s(time.monotonic())
        if remaining_s is not None:
            bounds = replace(bounds, timeout_s=min(bounds.timeout_s, remaining_s))
        body = await read_body(request, bounds)
        if not body.is_heavy:
            return body.content, at_once
        return body.content, beside(offload_of(request.scope.get("app")), bounds.timeout_s)

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
