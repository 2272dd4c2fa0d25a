"""Tell of a run and of every run within it, as the JSON patches of `/stream_log`.

Writes what LangChain's `astream_log` does, which LangChain is to drop: which operations there are,
which of them stand together in a patch, and the order of their keys.  The state that they build is
`{id, streamed_output, final_output, logs, name, type}`, with one entry in `logs` for each inner run
that the caller's filter admits.  Paths are built as LangChain builds them, so that a name with a
slash in it is not escaped.
"""

import threading
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from functools import partial
from typing import Any, NamedTuple, TypeAlias, TypeVar, cast
from uuid import UUID

import jsonpatch
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.load import dumps
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from locktender.app.feed import Feed, fed_by
from locktender.app.heavy_body import Work, at_once
from locktender.app.heavy_value import is_large
from locktender.app.tap import Tap
from locktender.wire.event_filter import EventFilter

__all__ = ["Patch", "run_log"]

Patch: TypeAlias = dict[str, list[dict[str, Any]]]  # its `ops`
_Chunk = TypeVar("_Chunk")


class _Entry(NamedTuple):
    key: str  # below `/logs/`
    kind: str


def run_log(
    runnable: Runnable[Any, Any],
    value: Any,
    config: RunnableConfig,
    chosen: EventFilter,
    work: Work = at_once,
) -> AsyncGenerator[Patch, None]:
    """Run `runnable` and yield the patches; leaving cancels the run.  Raises what it raises.

    `work` compares large sums of chunks.
    """
    if _has_own_log(runnable):
        return fed_by(partial(_follow_own, runnable, value, config, chosen))
    return fed_by(partial(_follow, runnable, value, config, chosen, work))


def _has_own_log(runnable: Runnable[Any, Any]) -> bool:
    # A client of another server has that server's log, and nothing to call back about.
    own = getattr(type(runnable), "astream_log", None)
    return own is not None and not own.__module__.startswith("langchain_core.")


async def _follow_own(
    runnable: Any, value: Any, config: RunnableConfig, chosen: EventFilter, feed: Feed[Patch]
) -> None:
    async with aclosing(runnable.astream_log(value, config, **chosen.model_dump())) as patches:
        async for patch in patches:
            feed.put({"ops": patch.ops})
            await feed.room()


async def _follow(
    runnable: Runnable[Any, Any],
    value: Any,
    config: RunnableConfig,
    chosen: EventFilter,
    work: Work,
    feed: Feed[Patch],
) -> None:
    """Run, and put in what the outermost run gives; its callbacks put in the rest."""
    logged: RunnableConfig = {"callbacks": [_RunLog(feed, chosen)]}
    config = merge_configs(config, logged)
    final = None
    generator = cast("AsyncGenerator[Any, None]", runnable.astream(value, config))
    async with aclosing(generator) as chunks:
        async for chunk in chunks:
            before, final = _sum(final, chunk)
            if work is not at_once and is_large(final):
                ops = await work(_changes, before, final)
            else:
                ops = _changes(before, final)
            feed.put({"ops": [_added("/streamed_output/-", chunk), *ops]})
            await feed.room()


def _changes(before: Any, final: Any) -> list[dict[str, Any]]:
    changes = jsonpatch.JsonPatch.from_diff(before, final, dumps=dumps)
    return [{**change, "path": f"/final_output{change['path']}"} for change in changes]


def _sum(sum_before: Any, chunk: Any) -> tuple[Any, Any]:
    """Return the sum of all chunks, and the one before it that it is to be told as a change of."""
    if sum_before is None:
        return None, chunk
    try:
        return sum_before, sum_before + chunk
    except TypeError:
        return None, chunk  # the sum begins anew


