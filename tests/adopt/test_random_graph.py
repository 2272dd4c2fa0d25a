"""In a random graph of objects the model is found, or it is said where the search was cut off."""

import functools
import itertools
import operator
import queue
import random
import weakref
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType, MethodType, ModuleType, SimpleNamespace
from typing import Any, NamedTuple

import pytest
from langchain_core.language_models import LLM
from langchain_core.runnables import RunnableLambda, RunnableParallel
from pydantic import BaseModel, PrivateAttr

from locktender.adopt.discover import survey


class Echo(LLM):
    """A text model, which may hold something, too."""

    inner: Any = None

    @property
    def _llm_type(self) -> str:
        return "echo"

    def _call(self, prompt: str, *_arguments: Any, **_options: Any) -> str:
        return prompt


_Wrap = Callable[[Any], Any]
_alive: list[Any] = []  # what only weak references would hold


class _Slotted:
    __slots__ = ("inner",)

    def __init__(self, inner: Any) -> None:
        self.inner = inner


@dataclass
class _Fields:
    inner: Any


class _Pair(NamedTuple):
    first: int
    inner: Any


class _Model(BaseModel):
    inner: Any = None
    _private: Any = PrivateAttr(default=None)


class _Gives:
    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __get__(self, _owner: object, _kind: type) -> Any:
        return self.inner


def _object(**fields: Any) -> Any:
    return type("Object", (), fields)()


def _private(inner: Any) -> Any:
    held = _Model()
    held._private = inner  # noqa: SLF001 - what a method of its own would do
    return held


def _generator(inner: Any) -> Iterator[Any]:
    def gives(held: Any) -> Iterator[Any]:
        while held is not None:
            yield held

    begun = gives(inner)
    next(begun)
    return begun


def _coroutine(inner: Any) -> Any:
    def waits(held: Any) -> Any:
        # A generator: a coroutine that nobody awaits would warn.
        yield lambda: held

    return waits(inner)


def _queue(inner: Any) -> Any:
    held: queue.Queue[Any] = queue.LifoQueue()
    held.put(inner)
    return held


def _simple_queue(inner: Any) -> Any:
    held: queue.SimpleQueue[Any] = queue.SimpleQueue()
    held.put(inner)
    return held


def _future(inner: Any) -> Any:
    held: Future[Any] = Future()
    held.set_result(inner)
    return held


def _module(inner: Any) -> Any:
    held = ModuleType("somebodys")
    vars(held)["inner"] = inner
    return held


def _weak(inner: Any) -> Any:
    box = _Fields(inner)
    _alive.append(box)
    return weakref.ref(box)


def _weak_values(inner: Any) -> Any:
    box = _Fields(inner)
    _alive.append(box)
    return weakref.WeakValueDictionary({"a": box})


def _cached(inner: Any) -> Any:
    held = [inner]

    @functools.lru_cache
    def gives() -> Any:
        return held.pop()

    gives()
    return gives


def _cached_property(inner: Any) -> Any:
    class Kept:
        @functools.cached_property
        def inner(self) -> Any:
            return inner

    return Kept()


def _default(inner: Any) -> Any:
    def gives(*, held: Any = inner) -> Any:
        return held

    return gives


def _decorated(inner: Any) -> Any:
    def gives() -> Any:
        return inner

    return functools.wraps(gives)(lambda: gives())


def _dispatched(inner: Any) -> Any:
    gives = functools.singledispatch(lambda value: value)
    gives.register(int, lambda _: inner)
    return gives


def _global(inner: Any) -> Any:
    names: dict[str, Any] = {"__name__": "somebodys", "held": inner}
    exec("def gives(): return held", names)  # noqa: S102 - a module with that one global
    return names["gives"]


def _global_by_text(inner: Any) -> Any:
    names: dict[str, Any] = {"__name__": "somebodys", "held": inner}
    exec("def gives(name): return globals()[name]", names)  # noqa: S102 - as above
    return names["gives"]


