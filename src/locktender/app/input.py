"""Read a caller's input as the runnable takes it, and say what it may be.

What a type or a prompt declares is asked for, in LangServe's words.  What LangChain infers from a
structure is shown, but decides nothing that the parts of the structure would not (`input_shape`).
A plain pydantic input becomes a dict, as in LangServe, a `CustomUserType` stays what it is, and so
do LangChain's messages and documents.  Messages may come in the forms that LangChain's own Python
takes, ``["human", "hi"]`` and ``{"role": "user", "content": "hi"}``: LangServe fails at those.
"""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any, NamedTuple

from langchain_core.messages import convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel, RootModel, ValidationError

from locktender.app.graph_state import input_schema_of, part_schema_of
from locktender.app.hashed_schema import hashes_values
from locktender.app.input_description import described
from locktender.app.input_shape import MAX_HASHED, Shape, kept, typed, unpacked
from locktender.app.input_structure import shape_of
from locktender.app.readable_schema import readable_input_schema
from locktender.app.session_key import session_keys
from locktender.wire.json_tree import has_more_values
from locktender.wire.langserve import Unprocessable, broken_by_config, error_details

__all__ = ["InputReader"]

_log = logging.getLogger(__name__)

_MAX_DEPTH = 16  # below which nobody keeps messages; a body may nest as deep as it likes


class _Taken(NamedTuple):
    """What a runnable takes under one config."""

    schema: type[BaseModel]  # as it is described
    shape: Shape

    def read(self, value: Any) -> Any:
        """Return the input that `value` stands for.  Raises: what a validator does."""
        try:
            return self.shape.take(value)
        except Exception:
            if self.shape.is_declared:
                raise
        # A structure's type may be that of a part which minds less.
        read = self.schema.model_validate(value)
        taken = unpacked(read) if isinstance(read, RootModel) else kept(value, read)
        return self.shape.unfilled(taken)


class InputReader:
    """The inputs of one route."""

    def __init__(self, runnable: Runnable[Any, Any]) -> None:
        self._runnable = runnable

    @property
    def schema(self) -> type[BaseModel]:
        """What an input may be, for the runnable as it was configured by its author."""
        return self._taken.schema

    def read(self, value: Any, config: RunnableConfig, *at: str | int) -> Any:
        """Return the input that `value` stands for; `at` is its place in the body.

        Raises: Unprocessable.
        """
        taken = self._part_taken
        if taken is None or not isinstance(value, dict):
            taken = self._taken_under(config)
        if hashes_values(taken.schema) and has_more_values(value, MAX_HASHED):
            message = (
                f"Input has more than {MAX_HASHED:,} values, which this runnable, whose input has "
                "sets or keys that are no texts, does not take"
            )
            raise Unprocessable([{"type": "too_long", "loc": list(at), "msg": message}])
        try:
            return taken.read(value)
        except Exception as error:  # noqa: BLE001 - validators of users raise what they like
            return _second_reading(taken, value, error, at)

    def schema_for(self, config: RunnableConfig) -> type[BaseModel]:
        """Return what an input may be under `config`.  Raises: Unprocessable."""
        return self._taken_under(config).schema

    def _taken_under(self, config: RunnableConfig) -> _Taken:
        if self._fields.isdisjoint(config.get("configurable") or ()):
            return self._taken
        try:
            schema = readable_input_schema(self._runnable, config)
            return _taken(self._runnable, schema, config)
        except ValidationError as error:
            raise broken_by_config(error) from error

    @cached_property
    def _taken(self) -> _Taken:
        return _taken(self._runnable, input_schema_of(self._runnable), {})

    @cached_property
    def _part_taken(self) -> _Taken | None:
        schema = part_schema_of(self._runnable)  # a graph takes less than all of its input
        return None if schema is None else _Taken(schema, typed(schema))

    @cached_property
    def _fields(self) -> frozenset[str]:
        """The keys of a config that can change what the input is, a prompt's template for one."""
        known = {spec.id for spec in self._runnable.config_specs}
        return frozenset(known - session_keys(self._runnable))  # by which a history is only found


def _taken(runnable: Runnable[Any, Any], schema: type[BaseModel], config: RunnableConfig) -> _Taken:
    try:
        shape = shape_of(runnable, config)
    except ValidationError:
        raise
    except Exception:  # noqa: BLE001 - types of users raise what they like
        _log.debug("what a part of a runnable takes cannot be known", exc_info=True)
        return _Taken(schema, typed(schema))
    if shape.is_declared:
        return _Taken(schema, typed(schema))
    return _Taken(described(runnable, schema, config, shape), shape)


def _second_reading(taken: _Taken, value: Any, error: Exception, at: tuple[str | int, ...]) -> Any:
    """Read `value` with its messages in the wire's form; `error` came of the first reading."""
    try:
        spelt_out = _with_messages(value)
        if spelt_out != value:
            return taken.read(spelt_out)
    except Exception:  # noqa: BLE001 - as at the first reading, of which the caller is told
        _log.debug("an input is no better with its messages spelt out", exc_info=True)
    if isinstance(error, ValidationError):
        raise Unprocessable(error_details(error, *at)) from error
    _log.info("an input made its validator fail", exc_info=error)
    message = "Input should be what the input schema of this runnable describes"
    raise Unprocessable(
        [{"type": "value_error", "loc": list(at), "msg": message, "input": value}]
    ) from error


def _with_messages(value: Any, max_depth: int = _MAX_DEPTH) -> Any:
    """Return `value` with every short form of a message in it spelt out."""
    if not max_depth:
        return value
    if isinstance(value, tuple):  # as an extended body may hold
        return (_message(value) if _is_pair(value) else None) or value
    if isinstance(value, list):
        message = _message(tuple(value)) if _is_pair(value) else None
        return message or [_with_messages(item, max_depth - 1) for item in value]
    if isinstance(value, dict):
        message = _message(value) if _is_role_and_content(value) else None
        return message or {key: _with_messages(item, max_depth - 1) for key, item in value.items()}
    return value


def _is_pair(value: list[Any] | tuple[Any, ...]) -> bool:
    return [type(item) for item in value] == [str, str]


def _is_role_and_content(value: Mapping[str, Any]) -> bool:
    return "role" in value and "content" in value and "type" not in value


def _message(form: Any) -> dict[str, Any] | None:
    try:
        return convert_to_messages([form])[0].model_dump()
    except (NotImplementedError, TypeError, ValueError, KeyError, RecursionError):
        return None  # two strings that are no role and text