class _RunLog(AsyncCallbackHandler, Tap):
    """What LangChain calls back with, as patches."""

    def __init__(self, feed: Feed[Patch], chosen: EventFilter) -> None:
        self._feed = feed
        self._chosen = chosen
        self._root_id: UUID | None = None
        self._entries: dict[UUID, _Entry] = {}
        self._n_named: Counter[str] = Counter()
        self._lock = threading.Lock()  # Synchronous steps run, and call back, in other threads.

    async def on_chain_start(
        self, serialized: Any, *_: Any, run_type: str | None = None, **run: Any
    ) -> None:
        await self._start(run_type or "chain", serialized, **run)

    async def on_chat_model_start(self, serialized: Any, *_: Any, **run: Any) -> None:
        await self._start("llm", serialized, **run)

    async def on_llm_start(self, serialized: Any, *_: Any, **run: Any) -> None:
        await self._start("llm", serialized, **run)

    async def on_tool_start(self, serialized: Any, *_: Any, **run: Any) -> None:
        await self._start("tool", serialized, **run)

    async def on_retriever_start(self, serialized: Any, *_: Any, **run: Any) -> None:
        await self._start("retriever", serialized, **run)

    async def on_llm_new_token(
        self, token: Any, *, run_id: UUID, chunk: Any = None, **_: Any
    ) -> None:
        if entry := self._entries.get(run_id):
            value = chunk.message if isinstance(chunk, ChatGenerationChunk) else token
            await self._tell(
                _added(f"/logs/{entry.key}/streamed_output_str/-", token),
                _added(f"/logs/{entry.key}/streamed_output/-", value),
            )

    async def on_chain_end(self, outputs: Any, *, run_id: UUID, **_: Any) -> None:
        await self._end(run_id, outputs if isinstance(outputs, dict) else {"output": outputs})

    async def on_llm_end(self, response: LLMResult, *, run_id: UUID, **_: Any) -> None:
        await self._end(run_id, _plain(response))

    async def on_tool_end(self, output: Any, *, run_id: UUID, **_: Any) -> None:
        await self._end(run_id, {"output": output})

    async def on_retriever_end(self, documents: Any, *, run_id: UUID, **_: Any) -> None:
        await self._end(run_id, {"documents": documents})

    async def on_chain_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        await self._end(run_id, {})

    async def on_llm_error(
        self, *_: Any, run_id: UUID, response: LLMResult | None = None, **__: Any
    ) -> None:
        await self._end(run_id, _plain(response) if response else {})

    async def on_tool_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        await self._end(run_id, {})

    async def on_retriever_error(self, *_: Any, run_id: UUID, **__: Any) -> None:
        await self._end(run_id, {})

    async def tap_output_aiter(
        self, run_id: UUID, output: AsyncIterator[_Chunk]
    ) -> AsyncIterator[_Chunk]:
        """Tell of the chunks of an inner run, which pass through."""
        async for chunk in output:
            if entry := self._entries.get(run_id):
                await self._tell(_added(f"/logs/{entry.key}/streamed_output/-", chunk))
            yield chunk

    def tap_output_iter(self, run_id: UUID, output: Iterator[_Chunk]) -> Iterator[_Chunk]:
        """Do the same for a run in another thread."""
        for chunk in output:
            if entry := self._entries.get(run_id):
                added = _added(f"/logs/{entry.key}/streamed_output/-", chunk)
                self._feed.put({"ops": [added]})
                self._feed.room_now()
            yield chunk

    async def _start(self, kind: str, serialized: Any, *, run_id: UUID, **run: Any) -> None:
        name = run.get("name") or _name(serialized, kind)
        if self._root_id is None:
            self._root_id = run_id
            await self._tell({"op": "replace", "path": "", "value": _root(run_id, name, kind)})
            return
        tags = run.get("tags") or []
        if not self._chosen.admits(name, kind, tags):
            return
        with self._lock:
            self._n_named[name] += 1
            n = self._n_named[name]
            key = name if n == 1 else f"{name}:{n}"
            self._entries[run_id] = _Entry(key, kind)
        entry = {
            "id": str(run_id),
            "name": name,
            "type": kind,
            "tags": tags,
            "metadata": run.get("metadata") or {},
            "start_time": _now(),
            "streamed_output": [],
            "streamed_output_str": [],
            "final_output": None,
            "end_time": None,
        }
        await self._tell(_added(f"/logs/{key}", entry))

    async def _end(self, run_id: UUID, outputs: dict[str, Any]) -> None:
        if entry := self._entries.get(run_id):
            is_wrapped = entry.kind == "prompt" and "output" in outputs
            final = outputs["output"] if is_wrapped else outputs
            await self._tell(
                _added(f"/logs/{entry.key}/final_output", final),
                _added(f"/logs/{entry.key}/end_time", _now()),
            )

    async def _tell(self, *ops: dict[str, Any]) -> None:
        self._feed.put({"ops": list(ops)})
        await self._feed.room()


def _added(path: str, value: Any) -> dict[str, Any]:
    return {"op": "add", "path": path, "value": value}


def _root(run_id: UUID, name: str, kind: str) -> dict[str, Any]:
    return {
        "id": str(run_id),
        "streamed_output": [],
        "final_output": None,
        "logs": {},
        "name": name,
        "type": kind,
    }


def _name(serialized: Any, kind: str) -> str:
    if kind == "retriever":
        return "Retriever"
    serialized = serialized or {}
    return str(serialized.get("name") or (serialized.get("id") or ["Unnamed"])[-1])


def _plain(result: LLMResult) -> dict[str, Any]:
    """Return a model's answer as it is told of: plain, but for its messages."""
    plain = result.model_dump()
    for told, generations in zip(plain["generations"], result.generations, strict=True):
        for fields, generation in zip(told, generations, strict=True):
            if isinstance(generation, ChatGeneration):
                fields["message"] = generation.message
    return plain


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
