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
from typing import Any, NamedTuple, TypeVar

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from locktender.app.answer import answered, json_response
from locktender.app.caller import outer_request_of
from locktender.app.cancellation import Stay
from locktender.app.dialect import Dialect, Dialects, Rights
from locktender.app.event_stream import (
    EventsVersion,
    event_stream,
    event_writer,
    is_told_of,
    nothing,
)
from locktender.app.heavy_body import Work, at_once, beside
from locktender.app.input import InputReader
from locktender.app.known_signature import with_known_signatures
from locktender.app.output import OutputWriter
from locktender.app.paced_batch import run_batch
from locktender.app.readable_schema import describable
from locktender.app.run_config import Asked, PerRequestConfigModifier, RunConfigs
from locktender.app.run_log import run_log
from locktender.app.run_note import Notes, NoteSettings, late_head
from locktender.app.serialization import Serializer, WellKnownSerializer
from locktender.app.streaming import ChunkStream, StreamAnswer
from locktender.app.text_parser import with_direct_text_parsers
from locktender.app.threaded_generator import with_threaded_generators
from locktender.app.turn import Turns
from locktender.core.bounds import check_counts, check_seconds
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

_Ready = TypeVar("_Ready")


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

    def __post_init__(self) -> None:
        """Refuse bounds that cannot work.  Raises: ConfigError."""
        check_counts(self, 1, "max_body_bytes", "max_body_values", "max_inputs")
        check_seconds(self, 0.001, "ping_s", "body_timeout_s")


class _Call(NamedTuple):
    """A run that may begin."""

    raw: bytes
    work: Work
    config: RunnableConfig
    value: Any
    runnable: Runnable[Any, Any]


class _Calls(NamedTuple):
    """The runs of a batch, likewise."""

    work: Work
    configs: list[RunnableConfig]
    values: list[Any]
    runnable: Runnable[Any, Any]


class Endpoint:
    """One runnable, and the answers to requests for it."""

    def __init__(
        self, runnable: Runnable[Any, Any], run_name: str, settings: EndpointSettings
    ) -> None:
        self._runnable = with_known_signatures(
            with_threaded_generators(with_direct_text_parsers(runnable))
        )
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
        return describable(parts[part].schema_for(config))

    async def _invoke(self, asked: Asked) -> Response:
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        call = await self._arrived(asked, outer, partial(self._call, asked, dialect))
        config = call.config
        notes = Notes.of(self._settings.notes, [config], self._settings.serializer, call.work)
        async with Stay(request.receive, outer) as stay:
            output = await call.runnable.ainvoke(call.value, notes.configs[0] if notes else config)
        if stay.has_left:
            return Response()
        told = await notes.told() if notes else None
        written = await call.work(dialect.write, output)
        answer = invoke_answer(written, str(config["run_id"]), told)
        return json_response(answer, headers=dialect.headers)

    async def _batch(self, asked: Asked) -> Response:
        request = asked.request
        dialect = self._dialects.of(request)
        outer = outer_request_of(request.scope["headers"])
        batch = await self._arrived(asked, outer, partial(self._calls, asked, dialect))
        configs = batch.configs
        run_ids = [str(config["run_id"]) for config in configs]
        notes = Notes.of(self._settings.notes, configs, self._settings.serializer, batch.work)
        if notes:
            configs = notes.configs
        async with Stay(request.receive, outer) as stay:
            outputs = await run_batch(batch.runnable, batch.values, configs)
        if stay.has_left:
            return Response()
        for output in outputs:
            if isinstance(output, Exception):
                raise output
        told = await notes.told() if notes else None
        written = await batch.work(list, map(dialect.write, outputs))
        return json_response(batch_answer(written, run_ids, told), headers=dialect.headers)

    async def _stream(self, asked: Asked) -> Response:
        await self._turns.take()
        dialect = self._dialects.of(asked.request)
        outer = outer_request_of(asked.request.scope["headers"])
        call = await self._arrived(asked, outer, partial(self._call, asked, dialect))
        head = metachunk_frame(str(call.config["run_id"]))
        late = late_head(self._settings.notes, call.config, head)
        stream = ChunkStream(
            chunks=call.runnable.astream(call.value, call.config),
            head=b"" if late else head,
            write=dialect.chunk,
            ping_s=self._settings.ping_s,
            headers=dialect.headers,
            late=late,
            work=call.work,
        )
        return StreamAnswer(stream, outer)

    async def _told(self, asked: Asked) -> Response:
        await self._turns.take()
        dialect = self._dialects.of(asked.request)
        outer = outer_request_of(asked.request.scope["headers"])
        call = await self._arrived(asked, outer, partial(self._call, asked, dialect))
        chosen = await call.work(parse_event_filter, call.raw)
        run = (call.runnable, call.value, call.config, chosen)
        write = dialect.chunk
        if not self._is_told_of:
            told = nothing()
        elif asked.endpoint == "stream_log":
            told = run_log(*run, call.work)
        else:
            told = event_stream(*run, self._settings.astream_events_version)
            write = event_writer(write, self._settings.serializer)
        stream = ChunkStream(
            chunks=told,
            head=b"",
            write=write,
            ping_s=self._settings.ping_s,
            headers=dialect.headers,
            late=late_head(self._settings.notes, call.config),
            work=call.work,
        )
        return StreamAnswer(stream, outer)

    async def _arrived(
        self, asked: Asked, outer: OuterRequest, ready: Callable[[bytes, Work], Awaitable[_Ready]]
    ) -> _Ready:
        """Return what `ready` makes of the body, with what is to do the work on it.

        Raises: RequestTooLarge, InvalidRequest, starlette's ClientDisconnect; for a heavy body
        QueueFull and DeadlineExceeded, too; and what `ready` does.
        """
        request, bounds = asked.request, self._bounds
        remaining_s = outer.remaining_s(time.monotonic())
        if remaining_s is not None:
            bounds = replace(bounds, timeout_s=min(bounds.timeout_s, remaining_s))
        body = await read_body(request, bounds)
        if not body.is_heavy:
            return await ready(body.content, at_once)
        offload = offload_of(request.scope.get("app"))
        offload.check_room()
        async with Stay(request.receive, outer):
            return await ready(body.content, beside(offload, bounds.timeout_s))
        raise ClientDisconnect

    async def _call(self, asked: Asked, dialect: Dialect, raw: bytes, work: Work) -> _Call:
        body = await work(parse_invoke, raw)
        config = await self._configs.one(asked, body.config)
        value, runnable = await work(dialect.call, body.input, body.kwargs, config)
        return _Call(raw, work, config, value, runnable)

    async def _calls(self, asked: Asked, dialect: Dialect, raw: bytes, work: Work) -> _Calls:
        body = await work(parse_batch, raw)
        max_inputs = self._settings.max_inputs
        if len(body.inputs) > max_inputs:
            raise Unprocessable(f"A batch may have {max_inputs} inputs, not {len(body.inputs)}.")
        configs = await self._configs.many(asked, body.config, len(body.inputs))
        values, runnable = await work(dialect.calls, body.inputs, body.kwargs, configs)
        return _Calls(work, configs, values, runnable)

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
