"""Say what goes into a graph: a part of its state, of which any keys may be missing.

LangGraph's own schema of an input calls every key required, is refused by pydantic for some types,
and takes a message of any kind for its base class; while a graph takes any part of its state and
keeps the rest from before.  Above it, `input` and `dialect` read, and `output` asks for what comes
out.  A runnable whose input goes to no graph is left as it is.
"""

from collections.abc import Collection, Mapping
from typing import Any, NotRequired, Required, cast, get_args, get_origin

from langchain_core.messages import HumanMessage, RemoveMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase
from pydantic import BaseModel, PydanticUserError, RootModel, TypeAdapter
from typing_extensions import TypedDict, get_type_hints

from locktender.app.graph import first_graph, has_graph
from locktender.app.message_class import with_any_message
from locktender.app.readable_schema import readable_input_schema, readable_output_schema

__all__ = [
    "input_schema_of",
    "output_schema_of",
    "part_schema_of",
    "removals_back",
    "with_removals",
]

_Any = Runnable[Any, Any]


def input_schema_of(runnable: _Any) -> type[BaseModel]:
    """Return what the input of `runnable` is said to be."""
    part = part_schema_of(runnable)
    if part is None:
        return readable_input_schema(runnable)
    try:
        schema = cast("type[BaseModel]", runnable.get_input_schema())
        schema.model_json_schema()
    except Exception:  # noqa: BLE001 - LangGraph makes its own of the author's types, whatever they are
        return part
    return schema


def output_schema_of(runnable: _Any, config: RunnableConfig | None = None) -> type[BaseModel]:
    """Return what the output of `runnable` is said to be under `config`."""
    if not has_graph(runnable):
        return readable_output_schema(runnable, config)
    try:
        return cast("type[BaseModel]", runnable.get_output_schema(config))
    except PydanticUserError:
        return RootModel[Any]  # as for the input


def part_schema_of(runnable: _Any) -> type[BaseModel] | None:
    """Return what an input for a graph's state must be like, of which any keys may be missing.

    None for what is no graph, has a type of input by the word of its author, or is a graph whose
    state has no keys.
    """
    graph = first_graph(runnable)
    builder = getattr(graph, "builder", None)
    state = getattr(builder, "input_schema", None)
    if state is None or _has_own_input_type(runnable):
        return None
    keys = [key for key in getattr(builder, "schemas", {}).get(state, ()) if key in graph.channels]
    if not keys or "__root__" in keys:
        return None
    hints = {key: _checkable(hint) for key, hint in _hints(state, keys).items()}
    # Made by a call, since the keys are known only now.
    part: Any = TypedDict(graph.get_name("Input"), hints, total=False)  # type: ignore[misc] # mypy wants to see them
    return RootModel[part]


def with_removals(value: Any) -> tuple[Any, Mapping[int, RemoveMessage]]:
    """Return `value` with a message that passes validation for each `RemoveMessage` in it.

    Which stands for which is told as well, by its id; `removals_back` undoes it.
    """
    removals: dict[int, RemoveMessage] = {}
    return _exchanged(value, removals), removals


def removals_back(value: Any, removals: Mapping[int, RemoveMessage]) -> Any:
    """Return `value` with each `RemoveMessage` in its place again."""
    if isinstance(value, dict):
        return {key: removals_back(item, removals) for key, item in value.items()}
    if isinstance(value, list):
        return [removals_back(item, removals) for item in value]
    return removals.get(id(value), value)


def _has_own_input_type(runnable: _Any) -> bool:
    while isinstance(runnable, RunnableBindingBase | RunnableSequence):
        if isinstance(runnable, RunnableSequence):
            runnable = runnable.first
        elif runnable.custom_input_type is not None:
            return True
        else:
            runnable = runnable.bound
    return False


def _hints(state: Any, keys: Collection[str]) -> Mapping[str, Any]:
    try:
        hints = get_type_hints(state, include_extras=True)
    except (NameError, TypeError):
        return dict.fromkeys(keys, Any)
    return {key: hints.get(key, Any) for key in keys}


def _checkable(hint: Any) -> Any:
    """Return the type of a key of a state as pydantic can check it."""
    if get_origin(hint) in {Required, NotRequired}:
        return _checkable(get_args(hint)[0])
    hint = with_any_message(hint)
    try:
        TypeAdapter(hint)
    except Exception:  # noqa: BLE001 - it is of the author's, and LangGraph knows more types than pydantic
        return Any
    return hint


def _exchanged(value: Any, removals: dict[int, RemoveMessage]) -> Any:
    if isinstance(value, dict):
        return {key: _exchanged(item, removals) for key, item in value.items()}
    if isinstance(value, list):
        return [_exchanged(item, removals) for item in value]
    if not isinstance(value, RemoveMessage):
        return value
    stand_in = HumanMessage("", id=value.id)
    removals[id(stand_in)] = value
    return stand_in
