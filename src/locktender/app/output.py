"""Write a run's output as JSON, without a loss.

LangServe reads each output of `/invoke` and `/batch` again by the output schema, which fills in
defaults and turns 1 into 1.0 where a float is declared, and also drops what the schema does not
name.  So the schema's reading is sent only when it has all that the output has, and in the same
order: a set has none, and would be another list each time.  Chunks of a stream are sent as they
are, as in LangServe.
"""

from functools import cached_property
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin  # noqa: TID251 - asked for, not used

import orjson
from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel, ValidationError

from locktender.app.graph_state import output_schema_of
from locktender.app.serialization import Serializer
from locktender.wire.langserve import broken_by_config

__all__ = ["OutputWriter"]


class OutputWriter:
    """The outputs of one route."""

    def __init__(self, runnable: Runnable[Any, Any], serializer: Serializer) -> None:
        self._runnable = runnable
        self._serializer = serializer
        self.chunk = serializer.dumps  # what a stream writes its chunks with

    def write(self, output: Any) -> bytes:
        """Return `output` as JSON.  Raises what the serializer does."""
        if self._needs_no_reading is None or type(output) in self._needs_no_reading:
            return self._serializer.dumps(output)
        return self._read_by_schema(output)

    def _read_by_schema(self, output: Any) -> bytes:
        plain = self._serializer.dumpd(output)
        try:
            read = self.schema.model_validate(plain).model_dump(mode="json", by_alias=True)
        except Exception:  # noqa: BLE001 - validators of users raise what they like
            read = None
        if not _has_all_of(read, plain):
            return self._serializer.dumps(output)
        return orjson.dumps(_ordered(read, plain) if self._has_sets else read)

    @cached_property
    def schema(self) -> type[BaseModel]:
        return output_schema_of(self._runnable)

    def schema_for(self, config: RunnableConfig) -> type[BaseModel]:
        """Return what an output is said to be under `config`.  Raises: Unprocessable."""
        if not config.get("configurable"):
            return self.schema
        try:
            return output_schema_of(self._runnable, config)
        except ValidationError as error:
            raise broken_by_config(error) from error

    @cached_property
    def _has_sets(self) -> bool:
        try:
            return "uniqueItems" in str(self.schema.model_json_schema(mode="serialization"))
        except Exception:  # noqa: BLE001 - types of users have no schema, or one that fails
            return False

    @cached_property
    def _needs_no_reading(self) -> frozenset[Any] | None:
        """The types whose values the schema would not change; None: it changes none at all."""
        root = self.schema.model_fields.get("root")
        kinds = frozenset(_kinds(root.annotation if root else self.schema))
        return None if Any in kinds else kinds


def _kinds(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return [kind for member in get_args(annotation) for kind in _kinds(member)]
    return [annotation]


def _has_all_of(read: Any, plain: Any) -> bool:
    """Whether `read` has every key and item that `plain` has, whatever it made of their values."""
    if isinstance(plain, dict):
        return isinstance(read, dict) and all(
            key in read and _has_all_of(read[key], value) for key, value in plain.items()
        )
    if isinstance(plain, list):
        return (
            isinstance(read, list)
            and len(read) == len(plain)
            and all(map(_has_all_of, read, plain))
        )
    return plain is None or read is not None


def _ordered(read: Any, plain: Any) -> Any:
    """Return `read`, which has all that `plain` has, with the lists that it shares as they are."""
    if isinstance(plain, dict):
        return {
            key: _ordered(value, plain[key]) if key in plain else value
            for key, value in read.items()
        }
    if not isinstance(plain, list):
        return read
    items = sorted(map(orjson.dumps, read))
    if items == sorted(map(orjson.dumps, plain)):
        return plain
    return list(map(_ordered, read, plain))
