"""Decide how the values of a `RemoteRunnable` are written and read.

One object for all its calls: the serializer makes values bytes and back, and what an answer tells
beside its output goes where it belongs: the id of the server's run to the caller's own run, the
server's callback events to the caller's callbacks.  Knows no connection; `client` holds those.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManagerForChainRun
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.utils import AddableDict

from locktender.app.callback_replay import replay, replay_async
from locktender.app.chunk_sum import sum_chunks
from locktender.app.client_body import JSON_HEADERS, STREAM_HEADERS, batch_body, invoke_body
from locktender.app.client_error import Response, broken, status_error
from locktender.app.client_log import find_patch_kind, patch_of, sum_patches
from locktender.app.client_run import ServerRun, Total, tell_of_server_run
from locktender.app.client_stream import ChunkReader
from locktender.app.extension import ExtensionSerializer
from locktender.app.serialization import Serializer
from locktender.core.errors import PeerError
from locktender.wire.extension import EXTENSIONS, EXTENSIONS_VERSION
from locktender.wire.langserve_answer import Answer, parse_answer

__all__ = ["Codec", "StreamKind"]

_Run = TypeVar("_Run", CallbackManagerForChainRun, AsyncCallbackManagerForChainRun)


@dataclass(frozen=True, slots=True)
class StreamKind:
    """One of the endpoints that stream: how its events are read, and what they come to."""

    endpoint: str
    read: Callable[[str], Any]
    total: Total


class Codec:
    """What crosses the wire for one `RemoteRunnable`."""

    def __init__(
        self,
        serializer: Serializer,
        *,
        on_server_run: Callable[[ServerRun], None] | None,
        use_callback_events: bool,
    ) -> None:
        self.is_extended = isinstance(serializer, ExtensionSerializer)
        agreed = {EXTENSIONS: EXTENSIONS_VERSION} if self.is_extended else {}
        self.headers = {**JSON_HEADERS, **agreed}
        self.stream_headers = {**STREAM_HEADERS, **agreed}
        self._serializer = serializer
        # What is told beside an output is told as LangServe tells it.
        self._plain = (
            serializer.plain if isinstance(serializer, ExtensionSerializer) else serializer
        )
        self._on_server_run = on_server_run
        self._use_callback_events = use_callback_events
        patch = find_patch_kind()
        self.chunks = StreamKind("stream", self._chunk, sum_chunks)
        self.events = StreamKind("stream_events", self._loaded, list)
        self.patches = StreamKind(
            "stream_log", lambda text: patch_of(self._loaded(text), patch), sum_patches
        )

    def write_one(
        self,
        value: Any,
        config: RunnableConfig,
        kwargs: Mapping[str, Any],
        filters: Mapping[str, Any] | None = None,
    ) -> bytes:
        """Return the body of an invoke or a stream.  Raises: as `client_body.invoke_body`."""
        return invoke_body(self._serializer, value, config, kwargs, filters)

    def write_many(
        self,
        inputs: Sequence[Any],
        configs: Sequence[RunnableConfig],
        kwargs: Mapping[str, Any],
    ) -> bytes:
        """Return the body of a batch.  Raises: as `write_one`."""
        return batch_body(self._serializer, inputs, configs, kwargs)

    def read_one(self, response: Response, run: CallbackManagerForChainRun) -> Any:
        """Return the output of an invoke.  Raises: httpx.HTTPStatusError, PeerError."""
        answer = self._answer(response, [run])
        for each, told in self._told([answer.callback_events], [run]):
            replay(told, each, self._plain)
        return self._objects(answer.output)

    async def read_one_async(self, response: Response, run: AsyncCallbackManagerForChainRun) -> Any:
        """Do as `read_one`."""
        answer = self._answer(response, [run])
        for each, told in self._told([answer.callback_events], [run]):
            await replay_async(told, each, self._plain)
        return self._objects(answer.output)

    def read_many(
        self, response: Response, runs: Sequence[CallbackManagerForChainRun]
    ) -> list[Any]:
        """Return the outputs of a batch.  Raises: as `read_one`."""
        answer = self._answer(response, runs)
        for run, told in self._told(answer.callback_events, runs):
            replay(told, run, self._plain)
        return self._outputs(answer, len(runs))

    async def read_many_async(
        self, response: Response, runs: Sequence[AsyncCallbackManagerForChainRun]
    ) -> list[Any]:
        """Do as `read_many`."""
        answer = self._answer(response, runs)
        for run, told in self._told(answer.callback_events, runs):
            await replay_async(told, run, self._plain)
        return self._outputs(answer, len(runs))

    def reader(
        self,
        kind: StreamKind,
        run: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    ) -> ChunkReader:
        """Return what reads one stream of `kind`."""

        def on_metadata(text: str) -> None:
            told = _parsed(text)
            if isinstance(told, dict):
                tell_of_server_run(run, told, self._on_server_run)

        return ChunkReader(kind.read, on_metadata, self._check_agreed)

    def _check_agreed(self, response: Response) -> None:
        # Another server may have taken its place, which read what we sent in its own way.
        if self.is_extended and EXTENSIONS not in response.headers:
            raise broken("The server has forgotten our extensions.", ValueError)

    def _answer(
        self,
        response: Response,
        runs: Sequence[CallbackManagerForChainRun | AsyncCallbackManagerForChainRun],
    ) -> Answer:
        if not response.is_success:
            raise status_error(response)
        self._check_agreed(response)
        try:
            answer = parse_answer(response.content)
        except PeerError as error:
            raise broken(error.message, ValueError) from error
        for run, told in zip(runs, answer.runs, strict=False):
            tell_of_server_run(run, told, self._on_server_run)
        return answer

    def _told(self, events: object, runs: Sequence[_Run]) -> list[tuple[_Run, object]]:
        """Return the runs of which the server sent events, each with its own."""
        if not self._use_callback_events or not isinstance(events, list):
            return []
        pairs = zip(runs, events, strict=False)
        return [(run, told) for run, told in pairs if told is not None]

    def _outputs(self, answer: Answer, n_inputs: int) -> list[Any]:
        outputs = self._objects(answer.output)
        if not (isinstance(outputs, list) and len(outputs) == n_inputs):
            message = f"The server's answer does not hold an output for each of {n_inputs} inputs."
            raise broken(message, ValueError)
        return outputs

    def _chunk(self, text: str) -> Any:
        chunk = self._loaded(text)
        return AddableDict(chunk) if isinstance(chunk, dict) else chunk

    def _loaded(self, text: str) -> Any:
        return self._objects(_parsed(text))

    def _objects(self, value: Any) -> Any:
        try:
            return self._serializer.loadd(value)
        except RecursionError as error:
            message = "The server sent a value that is nested too deeply."
            raise broken(message, ValueError) from error


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        message = "An event of the server's stream is not JSON."
        raise broken(message, ValueError) from error
