"""Say what an object holds, without running any of its code.

Attributes are taken from an instance's own dictionary and slots, items from containers by the
methods of the built-in types, names from the closure, the defaults and the code of a function, and
what the standard library's holders hold is `holders`'s to say.  Of what a library defines neither
the globals nor the attributes of its classes are looked at: they are not the user's (`packages`).
What cannot hold a chain is opaque.
"""

import functools
from collections import deque
from collections.abc import Iterator
from gc import get_referents
from itertools import islice
from types import (
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, cast

from locktender.adopt.author import home_module, is_others
from locktender.adopt.holders import reader_of
from locktender.adopt.lineage import home_of, lineage, package_of, qualified_name
from locktender.adopt.named import named_by
from locktender.adopt.packages import is_library, is_opaque_package, is_standard_opaque

__all__ = [
    "Shape",
    "class_contents",
    "closed_by",
    "contents_of",
    "fields_of",
    "is_cut",
    "is_opaque",
    "size_of",
]

Parts = Iterator[tuple[str, object]]

_MAX_ITEMS = 200_000  # of one container, numbers and texts and the like not counted
_MAX_PLAIN = 5_000_000  # counted with them
_PLAIN = frozenset(
    {bool, bytearray, bytes, complex, float, int, range, str, type(None), type(Ellipsis)}
)
_CONTAINERS = (dict, list, tuple, set, frozenset, deque)
_PYDANTIC_SLOTS = frozenset({"__pydantic_extra__", "__pydantic_private__"})
_OPAQUE_CLASSES = frozenset(
    {
        "langchain_core.documents.base.Document",
        "langchain_core.messages.base.BaseMessage",
        "langgraph.checkpoint.base.BaseCheckpointSaver",
    }
)
_OPAQUE_ROOMS = ("locktender.adopt.", "locktender.core.")  # the owner of a guarded object
_STATE = "starlette.datastructures.State"  # where a user keeps what the app has loaded
# "class" to what its fields are called by those who use it.
_FIELD_NAMES = {
    "langchain_core.runnables.base.RunnableParallel": {"steps__": ".steps"},
    "locktender.app.endpoint.Endpoint": {"_runnable": ""},
    _STATE: {"_state": ""},
}
_SAID = frozenset({"__annotations__", "__type_params__"})  # of what is not there itself
_SEQUENCE = "langchain_core.runnables.base.RunnableSequence"


def is_opaque(value: object) -> bool:
    """Whether there is no use in looking into `value`."""
    kind = type(value)
    if kind in _PLAIN:
        return True
    kinds = lineage(kind)
    if ModuleType in kinds:
        return is_library(_module_name(value))
    if type in kinds:
        return all(is_library(home_of(each)) for each in lineage(cast("type", value)))
    return _is_opaque_class(kind, kinds)


def _is_opaque_class(kind: type, kinds: tuple[type, ...]) -> bool:
    names = [qualified_name(each) for each in kinds]
    if is_opaque_package(package_of(kind)):
        return names[0] != _STATE
    return (
        is_standard_opaque(names[0])
        or not _OPAQUE_CLASSES.isdisjoint(names)
        or names[0].startswith(_OPAQUE_ROOMS)
    )


def is_cut(value: object) -> bool:
    """Whether `value` is a container of which only the beginning is looked at."""
    n_items = size_of(value)
    if n_items is None or n_items <= _MAX_ITEMS:
        return False
    builtin: Any = _container(type(value))
    everything: Any = dict.values if builtin is dict else builtin.__iter__
    parts = everything(value)
    n_parts = sum(type(part) not in _PLAIN for part in list(islice(parts, _MAX_PLAIN)))
    return n_items > _MAX_PLAIN or n_parts > _MAX_ITEMS


def size_of(value: object) -> int | None:
    """Return how many items a container has; None for what is none."""
    kind = type(value)
    builtin: Any = kind if kind in _CONTAINERS else _container(kind)
    return None if builtin is None else builtin.__len__(value)


class Shape:
    """Where the objects of a class keep what they hold: the same for all of them."""

    def __init__(self, kind: type) -> None:
        self.kind = kind
        kinds = lineage(kind)
        names = [qualified_name(each) for each in kinds]
        self.is_module = ModuleType in kinds
        self.is_class = type in kinds
        self.is_sequence = _SEQUENCE in names
        self.container = _container(kind)
        self.held = reader_of(kinds)
        self.shown = next((_FIELD_NAMES[name] for name in names if name in _FIELD_NAMES), {})
        self.slots = tuple(_slots_of(kinds))


def contents_of(value: object, shape: Shape | None = None, side: str | None = None) -> Parts:
    """Yield what `value` holds, each with what is to be added to the path to it.

    Of its class it is `class_contents` that tells.  `shape` is that of the class, if it is known,
    and `side` what `author` says of it.
    """
    shape, kind = shape or Shape(type(value)), type(value)
    if kind is FunctionType:
        yield from _of_function(cast("FunctionType", value), side)
    elif kind is MethodType:
        method = cast("MethodType", value)
        yield ".__self__", method.__self__
        yield "", method.__func__
    elif shape.is_module:
        yield from _of_module(value, side)
    elif shape.is_class:
        yield from class_contents(cast("type", value), side)
    else:
        if shape.held is not None:
            yield from shape.held(value)
        if shape.container is not None:
            yield from _items(value, shape.container)
        if shape.is_sequence:
            yield from _steps(value)
        yield from _fields(value, shape)


def closed_by(function: FunctionType) -> dict[str, object]:
    """Return what a function has from its closure and as defaults, by the names in its code."""
    code = function.__code__
    named: dict[str, object] = {}
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        # A cell is empty until the outer function assigns the name.
        named.update((name, part) for part in get_referents(cell))
    positional = code.co_varnames[: code.co_argcount]
    defaults = function.__defaults__ or ()
    named.update(zip(reversed(positional), reversed(defaults), strict=False))
    named.update(function.__kwdefaults__ or {})
    named.pop("__class__", None)  # that of its method
    return named


def _of_function(function: FunctionType, side: str | None) -> Parts:
    code, named = function.__code__, closed_by(function)
    for name, part in named.items():
        # Of a module the code says what it takes from it.
        if ModuleType not in lineage(type(part)):
            yield f":{name}", part
    yield from ((f".{name}", part) for name, part in list(vars(function).items()))
    if not is_others(home_module(function), side):
        known = named_by(code, function.__globals__, named, side)
        yield from ((f":{name}", part) for name, part in known)


def _items(value: object, builtin: Any) -> Parts:
    if builtin is dict:
        items = list(islice(dict.items(cast("dict[object, object]", value)), _MAX_PLAIN))
        parts = ((key, part) for key, part in items if type(part) not in _PLAIN)
        for key, part in islice(parts, _MAX_ITEMS):
            yield f"[{repr(key) if type(key) in (str, int) else '...'}]", part
        keys = (key for key, _ in items if type(key) not in _PLAIN)
        yield from (("[...]", key) for key in islice(keys, _MAX_ITEMS))
    else:
        everything = enumerate(list(islice(builtin.__iter__(value), _MAX_PLAIN)))
        numbered = ((n, part) for n, part in everything if type(part) not in _PLAIN)
        yield from ((f"[{n}]", part) for n, part in islice(numbered, _MAX_ITEMS))


def _container(kind: type) -> type | None:
    return next((each for each in _CONTAINERS if issubclass(kind, each)), None)


def _steps(sequence: object) -> Parts:
    """Count the steps of a sequence as its user does."""
    fields = fields_of(sequence)
    steps = (fields.get("first"), *fields.get("middle", ()), fields.get("last"))
    yield from ((f".steps[{n}]", step) for n, step in enumerate(steps))


def _fields(value: object, shape: Shape) -> Parts:
    for name, part in list(dict.items(fields_of(value))):
        if type(part) not in _PLAIN and type(name) is str and name not in _SAID:
            yield shape.shown.get(name, f".{name}"), part
    for name, entry in shape.slots:
        try:
            part = entry.__get__(value)
        except AttributeError:  # not set
            continue
        if name in _PYDANTIC_SLOTS:
            yield from ((f".{key}", each) for key, each in list((part or {}).items()))
        elif type(part) not in _PLAIN:
            yield f".{name}", part


def fields_of(value: object) -> dict[str, Any]:
    """Return an instance's own dictionary, and an empty one where there is none."""
    for kind in lineage(type(value)):
        entry = kind.__dict__.get("__dict__")
        if type(entry) in (GetSetDescriptorType, MemberDescriptorType):
            held = cast("Any", entry).__get__(value)  # may grow meanwhile, in another thread
            return held if issubclass(type(held), dict) else {}
        if entry is not None:  # a property: the class's own code
            break
    return {}


def _slots_of(kinds: tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    for kind in kinds:
        for name, entry in list(kind.__dict__.items()):
            if type(entry) is MemberDescriptorType:
                yield name, entry


def class_contents(kind: type, side: str | None = None) -> Parts:
    """Yield the attributes of a user's class, and its methods: they may use a global model."""
    for each in lineage(kind):
        if is_others(home_of(each), side):
            continue
        for name, entry in list(each.__dict__.items()):
            part = _unwrapped(entry)
            if type(part) is FunctionType or not name.startswith(("__", "_abc_")):
                yield f".{name}", part


def _of_module(module: object, side: str | None) -> Parts:
    if is_others(home_module(module), side):
        return
    names = cast("dict[str, object]", ModuleType.__getattribute__(module, "__dict__"))
    for name, part in list(names.items()):
        if not name.startswith("__") and ModuleType not in lineage(type(part)):
            yield f".{name}", part


def _module_name(module: object) -> str:
    names = ModuleType.__getattribute__(module, "__dict__")
    return str(names.get("__name__"))


def _unwrapped(entry: object) -> object:
    """Return the function behind what a class makes of it."""
    if type(entry) in (classmethod, staticmethod):
        return cast("classmethod[Any, Any, Any]", entry).__func__
    if type(entry) is property:
        return entry.fget
    return entry.func if type(entry) is functools.cached_property else entry
