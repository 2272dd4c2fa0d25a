"""Read a caller's input as the runnable's own schema has it.

A plain pydantic input becomes a dict, as in LangServe, a `CustomUserType` stays what it is, and so
do LangChain's messages and documents.  Messages may come in the forms that LangChain's own Python
takes, ``["human", "hi"]`` and ``{"role": "user", "content": "hi"}``: LangServe fails at those.
"""

import logging
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from langchain_core.load.serializable import Serializable
from langchain_core.messages import convert_to_messages
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel, RootModel, ValidationError

from locktender.app.graph_state import input_schema_of, part_schema_of
from locktender.app.hashed_schema import hashes_values
from locktender.app.readable_schema import readable_input_schema
from locktender.app.user_type import CustomUserType
from locktender.wire.json_tree import has_more_values
from locktender.wire.langserve import Unprocessable, broken_by_config, error_details

__all__ = ["InputReader"]

_log = logging.getLogger(__name__)

# What is put into a set takes the square of its number, if it was chosen to have one hash.
_MAX_HASHED = 2_000
_MAX_DEPTH = 16  # below which nobody keeps messages; a body may nest as deep as it likes


class InputReader:
    """The inputs of one route."""

    def __init__(self, runnable: Runnable[Any, Any]) -> None:
        self._runnable = runnable

    @cached_property
    def schema(self) -> type[BaseModel]:
        """What an input may be, for the runnable as it was configured by its author."""
        return input_schema_of(self._runnable)

    def read(self, value: Any, config: RunnableConfig, *at: str | int) -> Any:
        """Return the input that `value` stands for; `at` is its place in the body.

        Raises: Unprocessable.
        """
        schema = self._part_schema
        if schema is None or not isinstance(value, dict):
            schema = self.schema_for(config)
        if hashes_values(schema) and has_more_values(value, _MAX_HASHED):
            message = (
                f"Input has more than {_MAX_HASHED:,} values, which this runnable, whose input has "
                "sets or keys that are no texts, does not take"
            )
            raise Unprocessable([{"type": "too_long", "loc": list(at), "msg": message}])
        try:
            return _unpacked(schema.model_validate(value))
        except Exception as error:  # noqa: BLE001 - validators of users raise what they like
            return _unpacked(_second_reading(schema, value, error, at))

    def schema_for(self, config: RunnableConfig) -> type[BaseModel]:
        """Return what an input may be under `config`.  Raises: Unprocessable."""
        # A configurable field, the template of a prompt for one, can change what the input is.
        if self._is_configurable and config.get("configurable"):
            try:
                return readable_input_schema(self._runnable, config)
            except ValidationError as error:
                raise broken_by_config(error) from error
        return self.schema

    @cached_property
    def _part_schema(self) -> type[BaseModel] | None:
        return part_schema_of(self._runnable)  # a graph takes less than all of its input

    @cached_property
    def _is_configurable(self) -> bool:
        return bool(self._runnable.config_specs)


def _second_reading(
    schema: type[BaseModel], value: Any, error: Exception, at: tuple[str | int, ...]
) -> BaseModel:
    """Read `value` with its messages in the wire's form; `error` came of the first reading."""
    try:
        spelt_out = _with_messages(value)
        if spelt_out != value:
            return schema.model_validate(spelt_out)
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


def _unpacked(value: Any) -> Any:
    if not isinstance(value, BaseModel):
        return value
    if isinstance(value, RootModel):
        return _unpacked(value.root)
    if isinstance(value, CustomUserType | Serializable):
        return value
    return {name: _unpacked(getattr(value, name)) for name in type(value).model_fields}
