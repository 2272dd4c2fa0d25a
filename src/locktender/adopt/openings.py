"""Say where a model may be put later, or is made only while a run goes on.

A place that the user's code names and that is unassigned, None or empty is *open*; so is code that
makes a model.  Each is said in words, for the log and the doctor.  A place that could be given
another object is watched without words.  `watch` looks at all of them again before a run, which
takes well under a microsecond each, so a place is a function that reads what is there now.
"""

import builtins
import functools
import sys
import threading
import weakref
from asyncio import Future as AsyncFuture
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from contextvars import ContextVar
from types import FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple, cast

from locktender.adopt.attribute import places_of
from locktender.adopt.author import home_module, is_others
from locktender.adopt.contents import closed_by, fields_of, size_of
from locktender.adopt.hazards import hazard_of_class, loads
from locktender.adopt.holders import UNSET, value_of
from locktender.adopt.lineage import home_of, lineage, qualified_name
from locktender.adopt.named import module_of
from locktender.adopt.packages import is_library
from locktender.adopt.reading import Mentions, mentions_of

__all__ = ["Opening", "loader_in", "opener_of"]

_UNASSIGNED = "is not assigned yet"
_NONE = "is None so far"
_EMPTY = "is empty so far"
_CACHE = type(functools.lru_cache(len))
_ALTERNATIVES = "langchain_core.runnables.configurable.RunnableConfigurableAlternatives"
_NOT_COMPUTED = "is not computed yet"
_MADE = "makes a model when it runs"
_BORN = frozenset({"__init__", "__new__", "__post_init__", "__setstate__", "model_post_init"})
# Holders that are written in Python, and the field that has what they hold.
_INNER = {
    "asyncio.queues.Queue": "_queue",
    "collections.UserDict": "data",
    "collections.UserList": "data",
    "queue.Queue": "queue",
    "starlette.datastructures.State": "_state",
    "weakref.WeakKeyDictionary": "data",
    "weakref.WeakValueDictionary": "data",
    "_weakrefset.WeakSet": "data",
}


class Opening:
    """A place, and what was there when it was looked at last."""

    __slots__ = ("_read", "_seen", "_size", "path", "why")

    def __init__(self, path: str, read: Callable[[], object], why: str = "") -> None:
        self.path = path
        self.why = why  # in words; empty if it is only watched
        self._read = read
        self._seen = read()
        self._size = _size(self._seen)

    def news(self) -> object:
        """Return what is there if it is another thing than before, or has grown; else `UNSET`."""
        value = self._read()
        if value is self._seen and _size(value) == self._size:
            return UNSET
        self._seen, self._size = value, _size(value)
        return value

    @property
    def is_filled(self) -> bool:
        """Whether something is there."""
        return self._seen is not UNSET and self._seen is not None and self._size != 0


_Openings = Iterator[Opening]
Opener = Callable[[str, Any], _Openings]


def opener_of(kind: type) -> Opener | None:
    """Return what tells the open places in an object of a class, by the path to it.

    It tells those, too, that are worth a look before each run.  None if there are none.
    """
    if kind is FunctionType:
        return _of_function
    if kind in _OF_HOLDERS:
        return _OF_HOLDERS[kind]
    names = [qualified_name(each) for each in lineage(kind)]
    field = next((_INNER[name] for name in names if name in _INNER), None)
    if field is not None:
        return functools.partial(_of_inner, field)
    if names[0] == _ALTERNATIVES:
        return _of_alternatives
    return None if is_library(home_of(kind)) else _of_instance


def loader_in(path: str, value: object) -> Opening | None:
    """Return an opening if `value` is a class or a function that makes models."""
    owner = value.__self__ if type(value) is MethodType else value
    if type in lineage(type(owner)):
        kind = cast("type", owner)
        is_loader = hazard_of_class(kind) is not None or loads(qualified_name(kind))
    else:
        is_loader = type(owner) is FunctionType and loads(_function_name(owner))
    return Opening(path, lambda: None, _MADE) if is_loader else None


def _function_name(function: Any) -> str:
    return f"{function.__globals__.get('__name__')}.{function.__name__}"


