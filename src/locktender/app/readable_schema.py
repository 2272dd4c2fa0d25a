"""Ask a runnable what its input and its output are, and take "anything" for an answer.

LangChain makes a schema of a function's annotation, whatever that is: a `typing.TypedDict`, which
pydantic refuses before Python 3.12, a name that cannot be resolved, a class that only Python code
can make an object of.  The runnable runs all the same, in process, and so it does behind a route:
an input or output that JSON has no schema for is described, and read, as anything.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from pydantic import BaseModel, RootModel, TypeAdapter, ValidationError, create_model

__all__ = ["describable", "readable_input_schema", "readable_output_schema"]

_Schema = type[BaseModel]


def readable_input_schema(
    runnable: Runnable[Any, Any], config: RunnableConfig | None = None
) -> _Schema:
    """Return what an input may be under `config`.  Raises: ValidationError for a wrong config."""
    return _readable(
        runnable.get_name("Input"), lambda: cast("_Schema", runnable.get_input_schema(config))
    )


def readable_output_schema(
    runnable: Runnable[Any, Any], config: RunnableConfig | None = None
) -> _Schema:
    """Return what an output is said to be under `config`.  Raises: as above."""
    return _readable(
        runnable.get_name("Output"), lambda: cast("_Schema", runnable.get_output_schema(config))
    )


@lru_cache(maxsize=256)
def describable(schema: _Schema) -> _Schema:
    """Return `schema`, or one of anything if JSON Schema has no words for it."""
    try:
        schema.model_json_schema()
    except Exception:  # noqa: BLE001 - types of users raise what they like
        return _anything(schema.__name__)
    return schema


def _readable(name: str, make: Callable[[], _Schema]) -> _Schema:
    try:
        schema = make()
    except ValidationError:
        raise  # of the config: the runnable cannot be made with it
    except Exception:  # noqa: BLE001 - pydantic and LangChain each have errors of their own
        return _anything(name)
    return schema if _can_read(schema) else _anything(name)


@lru_cache(maxsize=256)
def _can_read(schema: _Schema) -> bool:
    """Whether JSON can pass: nothing in `schema` is unknown, or known as a class of Python's only.

    LangChain lets pydantic take any class for an annotation, and check that a value is of it, as no
    value of JSON is.  A model of the user's may do so: it has validators that make one.
    """
    try:
        root = schema.model_fields.get("root")
        schema.model_rebuild(raise_errors=False)
        if root is not None:
            TypeAdapter(cast("Any", root.annotation))
    except Exception:  # noqa: BLE001 - as above
        return False
    return schema.__pydantic_complete__


def _anything(name: str) -> _Schema:
    return cast("_Schema", create_model(name, __base__=RootModel[Any]))
