"""Tell the caller's callbacks of a call, and the caller of the server's run.

A stream is a run of the caller's: its callbacks hear of its input, then of the sum of its chunks or
of its error.  One that is left early has not failed; it ends with what had come, as LangChain's own
streams do.  The id that the run has at the server is written into the metadata of the caller's run,
where tracers show it, and told to a function of the caller's; no returned value is changed.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    BaseCallbackHandler,
    CallbackManagerForChainRun,
)
from langchain_core.load.dump import dumpd
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import (
    get_async_callback_manager_for_config,
    get_callback_manager_for_config,
)
from langchain_core.tracers import BaseTracer
from langchain_core.tracers.base import AsyncBaseTracer

__all__ = ["AsyncLocalRun", "LocalRun", "ServerRun", "tell_of_server_run"]

_KEY = "server_run_id"

Total = Callable[[Sequence[Any]], Any]


@dataclass(frozen=True, slots=True)
class ServerRun:
    """A run at the server, and the run of the caller's that asked for it."""

    run_id: str
    local_run_id: UUID
    feedback_tokens: Sequence[Mapping[str, Any]] = field(default_factory=tuple)


def tell_of_server_run(
    run: CallbackManagerForChainRun | AsyncCallbackManagerForChainRun,
    told: Mapping[str, Any],
    hook: Callable[[ServerRun], None] | None,
) -> None:
    """Pass on what the server says of its run; an answer that says nothing is no error."""
    run_id, tokens = told.get("run_id"), told.get("feedback_tokens")
    if not isinstance(run_id, str):
        return
    _write_into_traces(run.handlers, str(run.run_id), run_id)
    if hook is not None:
        tokens = tuple(tokens) if isinstance(tokens, list) else ()
        hook(ServerRun(run_id, run.run_id, tokens))


def _write_into_traces(
    handlers: Sequence[BaseCallbackHandler], local_run_id: str, run_id: str
) -> None:
    for handler in handlers:
        if isinstance(handler, BaseTracer | AsyncBaseTracer):
            trace = handler.run_map.get(local_run_id)
            if trace is not None:
                trace.add_metadata({_KEY: run_id})


class _Chunks:
    """The chunks of a run; they are kept only where somebody will hear of their sum."""

    def __init__(self, total: Total, *, has_listeners: bool) -> None:
        self._chunks: list[Any] = []
        self._total = total
        self.keep: Callable[[Any], None] = self._chunks.append if has_listeners else _forget

    def sum(self) -> Any:
        return self._total(self._chunks)


class LocalRun:
    """A stream, as the caller's callbacks see it."""

    def __init__(
        self, runnable: Runnable[Any, Any], value: Any, config: RunnableConfig, total: Total
    ) -> None:
        manager = get_callback_manager_for_config(config)
        self.manager = manager.on_chain_start(
            dumpd(runnable),
            value,
            name=config.get("run_name") or runnable.get_name(),
            run_id=config.get("run_id"),
        )
        self._chunks = _Chunks(total, has_listeners=bool(self.manager.handlers))
        self.keep = self._chunks.keep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, GeneratorExit):
            self.manager.on_chain_end(self._chunks.sum())
        else:
            self.manager.on_chain_error(error)


class AsyncLocalRun:
    """The same for asynchronous callbacks; `begun` makes one."""

    def __init__(self, manager: AsyncCallbackManagerForChainRun, total: Total) -> None:
        self.manager = manager
        self._chunks = _Chunks(total, has_listeners=bool(manager.handlers))
        self.keep = self._chunks.keep

    @classmethod
    async def begun(
        cls, runnable: Runnable[Any, Any], value: Any, config: RunnableConfig, total: Total
    ) -> Self:
        """Tell the callbacks that a run begins."""
        manager = get_async_callback_manager_for_config(config)
        run = await manager.on_chain_start(
            dumpd(runnable),
            value,
            name=config.get("run_name") or runnable.get_name(),
            run_id=config.get("run_id"),
        )
        return cls(run, total)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None or isinstance(error, GeneratorExit):
            await self.manager.on_chain_end(self._chunks.sum())
        else:
            await self.manager.on_chain_error(error)


def _forget(_: Any) -> None:
    pass
