"""Show what an input may be: LangChain's schema, without the key `root` where nothing reads it.

Where a step of a map takes anything, LangChain asks for a dict with a key of that name, which is
what pydantic calls the value of a model that is no dict.  All else is shown as LangChain has it.
"""

from typing import Any

from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence
from langchain_core.runnables.base import RunnableBindingBase, RunnableEachBase
from pydantic import BaseModel, RootModel, create_model
from pydantic_core import PydanticUndefined

from locktender.app.input_shape import Shape, without
from locktender.app.input_structure import shape_of

__all__ = ["described"]


def described(
    runnable: Runnable[Any, Any], schema: type[BaseModel], config: RunnableConfig, shape: Shape
) -> type[BaseModel]:
    """Return LangChain's `schema` of what `runnable` takes without a `root` that nobody names."""
    first = _first(runnable)
    if isinstance(first, RunnableEachBase):
        bound = first.bound
        there: Any = bound.get_input_schema(config)
        item = described(bound, there, config, shape_of(bound, config))
        return schema if item is there else _root(schema, list[item])  # type: ignore[valid-type] # it is made here
    if issubclass(schema, RootModel) or "root" in shape.names:
        return schema
    rest = without(schema, {"root"})
    if rest is schema or rest.model_fields:
        return rest
    return _root(schema, first.InputType)  # which is what it says of itself


def _first(runnable: Any) -> Any:
    while isinstance(runnable, RunnableBindingBase | RunnableSequence):
        runnable = runnable.first if isinstance(runnable, RunnableSequence) else runnable.bound
    return runnable


def _root(schema: type[BaseModel], kind: Any) -> type[BaseModel]:
    """Return a model of `kind`, with the name and the default of LangChain's `schema`."""
    default = schema.model_fields["root"].get_default()
    field = (kind, ... if default is PydanticUndefined else default)
    made: type[BaseModel] = create_model(schema.__name__, __base__=RootModel[kind], root=field)
    return made