def _attribute_of_a_global(inner: Any) -> Any:
    names: dict[str, Any] = {"__name__": "somebodys", "shelf": _module(inner)}
    exec("def gives(): return getattr(shelf, 'inner')", names)  # noqa: S102 - as above
    return names["gives"]


def _stack(inner: Any) -> Any:
    held = ExitStack()
    held.callback(lambda: inner)
    return held


WRAPS: list[_Wrap] = [
    _Slotted,
    _Fields,
    lambda inner: _Pair(1, inner),
    lambda inner: _Model(inner=inner),
    _private,
    _generator,
    _coroutine,
    _queue,
    _simple_queue,
    _future,
    _module,
    _weak,
    _weak_values,
    _cached,
    _cached_property,
    _default,
    _decorated,
    _dispatched,
    _global,
    _global_by_text,
    _attribute_of_a_global,
    _stack,
    lambda inner: [*range(1500), inner],
    lambda inner: ("a", inner),
    lambda inner: {"a": {"b": inner}},
    lambda inner: {_Slotted(inner): 1},
    lambda inner: {"a": inner}.values(),
    lambda inner: OrderedDict(a=inner),
    lambda inner: UserDict({"a": inner}),
    lambda inner: UserList([inner]),
    lambda inner: ChainMap({}, {"a": inner}),
    lambda inner: defaultdict(lambda: inner),
    lambda inner: deque([1, inner]),
    lambda inner: frozenset([_Slotted(inner)]),
    lambda inner: MappingProxyType({"a": inner}),
    lambda inner: SimpleNamespace(a=inner),
    lambda inner: functools.partial(print, inner),
    lambda inner: _object(ask=functools.partialmethod(print, inner)),
    lambda inner: _object(inner=_Gives(inner)),
    lambda inner: type("Class", (), {"inner": inner}),
    lambda inner: type("Meta", (type,), {"inner": inner})("Class", (), {}),
    lambda inner: Enum("Members", {"A": (inner,)}),
    lambda inner: MethodType(lambda _self: None, _Slotted(inner)),
    lambda inner: property(lambda _self: inner),
    lambda inner: staticmethod(lambda: inner),
    lambda inner: operator.itemgetter(_Slotted(inner)),
    lambda inner: itertools.cycle([inner]),
    lambda inner: itertools.repeat(inner),
    lambda inner: itertools.chain([1], [inner]),
    lambda inner: map(lambda _: inner, [1]),
    lambda inner: iter([inner]),
    lambda inner: enumerate([inner]),
    lambda inner: ContextVar("held", default=inner),
    lambda inner: RunnableLambda(lambda _: inner),
    lambda inner: RunnableParallel(a=RunnableLambda(lambda _: inner)),
    lambda inner: Echo(inner=inner),
    lambda inner: lambda: [lambda: inner],
]


@pytest.mark.parametrize("seed", range(200))
def test_the_model_in_a_random_graph_is_found_or_the_cut_is_said(seed: int) -> None:
    dice = random.Random(seed)
    model = Echo()
    hidden: Any = model
    for _ in range(dice.randint(1, 8)):
        hidden = dice.choice(WRAPS)(hidden)
        if dice.random() < 0.3:
            hidden = [*(_noise(dice) for _ in range(dice.randint(1, 30))), hidden]
    seen = survey([("chain", hidden)], max_objects=dice.choice([100, 5000]))
    is_found = any(each.model is model for each in seen.found)
    assert is_found or seen.cuts


def test_each_holder_of_the_grammar_gives_its_model_away() -> None:
    for n, wrap in enumerate(WRAPS):
        model = Echo()
        seen = survey([("chain", wrap(model))])
        assert (n, any(each.model is model for each in seen.found)) == (n, True)


def _noise(dice: random.Random) -> Any:
    return dice.choice([7, "text", [], {}, [1, [2]], {"a": 1}, _Slotted(None), lambda: 1])
