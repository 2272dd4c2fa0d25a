"""Serve LangGraph's graphs as what they are: a state, a thread that it is kept in, and a way on.

LangGraph's own schema of a config says nothing of threads.  Here is what a caller may put into the
config of a graph, which keyword arguments make sense to one, and what is told of an error within
one; its input is `graph_state`'s.  A runnable in which there is no graph is left as it is.
LangGraph is known by the classes of its modules, once somebody else has imported them.
"""

import functools
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias

from langchain_core.runnables import Runnable, RunnableSequence, RunnableWithFallbacks
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.utils import ConfigurableFieldSpec
from pydantic import BaseModel, TypeAdapter, ValidationInfo, field_validator

from locktender.app.run_part import steps, ways
from locktender.wire.langserve import error_fields
from locktender.wire.problem import langserve_problem

__all__ = [
    "arguments_of",
    "config_schema_of",
    "first_graph",
    "has_graph",
    "needs_thread",
    "told_error",
]

_Any = Runnable[Any, Any]
_Mode: TypeAlias = Literal["custom", "messages", "updates", "values"]
_THREAD = {
    "thread_id": "The conversation whose state the run goes on from.",
    "checkpoint_id": "The state of the thread to go on from, when it is not the last.",
    "checkpoint_ns": "The part of the graph that the checkpoint is of.",
}
_THREAD_SPECS = [
    ConfigurableFieldSpec(id=name, annotation=str | int | None, description=text, default=None)
    for name, text in _THREAD.items()
]


def first_graph(runnable: _Any) -> Any:
    """Return the graph that the input, and the keyword arguments, of `runnable` go to, or None."""
    while not _is_graph(runnable):
        if isinstance(runnable, RunnableBindingBase):
            runnable = runnable.bound
        elif isinstance(runnable, RunnableSequence):
            runnable = runnable.first
        else:
            return None
    return runnable


def has_graph(runnable: _Any) -> bool:
    """Whether `runnable` is a graph or has one in it; behind a function it is not seen."""
    return any(True for _ in _graphs_in(runnable))


def needs_thread(runnable: _Any) -> bool:
    """Whether no run of `runnable` can do without a thread that the config names."""
    config = getattr(runnable, "config", None) or {}
    if "thread_id" in (config.get("configurable") or {}):
        return False  # its author has named one
    if _is_graph(runnable):
        # True and False are said of a subgraph, about its parent's checkpointer.
        return runnable.checkpointer not in {None, True, False}  # type: ignore[attr-defined] # it is a graph
    # A fallback is to save a run when its turn comes, and not to fail for want of a thread.
    is_enough = any if isinstance(runnable, RunnableWithFallbacks) else all
    by_way = [needs_thread(way) for way in ways(runnable)]
    return any(map(needs_thread, steps(runnable))) or (bool(by_way) and is_enough(by_way))


def config_schema_of(runnable: _Any, keys: Collection[str]) -> type[BaseModel]:
    """Return what the config of `runnable` may hold, with the thread where there is a graph."""
    if not has_graph(runnable):
        return runnable.config_schema(include=sorted(keys))
    specs = [*_THREAD_SPECS, *([] if _is_graph(runnable) else runnable.config_specs)]
    return _Described(runnable.get_name(), specs).config_schema(include=sorted(keys))


def arguments_of(runnable: _Any, arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a caller's keyword arguments, as the graphs in `runnable` are to get them.

    Where its author has a graph stop it stops, whatever a caller adds.
    Raises: pydantic's ValidationError for one that LangGraph would fail at.
    """
    graph = first_graph(runnable)
    if graph is None:
        return arguments
    _Arguments.model_validate(arguments, context={"channels": graph.channels})
    context = arguments.get("context")
    if context is not None and (checked := _adapter(graph.context_schema)) is not None:
        checked.validate_python(context)
    stops = {
        name: _united([arguments[name], *(getattr(each, f"{name}_nodes") for each in graphs)])
        for graphs in [list(_graphs_in(runnable))]
        for name in ("interrupt_before", "interrupt_after")
        if arguments.get(name)
    }
    return {**arguments, **stops}


def told_error(error: BaseException) -> Mapping[str, Any]:
    """Return what is told of an exception within a run: its status, or the interrupt that it is."""
    module = sys.modules.get("langgraph.errors")
    if module is not None and isinstance(error, module.GraphInterrupt):
        return {"__interrupt__": error.args[0]}
    return error_fields(langserve_problem(error))


class _Arguments(BaseModel):
    """What a caller may say to a graph, where that is known; it is read and not used."""

    durability: Literal["async", "exit", "sync"] | None = None
    interrupt_after: Literal["*"] | list[str] | None = None
    interrupt_before: Literal["*"] | list[str] | None = None
    output_keys: str | list[str] | None = None
    # The other modes tell of configs and checkpoints, which are the author's.
    stream_mode: _Mode | list[_Mode] | None = None
    subgraphs: bool = False

    @field_validator("output_keys")
    @classmethod
    def _is_of_the_state(cls, value: Any, known: ValidationInfo) -> Any:
        keys = [value] if isinstance(value, str) else value or []
        if not set(keys) <= set((known.context or {})["channels"]):
            raise ValueError("The state of this graph has no such key.")
        return value


class _Described(Runnable[Any, Any]):
    """What has a name and fields of a config, and never runs."""

    def __init__(self, name: str, specs: list[ConfigurableFieldSpec]) -> None:
        self.name = name
        self._specs = specs

    @property
    def config_specs(self) -> list[ConfigurableFieldSpec]:
        return self._specs

    def invoke(self, input: Any, config: Any = None, **_: Any) -> Any:  # noqa: A002 - LangChain's signature
        raise NotImplementedError


def _is_graph(runnable: object) -> bool:
    module = sys.modules.get("langgraph.pregel")
    return module is not None and isinstance(runnable, module.Pregel)


def _graphs_in(runnable: _Any) -> Iterator[Any]:
    if _is_graph(runnable):
        yield runnable
    for part in (*steps(runnable), *ways(runnable)):
        yield from _graphs_in(part)


@functools.lru_cache(maxsize=64)  # of as many classes as authors have written
def _adapter(schema: Any) -> TypeAdapter[Any] | None:
    try:
        return None if schema is None else TypeAdapter(schema)
    except Exception:  # noqa: BLE001 - it is of the author's, who may use types that pydantic does not know
        return None


def _united(stops: Iterable[str | Iterable[str]]) -> str | list[str]:
    lists = [[each] if isinstance(each, str) else list(each) for each in stops]
    names = list(dict.fromkeys(name for names in lists for name in names))
    return "*" if "*" in names else names