def _of_inner(field: str, path: str, value: Any) -> _Openings:
    inner = fields_of(value).get(field)
    yield _opening(path, lambda: inner, is_used=True)


def _of_function(path: str, function: Any) -> _Openings:
    if is_library(home_module(function)):
        return
    said, names, closed = mentions_of(function.__code__), function.__globals__, closed_by(function)
    side = home_module(function).partition(".")[0]
    for dotted in sorted(said.dotted):
        first = dotted[0]
        row = _Row(f"{path}:{first}", dotted[1:], dotted in said.called, side)
        if first in closed:
            yield from _along(row, closed[first])
        elif first in function.__code__.co_freevars:
            continue
        elif first in names:
            yield from _along(row, names[first], _getter(names, first))
        elif first in said.globals and not hasattr(builtins, first):
            yield _opening(f"{path}:{first}", _getter(names, first), is_used=True)
    yield from _of_closure(path, function, said)
    yield from _of_imports(path, said, names)


def _of_closure(path: str, function: Any, said: Mentions) -> _Openings:
    names = function.__code__.co_freevars
    for name, default in closed_by(function).items():
        if name not in names and size_of(default) is not None:
            yield _opening(f"{path}:{name}", functools.partial(_same, default), is_used=True)
    for name, cell in zip(names, function.__closure__ or (), strict=True):
        if name != "__class__":
            is_used = any(each[0] == name and len(each) > 1 for each in said.dotted)
            yield _opening(f"{path}:{name}", functools.partial(_in_cell, cell), is_used=is_used)


class _Row(NamedTuple):
    """The attributes that code asks of something in a row."""

    path: str
    attributes: tuple[str, ...]
    is_called: bool
    side: str | None  # of the code

    def openings(self, value: object) -> _Openings:
        """Tell the open places of an object that the row leads through."""
        for place in places_of(
            self.path, value, self.attributes, is_called=self.is_called, side=self.side
        ):
            stored = place.read()
            why = _UNASSIGNED if stored is UNSET else _NONE if stored is None else ""
            yield Opening(place.path, place.read, why if place.is_used else "")


def _along(row: _Row, value: Any, read: Callable[[], object] | None = None) -> _Openings:
    """Follow a row through modules, classes and objects to the last place that it leads to.

    `read` gives what is now where `value` was found, which is watched if the row ends there.
    """
    path = row.path
    for n, attribute in enumerate(row.attributes):
        inner = _names_of(value)
        if inner is None:
            yield from row._replace(path=path, attributes=row.attributes[n:]).openings(value)
            break
        if attribute not in inner:
            # A library may have names that it imports when they are asked for (PEP 562).
            if type in lineage(type(value)) or is_others(home_module(value), row.side):
                return
            yield _opening(f"{path}.{attribute}", _getter(inner, attribute), is_used=True)
            return
        path, value, read = f"{path}.{attribute}", inner[attribute], _getter(inner, attribute)
    if read is not None and type(value) not in (FunctionType, ModuleType, type):
        yield _opening(path, read, is_used=True)


def _names_of(value: object) -> Mapping[str, Any] | None:
    if type(value) is ModuleType:
        return vars(value)
    return value.__dict__ if type(value) is type else None


def _of_imports(path: str, said: Mentions, names: Mapping[str, Any]) -> _Openings:
    for taken in sorted(said.imports):
        module = module_of(taken, names)
        if module is None:
            continue
        for part in taken.names:
            if loads(f"{module}.{part}"):
                yield Opening(f"{path}:{part}", lambda: None, _MADE)
        if module not in sys.modules and not is_library(module):
            yield Opening(f"{path}:{module}", _getter(sys.modules, module), "is not imported yet")
    if said.imports_by_name and said.words.isdisjoint(sys.modules):
        yield Opening(path, lambda: None, "imports a module by a name that it computes")


