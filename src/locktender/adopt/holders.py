"""Know what the standard library's holders hold, without asking any code of the user's.

Those written in C are asked of the garbage collector, which knows what they keep alive; a variable
of the context, a weak reference and a thread's own dictionary are read by the methods of their
built-in types.  Holders written in Python have fields, which are `contents`'s.
"""

import functools
import itertools
import operator
import queue
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextvars import Context, ContextVar
from gc import get_referents
from types import (
    AsyncGeneratorType,
    BuiltinMethodType,
    CellType,
    CoroutineType,
    GeneratorType,
    GenericAlias,
    MappingProxyType,
)
from typing import Any, cast

from locktender.adopt.lineage import qualified_name

__all__ = ["UNSET", "reader_of", "value_of"]

UNSET: Any = object()  # what is not there

Held = Iterator[tuple[str, object]]

# Built-in types whose parts have no name, or none that says more than "in there".
_UNNAMED = frozenset(
    {
        AsyncGeneratorType,
        BuiltinMethodType,
        CellType,
        Context,
        CoroutineType,
        GeneratorType,
        GenericAlias,
        MappingProxyType,
        enumerate,
        filter,
        itertools.accumulate,
        itertools.chain,
        itertools.compress,
        itertools.count,
        itertools.cycle,
        itertools.dropwhile,
        itertools.filterfalse,
        itertools.groupby,
        itertools.islice,
        itertools.product,
        itertools.repeat,
        itertools.starmap,
        itertools.takewhile,
        itertools.zip_longest,
        map,
        operator.attrgetter,
        operator.itemgetter,
        operator.methodcaller,
        queue.SimpleQueue,
        reversed,
        slice,
        super,
        type(iter([])),
        type(iter(())),
        type(iter({})),
        type(iter({}.values())),
        type(iter({}.items())),
        type({}.keys()),
        type({}.values()),
        type({}.items()),
        zip,
    }
)
_FUTURES = frozenset({"_asyncio.Future", "_asyncio.Task"})


def reader_of(kinds: tuple[type, ...]) -> Callable[[Any], Held] | None:
    """Return what tells the parts of a holder, by what its class is made from.

    Each part comes with what the path to it ends in.  None if it is no such holder.
    """
    for kind in kinds:
        if kind in _READ:
            return _READ[kind]
        if kind in _UNNAMED or qualified_name(kind) in _FUTURES:
            return _unnamed
    return None


def _unnamed(value: Any) -> Held:
    return (("[...]", part) for part in get_referents(value))


def value_of(variable: ContextVar[Any]) -> object:
    """Return what a variable is in this context; `UNSET` if it is nothing."""
    try:
        return variable.get()  # the type allows no subclass
    except LookupError:
        return UNSET


def _of_cache(cached: Any) -> Held:
    fields = type(cached).__dict__["__dict__"].__get__(cached)
    parts = (part for part in get_referents(cached) if part is not fields)
    yield from (("[...]", part) for part in parts)
    yield from ((f".{name}", part) for name, part in fields.items() if name != "__annotations__")


def _of_variable(variable: Any) -> Held:
    held = value_of(variable)
    if held is not UNSET:
        yield ".get()", held


def _of_weak_reference(reference: Any) -> Held:
    held = weakref.ref.__call__(reference)
    if held is not None:
        yield "()", held


def _of_thread(local: Any) -> Held:
    # A subclass would be initialized for this thread, by its own code.
    if type(local) is threading.local:
        fields = cast("dict[str, object]", threading.local.__getattribute__(local, "__dict__"))
        yield from ((f".{name}", part) for name, part in list(fields.items()))


_READ: Mapping[type, Callable[[Any], Held]] = {
    ContextVar: _of_variable,
    type(functools.lru_cache(len)): _of_cache,
    threading.local: _of_thread,
    weakref.ref: _of_weak_reference,
}
