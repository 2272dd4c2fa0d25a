"""Read an input by what a runnable takes, which is declared or put together of what its parts take.

A shape reads a value as JSON has it, and gives the one that the runnable is to get, or refuses it.
What a type or a prompt declares is asked for; what a whole is made of may only add to that, and
never takes a key away.  Which shape a runnable has is `input_structure`'s to say.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from langchain_core.load.serializable import Serializable
from pydantic import BaseModel, RootModel, create_model
from pydantic.fields import FieldInfo

from locktender.app.hashed_schema import hashes_values
from locktender.app.message_class import makes_bare_messages, with_message_classes
from locktender.app.user_type import CustomUserType
from locktender.wire.json_tree import has_more_values

__all__ = [
    "ANYTHING",
    "MAX_HASHED",
    "RefusedInput",
    "Shape",
    "all_of",
    "any_of",
    "dicts",
    "each_of",
    "first_of",
    "kept",
    "keys",
    "typed",
    "unpacked",
    "with_anything",
    "without",
]

Read: TypeAlias = Callable[[Any], Any]

# What is put into a set takes the square of its number, if it was chosen to have one hash.
MAX_HASHED = 2_000


class RefusedInput(ValueError):
    """The runnable could not take it."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What a runnable takes.

    1. `read` gives what the runnable is to get, or raises what pydantic or a validator does.
    2. A dict keeps the keys that nobody has named, and gets none that the caller left out.
    3. What a type declares is read as pydantic reads that type, and as LangServe does.
    """

    read: Read
    names: frozenset[str] = frozenset()  # the keys that a prompt, or a function's source, names
    filled: frozenset[str] = frozenset()  # the variables that the author of a prompt has filled
    is_declared: bool = False  # by a type, of which each word holds

    def take(self, value: Any) -> Any:
        """Return what a runnable is to get.  Raises: as `read`."""
        return self.unfilled(self.read(value))

    def unfilled(self, taken: Any) -> Any:
        """Return what was `taken` without what the author has filled: no caller says that."""
        if not (self.filled and isinstance(taken, dict)):
            return taken
        return {key: each for key, each in taken.items() if key not in self.filled}


ANYTHING = Shape(lambda value: value)


def typed(schema: type[BaseModel]) -> Shape:
    """Return the shape that a type declares."""

    def read(value: Any) -> Any:
        if hashes_values(schema) and has_more_values(value, MAX_HASHED):
            raise RefusedInput(f"It has more than {MAX_HASHED:,} values.")
        taken = unpacked(schema.model_validate(value))
        return with_message_classes(taken) if makes_bare_messages(schema) else taken

    is_root = issubclass(schema, RootModel)
    return Shape(read, frozenset() if is_root else _names(schema), is_declared=True)


def keys(
    schema: type[BaseModel],
    *,
    given: Iterable[str] = (),
    filled: Iterable[str] = (),
    bare: str | None = None,
) -> Shape:
    """Return the shape of a dict with the keys that `schema` has and the run is not `given`.

    What the run is given a caller may say, too, for the step that makes it another value: that is
    read if it can be, and left as it is if not.  The value of the key `bare` may come without the
    dict, as prompts of one variable take it.  What the author has `filled` is no caller's to say.
    """
    whole, schema = schema, without(schema, given)
    names, all_names = _names(schema), _names(whole)
    later = [without(whole, all_names - {name}) for name in sorted(all_names - names)]
    later = [each for each in later if not hashes_values(each)]

    def read(value: Any) -> Any:
        if isinstance(value, dict) or bare not in names:
            taken = kept(value, schema.model_validate(value))
            return _read_if_it_can_be(taken, later)
        return kept({}, schema.model_validate({bare: value}))[bare]

    return Shape(read, names, frozenset(filled) - all_names)


def dicts(is_whole: Callable[[Mapping[str, Any]], bool] = lambda _: True) -> Shape:
    """Return the shape of any dict that `is_whole`."""

    def read(value: Any) -> Any:
        if not (isinstance(value, dict) and is_whole(value)):
            raise RefusedInput("It is no such dict.")
        return value

    return Shape(read)


def all_of(parts: Sequence[Shape]) -> Shape:
    """Return the shape of what goes to each of `parts`, of which the first knows best."""

    def read(value: Any) -> Any:
        readings = [part.read(value) for part in parts]
        if not all(isinstance(each, dict) for each in [value, *readings]):
            return readings[0]
        changed = {}
        for each in reversed(readings):
            changed.update({key: each[key] for key in each if each[key] is not value.get(key)})
        return {**value, **changed}

    return _joined(read, parts)


def any_of(parts: Sequence[Shape]) -> Shape:
    """Return the shape of what goes to one of `parts`, and nobody knows to which.

    A text or a number stays what it is if one of them takes it so: another's type is no reason to
    make a number of a text.
    """

    def read(value: Any) -> Any:
        readings = list(_accepted(parts, value))
        if not readings:
            raise RefusedInput("No part takes it.")
        if not isinstance(value, dict | list | tuple) and any(_is_same(r, value) for r in readings):
            return value
        return next((each for each in readings if not _is_same(each, value)), value)

    return _joined(read, parts)


def first_of(parts: Sequence[Shape]) -> Shape:
    """Return the shape of what goes to the first of `parts`, and to the next if that fails."""

    def read(value: Any) -> Any:
        for accepted in _accepted(parts, value):
            return accepted
        raise RefusedInput("No part takes it.")

    return _joined(read, parts)


def each_of(item: Shape) -> Shape:
    """Return the shape of a list of what `item` takes."""

    def read(value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise RefusedInput("It is no list.")
        return [item.take(each) for each in value]

    return Shape(read)


def kept(value: Any, read: BaseModel) -> dict[str, Any]:
    """Return `value` with those keys that were `read`: no other is dropped, and none is added."""
    fields = {name: type(read).model_fields[name] for name in read.model_fields_set}
    named = {_key(name, each): unpacked(getattr(read, name)) for name, each in fields.items()}
    return {**(value if isinstance(value, dict) else {}), **named}


def unpacked(value: Any) -> Any:
    """Return the dict that a plain model stands for; another value is what it is."""
    if not isinstance(value, BaseModel):
        return value
    if isinstance(value, RootModel):
        return unpacked(value.root)
    if isinstance(value, CustomUserType | Serializable):
        return value
    return {name: unpacked(getattr(value, name)) for name in type(value).model_fields}


def without(schema: type[BaseModel], given: Iterable[str]) -> type[BaseModel]:
    """Return `schema` without the fields that are `given`."""
    taken = frozenset(given)
    fields: dict[str, Any] = {
        name: (each.annotation, each)
        for name, each in schema.model_fields.items()
        if _key(name, each) not in taken
    }
    if len(fields) == len(schema.model_fields):
        return schema
    made: type[BaseModel] = create_model(schema.__name__, **fields)
    return made


def with_anything(schema: type[BaseModel], texts: frozenset[str]) -> type[BaseModel]:
    """Return `schema` with fields of any type for those that are `texts`."""
    if texts.isdisjoint(_names(schema)):
        return schema
    fields: dict[str, Any] = {
        name: (
            Any if each.annotation is str and _key(name, each) in texts else each.annotation,
            each,
        )
        for name, each in schema.model_fields.items()
    }
    made: type[BaseModel] = create_model(schema.__name__, **fields)
    return made


def _joined(read: Read, parts: Sequence[Shape]) -> Shape:
    names = frozenset().union(*(part.names for part in parts))
    return Shape(read, names, frozenset().union(*(part.filled for part in parts)) - names)


def _read_if_it_can_be(value: dict[str, Any], schemas: Iterable[type[BaseModel]]) -> dict[str, Any]:
    for schema in schemas:
        try:
            value = kept(value, schema.model_validate(value))
        except Exception:  # noqa: BLE001, S112 - as below
            continue
    return value


def _accepted(parts: Iterable[Shape], value: Any) -> Iterable[Any]:
    for part in parts:
        try:
            yield part.read(value)
        except Exception:  # noqa: BLE001, S112 - validators of users raise what they like
            continue


def _is_same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _names(schema: type[BaseModel]) -> frozenset[str]:
    return frozenset(_key(name, each) for name, each in schema.model_fields.items())


def _key(name: str, field: FieldInfo) -> str:
    return field.alias or name  # LangChain has another name for what pydantic keeps for itself