def _of_instance(path: str, value: Any) -> _Openings:
    fields, kinds = fields_of(value), lineage(type(value))
    entries = [
        (name, entry)
        for kind in kinds
        if not is_library(home_of(kind))
        for name, entry in list(kind.__dict__.items())
    ]
    for name, entry in entries:
        if type(entry) is functools.cached_property and entry.attrname not in fields:
            yield Opening(f"{path}.{name}", _getter(fields, str(entry.attrname)), _NOT_COMPUTED)
    stored = _stored_later(entries)
    for name in sorted(stored):
        if name in fields or not any(name in kind.__dict__ for kind in kinds):
            # A slotted object has no dictionary.
            yield _opening(f"{path}.{name}", _getter(fields, name), is_used=bool(fields))
    for name, part in list(dict.items(fields)):
        if name not in stored and size_of(part) is not None and type(part) is not tuple:
            yield Opening(f"{path}.{name}", _getter(fields, name))
    yield from _asked_of_itself(path, value, entries, stored)


def _asked_of_itself(
    path: str, value: Any, entries: list[tuple[str, Any]], known: Collection[str]
) -> _Openings:
    """Tell the places among the attributes that methods ask of their object."""
    for mentions in _mentions_in(entries):
        for attributes in sorted(mentions.own):
            if attributes[0] not in known:
                row = _Row(path, attributes, attributes in mentions.own_called, None)
                yield from row.openings(value)


def _stored_later(entries: list[tuple[str, Any]]) -> set[str]:
    """Return the attributes that methods set after their object was made."""
    return {
        attribute
        for mentions in _mentions_in([each for each in entries if each[0] not in _BORN])
        for attribute in mentions.stored
    }


def _mentions_in(entries: list[tuple[str, Any]]) -> list[Mentions]:
    """Return what the methods among the entries of a class mention."""
    return [mentions_of(entry.__code__) for _, entry in entries if type(entry) is FunctionType]


def _of_alternatives(path: str, value: Any) -> _Openings:
    for name, part in list((fields_of(value).get("alternatives") or {}).items()):
        if type(part) in (FunctionType, MethodType, functools.partial) or isinstance(part, type):
            yield Opening(f"{path}.alternatives[{name!r}]", lambda: None, "is made when chosen")


def _of_variable(path: str, variable: Any) -> _Openings:
    yield _opening(path, functools.partial(value_of, variable), is_used=True)


def _of_cache(path: str, cached: Any) -> _Openings:
    if not is_library(home_module(cached.__wrapped__)):
        why = "" if _size(cached) else "has not been called yet"
        yield Opening(path, lambda: cached, why)


def _of_reference(path: str, reference: Any) -> _Openings:
    if weakref.ref.__call__(reference) is None:
        yield Opening(path, lambda: None, "refers to an object that is gone")


def _said(why: str) -> Opener:
    return lambda path, _: iter([Opening(path, lambda: None, why)])


def _of_future(path: str, future: Any) -> _Openings:
    done = AsyncFuture.done if isinstance(future, AsyncFuture) else Future.done
    if not done(future):
        yield Opening(path, lambda: future if done(future) else None, "is not done yet")


_OF_HOLDERS: Mapping[type, Opener] = {
    AsyncFuture: _of_future,
    ContextVar: _of_variable,
    Future: _of_future,
    _CACHE: _of_cache,
    threading.local: _said("has another value in each thread"),
    weakref.CallableProxyType: _said("is a weak proxy, which cannot be looked into"),
    weakref.ProxyType: _said("is a weak proxy, which cannot be looked into"),
    weakref.ref: _of_reference,
}


def _opening(path: str, read: Callable[[], object], *, is_used: bool) -> Opening:
    value = read()
    why = ""
    if is_used and value is UNSET:
        why = _UNASSIGNED
    elif is_used and value is None:
        why = _NONE
    elif size_of(value) == 0 and type(value) not in (tuple, frozenset):
        why = _EMPTY
    return Opening(path, read, why)


def _getter(names: Mapping[Any, Any], name: str) -> Callable[[], object]:
    return lambda: names.get(name, UNSET)


def _same(value: object) -> object:
    return value


def _in_cell(cell: Any) -> object:
    try:
        return cell.cell_contents
    except ValueError:
        return UNSET


def _size(value: object) -> int | None:
    if type(value) is _CACHE:
        n_cached: int = cast("Any", value).cache_info().currsize
        return n_cached
    return size_of(value)
